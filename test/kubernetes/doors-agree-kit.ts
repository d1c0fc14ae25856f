/**
 * Requests that the tool `kubectl` and the API door must answer alike: each as arguments of the tool, and written by
 * hand as a client of the API would; the policy they are judged by; and what stands in the cluster.
 */

/** A request as it is written at the door. */
export interface Asked {
  readonly method: string
  readonly path: string
  readonly accept?: string
  readonly type?: string
  readonly body?: unknown
}

/** The same, for both doors. */
export interface Pair {
  readonly tool: Readonly<Record<string, unknown>>
  readonly door: Asked
  /** Sent by the administrator before each of the two, so that both meet the same. */
  readonly before?: readonly Asked[]
}

/** The value nobody may see. */
export const PASSWORD = 'hunter2-Very-Secret'
const PASSWORD_BASE64 = Buffer.from(PASSWORD).toString('base64')

/** What stands in `policies/`. */
export const POLICY = `
targets: [cluster]
rules:
  - {id: ask-around, effect: allow, principals: [group:agents], actions: ["bundle:k8s.discovery"]}
  - {id: read, effect: allow, principals: [group:agents], actions: [k8s.get, k8s.list, k8s.logs], resources: [{kind: "*/*", namespaces: [shop]}, {kind: "*/*/*", namespaces: [shop]}]}
  - {id: around, effect: allow, principals: [group:agents], actions: [k8s.get, k8s.list], resources: [{kind: core/nodes}, {kind: core/namespaces}, {kind: rbac.authorization.k8s.io/clusterroles}]}
  - {id: some, effect: allow, principals: [group:agents], actions: [k8s.get], resources: [{kind: core/configmaps, namespaces: [other], names: ["open-*"]}]}
  - {id: short, effect: allow, principals: [group:agents], actions: [k8s.get, k8s.logs], resources: [{kind: core/configmaps, namespaces: [shop], names: [long]}, {kind: core/pods, namespaces: [shop], names: [clerk]}], limits: {bytes: 64B}}
  - {id: write, effect: allow, principals: [group:agents], actions: [k8s.create, k8s.apply, k8s.patch], resources: [{kind: core/configmaps, namespaces: [shop]}, {kind: apps/deployments, namespaces: [shop]}, {kind: core/secrets, namespaces: [shop]}], when: "size(part.host_access) == 0"}
  - {id: few, effect: allow, principals: [group:agents], actions: [k8s.scale], resources: [{kind: apps/deployments, namespaces: [shop]}], when: "part.replicas <= 3"}
  - {id: pretend, effect: allow, principals: [group:agents], actions: [k8s.delete, k8s.patch], resources: ["**"], when: "part.dry_run"}
  - {id: talk, effect: allow, principals: [group:agents], actions: [k8s.exec], resources: [{kind: core/pods, namespaces: [shop]}], when: "part.command[0] in ['echo', 'fail', 'mail', 'nothing']"}
  - {id: careful, effect: require_approval, principals: [group:agents], actions: [k8s.patch, k8s.delete, k8s.exec], resources: [{kind: "core/*", namespaces: [asked]}], approvers: {any_of: [group:lead]}}
  - {id: rated, effect: allow, principals: [group:agents], actions: [k8s.get], resources: [{kind: core/configmaps, namespaces: [rated]}], limits: {rate: 4/h}}
  - {id: system, effect: deny, actions: ["k8s.*"], resources: [{kind: core/configmaps, namespaces: ["kube-*"]}, {kind: core/pods, namespaces: ["kube-*"]}], reason: Not yours.}
  - {id: quiet, effect: deny, actions: [k8s.logs], resources: [{kind: core/pods, namespaces: [shop], names: [mute]}], reason: Nobody reads these.}
masks:
  - {fields: [data.pin, spec.template.metadata.annotations.note], transform: redact}
  - {detect: [email], transform: redact}
`

const pod = (name: string): Asked => ({
  method: 'POST',
  path: '/api/v1/namespaces/shop/pods',
  body: {
    metadata: { name, labels: { app: name } },
    spec: { containers: [{ name: 'main', image: 'nginx:1', env: [{ name: 'DB_PASSWORD', value: PASSWORD }] }] },
  },
})

const DEPLOYMENT = {
  apiVersion: 'apps/v1',
  kind: 'Deployment',
  metadata: { name: 'web', namespace: 'shop' },
  spec: {
    replicas: 0,
    selector: { matchLabels: { app: 'web' } },
    template: {
      metadata: { labels: { app: 'web' }, annotations: { note: PASSWORD } },
      spec: {
        containers: [
          {
            name: 'web',
            image: 'web:1',
            env: [
              { name: 'API_TOKEN', value: PASSWORD },
              { name: 'MODE', value: 'prod' },
            ],
          },
        ],
      },
    },
  },
}

const configMap = (name: string, data: Readonly<Record<string, string>>): object => ({
  apiVersion: 'v1',
  kind: 'ConfigMap',
  metadata: { name },
  data,
})

const inside = (namespace: string, plural: string, body: unknown): Asked => ({
  method: 'POST',
  path: `/api/v1/namespaces/${namespace}/${plural}`,
  body,
})

/** What the administrator makes before the first request. */
export const CLUSTER: readonly Asked[] = [
  ...['shop', 'other', 'asked', 'rated'].map((name): Asked => ({
    method: 'POST',
    path: '/api/v1/namespaces',
    body: { metadata: { name } },
  })),
  inside('shop', 'configmaps', configMap('settings', { mode: 'fast', pin: PASSWORD, owner: 'ada@example.com' })),
  inside('shop', 'configmaps', configMap('long', { text: 'x'.repeat(5000) })),
  inside('other', 'configmaps', configMap('open-hours', { from: '9' })),
  inside('other', 'configmaps', configMap('closed', { from: '9' })),
  inside('asked', 'configmaps', configMap('settings', { mode: 'fast' })),
  inside('rated', 'configmaps', configMap('settings', { mode: 'fast' })),
  ...['shop', 'other', 'asked'].map((namespace) =>
    inside(namespace, 'secrets', {
      metadata: {
        name: 'db',
        labels: { tier: 'data' },
        annotations: {
          'kubectl.kubernetes.io/last-applied-configuration': JSON.stringify({
            kind: 'Secret',
            data: { password: PASSWORD_BASE64 },
          }),
        },
      },
      stringData: { password: PASSWORD },
    }),
  ),
  inside('shop', 'services', { metadata: { name: 'web' }, spec: { selector: { app: 'web' }, ports: [{ port: 80 }] } }),
  inside('shop', 'events', {
    metadata: { name: 'till.1' },
    involvedObject: { kind: 'Pod', name: 'till', namespace: 'shop' },
    reason: 'Tested',
    message: 'ask ada@example.com',
  }),
  { method: 'POST', path: '/apis/apps/v1/namespaces/shop/deployments', body: DEPLOYMENT },
  pod('till'),
  pod('clerk'),
  pod('mute'),
]

const JSON_TYPE = 'application/json'
const TABLE = 'application/json;as=Table;v=v1;g=meta.k8s.io,application/json'
const core = '/api/v1/namespaces/shop'
const apps = '/apis/apps/v1/namespaces/shop'
const MANAGER = 'fieldManager=sallyport'

const get = (path: string, accept = JSON_TYPE): Asked => ({ method: 'GET', path, accept })

/** Objects by the names people have for them, and where they stand. */
const OBJECTS: readonly (readonly [resource: string, name: string, path: string, namespace?: string])[] = [
  ['pods', 'till', `${core}/pods/till`, 'shop'],
  ['po', 'nobody', `${core}/pods/nobody`, 'shop'],
  ['secret', 'db', `${core}/secrets/db`, 'shop'],
  ['secrets', 'db', '/api/v1/namespaces/other/secrets/db', 'other'],
  ['cm', 'settings', `${core}/configmaps/settings`, 'shop'],
  ['cm', 'long', `${core}/configmaps/long`, 'shop'],
  ['configmaps', 'open-hours', '/api/v1/namespaces/other/configmaps/open-hours', 'other'],
  ['configmaps', 'closed', '/api/v1/namespaces/other/configmaps/closed', 'other'],
  ['configmaps', 'any', '/api/v1/namespaces/kube-system/configmaps/any', 'kube-system'],
  ['svc', 'web', `${core}/services/web`, 'shop'],
  ['sa', 'default', `${core}/serviceaccounts/default`, 'shop'],
  ['deploy', 'web', `${apps}/deployments/web`, 'shop'],
  ['deployments.apps', 'web', `${apps}/deployments/web`, 'shop'],
  ['node', 'node-1', '/api/v1/nodes/node-1'],
  ['ns', 'other', '/api/v1/namespaces/other'],
  ['clusterrole', 'view', '/apis/rbac.authorization.k8s.io/v1/clusterroles/view'],
  ['clusterrolebindings', 'cluster-admin', '/apis/rbac.authorization.k8s.io/v1/clusterrolebindings/cluster-admin'],
]

const single = (output: string, accept: string): readonly Pair[] =>
  OBJECTS.map(([resource, name, path, namespace]) => ({
    tool: { verb: 'get', resource, name, output, ...(namespace !== undefined && { namespace }) },
    door: get(path, accept),
  }))

const lists: readonly Pair[] = (
  [
    ['pods', {}, `${core}/pods?limit=500`],
    ['secrets', {}, `${core}/secrets?limit=500`],
    ['pods', { selector: 'app=till' }, `${core}/pods?labelSelector=app%3Dtill&limit=500`],
    ['pods', { selector: 'app in (till,clerk)' }, `${core}/pods?labelSelector=app%20in%20(till%2Cclerk)&limit=500`],
    ['pods', { selector: 'app=' }, `${core}/pods?labelSelector=app%3D&limit=500`],
    ['pods', { selector: '(' }, `${core}/pods?labelSelector=(&limit=500`],
    ['pods', { field_selector: 'metadata.name=till' }, `${core}/pods?fieldSelector=metadata.name%3Dtill&limit=500`],
    ['cm', { limit: 1 }, `${core}/configmaps?limit=1`],
    ['deploy', {}, `${apps}/deployments?limit=500`],
    ['secrets', { namespace: 'other' }, '/api/v1/namespaces/other/secrets?limit=500'],
    ['secrets', { all_namespaces: true }, '/api/v1/secrets?limit=500'],
    ['nodes', {}, '/api/v1/nodes?limit=500'],
    [
      'events',
      { field_selector: 'involvedObject.name=till' },
      `${core}/events?fieldSelector=involvedObject.name%3Dtill&limit=500`,
    ],
  ] as const
).flatMap(([resource, more, path]) => {
  const at = resource === 'nodes' || 'namespace' in more || 'all_namespaces' in more ? {} : { namespace: 'shop' }
  return [
    { tool: { verb: 'get', resource, ...at, ...more, output: 'json' }, door: get(path) },
    { tool: { verb: 'list', resource, ...at, ...more, output: 'table' }, door: get(path, TABLE) },
  ]
})

const logs: readonly Pair[] = (
  [
    ['till', {}, 'tailLines=500'],
    ['till', { tail_lines: 1 }, 'tailLines=1'],
    ['till', { container: 'main', tail_lines: 5 }, 'container=main&tailLines=5'],
    ['till', { container: 'other' }, 'container=other&tailLines=500'],
    ['till', { previous: true, timestamps: true }, 'tailLines=500&previous=true&timestamps=true'],
    ['till', { since_seconds: 60 }, 'tailLines=500&sinceSeconds=60'],
    ['clerk', {}, 'tailLines=500'],
    ['mute', {}, 'tailLines=500'],
    ['nobody', {}, 'tailLines=500'],
  ] as const
).map(([name, more, query]) => ({
  tool: { verb: 'logs', name, namespace: 'shop', ...more },
  door: get(`${core}/pods/${name}/log?${query}`, '*/*'),
}))

/** Changes, sent twice: the second one finds what the first one found. */
const change = (
  tool: Readonly<Record<string, unknown>>,
  door: Omit<Asked, 'accept'>,
  before: readonly Asked[] = [],
): Pair => ({ tool: { namespace: 'shop', output: 'json', ...tool }, door: { accept: JSON_TYPE, ...door }, before })

const MERGE = 'application/merge-patch+json'
const PATCHES = {
  strategic: 'application/strategic-merge-patch+json',
  merge: MERGE,
  json: 'application/json-patch+json',
}

const patch = (
  kind: keyof typeof PATCHES,
  resource: string,
  path: string,
  body: unknown,
  more: Readonly<Record<string, unknown>> = {},
): Pair =>
  change(
    { verb: 'patch', resource, patch_type: kind, patch: body, ...more },
    {
      method: 'PATCH',
      path: `${path}?${more['dry_run'] === true ? 'dryRun=All&' : ''}${MANAGER}`,
      type: PATCHES[kind],
      body,
    },
  )

const settings = `${core}/configmaps/settings`
const web = `${apps}/deployments/web`
const image = (name: string): object => ({
  spec: { template: { spec: { containers: [{ name: 'web', image: name }] } } },
})
const privileged = { spec: { template: { spec: { hostNetwork: true } } } }

const patches: readonly Pair[] = [
  patch('merge', 'cm/settings', settings, { data: { a: '1' } }),
  patch('merge', 'cm/settings', settings, { data: { a: null } }),
  patch('strategic', 'cm/settings', settings, { data: { b: '2' } }),
  patch('json', 'cm/settings', settings, [{ op: 'replace', path: '/data/mode', value: 'slow' }]),
  patch('json', 'cm/settings', settings, [{ op: 'add', path: '/data/pin', value: PASSWORD }]),
  patch('json', 'cm/settings', settings, [{ op: 'add', path: '/data', value: { mode: 'fast', pin: PASSWORD } }]),
  patch('json', 'cm/settings', settings, [{ op: 'test', path: '/data/mode', value: 'guess' }]),
  patch('json', 'cm/settings', settings, [{ op: 'copy', from: '/data/pin', path: '/data/copied' }]),
  patch('json', 'cm/settings', settings, { op: 'add' }),
  patch('merge', 'cm/settings', settings, { data: { mode: '***' } }),
  patch('merge', 'cm/settings', settings, { data: { mode: 'dry' } }, { dry_run: true }),
  patch('strategic', 'deploy/web', web, image('web:2'), { dry_run: true }),
  patch('strategic', 'deploy/web', web, image('web:1')),
  patch('merge', 'deploy/web', web, privileged),
  patch('merge', 'deploy/web', web, privileged, { dry_run: true }),
  patch('json', 'deploy/web', web, [{ op: 'replace', path: '/spec/template/spec/hostNetwork', value: true }]),
  patch('merge', 'secret/db', `${core}/secrets/db`, { stringData: { added: PASSWORD } }),
  patch('json', 'secret/db', `${core}/secrets/db`, [{ op: 'test', path: '/data/password', value: 'guess' }]),
  patch('merge', 'secret/db', `${core}/secrets/db`, { data: { password: 'Kioq' } }),
  patch(
    'merge',
    'cm/settings',
    '/api/v1/namespaces/asked/configmaps/settings',
    { data: { a: '1' } },
    { namespace: 'asked' },
  ),
  patch(
    'merge',
    'secret/db',
    '/api/v1/namespaces/asked/secrets/db',
    { stringData: { a: PASSWORD } },
    { namespace: 'asked' },
  ),
  patch(
    'merge',
    'cm/closed',
    '/api/v1/namespaces/other/configmaps/closed',
    { data: { a: '1' } },
    { namespace: 'other' },
  ),
  patch('merge', 'sa/default', `${core}/serviceaccounts/default/token`, {}, { subresource: 'token' }),
  patch('merge', 'deploy/web', `${web}/status`, { status: { replicas: 9 } }, { subresource: 'status' }),
  patch('merge', 'deploy/web', `${web}/scale`, { spec: { replicas: 1 } }, { subresource: 'scale', dry_run: true }),
  patch('merge', 'deploy/web', `${web}/scale`, { spec: { replicas: 9 } }, { subresource: 'scale' }),
  patch('strategic', 'pods/till', `${core}/pods/till/ephemeralcontainers`, {}, { subresource: 'ephemeralcontainers' }),
]

const gone = (path: string): Asked => ({ method: 'DELETE', path })
const fresh = configMap('fresh', { mail: 'ada@example.com', pin: PASSWORD })
const applied = configMap('applied', { a: '1', pin: PASSWORD })

const writes: readonly Pair[] = [
  change(
    { verb: 'create', manifest: fresh },
    { method: 'POST', path: `${core}/configmaps?${MANAGER}`, type: JSON_TYPE, body: fresh },
    [gone(`${core}/configmaps/fresh`)],
  ),
  change(
    { verb: 'create', manifest: fresh },
    { method: 'POST', path: `${core}/configmaps?${MANAGER}`, type: JSON_TYPE, body: fresh },
  ),
  change(
    { verb: 'create', manifest: fresh, dry_run: true },
    { method: 'POST', path: `${core}/configmaps?dryRun=All&${MANAGER}`, type: JSON_TYPE, body: fresh },
    [gone(`${core}/configmaps/fresh`)],
  ),
  change(
    { verb: 'create', manifest: fresh, namespace: 'other' },
    { method: 'POST', path: `/api/v1/namespaces/other/configmaps?${MANAGER}`, type: JSON_TYPE, body: fresh },
  ),
  change(
    { verb: 'create', manifest: { ...DEPLOYMENT, metadata: { name: 'bad' }, spec: { replicas: 1 } } },
    {
      method: 'POST',
      path: `${apps}/deployments?${MANAGER}`,
      type: JSON_TYPE,
      body: { ...DEPLOYMENT, metadata: { name: 'bad' }, spec: { replicas: 1 } },
    },
  ),
  ...[false, true].map((isDry) =>
    change(
      { verb: 'apply', manifest: applied, ...(isDry && { dry_run: true }) },
      {
        method: 'PATCH',
        path: `${core}/configmaps/applied?${isDry ? 'dryRun=All&' : ''}${MANAGER}`,
        type: 'application/apply-patch+yaml',
        body: applied,
      },
      [gone(`${core}/configmaps/applied`)],
    ),
  ),
  change(
    { verb: 'label', resource: 'cm/settings', labels: { tier: 'web', none: null } },
    {
      method: 'PATCH',
      path: `${settings}?${MANAGER}`,
      type: MERGE,
      body: { metadata: { labels: { tier: 'web', none: null } } },
    },
  ),
  change(
    { verb: 'annotate', resource: 'cm/settings', annotations: { owner: 'ada@example.com' } },
    {
      method: 'PATCH',
      path: `${settings}?${MANAGER}`,
      type: MERGE,
      body: { metadata: { annotations: { owner: 'ada@example.com' } } },
    },
  ),
  change(
    { verb: 'label', resource: 'secret/db', labels: { a: 'b' }, namespace: 'other' },
    {
      method: 'PATCH',
      path: `/api/v1/namespaces/other/secrets/db?${MANAGER}`,
      type: MERGE,
      body: { metadata: { labels: { a: 'b' } } },
    },
  ),
  ...[1, 0, 4].map((replicas) =>
    change(
      { verb: 'scale', resource: 'deploy/web', replicas, dry_run: true },
      { method: 'PATCH', path: `${web}/scale?dryRun=All&${MANAGER}`, type: MERGE, body: { spec: { replicas } } },
    ),
  ),
  change(
    { verb: 'cordon', name: 'node-1', namespace: undefined, dry_run: true },
    {
      method: 'PATCH',
      path: `/api/v1/nodes/node-1?dryRun=All&${MANAGER}`,
      type: MERGE,
      body: { spec: { unschedulable: true } },
    },
  ),
  change(
    { verb: 'uncordon', name: 'node-1', namespace: undefined },
    { method: 'PATCH', path: `/api/v1/nodes/node-1?${MANAGER}`, type: MERGE, body: { spec: { unschedulable: false } } },
  ),
  ...(['delete', 'create'] as const).map((verb) =>
    change(
      { verb: 'can_i', resource: 'pods', ask_verb: verb },
      {
        method: 'POST',
        path: '/apis/authorization.k8s.io/v1/selfsubjectaccessreviews',
        type: JSON_TYPE,
        body: {
          apiVersion: 'authorization.k8s.io/v1',
          kind: 'SelfSubjectAccessReview',
          spec: { resourceAttributes: { verb, group: '', resource: 'pods', namespace: 'shop' } },
        },
      },
    ),
  ),
]

const subresources: readonly Pair[] = [
  {
    tool: { verb: 'get', resource: 'deploy/web', namespace: 'shop', subresource: 'scale', output: 'json' },
    door: get(`${web}/scale`),
  },
  {
    tool: { verb: 'get', resource: 'deploy/web', namespace: 'shop', subresource: 'status', output: 'json' },
    door: get(`${web}/status`),
  },
  {
    tool: { verb: 'get', resource: 'sa/default', namespace: 'shop', subresource: 'token', output: 'json' },
    door: get(`${core}/serviceaccounts/default/token`),
  },
  {
    tool: { verb: 'get', resource: 'pods/till', namespace: 'shop', subresource: 'proxy', output: 'json' },
    door: get(`${core}/pods/till/proxy`),
  },
  {
    tool: { verb: 'get', resource: 'svc/web', namespace: 'shop', subresource: 'proxy', output: 'json' },
    door: get(`${core}/services/web/proxy`),
  },
  {
    tool: { verb: 'get', resource: 'node/node-1', subresource: 'proxy', output: 'json' },
    door: get('/api/v1/nodes/node-1/proxy'),
  },
  {
    tool: { verb: 'get', resource: 'pods/till', namespace: 'shop', subresource: 'eviction', output: 'json' },
    door: get(`${core}/pods/till/eviction`),
  },
  {
    tool: { verb: 'get', resource: 'pods/till', namespace: 'shop', subresource: 'console', output: 'json' },
    door: get(`${core}/pods/till/console`),
  },
]

const words: readonly Pair[] = (
  [
    [['get', 'pods', 'till', '-n', 'shop', '-o', 'json'], get(`${core}/pods/till`)],
    [['kubectl', 'get', 'secret/db', '--namespace=shop', '--output', 'json'], get(`${core}/secrets/db`)],
    [['get', 'pods', '-l', 'app=till', '-n', 'shop'], get(`${core}/pods?labelSelector=app%3Dtill&limit=500`, TABLE)],
    [['get', 'deploy', 'web', '-n', 'shop', '--subresource', 'status', '-o', 'json'], get(`${web}/status`)],
    [['logs', 'till', '-n', 'shop', '--tail=1'], get(`${core}/pods/till/log?tailLines=1`, '*/*')],
    [['get', 'secrets', '-A', '-o', 'json'], get('/api/v1/secrets?limit=500')],
    [['get', 'po', 'a;b', '-n', 'shop'], get(`${core}/pods/a;b`)],
    [['get', 'po', '../secrets', '-n', 'shop'], get(`${core}/pods/../secrets`)],
    [['get', 'po', 'a%2fb', '-n', 'shop'], get(`${core}/pods/a%2fb`)],
    [['get', 'po', '.', '-n', 'shop'], get(`${core}/pods/.`)],
  ] as const
).map(([argv, door]) => ({ tool: { argv }, door }))

const isTable = ({ door }: Pair): boolean => door.accept === TABLE

const all: readonly Pair[] = [
  ...single('json', JSON_TYPE),
  ...single('table', TABLE),
  ...lists,
  ...logs,
  ...patches,
  ...writes,
  ...subresources,
  ...words,
]

/** Requests whose answer is an object, a list, a text or an error. */
export const PAIRS: readonly Pair[] = all.filter((pair) => !isTable(pair))

/** Requests for tables as the server makes them. Where fields are masked by name, it is not asked for any. */
export const TABLES: readonly Pair[] = all.filter(isTable)
export const POLICY_OF_TABLES = POLICY.replace(/^ {2}- \{fields:.*\n/mu, '')

/** One command in a container. */
interface Command {
  readonly namespace: string
  readonly pod: string
  readonly command: readonly string[]
  readonly container?: string
}

const inShop = (...command: readonly string[]): Command => ({ namespace: 'shop', pod: 'till', command })

/** Commands in containers. */
export const COMMANDS: readonly Command[] = [
  inShop('echo', 'a b', '$HOME', '; id'),
  inShop('fail', '7'),
  inShop('mail'),
  inShop('nothing'),
  { ...inShop('echo', 'c'), container: 'main' },
  { ...inShop('echo', 'c'), container: 'other' },
  { ...inShop('echo'), pod: 'nobody' },
  inShop('sh', '-c', 'echo'),
  inShop('/bin/echo'),
  { ...inShop('echo'), namespace: 'other' },
  { ...inShop('echo'), namespace: 'asked' },
  { ...inShop('echo'), namespace: 'kube-system' },
  { ...inShop('echo'), namespace: 'asked' },
]
