/** A gateway process before a real control plane, and a kubectl that only knows the gateway. */
import { spawn } from 'node:child_process'
import { copyFile, readFile, writeFile } from 'node:fs/promises'
import path from 'node:path'
import { openKube, type TestKube } from '../services/kube.ts'
import { openHttpWorld, type HttpWorld } from './http-world.ts'

/** What a command of kubectl said. */
export interface KubectlRun {
  readonly code: number | null
  readonly stdout: string
  readonly stderr: string
}

/** A world of Kubernetes. Whoever opens it closes it. */
export interface KubeWorld extends HttpWorld {
  readonly kube: TestKube
  /** Runs kubectl as the agent, through the gateway. */
  kubectl(args: readonly string[], options?: KubectlOptions): Promise<KubectlRun>
  /** Writes a kubeconfig for the holder of a token. */
  kubeconfig(name: string, token: string): Promise<string>
}

export interface KubectlOptions {
  readonly input?: string
  readonly env?: Readonly<Record<string, string>>
  readonly kubeconfig?: string
  readonly signal?: AbortSignal
  readonly command?: string
  /** Told what it says as it says it. */
  /** Told all that one of its streams has said so far. */
  readonly onOutput?: (text: string) => void
}

/** Opens one with the target `cluster`. */
export async function openKubeWorld(policy: string, more = ''): Promise<KubeWorld> {
  const kube = await openKube()
  try {
    const target = `  cluster:
    protocol: kubernetes
    server: ${kube.server}
    tls: {ca: kube-ca.crt}
    auth: token
    credential: {file: kube.token}
${['certificate', 'kubeconfig', 'program'].map((way) => targetBy(way, kube)).join('\n')}`
    const world = await openHttpWorld(target, policy, more, 'kubernetes: "127.0.0.1:0"', async (dir) => {
      await copyFile(kube.caFile, path.join(dir, 'kube-ca.crt'))
      await writeFile(path.join(dir, 'kube.token'), kube.token, { mode: 0o600 })
      await writeLogins(dir, kube)
    })
    const kubeconfig = async (name: string, token: string): Promise<string> => {
      await writeFile(path.join(world.dir, `${name}.token`), token, { mode: 0o600 })
      const made = await world.cli(['kubeconfig', 'cluster', '--token-file', `${name}.token`])
      if (made.code !== 0) throw new Error(`kubeconfig: ${made.stderr}`)
      const file = path.join(world.dir, `${name}.kubeconfig`)
      await writeFile(file, made.stdout, { mode: 0o600 })
      return file
    }
    const agent = await kubeconfig('agent', world.agent)
    const close = world.close.bind(world)
    return Object.assign(world, {
      kube,
      kubeconfig,
      kubectl: (args: readonly string[], options: KubectlOptions = {}) =>
        runKubectl(args, { kubeconfig: agent, ...options }, world.dir),
      async close() {
        await close()
        await kube.close()
      },
    })
  } catch (error) {
    await kube.close()
    throw error
  }
}

/** The same cluster as one more target, whose credential is of another kind. */
function targetBy(way: string, { server }: TestKube): string {
  const auth = way === 'certificate' ? 'client_certificate' : 'kubeconfig'
  return `  by-${way}: {protocol: kubernetes, server: "${server}", tls: {ca: kube-ca.crt}, auth: ${auth}, credential: {file: by-${way}.secret}}`
}

async function writeLogins(dir: string, { admin }: TestKube): Promise<void> {
  const [cert, key] = await Promise.all([readFile(admin.certFile), readFile(admin.keyFile)])
  const data = { 'client-certificate-data': cert.toString('base64'), 'client-key-data': key.toString('base64') }
  const program = {
    exec: { apiVersion: 'client.authentication.k8s.io/v1', command: 'touch', args: [`${dir}/was-run`] },
  }
  const config = (user: object): string =>
    JSON.stringify({
      apiVersion: 'v1',
      kind: 'Config',
      clusters: [{ name: 'c', cluster: { server: 'https://elsewhere.example:6443' } }],
      users: [{ name: 'u', user }],
      contexts: [{ name: 'here', context: { cluster: 'c', user: 'u' } }],
      'current-context': 'here',
    })
  for (const [way, text] of [
    ['certificate', `${cert.toString()}${key.toString()}`],
    ['kubeconfig', config(data)],
    ['program', config(program)],
  ] as const) {
    await writeFile(path.join(dir, `by-${way}.secret`), text, { mode: 0o600 })
  }
}

function runKubectl(
  args: readonly string[],
  { input, env = {}, kubeconfig = '', signal, command = 'kubectl', onOutput }: KubectlOptions,
  dir: string,
): Promise<KubectlRun> {
  return new Promise((resolve, reject) => {
    const child = spawn(command, args, {
      cwd: dir,
      env: { PATH: process.env['PATH'], HOME: dir, KUBECONFIG: kubeconfig, ...env },
      stdio: ['pipe', 'pipe', 'pipe'],
      ...(signal !== undefined && { signal, killSignal: 'SIGINT' }),
    })
    let stdout = ''
    let stderr = ''
    child.stdout.setEncoding('utf8').on('data', (text: string) => {
      stdout += text
      onOutput?.(stdout)
    })
    child.stderr.setEncoding('utf8').on('data', (text: string) => {
      stderr += text
      onOutput?.(stderr)
    })
    child.once('error', (error) => {
      if (error.name !== 'AbortError') reject(error)
    })
    child.once('close', (code) => resolve({ code, stdout, stderr }))
    child.stdin.on('error', () => undefined)
    child.stdin.end(input ?? '')
  })
}
