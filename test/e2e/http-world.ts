/** A gateway process before HTTP services of a test, with an operator, an agent and a lead. */
import { spawn, type ChildProcess } from 'node:child_process'
import { mkdir, mkdtemp, readFile, rm, writeFile } from 'node:fs/promises'
import { readdirSync, readFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import path from 'node:path'
import { adminClient, type AdminClient } from '../../src/cli/admin-client.ts'
import { CLI, callTool, doorsOf, end, environment, run, type ToolResult } from './world.ts'

/** The backend secret of every target. */
export const SECRET = 'sk_e2e/Secr3t+Value&=42'

/** A world of HTTP. Whoever opens it closes it. */
export interface HttpWorld {
  readonly dir: string
  readonly agent: string
  readonly lead: string
  urls: { readonly mcp: string; readonly admin: string; readonly http: string; readonly kubernetes: string }
  operator: AdminClient
  /** What the gateway process wrote so far. */
  output: string
  tool(args: Readonly<Record<string, unknown>>, token?: string, signal?: AbortSignal): Promise<ToolResult>
  /** The lead's vote. */
  approve(ticket: string, decision?: 'approve' | 'deny'): Promise<void>
  token(principal: string, groups: readonly string[]): Promise<string>
  cli(args: readonly string[], token?: string): ReturnType<typeof run>
  /** Every line of every recording. */
  recorded(): string
  policy(text: string): Promise<void>
  /** SIGTERM; the exit code. */
  stop(): Promise<number | null>
  start(): Promise<void>
  close(): Promise<void>
}

/**
 * Opens one. `targets` are lines of `sallyport.yaml`, two spaces deep; `more` what follows them,
 * `doors` what opens, and `prepare` puts files beside it.
 */
export async function openHttpWorld(
  targets: string,
  policy: string,
  more = '',
  doors = 'http: "127.0.0.1:0"',
  prepare: (dir: string) => Promise<void> = async () => undefined,
): Promise<HttpWorld> {
  const dir = await mkdtemp(path.join(tmpdir(), 'sallyport-e2e-http-'))
  const file = (name: string): string => path.join(dir, name)
  await mkdir(file('policies'))
  await writeFile(file('secret'), SECRET, { mode: 0o600 })
  await prepare(dir)
  await writeFile(file('policies/policy.yaml'), policy)
  await writeFile(
    file('sallyport.yaml'),
    `listen: {mcp: "127.0.0.1:0", admin: "127.0.0.1:0", ${doors}}\ntargets:\n${targets}\n${more}`,
  )
  let child: ChildProcess | undefined
  let operatorToken = ''
  const tokens = { agent: '', lead: '' }
  const world: HttpWorld = {
    dir,
    get agent() {
      return tokens.agent
    },
    get lead() {
      return tokens.lead
    },
    urls: { mcp: '', admin: '', http: '', kubernetes: '' },
    operator: adminClient('http://127.0.0.1:1', 'none'),
    output: '',
    tool: (args, token = tokens.agent, signal) => callTool(world.urls.mcp, token, 'http_request', args, signal),
    async approve(ticket, decision = 'approve') {
      const client = adminClient(world.urls.admin, tokens.lead)
      const { digest } = await client.get<{ digest: string }>(`/v1/approvals/${ticket}`)
      await client.post(`/v1/approvals/${ticket}/vote`, { decision, digest })
    },
    async token(principal, groups) {
      const isPerson = groups.includes('lead')
      const made = await world.operator.post<{ token: string }>('/v1/tokens', {
        principal,
        kind: isPerson ? 'person' : 'agent',
        owner: isPerson ? principal : 'sam',
        groups,
        roles: isPerson ? ['approver', 'caller'] : ['caller'],
        expires_in_ms: 3_600_000,
      })
      return made.token
    },
    cli: (args, token = operatorToken) =>
      run(args, dir, { SALLYPORT_ADMIN_URL: world.urls.admin, SALLYPORT_TOKEN: token }),
    recorded: () =>
      readdirSync(file('recordings'), { recursive: true, withFileTypes: true })
        .filter((entry) => entry.isFile())
        .map((entry) => readFileSync(path.join(entry.parentPath, entry.name), 'utf8'))
        .join('\n'),
    async policy(text) {
      await writeFile(file('policies/policy.yaml'), text)
      await world.operator.post('/v1/policy/reload')
    },
    stop: () => end(child, 'SIGTERM'),
    async start() {
      child = spawn(process.execPath, [CLI, 'serve', '--config', file('sallyport.yaml')], {
        cwd: dir,
        env: environment(),
        stdio: ['ignore', 'pipe', 'pipe'],
      })
      world.urls = await doorsOf(child, (text) => (world.output += text))
      world.operator = adminClient(world.urls.admin, operatorToken)
    },
    async close() {
      await end(child, 'SIGKILL')
      await rm(dir, { recursive: true, force: true })
    },
  }
  try {
    const made = await run(['operator', 'olga', '--json'], dir, {})
    if (made.code !== 0) throw new Error(`operator: ${made.stderr}`)
    operatorToken = (JSON.parse(made.stdout) as { token: string }).token
    await world.start()
    tokens.agent = await world.token('loop', ['agents'])
    tokens.lead = await world.token('maria', ['lead'])
    return world
  } catch (error) {
    await world.close()
    throw error
  }
}

/** Opens the doors with TLS from the next start on. */
export async function withTls({ dir }: HttpWorld, key: string, cert: string): Promise<void> {
  await writeFile(path.join(dir, 'key.pem'), key, { mode: 0o600 })
  await writeFile(path.join(dir, 'cert.pem'), cert)
  const config = await readFile(path.join(dir, 'sallyport.yaml'), 'utf8')
  await writeFile(
    path.join(dir, 'sallyport.yaml'),
    config.replace('listen: {', 'listen: {tls: {key: key.pem, cert: cert.pem}, '),
  )
}
