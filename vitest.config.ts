import path from 'node:path'
import { defineConfig } from 'vitest/config'
import { LongestFirst } from './test/setup/longest-first.ts'

/** Set by `npm test`, which has just built it: tests then run the product that is shipped. */
const isBuilt = process.env['SALLYPORT_BUILT'] === '1'
const ROOT = import.meta.dirname
const SEEDED = path.join(ROOT, 'test/setup/seeded-fast-check.ts')
const SOURCES = ['src', 'tools'].map((name) => path.join(ROOT, name) + path.sep)

/**
 * Leads imports of our sources to what was built of them. The test runner looks up every import anew each time it is
 * used, and translates every file for every suite; built files are loaded by Node itself.
 */
const built = {
  name: 'built',
  enforce: 'pre' as const,
  resolveId(source: string, importer: string | undefined) {
    if (importer === undefined || !source.startsWith('.') || !source.endsWith('.ts')) return undefined
    const file = path.resolve(path.dirname(importer), source)
    if (!SOURCES.some((directory) => file.startsWith(directory))) return undefined
    return path.join(ROOT, 'dist', `${path.relative(ROOT, file).slice(0, -'.ts'.length)}.js`)
  },
}

/** Gives whoever imports `fast-check` the one whose properties try the same cases each time. */
const seeded = {
  name: 'seeded',
  enforce: 'pre' as const,
  resolveId(source: string, importer: string | undefined) {
    return source === 'fast-check' && importer !== SEEDED ? SEEDED : undefined
  },
}

export default defineConfig({
  plugins: isBuilt ? [built, seeded] : [seeded],
  test: {
    server: { deps: { external: [/\/dist\/(?:src|tools)\//u] } },
    include: ['test/**/*.test.ts'],
    globalSetup: ['test/setup/global.ts'],
    // The end of all hope on a machine that is busy with other things; no test measures time.
    testTimeout: 180_000,
    hookTimeout: 300_000,
    expect: { poll: { timeout: 90_000 } },
    pool: 'forks',
    // One more than cores: suites wait for processes, locks and timers, too.
    maxWorkers: 3,
    sequence: { sequencer: LongestFirst },
  },
})
