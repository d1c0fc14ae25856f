/**
 * A real Kubernetes API server. Nobody ships one through a package manager, but Debian 12 has its whole source with
 * everything it needs, and the compiler; so it is built once per machine and kept. Both are fetched through the machine's
 * own package manager and its signatures.
 */
import { spawn, execFile } from 'node:child_process'
import { access, mkdir, mkdtemp, rename, rm, writeFile } from 'node:fs/promises'
import { existsSync } from 'node:fs'
import { homedir } from 'node:os'
import path from 'node:path'
import { promisify } from 'node:util'
import { privateApt } from './postgres-source.ts'

/** Programs of one control plane. */
export interface KubeBinaries {
  readonly apiserver: string
  /** Makes namespaces end, deployments have pods, service accounts have tokens. Left out where there is none. */
  readonly controllerManager?: string
  readonly etcd: string
  /** As `--version` says it, such as `v1.20.2`. */
  readonly version: string
}

const SOURCE_VERSION = '1.20.5+really1.20.2-1.1+deb12u1'
/** What is built of it, and how; another number makes every machine build anew. */
const BUILD = 1
const GO = '/usr/lib/go-1.19/bin'
const TREE = 'gopath/src/k8s.io/kubernetes'
const VERSION_FACTS = {
  gitVersion: 'v1.20.2',
  gitMajor: '1',
  gitMinor: '20',
  gitTreeState: 'clean',
  gitCommit: 'faecb196815e248d3ecfb03c680a4507229c2a56',
  buildDate: '2021-01-13T13:20:00Z',
}
/** Parts of the tree whose types are not the server's own. */
const NOT_SERVED =
  /^vendor\/k8s\.io\/(?:code-generator|sample-apiserver|kube-openapi|gengo|klog|utils|system-validators|heapster)\//u

const run = promisify(execFile)

/** Where this machine keeps what was built. */
function keptIn(): string {
  const cache = process.env['XDG_CACHE_HOME'] ?? path.join(homedir(), '.cache')
  return path.join(cache, 'sallyport', 'kubernetes', `${SOURCE_VERSION}-${BUILD}`)
}

/**
 * Every control plane this machine can run: the one that was built, and the one of `KUBEBUILDER_ASSETS`, the directory
 * where tests of Kubernetes controllers look for `kube-apiserver` and `etcd`. Builds nothing.
 */
export async function kubeBinaries(): Promise<readonly KubeBinaries[]> {
  const found: KubeBinaries[] = []
  const own = keptIn()
  if (existsSync(path.join(own, '.complete')) && existsSync('/usr/bin/etcd')) {
    found.push({
      apiserver: path.join(own, 'kube-apiserver'),
      controllerManager: path.join(own, 'kube-controller-manager'),
      etcd: '/usr/bin/etcd',
      version: 'v1.20.2',
    })
  }
  const assets = process.env['KUBEBUILDER_ASSETS']
  if (assets !== undefined && existsSync(path.join(assets, 'kube-apiserver'))) {
    const apiserver = path.join(assets, 'kube-apiserver')
    const { stdout } = await run(apiserver, ['--version'])
    const manager = path.join(assets, 'kube-controller-manager')
    found.push({
      apiserver,
      ...(existsSync(manager) && { controllerManager: manager }),
      etcd: existsSync(path.join(assets, 'etcd')) ? path.join(assets, 'etcd') : '/usr/bin/etcd',
      version: /v\d+\.\d+\.\d+/u.exec(stdout)?.[0] ?? '',
    })
  }
  return found
}

/**
 * Builds the control plane unless this machine has it already: some three minutes on two quiet cores.
 *
 * @param progress told what is done now.
 * @throws Error that says what is missing.
 */
export async function buildKube(progress: (what: string) => void): Promise<void> {
  const kept = keptIn()
  if (existsSync(path.join(kept, '.complete'))) return
  await access(path.join(GO, 'go'))
  await mkdir(path.dirname(kept), { recursive: true })
  const work = await mkdtemp(path.join(path.dirname(kept), '.build-'))
  try {
    progress('fetching the source of Kubernetes 1.20.2')
    await fetchSource(work)
    progress('building its OpenAPI generator (1 of 4)')
    await generateOpenApi(work, progress)
    const out = path.join(work, 'out')
    await mkdir(out)
    for (const [index, name] of ['kube-apiserver', 'kube-controller-manager'].entries()) {
      progress(`building ${name} (${index + 3} of 4)`)
      const target = path.join(out, name)
      await go(work, [
        'build',
        '-trimpath',
        '-tags',
        'providerless',
        '-ldflags',
        linkFlags(),
        '-o',
        target,
        `./cmd/${name}`,
      ])
    }
    await writeFile(path.join(out, '.complete'), '')
    // Whoever comes second finds it done.
    await rename(out, kept).catch((error: NodeJS.ErrnoException) => {
      if (error.code !== 'ENOTEMPTY' && error.code !== 'EEXIST') throw error
    })
  } finally {
    await rm(work, { recursive: true, force: true })
  }
}

async function fetchSource(work: string): Promise<void> {
  const apt = await privateApt(work)
  await apt('apt-get', ['-qq', 'update']).catch(() => undefined)
  await apt('apt-get', ['-qq', 'source', '--download-only', `kubernetes=${SOURCE_VERSION}`])
  await mkdir(path.join(work, path.dirname(TREE)), { recursive: true })
  await run('sh', ['-c', `dpkg-source --no-check -x kubernetes_*.dsc ${TREE}`], { cwd: work })
}

/** The one generated file that is not in the source: what the server says of its own types. */
async function generateOpenApi(work: string, progress: (what: string) => void): Promise<void> {
  const generator = path.join(work, 'openapi-gen')
  await go(work, [
    'build',
    '-trimpath',
    '-o',
    generator,
    'k8s.io/kubernetes/vendor/k8s.io/kube-openapi/cmd/openapi-gen',
  ])
  progress('generating its OpenAPI types (2 of 4)')
  const tree = path.join(work, TREE)
  const { stdout } = await run('grep', ['-RlE', '--include=*.go', '^// ?\\+k8s:openapi-gen=', 'pkg', 'vendor/k8s.io'], {
    cwd: tree,
    maxBuffer: 16 * 1024 * 1024,
  })
  const files = stdout.split('\n').filter((file) => file !== '' && !NOT_SERVED.test(file))
  const inputs = [...new Set(files.map((file) => path.dirname(file)))].sort().map((dir) => `k8s.io/kubernetes/${dir}`)
  const args = [
    '-i',
    inputs.join(','),
    '-p',
    'k8s.io/kubernetes/pkg/generated/openapi',
    '-O',
    'zz_generated.openapi',
    '-h',
    'vendor/k8s.io/code-generator/hack/boilerplate.go.txt',
    '-r',
    path.join(work, 'violations'),
  ]
  await quietly(generator, args, work)
}

function linkFlags(): string {
  const facts = ['component-base/version', 'client-go/pkg/version'].flatMap((place) =>
    Object.entries(VERSION_FACTS).map(
      ([name, value]) => `-X k8s.io/kubernetes/vendor/k8s.io/${place}.${name}=${value}`,
    ),
  )
  return ['-s', '-w', ...facts].join(' ')
}

function go(work: string, args: readonly string[]): Promise<void> {
  return quietly('nice', ['-n', '19', path.join(GO, 'go'), ...args], work)
}

async function quietly(command: string, args: readonly string[], work: string): Promise<void> {
  const child = spawn(command, args, {
    cwd: path.join(work, TREE),
    env: {
      ...process.env,
      PATH: `${GO}:${process.env['PATH'] ?? ''}`,
      GO111MODULE: 'off',
      GOFLAGS: '-p=2',
      GOPROXY: 'off',
      GOCACHE: path.join(work, 'gocache'),
      GOPATH: path.join(work, 'gopath'),
      CGO_ENABLED: '0',
    },
    stdio: ['ignore', 'ignore', 'pipe'],
  })
  let said = ''
  child.stderr.on('data', (piece: Buffer) => (said = (said + piece.toString()).slice(-4000)))
  const code = await new Promise<number | null>((resolve, reject) => child.once('error', reject).once('close', resolve))
  if (code !== 0) throw new Error(`${command} ${args.slice(0, 4).join(' ')} ended with ${code}: ${said}`)
}
