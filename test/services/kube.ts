/** A real Kubernetes control plane on loopback, with a node that answers from a table, for one suite. */
import { spawn, spawnSync, type ChildProcess } from 'node:child_process'
import { mkdtemp, readFile, rm, writeFile } from 'node:fs/promises'
import { once } from 'node:events'
import { tmpdir } from 'node:os'
import path from 'node:path'
import { setTimeout as delay } from 'node:timers/promises'
import { Agent, request } from 'undici'
import { freePorts } from './free-port.ts'
import type { KubeApi } from './kube-api.ts'
import { kubeBinaries, type KubeBinaries } from './kube-binaries.ts'
import { openKubeNode, type KubeNode } from './kube-node.ts'

/** A running control plane. */
export interface TestKube {
  /** `https://127.0.0.1:<port>` */
  readonly server: string
  /** The authority its certificate is signed by, as a file. */
  readonly caFile: string
  /** Bearer token of a member of `system:masters`. */
  readonly token: string
  /** Certificate and key of another one, in one PEM file each. */
  readonly admin: { readonly certFile: string; readonly keyFile: string }
  /** `v1.20.2` */
  readonly version: string
  readonly dir: string
  /** What its one node answers with. */
  readonly node: KubeNode
  /** Sends a request as the administrator, past the gateway. */
  readonly api: KubeApi
  close(): Promise<void>
}

/** The end of all hope on a machine that is busy with other things. */
const READY_MS = 110_000
const TOKEN = 'tok-e2e-Admin-7f3a9c'

/** Starts etcd, API server, controllers and a node. Without a given one, the first control plane this machine has. */
export async function openKube(given?: KubeBinaries): Promise<TestKube> {
  const binaries = given ?? (await kubeBinaries())[0]
  if (binaries === undefined) throw new Error('no kube-apiserver on this machine; npm test builds one')
  const dir = await mkdtemp(path.join(tmpdir(), 'sallyport-kube-'))
  const children: ChildProcess[] = []
  let node: KubeNode | undefined
  const close = async (): Promise<void> => {
    // SIGTERM would let the server drain for seconds; nothing here is worth draining.
    await Promise.all(children.map(killed))
    await node?.close()
    await rm(dir, { recursive: true, force: true, maxRetries: 5 })
  }
  try {
    makeCertificates(dir)
    await writeFile(path.join(dir, 'tokens.csv'), `${TOKEN},e2e-admin,1001,"system:masters"\n`, { mode: 0o600 })
    const [apiPort = 0, etcdPort = 0, peerPort = 0] = await freePorts(3)
    const file = (name: string): string => path.join(dir, name)
    let log = ''
    const start = (command: string, args: readonly string[]): ChildProcess => {
      const child = spawn(command, args, { cwd: dir, stdio: ['ignore', 'pipe', 'pipe'] })
      for (const stream of [child.stdout, child.stderr]) {
        stream?.on('data', (piece: Buffer) => (log = (log + piece.toString()).slice(-8000)))
      }
      children.push(child)
      return child
    }
    const etcd = `http://127.0.0.1:${etcdPort}`
    const peer = `http://127.0.0.1:${peerPort}`
    start(binaries.etcd, [
      '--name',
      'e',
      '--data-dir',
      file('etcd'),
      '--listen-client-urls',
      etcd,
      '--advertise-client-urls',
      etcd,
      '--listen-peer-urls',
      peer,
      '--initial-advertise-peer-urls',
      peer,
      '--initial-cluster',
      `e=${peer}`,
      '--unsafe-no-fsync',
    ])
    const server = start(binaries.apiserver, apiserverArgs(binaries, file, apiPort, etcd))
    const url = `https://127.0.0.1:${apiPort}`
    const ca = await readFile(file('ca.crt'), 'utf8')
    const agent = new Agent({ connect: { ca } })
    const api: TestKube['api'] = async (method, at, body, type = 'application/json') => {
      const answer = await request(`${url}${at}`, {
        method: method as 'GET',
        dispatcher: agent,
        headers: { authorization: `Bearer ${TOKEN}`, ...(body !== undefined && { 'content-type': type }) },
        ...(body !== undefined && { body: JSON.stringify(body) }),
      })
      const text = await answer.body.text()
      return { status: answer.statusCode, body: text.startsWith('{') ? (JSON.parse(text) as unknown) : text }
    }
    await ready(api, server, () => log)
    if (binaries.controllerManager !== undefined) {
      await writeFile(file('kubeconfig'), kubeconfig(url, dir))
      start(binaries.controllerManager, managerArgs(binaries, file))
    }
    node = await openKubeNode({
      key: await readFile(file('kubelet.key'), 'utf8'),
      cert: await readFile(file('kubelet.crt'), 'utf8'),
      api,
    })
    if (binaries.controllerManager !== undefined) await defaultAccount(api)
    return {
      server: url,
      caFile: file('ca.crt'),
      token: TOKEN,
      admin: { certFile: file('admin.crt'), keyFile: file('admin.key') },
      version: binaries.version,
      dir,
      node,
      api,
      async close() {
        await close()
        await agent.destroy()
      },
    }
  } catch (error) {
    await close()
    throw error
  }
}

function apiserverArgs(
  { version }: KubeBinaries,
  file: (name: string) => string,
  port: number,
  etcd: string,
): string[] {
  return [
    `--etcd-servers=${etcd}`,
    `--secure-port=${port}`,
    '--bind-address=127.0.0.1',
    '--advertise-address=127.0.0.1',
    // Gone since 1.24; before, it is open unless told otherwise.
    ...(/^v1\.(?:1\d|2[0-3])\./u.test(version) ? ['--insecure-port=0'] : []),
    `--tls-cert-file=${file('apiserver.crt')}`,
    `--tls-private-key-file=${file('apiserver.key')}`,
    `--client-ca-file=${file('ca.crt')}`,
    '--service-account-issuer=https://kubernetes.default.svc',
    `--service-account-key-file=${file('sa.pub')}`,
    `--service-account-signing-key-file=${file('sa.key')}`,
    `--kubelet-client-certificate=${file('kubelet-client.crt')}`,
    `--kubelet-client-key=${file('kubelet-client.key')}`,
    `--kubelet-certificate-authority=${file('ca.crt')}`,
    '--kubelet-preferred-address-types=InternalIP',
    '--authorization-mode=Node,RBAC',
    '--service-cluster-ip-range=10.0.0.0/24',
    '--allow-privileged=true',
    `--token-auth-file=${file('tokens.csv')}`,
    '--disable-admission-plugins=ServiceAccount',
  ]
}

function managerArgs({ version }: KubeBinaries, file: (name: string) => string): string[] {
  return [
    `--kubeconfig=${file('kubeconfig')}`,
    '--leader-elect=false',
    `--service-account-private-key-file=${file('sa.key')}`,
    `--root-ca-file=${file('ca.crt')}`,
    '--use-service-account-credentials=false',
    ...(/^v1\.(?:1\d|2[0-3])\./u.test(version) ? ['--port=0'] : []),
    '--secure-port=0',
    '--controllers=namespace,serviceaccount,serviceaccount-token,replicaset,deployment,disruption,garbagecollector',
  ]
}

/** Certificates of everybody, signed by one authority. */
function makeCertificates(dir: string): void {
  const ext = (usage: string, names?: string): string =>
    [...(names === undefined ? [] : [`subjectAltName=${names}`]), `extendedKeyUsage=${usage}`].join('\n')
  const local = 'DNS:localhost,DNS:kubernetes.default.svc,IP:127.0.0.1'
  const script = `set -e
ec() { openssl ecparam -name prime256v1 -genkey -noout -out "$1.key"; }
ec ca; openssl req -x509 -new -key ca.key -subj /CN=test-ca -days 30 -out ca.crt
crt() { ec "$1"; openssl req -new -key "$1.key" -subj "$2" -out "$1.csr"; printf '%s' "$3" > "$1.ext"
  openssl x509 -req -in "$1.csr" -CA ca.crt -CAkey ca.key -CAcreateserial -days 30 -out "$1.crt" -extfile "$1.ext"; }
crt apiserver /CN=kube-apiserver '${ext('serverAuth', local)}'
crt admin /O=system:masters/CN=admin '${ext('clientAuth')}'
crt kubelet-client /O=system:masters/CN=kubelet-client '${ext('clientAuth')}'
crt kubelet /CN=node-1 '${ext('serverAuth', local)}'
openssl genrsa -out sa.key 2048; openssl rsa -in sa.key -pubout -out sa.pub`
  const made = spawnSync('sh', ['-c', script], { cwd: dir, encoding: 'utf8' })
  if (made.status !== 0) throw new Error(`openssl: ${made.stderr}`)
}

function kubeconfig(server: string, dir: string): string {
  return `apiVersion: v1
kind: Config
clusters: [{name: c, cluster: {server: "${server}", certificate-authority: "${dir}/ca.crt"}}]
users: [{name: admin, user: {client-certificate: "${dir}/admin.crt", client-key: "${dir}/admin.key"}}]
contexts: [{name: admin, context: {cluster: c, user: admin}}]
current-context: admin
`
}

async function ready(api: TestKube['api'], server: ChildProcess, log: () => string): Promise<void> {
  const until = Date.now() + READY_MS
  for (;;) {
    const answer = await api('GET', '/readyz').catch(() => undefined)
    if (answer?.status === 200) return
    if (server.exitCode !== null || Date.now() > until) throw new Error(`kube-apiserver did not start: ${log()}`)
    await delay(100)
  }
}

/** Pods can be made once their default account is there. */
async function defaultAccount(api: TestKube['api']): Promise<void> {
  const until = Date.now() + READY_MS
  while ((await api('GET', '/api/v1/namespaces/default/serviceaccounts/default')).status !== 200) {
    if (Date.now() > until) throw new Error('the controllers made no default service account')
    await delay(100)
  }
}

async function killed(child: ChildProcess): Promise<void> {
  if (child.exitCode !== null || child.signalCode !== null) return
  const ended = once(child, 'exit')
  child.kill('SIGKILL')
  await ended
}
