// What the suites need besides Node and npm. `npm test` installs what is missing where it may (root on Debian), and
// otherwise says exactly what to install; a suite whose need is not met is reported as skipped, and CI fails on any skip.
import { spawnSync } from 'node:child_process'
import { existsSync } from 'node:fs'

/** @type {readonly {name: string, why: string, fix: string, debian?: string, present: () => boolean}[]} */
const CAPABILITIES = [
  {
    name: 'openssl',
    why: 'recordings are verified with ordinary tools',
    fix: 'apt-get install openssl',
    debian: 'openssl',
    present: () => runs('openssl', ['version']),
  },
  {
    name: 'prlimit',
    why: 'a disk that is full',
    fix: 'apt-get install util-linux',
    debian: 'util-linux',
    present: () => runs('prlimit', ['--version']),
  },
  {
    name: 'root',
    why: 'files that belong to somebody else',
    fix: 'run the tests as root',
    present: () => process.getuid?.() === 0,
  },
]

function runs(command, args) {
  return spawnSync(command, args, { stdio: 'ignore' }).status === 0
}

/** Installs what is missing, where this user may. Returns the names that are present afterwards. */
export function provide(log = console.error) {
  let missing = CAPABILITIES.filter((capability) => !capability.present())
  if (
    missing.some(({ debian }) => debian !== undefined) &&
    process.getuid?.() === 0 &&
    existsSync('/usr/bin/apt-get')
  ) {
    const packages = [...new Set(missing.flatMap(({ debian }) => debian ?? []))]
    log(`test set-up: installing ${packages.join(', ')}`)
    const env = { ...process.env, DEBIAN_FRONTEND: 'noninteractive' }
    spawnSync('apt-get', ['update', '-qq'], { stdio: 'ignore', env, timeout: 300_000 })
    spawnSync('apt-get', ['install', '-y', '-qq', '--no-install-recommends', ...packages], {
      stdio: 'ignore',
      env,
      timeout: 900_000,
    })
    missing = CAPABILITIES.filter((capability) => !capability.present())
  }
  for (const { name, why, fix } of missing) {
    log(`test set-up: no ${name} (${why}): its suites are skipped. To run them: ${fix}`)
  }
  return CAPABILITIES.filter((capability) => !missing.includes(capability)).map(({ name }) => name)
}
