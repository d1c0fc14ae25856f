// What the suites need besides Node and npm. `npm test` installs what is missing where it may (root on Debian), and
// otherwise says exactly what to install; a suite whose need is not met is reported as skipped, and CI fails on any skip.
import { spawnSync } from 'node:child_process'
import { existsSync } from 'node:fs'
import { fileURLToPath } from 'node:url'
import { hasConformance } from './conformance.mjs'

const POSTGRESQL_15 = '/usr/lib/postgresql/15/bin/postgres'
const DEFAULT_CLUSTER = '/var/lib/postgresql/15/main'
const hadDefaultCluster = existsSync(DEFAULT_CLUSTER)

/**
 * @type {readonly {name: string, why: string, fix: string, debian?: string, present: () => boolean, installed?: () => void}[]}
 * `installed` is called once the package was put there by us.
 */
const CAPABILITIES = [
  {
    name: 'openssl',
    why: 'recordings are verified with ordinary tools',
    fix: 'apt-get install openssl',
    debian: 'openssl',
    present: () => runs('openssl', ['version']),
  },
  {
    name: 'psql',
    why: "PostgreSQL's own client at the PostgreSQL door",
    fix: 'apt-get install postgresql-client',
    debian: 'postgresql-client',
    present: () => runs('psql', ['--version']),
  },
  {
    name: 'pgbench',
    why: 'a client that speaks all three ways of asking',
    fix: 'apt-get install postgresql-15',
    debian: 'postgresql-15',
    present: () => runs('pgbench', ['--version']),
  },
  {
    name: 'psycopg2',
    why: 'the driver most of Python uses',
    fix: 'apt-get install python3-psycopg2',
    debian: 'python3-psycopg2',
    present: () => runs('/usr/bin/python3', ['-c', 'import psycopg2']),
  },
  {
    name: 'prlimit',
    why: 'a disk that is full',
    fix: 'apt-get install util-linux',
    debian: 'util-linux',
    present: () => runs('prlimit', ['--version']),
  },
  {
    name: 'postgresql-15',
    why: 'the oldest PostgreSQL that is served',
    fix: 'apt-get install postgresql-15 (Debian 12)',
    debian: 'postgresql-15',
    present: () => existsSync(POSTGRESQL_15),
    // Debian makes and starts a server of its own on installation; the tests start theirs, and leave none running.
    installed: () => {
      if (!hadDefaultCluster) spawnSync('pg_dropcluster', ['--stop', '15', 'main'], { stdio: 'ignore' })
    },
  },
  {
    name: 'postgresql-15-source',
    why: "PostgreSQL's own regression SQL, from Debian's source package",
    fix:
      'apt-get install apt dpkg-dev bzip2 xz-utils, and a package mirror that can be reached; or unpack the source of ' +
      'postgresql-15 into ~/.cache/sallyport/postgresql-15/<version> and create the file .complete there',
    debian: 'dpkg-dev bzip2 xz-utils',
    present: hasPostgresSource,
  },
  {
    name: 'postgresql-15-headers',
    why: "the C functions PostgreSQL's own regression suite loads are compiled",
    fix: 'apt-get install gcc libc6-dev libpq-dev postgresql-server-dev-15 (Debian 12)',
    debian: 'gcc libc6-dev libpq-dev postgresql-server-dev-15',
    present: () => existsSync('/usr/include/postgresql/15/server/postgres.h') && runs('gcc', ['--version']),
  },
  {
    name: 'sqlsmith',
    why: 'random statements by somebody else than us',
    fix: 'apt-get install sqlsmith',
    debian: 'sqlsmith',
    present: () => runs('sqlsmith', ['--version']),
  },
  {
    name: 'sshd',
    why: 'SSH is tested with OpenSSH at both ends',
    fix: 'apt-get install openssh-server openssh-client rsync',
    debian: 'openssh-server openssh-client rsync',
    present: () => existsSync('/usr/sbin/sshd') && runs('ssh', ['-V']) && runs('rsync', ['--version']),
  },
  {
    name: 'nginx',
    why: 'an ordinary web server behind the gateway',
    fix: 'apt-get install nginx-light',
    debian: 'nginx-light',
    present: () => nginxIsThere(),
    // Debian starts one on installation; the tests start theirs, and leave none running.
    installed: () => void spawnSync('service', ['nginx', 'stop'], { stdio: 'ignore' }),
  },
  {
    name: 'kubectl',
    why: "Kubernetes' own client",
    fix: 'apt-get install kubernetes-client (Debian 12), or put any kubectl on the path',
    debian: 'kubernetes-client',
    present: () => runs('kubectl', ['version', '--client']),
  },
  {
    name: 'kube-apiserver',
    why: 'a real Kubernetes API server, built from Debian’s source package',
    fix:
      'apt-get install golang-1.19-go etcd-server dpkg-dev xz-utils util-linux (Debian 12), a package mirror that can be reached, ' +
      'and some three minutes; or name a directory with kube-apiserver and etcd in KUBEBUILDER_ASSETS',
    debian: 'golang-1.19-go etcd-server dpkg-dev xz-utils util-linux',
    present: hasKube,
  },
  {
    name: 'mcp-conformance',
    why: 'the official conformance suite of MCP, on the Node it needs',
    fix: 'a package registry that can be reached, on Linux x64',
    present: hasConformance,
  },
  {
    name: 'chromium',
    why: 'the approval page is tested in a browser',
    fix: 'apt-get install chromium',
    debian: 'chromium',
    present: () => existsSync('/usr/bin/chromium') && runs('/usr/bin/chromium', ['--version']),
  },
  {
    name: 'curl',
    why: 'the client most people have',
    fix: 'apt-get install curl',
    debian: 'curl',
    present: () => runs('curl', ['--version']),
  },
  {
    name: 'bash',
    why: 'what a command runs is compared with what bash runs',
    fix: 'apt-get install bash',
    debian: 'bash',
    present: () => existsSync('/bin/bash'),
  },
  {
    name: 'root',
    why: 'files that belong to somebody else',
    fix: 'run the tests as root',
    present: () => process.getuid?.() === 0,
  },
]

function nginxIsThere() {
  return existsSync('/usr/sbin/nginx') && runs('/usr/sbin/nginx', ['-v'])
}

/** A mirror that cannot be reached is waited for twice at most: before and after packages were installed. */
let fetchesLeft = 2

/** Fetches what `test/services/postgres-source.ts` keeps per machine, when it is not there yet. */
function hasPostgresSource() {
  if (fetchesLeft === 0) return false
  const script = fileURLToPath(new URL('../services/fetch-postgres-source.ts', import.meta.url))
  const { status } = spawnSync(process.execPath, ['--import', 'tsx', script], { stdio: 'ignore', timeout: 600_000 })
  if (status !== 0) fetchesLeft -= 1
  return status === 0
}

/** Whether a build may still be tried: what failed once, or took too long, would again. */
let mayBuild = true
/** What a busy machine with two cores may take for it; a quiet one needs three minutes. */
const BUILD_MS = 1_500_000
/** `build-kube.ts` has not begun: packages have to be installed first. */
const LACKS_TOOLS = 3

/** Builds what `test/services/kube-binaries.ts` keeps per machine, when it is not there yet and its compiler is. */
function hasKube() {
  if (!mayBuild) return false
  const script = fileURLToPath(new URL('../services/build-kube.ts', import.meta.url))
  const { status } = spawnSync(process.execPath, ['--import', 'tsx', script], {
    stdio: ['ignore', 'ignore', 'inherit'],
    timeout: BUILD_MS,
  })
  if (status !== 0 && status !== LACKS_TOOLS) mayBuild = false
  return status === 0
}

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
    const packages = [...new Set(missing.flatMap(({ debian }) => debian?.split(' ') ?? []))]
    log(`test set-up: installing ${packages.join(', ')}`)
    const env = { ...process.env, DEBIAN_FRONTEND: 'noninteractive' }
    spawnSync('apt-get', ['update', '-qq'], { stdio: 'ignore', env, timeout: 300_000 })
    const install = (names) =>
      spawnSync('apt-get', ['install', '-y', '-qq', '--no-install-recommends', ...names], {
        stdio: 'ignore',
        env,
        timeout: 900_000,
      }).status === 0
    // One name that this release does not know fails all of them; then each is tried by itself.
    if (!install(packages)) for (const name of packages) install([name])
    for (const capability of missing) if (capability.present()) capability.installed?.()
    missing = CAPABILITIES.filter((capability) => !capability.present())
  }
  for (const { name, why, fix } of missing) {
    log(`test set-up: no ${name} (${why}): its suites are skipped. To run them: ${fix}`)
  }
  return CAPABILITIES.filter((capability) => !missing.includes(capability)).map(({ name }) => name)
}
