// Which failures of `npm test` may be looked at a second time, and which stand as they are.

/** More than this many files do not fail by chance. */
const FILES_MAX = 2

/** Suites that drive servers, clients and controllers we did not write, whose timing is not ours. */
const REAL_PROCESSES = ['cli', 'e2e', 'http', 'kubernetes', 'mcp', 'regress', 'ssh', 'store'].map(
  (room) => `test/${room}/`,
)

/** A property's counterexample, and anything that was seen where it must not be: one sight is proof. */
const STANDS = /Property failed|\bnot to\b|\bto not\b/u

/**
 * Whether the files that failed may run once more, alone: those of real processes, where nothing was found that
 * {@link STANDS}, there is no error that belongs to no test, and not many failed.
 *
 * @param {import('./report.ts').Report} report
 * @returns {boolean}
 */
export function mayRunAgain({ files, strays }) {
  const failed = files.filter(({ isOk }) => !isOk)
  return (
    strays === 0 &&
    failed.length > 0 &&
    failed.length <= FILES_MAX &&
    failed.every(
      ({ file, messages }) =>
        REAL_PROCESSES.some((directory) => file.startsWith(directory)) &&
        !messages.some((message) => STANDS.test(message)),
    )
  )
}
