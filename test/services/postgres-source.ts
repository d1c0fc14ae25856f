/** PostgreSQL's own tests, from the Debian source package: fetched once per machine and version. */
import { execFile } from 'node:child_process'
import { access, mkdir, mkdtemp, readdir, readFile, rename, rm, writeFile } from 'node:fs/promises'
import { homedir } from 'node:os'
import path from 'node:path'
import { promisify } from 'node:util'

/** Unpacked sources; only the tests and what they load. */
export interface PostgresSource {
  /** Debian's version, such as `15.20-0+deb12u1`. */
  readonly version: string
  /** Root of the source tree. Shared by every run on this machine: read it, write elsewhere. */
  readonly directory: string
  /** `src/test/regress` in it: `sql/`, `expected/`, `data/`, `parallel_schedule`, `regress.c`. */
  readonly regress: string
}

const PACKAGE = 'postgresql-15'
const WANTED = ['src/test/regress', 'src/test/isolation', 'contrib/spi']
const APT_TIMEOUT_MS = 300_000
/** Names of sources of the machine's package manager. */
const SOURCES = '/etc/apt'

const run = promisify(execFile)

/**
 * Returns PostgreSQL's tests, downloading them when this machine has none of the wanted version. Downloads come through
 * the machine's own package manager and its signatures; nothing of its set-up is changed.
 *
 * @param wanted Debian's version to prefer, such as that of the installed server; the newest one otherwise.
 * @throws Error that says what to do when the sources cannot be had.
 */
export async function postgresSource(wanted?: string): Promise<PostgresSource> {
  const cache = path.join(process.env['XDG_CACHE_HOME'] ?? path.join(homedir(), '.cache'), 'sallyport', PACKAGE)
  const kept = await keptVersions(cache)
  const fitting = wanted === undefined ? kept.at(-1) : await serving(cache, kept, wanted)
  if (fitting !== undefined) return sourceIn(cache, fitting)
  await mkdir(cache, { recursive: true })
  const work = await mkdtemp(path.join(cache, '.fetch-'))
  try {
    const fetched = await fetchInto(cache, work, wanted)
    if (wanted !== undefined) await writeFile(path.join(fetched.directory, servesMark(wanted)), '')
    return fetched
  } catch (cause) {
    const newest = kept.at(-1)
    if (newest !== undefined) return sourceIn(cache, newest)
    throw new Error(
      `PostgreSQL's own tests could not be fetched. They need Debian's apt-get, tar, bzip2, and a package mirror that ` +
        `can be reached; on another machine unpack the source of ${PACKAGE} into ${cache}/<version> and create the file ` +
        `${cache}/<version>/.complete.`,
      { cause },
    )
  } finally {
    await rm(work, { recursive: true, force: true })
  }
}

/** Version of the server package that is installed, or undefined. */
export async function installedPostgres(): Promise<string | undefined> {
  try {
    const { stdout } = await run('dpkg-query', ['-W', '-f', '${Version}', PACKAGE])
    return stdout === '' ? undefined : stdout
  } catch {
    return undefined
  }
}

function sourceIn(cache: string, version: string): PostgresSource {
  const directory = path.join(cache, version)
  return { version, directory, regress: path.join(directory, 'src/test/regress') }
}

/** Versions that were unpacked to the end, oldest first. */
async function keptVersions(cache: string): Promise<readonly string[]> {
  const names = await readdir(cache).catch(() => [])
  const complete: string[] = []
  for (const name of names) {
    if (await exists(path.join(cache, name, '.complete'))) complete.push(name)
  }
  return complete.sort(byVersion)
}

/** The version that was wanted, or the one that was had instead when the mirrors did not have it. */
async function serving(cache: string, kept: readonly string[], wanted: string): Promise<string | undefined> {
  for (const version of kept) {
    if (version === wanted || (await exists(path.join(cache, version, servesMark(wanted))))) return version
  }
  return undefined
}

function servesMark(wanted: string): string {
  return `.serves-${wanted}`
}

function exists(file: string): Promise<boolean> {
  return access(file).then(
    () => true,
    () => false,
  )
}

async function fetchInto(cache: string, work: string, wanted: string | undefined): Promise<PostgresSource> {
  const apt = await privateApt(work)
  // Some mirrors of a machine may carry no sources; what counts is whether any of them lists this package.
  await apt('apt-get', ['-qq', 'update']).catch(() => undefined)
  const listed = await apt('apt-cache', ['showsrc', '--only-source', PACKAGE])
  const versions = [...listed.matchAll(/^Version: (.+)$/gmu)].flatMap(([, version]) => version ?? []).sort(byVersion)
  if (versions.length === 0) throw new Error(`No mirror of this machine lists the source of ${PACKAGE}.`)
  const order = versions.reverse().sort((a, b) => Number(b === wanted) - Number(a === wanted))
  const failures: unknown[] = []
  for (const version of order) {
    try {
      // A mirror may list a version that it no longer, or not yet, has.
      await apt('apt-get', ['-qq', 'source', '--download-only', '--tar-only', `${PACKAGE}=${version}`])
      return await unpack(cache, work, version)
    } catch (error) {
      failures.push(error)
    }
  }
  throw new AggregateError(failures, `None of ${order.join(', ')} could be downloaded.`)
}

async function unpack(cache: string, work: string, version: string): Promise<PostgresSource> {
  const tarball = (await readdir(work)).find((name) => /\.orig\.tar\.\w+$/u.test(name))
  if (tarball === undefined) throw new Error('The package manager left no tarball.')
  const tree = path.join(work, 'tree')
  await mkdir(tree)
  const members = WANTED.map((member) => `*/${member}`)
  await run('tar', ['-xf', path.join(work, tarball), '-C', tree, '--strip-components=1', '--wildcards', ...members])
  // Servers of the tests run as another user, who has to read them.
  await run('chmod', ['-R', 'a+rX', tree])
  await writeFile(path.join(tree, '.complete'), '')
  // Whoever comes second finds it done.
  await rename(tree, path.join(cache, version)).catch((error: NodeJS.ErrnoException) => {
    if (error.code !== 'ENOTEMPTY' && error.code !== 'EEXIST') throw error
  })
  return sourceIn(cache, version)
}

/** The machine's package manager with lists of its own: the same mirrors and keys, asked for sources. */
export async function privateApt(work: string): Promise<(command: string, args: readonly string[]) => Promise<string>> {
  const parts = path.join(work, 'parts')
  await mkdir(parts)
  await mkdir(path.join(work, 'lists', 'partial'), { recursive: true })
  await mkdir(path.join(work, 'cache', 'archives', 'partial'), { recursive: true })
  const files = [path.join(SOURCES, 'sources.list')]
  const directory = path.join(SOURCES, 'sources.list.d')
  for (const name of await readdir(directory).catch(() => [])) files.push(path.join(directory, name))
  for (const file of files) {
    if (!/\.(?:list|sources)$/u.test(file)) continue
    const text = await readFile(file, 'utf8').catch(() => '')
    const asked = text.replaceAll(/^Types:.*$/gmu, 'Types: deb-src').replaceAll(/^deb(?=\s)/gmu, 'deb-src')
    await writeFile(path.join(parts, path.basename(file)), asked)
  }
  const options = [
    ['Dir::Etc::sourcelist', '/dev/null'],
    ['Dir::Etc::sourceparts', parts],
    ['Dir::State::lists', path.join(work, 'lists')],
    ['Dir::Cache', path.join(work, 'cache')],
    // The download directory belongs to this user, not to the package manager's own.
    ['APT::Sandbox::User', 'root'],
  ].flatMap(([name, value]) => ['-o', `${name}=${value}`])
  return async (command, args) => {
    const { stdout } = await run(command, [...options, ...args], {
      cwd: work,
      timeout: APT_TIMEOUT_MS,
      maxBuffer: 16 * 1024 * 1024,
    })
    return stdout
  }
}

/** Order of Debian's versions, well enough for those of one package in one release. */
function byVersion(a: string, b: string): number {
  return a.localeCompare(b, 'en', { numeric: true })
}
