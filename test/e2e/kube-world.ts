/** A gateway process before a real Kubernetes control plane, under the policy that ships as an example. */
import { spawn, type ChildProcess } from 'node:child_process'
import { readdirSync, readFileSync } from 'node:fs'
import { copyFile, mkdir, mkdtemp, readFile, rm, writeFile } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import path from 'node:path'
import { adminClient, type AdminClient } from '../../src/cli/admin-client.ts'
import { openKube, type TestKube } from '../services/kube.ts'
import { CLI, callTool, doorsOf, end, environment, run, type ToolResult } from './world.ts'

/** A world with a cluster. Whoever opens it closes it. */
export interface KubeWorld {
  readonly kube: TestKube
  readonly dir: string
  operator: AdminClient
  /** Calls the tool as the agent, who is in the group `agents`. */
  tool(args: Readonly<Record<string, unknown>>): Promise<ToolResult>
  approve(ticket: string): Promise<void>
  policy(text: string): Promise<void>
  /** Every line of every recording. */
  recorded(): string
  /** What the gateway process wrote so far. */
  output: string
  close(): Promise<void>
}

/** Opens one, with the shipped policy unless another is given. */
export async function openKubeWorld(policy?: string): Promise<KubeWorld> {
  const dir = await mkdtemp(path.join(tmpdir(), 'sallyport-e2e-kube-'))
  const file = (name: string): string => path.join(dir, name)
  const tokens = { agent: '', lead: '' }
  let child: ChildProcess | undefined
  let kube: TestKube | undefined
  const close = async (): Promise<void> => {
    await end(child, 'SIGKILL')
    await kube?.close()
    await rm(dir, { recursive: true, force: true })
  }
  try {
    const made = await openKube()
    kube = made
    await mkdir(file('policies'))
    await mkdir(file('secrets'))
    const shipped = path.join(import.meta.dirname, '../../examples/kube-agents')
    await writeFile(
      file('policies/cluster.yaml'),
      policy ?? (await readFile(path.join(shipped, 'policies/cluster.yaml'), 'utf8')),
    )
    await writeFile(file('secrets/cluster.token'), made.token, { mode: 0o600 })
    await copyFile(made.caFile, file('secrets/cluster-ca.crt'))
    const config = (await readFile(path.join(shipped, 'sallyport.yaml'), 'utf8'))
      .replaceAll(/127\.0\.0\.1:74\d\d/gu, '127.0.0.1:0')
      .replace('https://10.0.0.1:6443', made.server)
    // However long a busy machine lets a test take to approve, the call that waits for it is the one that goes on.
    await writeFile(file('sallyport.yaml'), `${config}approvals: {hold: 4m}\n`)
    const operator = await run(['operator', 'olga', '--json'], dir, {})
    if (operator.code !== 0) throw new Error(`operator: ${operator.stderr}`)
    const operatorToken = (JSON.parse(operator.stdout) as { token: string }).token
    let output = ''
    child = spawn(process.execPath, [CLI, 'serve', '--config', file('sallyport.yaml')], {
      cwd: dir,
      env: environment(),
      stdio: ['ignore', 'pipe', 'pipe'],
    })
    const urls = await doorsOf(child, (text) => (output += text))
    const client = adminClient(urls.admin, operatorToken)
    const token = async (principal: string, isPerson: boolean): Promise<string> => {
      const answer = await client.post<{ token: string }>('/v1/tokens', {
        principal,
        kind: isPerson ? 'person' : 'agent',
        owner: isPerson ? principal : 'sam',
        groups: [isPerson ? 'lead' : 'agents'],
        roles: isPerson ? ['approver', 'caller'] : ['caller'],
        expires_in_ms: 3_600_000,
      })
      return answer.token
    }
    tokens.agent = await token('ops-bot', false)
    tokens.lead = await token('maria', true)
    return {
      kube: made,
      dir,
      operator: client,
      tool: (args) => callTool(urls.mcp, tokens.agent, 'kubectl', { target: 'cluster', ...args }),
      async approve(ticket) {
        const lead = adminClient(urls.admin, tokens.lead)
        const { digest } = await lead.get<{ digest: string }>(`/v1/approvals/${ticket}`)
        await lead.post(`/v1/approvals/${ticket}/vote`, { decision: 'approve', digest })
      },
      async policy(text) {
        await writeFile(file('policies/cluster.yaml'), text)
        await client.post('/v1/policy/reload')
      },
      recorded: () =>
        readdirSync(file('recordings'), { recursive: true, withFileTypes: true })
          .filter((entry) => entry.isFile())
          .map((entry) => readFileSync(path.join(entry.parentPath, entry.name), 'utf8'))
          .join('\n'),
      get output() {
        return output
      },
      close,
    }
  } catch (error) {
    await close()
    throw error
  }
}
