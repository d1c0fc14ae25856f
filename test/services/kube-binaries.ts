/**
 * A real Kubernetes API server. Nobody ships one through a package manager, but Debian 12 has its whole source with
 * everything it needs, and the compiler; so it is built once per machine and kept. Both are fetched through the machine's
 * own package manager and its signatures.
 */
import { spawn, execFile } from 'node:child_process'
import { once } from 'node:events'
import { mkdir, mkdtemp, readdir, rename, rm, writeFile } from 'node:fs/promises'
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
const BUILD = 2
const GO = '/usr/lib/go-1.19/bin'
/** What building takes, and running what was built. */
const TOOLS = [`${GO}/go`, '/usr/bin/etcd', '/usr/bin/apt-get', '/usr/bin/dpkg-source', '/usr/bin/xz', '/usr/bin/flock']
/** A mirror may be slow, or out for a moment. */
const FETCHES_MAX = 3
const PACKAGE = 'k8s.io/kubernetes'
const TREE = `gopath/src/${PACKAGE}`
/**
 * The tree carries release 1.0.1 of a library that goes behind the compiler's back, and which compilers since Go 1.18 make
 * overwrite memory: the server dies, sooner or later, of writing objects of a definition. The release after it does not.
 */
const REFLECT = 'golang-github-modern-go-reflect2'
const REFLECT_IN_TREE = 'vendor/github.com/modern-go/reflect2'
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

/** Programs this machine lacks for a build. */
export function missingTools(): readonly string[] {
  return TOOLS.filter((tool) => !existsSync(tool))
}

/**
 * Builds the control plane unless this machine has it already: some three minutes on two quiet cores. Of several
 * processes one builds, and the others wait for it.
 *
 * @param progress told what is done now.
 * @throws Error that says what is missing, or what was aborted.
 */
export async function buildKube(progress: (what: string) => void, signal: AbortSignal): Promise<void> {
  const kept = keptIn()
  const isThere = (): boolean => existsSync(path.join(kept, '.complete'))
  if (isThere()) return
  await mkdir(path.dirname(kept), { recursive: true })
  const unlock = await locked(path.join(path.dirname(kept), '.lock'), progress, signal)
  try {
    if (isThere()) return
    await removeRemains(path.dirname(kept))
    const work = await mkdtemp(path.join(path.dirname(kept), '.build-'))
    try {
      await buildIn({ work, progress, signal }, kept)
    } finally {
      await rm(work, { recursive: true, force: true, maxRetries: 5 })
    }
  } finally {
    unlock()
  }
}

/** One build under way. */
interface Build {
  readonly work: string
  readonly progress: (what: string) => void
  readonly signal: AbortSignal
}

async function buildIn(build: Build, kept: string): Promise<void> {
  const { work, progress } = build
  progress('fetching the source of Kubernetes 1.20.2')
  await fetchSource(build)
  progress('building its OpenAPI generator (1 of 4)')
  await generateOpenApi(build)
  const out = path.join(work, 'out')
  await mkdir(out)
  for (const [index, name] of ['kube-apiserver', 'kube-controller-manager'].entries()) {
    progress(`building ${name} (${index + 3} of 4)`)
    const target = path.join(out, name)
    const flags = ['-trimpath', '-tags', 'providerless', '-ldflags', linkFlags()]
    await go(build, ['build', ...flags, '-o', target, `./cmd/${name}`])
  }
  await writeFile(path.join(out, '.complete'), '')
  // Something that was not finished may stand there.
  await rm(kept, { recursive: true, force: true })
  await rename(out, kept)
}

/**
 * Waits until no other process holds the lock, and holds it. The kernel takes it back from a process that dies, however
 * that happens: the holder ends with its standard input.
 */
async function locked(file: string, progress: Build['progress'], signal: AbortSignal): Promise<() => void> {
  const holder = spawn('flock', [file, 'sh', '-c', 'echo held; cat >/dev/null'], { stdio: ['pipe', 'pipe', 'ignore'] })
  const waiting = setTimeout(() => progress('waiting for another process that builds Kubernetes'), 2_000)
  try {
    const ended = once(holder, 'close').then(() => {
      throw new Error('flock ended without a lock')
    })
    await Promise.race([once(holder.stdout, 'data', { signal }), ended])
    ended.catch(() => undefined)
  } catch (error) {
    holder.kill()
    throw error
  } finally {
    clearTimeout(waiting)
  }
  return () => {
    holder.stdin.end()
  }
}

/** Whoever holds the lock is the only one who builds: what else is there was left by somebody who was killed. */
async function removeRemains(directory: string): Promise<void> {
  for (const name of await readdir(directory)) {
    if (name.startsWith('.build-')) await rm(path.join(directory, name), { recursive: true, force: true })
  }
}

async function fetchSource({ work, progress, signal }: Build): Promise<void> {
  const apt = await privateApt(work)
  for (let tries = 1; ; tries++) {
    signal.throwIfAborted()
    try {
      await apt('apt-get', ['-qq', 'update']).catch(() => undefined)
      const version = versionIn(await apt('apt-cache', ['showsrc', '--only-source', 'kubernetes']))
      await apt('apt-get', ['-qq', 'source', '--download-only', `kubernetes=${version}`, REFLECT])
      break
    } catch (error) {
      if (tries >= FETCHES_MAX) throw error
      progress(`the source could not be fetched; trying again (${tries + 1} of ${FETCHES_MAX})`)
    }
  }
  await mkdir(path.join(work, path.dirname(TREE)), { recursive: true })
  const library = `${TREE}/${REFLECT_IN_TREE}`
  const unpacking = [
    `dpkg-source --no-check -x kubernetes_*.dsc ${TREE}`,
    `dpkg-source --no-check -x ${REFLECT}_*.dsc reflect2`,
    `rm -r ${library}`,
    `mkdir ${library}`,
    `cp reflect2/*.go reflect2/*.s ${library}`,
    `rm -f ${library}/*_test.go`,
  ]
  await run('sh', ['-c', unpacking.join(' && ')], { cwd: work, signal })
}

/** The version that is wanted, or a repackaging of the same sources that replaced it. */
function versionIn(listed: string): string {
  const versions = [...listed.matchAll(/^Version: (\S+)$/gmu)].flatMap(([, version]) => version ?? [])
  const sources = SOURCE_VERSION.slice(0, SOURCE_VERSION.lastIndexOf('-') + 1)
  const found = versions.find((one) => one === SOURCE_VERSION) ?? versions.find((one) => one.startsWith(sources))
  if (found === undefined) throw new Error('no mirror of this machine lists the source of Kubernetes 1.20.2')
  return found
}

/** The one generated file that is not in the source: what the server says of its own types. */
async function generateOpenApi(build: Build): Promise<void> {
  const { work, progress, signal } = build
  const generator = path.join(work, 'openapi-gen')
  await go(build, ['build', '-trimpath', '-o', generator, `${PACKAGE}/vendor/k8s.io/kube-openapi/cmd/openapi-gen`])
  progress('generating its OpenAPI types (2 of 4)')
  const tree = path.join(work, TREE)
  const { stdout } = await run('grep', ['-RlE', '--include=*.go', '^// ?\\+k8s:openapi-gen=', 'pkg', 'vendor/k8s.io'], {
    cwd: tree,
    maxBuffer: 16 * 1024 * 1024,
    signal,
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
  await quietly(build, generator, args)
}

function linkFlags(): string {
  const facts = ['component-base/version', 'client-go/pkg/version'].flatMap((place) =>
    Object.entries(VERSION_FACTS).map(
      ([name, value]) => `-X k8s.io/kubernetes/vendor/k8s.io/${place}.${name}=${value}`,
    ),
  )
  return ['-s', '-w', ...facts].join(' ')
}

function go(build: Build, args: readonly string[]): Promise<void> {
  return quietly(build, 'nice', ['-n', '19', path.join(GO, 'go'), ...args])
}

async function quietly({ work, signal }: Build, command: string, args: readonly string[]): Promise<void> {
  signal.throwIfAborted()
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
      GOTMPDIR: work,
      CGO_ENABLED: '0',
    },
    stdio: ['ignore', 'ignore', 'pipe'],
    // A group of its own, so that compilers end with what started them.
    detached: true,
  })
  const stop = (): void => {
    if (child.pid !== undefined) process.kill(-child.pid, 'SIGKILL')
  }
  signal.addEventListener('abort', stop, { once: true })
  let said = ''
  child.stderr.on('data', (piece: Buffer) => (said = (said + piece.toString()).slice(-4000)))
  try {
    const code = await new Promise<number | null>((resolve, reject) =>
      child.once('error', reject).once('close', resolve),
    )
    signal.throwIfAborted()
    if (code !== 0) throw new Error(`${command} ${args.slice(0, 4).join(' ')} ended with ${code}: ${said}`)
  } finally {
    signal.removeEventListener('abort', stop)
  }
}
