import { mkdirSync, mkdtempSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { connectAgent, type Agent } from '../../src/cli/demo/agent.ts'
import { adminClient, type AdminClient } from '../../src/cli/admin-client.ts'
import { createDatabase, type TestDatabase } from '../services/postgres.ts'
import { sallyport, start, type Ran } from './kit.ts'

/** A gateway as its operators have it: files in a directory, and `sallyport serve` as a process. */
export interface Site {
  readonly dir: string
  readonly database: TestDatabase
  /** Every secret of the site: none may ever stand in any output. */
  readonly secrets: string[]
  /** Everything that commands and gateways of this site have said. */
  output(): string
  run(args: readonly string[], as?: string, input?: string): Promise<Ran>
  serve(): Promise<Served>
  /** The admin door, without a process for each question. */
  api(token: string): AdminClient
  write(file: string, text: string): void
  close(): Promise<void>
}

/** A running `sallyport serve`. */
export interface Served {
  readonly pid: number
  readonly mcp: string
  readonly admin: string
  /** What it has logged so far. */
  log(): string
  /** Waits for a line of the log that holds `text`. */
  logged(text: string): Promise<void>
  agent(token: string, target: string): Promise<Agent>
  stop(signal?: NodeJS.Signals): Promise<number | null>
  readonly ended: Promise<number | null>
}

export const POLICY = `
targets: [shop-db]
rules:
  - id: read
    effect: allow
    principals: [group:agents]
    actions: [sql.select]
    resources: [public.notes, "-"]
  - id: change
    effect: require_approval
    principals: [group:agents]
    actions: [sql.update]
    resources: [public.notes]
    approvers: {any_of: [group:dba]}
`

/** Makes a site with a database of its own. Whoever makes it closes it. */
export async function makeSite(): Promise<Site> {
  const database = await createDatabase(`CREATE TABLE public.notes (id integer PRIMARY KEY, body text NOT NULL);
    INSERT INTO public.notes VALUES (1, 'first'), (2, 'second');`)
  const role = await database.role('GRANT SELECT, UPDATE ON public.notes TO $role')
  const dir = mkdtempSync(join(tmpdir(), 'sallyport-site-'))
  const secrets = [role.password, database.password]
  const servers = new Set<Served>()
  let said = ''
  let admin = ''

  function write(file: string, text: string): void {
    writeFileSync(join(dir, file), text, { mode: 0o600 })
  }

  mkdirSync(join(dir, 'policies'))
  write('policies/shop.yaml', POLICY)
  write('password', role.password)
  write('wrong-password', 'wrong-password-value')
  secrets.push('wrong-password-value')
  const target = (host: string, port: number, password: string): string =>
    `{protocol: postgres, host: ${host}, port: ${port}, database: ${database.name}, tls: disable, connect_timeout: 60s, credential: {user: ${role.user}, file: ${password}}}`
  write(
    'sallyport.yaml',
    `listen: {mcp: "127.0.0.1:0", admin: "127.0.0.1:0"}
targets:
  shop-db: ${target(database.host, database.port, 'password')}
  locked-out: ${target(database.host, database.port, 'wrong-password')}
  unreachable: ${target('127.0.0.1', 1, 'password')}
  no-secret: ${target(database.host, database.port, 'missing-file')}
`,
  )

  async function run(args: readonly string[], as?: string, input = ''): Promise<Ran> {
    const ran = await sallyport(args, {
      cwd: dir,
      input,
      env: { SALLYPORT_ADMIN_URL: admin, ...(as !== undefined && { SALLYPORT_TOKEN: as }) },
    })
    said += ran.stderr + (args.includes('create') || args[0] === 'operator' ? '' : ran.stdout)
    return ran
  }

  async function serve(): Promise<Served> {
    const child = start(['serve'], { cwd: dir })
    let log = ''
    const waiting = new Set<() => void>()
    const hear = (piece: Buffer): void => {
      log += piece.toString('utf8')
      said += piece.toString('utf8')
      for (const look of waiting) look()
    }
    child.stderr.on('data', hear)
    child.stdout.on('data', hear)
    const ended = new Promise<number | null>((resolve) => {
      child.once('close', (code) => {
        resolve(code)
        for (const look of waiting) look()
      })
    })
    const logged = (text: string): Promise<void> =>
      new Promise((resolve, reject) => {
        const look = (): void => {
          if (log.includes(text)) resolve()
          else if (child.exitCode !== null) reject(new Error(`the gateway ended:\n${log}`))
          else return
          waiting.delete(look)
        }
        waiting.add(look)
        look()
      })
    await logged('the doors are open')
    const line = log.split('\n').find((text) => text.includes('the doors are open')) ?? '{}'
    const urls = JSON.parse(line) as { readonly mcp: string; readonly admin: string }
    admin = urls.admin
    const served: Served = {
      ...urls,
      pid: child.pid ?? 0,
      log: () => log,
      logged,
      agent: (token, name) => connectAgent(urls.mcp, token, name),
      stop(signal = 'SIGTERM') {
        child.kill(signal)
        return ended
      },
      ended,
    }
    servers.add(served)
    void ended.then(() => servers.delete(served))
    return served
  }

  return {
    dir,
    database,
    secrets,
    output: () => said,
    run,
    serve,
    api: (token) => adminClient(admin, token),
    write,
    async close() {
      await Promise.all([...servers].map((served) => served.stop('SIGKILL')))
      await database.drop()
      rmSync(dir, { recursive: true, force: true })
    },
  }
}
