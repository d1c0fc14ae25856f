/** What must hold of the readers of Kubernetes for whatever comes, each for so many runs. */
import * as fc from 'fast-check'
import { expect } from 'vitest'
import { SallyportError } from '../../src/core/errors.ts'
import { readArgv } from '../../src/protocols/kubernetes/argv.ts'
import { readPayload, type ToolPayload } from '../../src/protocols/kubernetes/payload.ts'
import { readPath, writePath } from '../../src/protocols/kubernetes/read-path.ts'
import { readQuery } from '../../src/protocols/kubernetes/read-query.ts'
import { readRequest, type WrittenRequest } from '../../src/protocols/kubernetes/read-request.ts'
import { targetOf } from '../../src/protocols/kubernetes/request.ts'

/** Returns what is read, or `undefined` for what is refused. Any other error fails. */
function read<T>(what: () => T): T | undefined {
  try {
    return what()
  } catch (error) {
    expect(error).toBeInstanceOf(SallyportError)
    expect((error as SallyportError).code).toMatch(/^ERR_(?:INVALID_INPUT|TOO_LARGE)$/u)
    return undefined
  }
}

const VERBS = [
  'get',
  'describe',
  'logs',
  'patch',
  'label',
  'scale',
  'delete',
  'exec',
  'drain',
  'events',
  'rollout',
  'auth',
]
const FLAGS =
  '-n --namespace -l --selector -o --output -A --all-namespaces -c --tail --since -p --patch --type --dry-run --replicas'
    .concat(
      ' --grace-period --cascade --subresource --limit -s --server --token --as --as-group --raw -f --kubeconfig --context --v -As -it',
    )
    .split(' ')
const WORDS = [
  'pods',
  'web',
  'pod/web',
  'status',
  'restart',
  'can-i',
  'json',
  'server',
  'web-1',
  '7',
  'a=b',
  'a-',
  'merge',
  '10m',
]
const word = fc.oneof(
  { weight: 4, arbitrary: fc.constantFrom(...VERBS, ...WORDS) },
  { weight: 4, arbitrary: fc.constantFrom(...FLAGS) },
  { weight: 2, arbitrary: fc.tuple(fc.constantFrom(...FLAGS), fc.constantFrom(...WORDS)).map(([a, b]) => `${a}=${b}`) },
  { weight: 1, arbitrary: fc.constantFrom('--', '-', '---', '--=', '-=x') },
  { weight: 1, arbitrary: fc.string({ maxLength: 12 }) },
)
const argv = fc
  .tuple(fc.constantFrom(...VERBS), fc.array(word, { maxLength: 7 }))
  .map(([verb, rest]) => [verb, ...rest])

/** Flags that must never be taken, however they are written. */
const NEVER = /^(?:-s|-f|-As|-it|--(?:server|token|as|as-group|raw|kubeconfig|context|v))(?:=|$)/u

/** Returns how many command lines were understood. */
export function argvIsStrict(numRuns: number): number {
  let understood = 0
  const check = (words: readonly string[]): void => {
    const payload = read(() => readArgv(words))
    if (payload === undefined) return
    understood++
    // It is what the tool's own schema takes, so that both ways mean the same.
    expect(readPayload(payload)).toEqual(payload)
    const { command = [] } = payload
    expect(command).toEqual(words.slice(words.length - command.length))
    const before = words.slice(0, words.length - command.length)
    // A value behind a flag may look like anything; a word of its own may not.
    const flags = before.filter((one, index) => NEVER.test(one) && !takesValue(before[index - 1]))
    expect([words, flags]).toEqual([words, []])
    expect(read(() => readArgv(written(payload)))).toEqual(payload)
  }
  fc.assert(fc.property(argv, check), { numRuns })
  return understood
}

function takesValue(before: string | undefined): boolean {
  return before?.startsWith('-') === true && !before.includes('=') && !/^(?:-A|--all-namespaces)$/u.test(before)
}

const VALUED: Readonly<Record<string, string>> = {
  namespace: 'namespace',
  selector: 'selector',
  field_selector: 'field-selector',
  output: 'output',
  limit: 'limit',
  container: 'container',
  tail_lines: 'tail',
  replicas: 'replicas',
  patch: 'patch',
  patch_type: 'type',
  revision: 'to-revision',
  grace_seconds: 'grace-period',
  subresource: 'subresource',
}

/** The command line of a payload, in one form. */
function written(payload: ToolPayload): string[] {
  const flags = Object.entries(payload).flatMap(([key, value]) => {
    const name = VALUED[key]
    if (name !== undefined && (typeof value === 'string' || typeof value === 'number')) return [`--${name}=${value}`]
    if (key === 'all_namespaces') return ['-A']
    if (key === 'dry_run') return ['--dry-run=server']
    if (key === 'previous' || key === 'timestamps') return [`--${key}`]
    if (key === 'ignore_daemonsets') return ['--ignore-daemonsets']
    if (key === 'delete_emptydir_data') return ['--delete-emptydir-data']
    if (key === 'since_seconds') return [`--since=${String(value)}s`]
    return key === 'propagation' ? [`--cascade=${String(value).toLowerCase()}`] : []
  })
  const verb = payload.verb === 'can_i' ? ['auth', 'can-i'] : payload.verb.split('_')
  const keyed = Object.entries({ ...payload.labels, ...payload.annotations })
  return [
    ...verb,
    ...(payload.ask_verb === undefined ? [] : [payload.ask_verb]),
    ...[payload.resource, payload.name].filter((one) => one !== undefined),
    ...keyed.map(([key, value]) => (value === null ? `${key}-` : `${key}=${value}`)),
    ...flags,
    ...(payload.command === undefined ? [] : ['--', ...payload.command]),
  ]
}

const segment = fc.oneof(
  {
    weight: 6,
    arbitrary: fc.constantFrom('api', 'apis', 'v1', 'apps', 'namespaces', 'pods', 'web', 'watch', 'status'),
  },
  {
    weight: 3,
    arbitrary: fc.constantFrom('proxy', 'exec', 'finalize', 'log', 'nodes', 'secrets', 'v1beta1', 'kube-system'),
  },
  {
    weight: 2,
    arbitrary: fc.constantFrom('', '.', '..', '%2e', '%2F', 'a;b', 'A', 'core', 'http:web:80', 'a?b', '\\', 'é'),
  },
  { weight: 1, arbitrary: fc.string({ maxLength: 6 }) },
)
const begins = fc.constantFrom('', '/api/v1', '/api/v1/namespaces/web', '/apis/apps/v1', '/apis/apps/v1/namespaces/web')
const plain = fc.constantFrom(
  'pods',
  'web',
  'status',
  'exec',
  'watch',
  'namespaces',
  'nodes',
  'finalize',
  'log',
  'scale',
)
const paths = fc
  .tuple(begins, fc.oneof(fc.array(plain, { maxLength: 5 }), fc.array(segment, { maxLength: 7 })))
  .map(([begin, segments]) => `${begin}/${segments.join('/')}`)

/** What an API server makes of a path (apiserver, `RequestInfoFactory.NewRequestInfo`), written from its description. */
function requestInfo(path: string): readonly (string | undefined)[] | undefined {
  let parts = path.replace(/^\/+|\/+$/gu, '').split('/')
  if (parts.length < 3 || (parts[0] !== 'api' && parts[0] !== 'apis')) return undefined
  const group = parts[0] === 'apis' ? parts[1] : ''
  parts = parts.slice(parts[0] === 'apis' ? 2 : 1)
  const version = parts[0]
  parts = parts.slice(1)
  if (parts[0] === 'watch' && parts.length > 1) parts = parts.slice(1)
  let namespace: string | undefined
  if (parts[0] === 'namespaces' && parts.length > 1) {
    namespace = parts[1]
    if (parts.length > 2 && parts[2] !== 'status' && parts[2] !== 'finalize') parts = parts.slice(2)
  }
  return [group, version, namespace, parts[0], parts[1], parts[2]]
}

/** Returns how many paths were understood as resources. */
export function pathsMeanWhatTheServerReads(numRuns: number): number {
  let understood = 0
  const check = (path: string): void => {
    const place = read(() => readPath(path))
    if (place === undefined) return
    // Nothing that another reader could decode, join or cut is left.
    expect(place.kind === 'resource' ? writePath(place) : place.path).not.toMatch(/%|\/\.\.?(?:\/|$)|[\\;?#\s]/u)
    if (place.kind !== 'resource') return
    understood++
    expect(writePath(place)).toBe(path)
    const { group, version, namespace, resource, name, subresource } = place
    // A namespace is an object as well: the server counts it as inside itself.
    const within = namespace ?? (resource === 'namespaces' ? name : undefined)
    expect([path, group, version, within, resource, name, subresource]).toEqual([path, ...(requestInfo(path) ?? [])])
  }
  fc.assert(fc.property(paths, check), { numRuns })
  return understood
}

const pair = fc.tuple(
  fc.constantFrom(
    'watch',
    'Watch',
    'dryRun',
    'command',
    'container',
    'labelSelector',
    'limit',
    'w%61tch',
    '',
    'a b',
    'é',
  ),
  fc.constantFrom(
    '',
    '=',
    '=1',
    '=true',
    '=false',
    '=0',
    '=All',
    '=a%2Cb',
    '=%00',
    '=%',
    '=a+b',
    '=a;b',
    '=é',
    '=%C3%28',
  ),
)
const queries = fc.array(pair, { maxLength: 5 }).map((pairs) => pairs.map(([name, value]) => name + value).join('&'))

export function queriesMeanOneThing(numRuns: number): void {
  const check = (text: string): void => {
    const query = read(() => readQuery(text))
    if (query === undefined) return
    const given = [...new URLSearchParams(text)]
    // Nothing is added; what is left out are flags that are off. A flag is the text every reader takes for true.
    for (const [name, value] of query)
      expect(given.some(([one, its]) => one === name && (its === value || value === 'true'))).toBe(true)
    const names = query.map(([name]) => name.toLowerCase()).filter((name) => name !== 'command')
    expect(new Set(names).size).toBe(names.length)
    expect(readQuery(targetOf({ path: '', query }).slice(1))).toEqual(query)
  }
  fc.assert(fc.property(queries, check), { numRuns })
}

const bodies = fc.oneof(
  fc.constant(undefined),
  fc.json({ maxDepth: 3 }).map((text) => Buffer.from(text)),
  fc
    .constantFrom('a: 1', 'a: &x 1', '{"a":1,"a":2}', '- op: test', '{"dryRun":["All"]}', '\ufeff{}')
    .map((text) => Buffer.from(text)),
  fc.uint8Array({ maxLength: 30 }),
)
const requests: fc.Arbitrary<WrittenRequest> = fc.record({
  method: fc.constantFrom('GET', 'POST', 'PUT', 'PATCH', 'DELETE', 'HEAD', 'OPTIONS', 'get', 'TRACE'),
  path: fc.tuple(paths, queries).map(([path, query]) => (query === '' ? path : `${path}?${query}`)),
  contentType: fc.constantFrom(
    undefined,
    'application/json',
    'application/yaml',
    'application/json-patch+json',
    'text/plain',
  ),
  accept: fc.constantFrom(undefined, '*/*', 'application/json;as=Table', 'application/vnd.kubernetes.protobuf'),
  body: bodies,
})

/** What is sent is read again as the very same request. */
export function requestsAreStable(numRuns: number): void {
  const check = (one: WrittenRequest): void => {
    const request = read(() => readRequest(one))
    if (request === undefined) return
    const { body, method, accept } = request
    const again = readRequest({
      method,
      path: targetOf(request),
      accept,
      ...(body !== undefined && { body: body.bytes, contentType: body.type }),
    })
    expect({ ...again, body: undefined }).toEqual({ ...request, body: undefined })
    expect(again.body?.bytes).toEqual(body?.bytes)
  }
  fc.assert(fc.property(requests, check), { numRuns })
}
