/**
 * Kinds by the names people use. The ones every cluster has are a table; any other is looked up in the cluster's own
 * discovery, where a name cannot come to mean something else than the table says.
 *
 * @packageDocumentation
 */
import { SallyportError } from '../../core/errors.ts'

/** A kind of object as its cluster serves it. */
export interface KubeKind {
  readonly group: string
  readonly version: string
  readonly plural: string
  readonly kind: string
  readonly isNamespaced: boolean
}

/** Finds kinds the table does not have. Reads discovery only. */
export type FindKind = (name: string) => Promise<KubeKind | undefined>

type Row = readonly [
  group: string,
  version: string,
  plural: string,
  kind: string,
  where: 'ns' | 'cluster',
  shorts?: string,
]

const ROWS: readonly Row[] = [
  ['', 'v1', 'pods', 'Pod', 'ns', 'po'],
  ['', 'v1', 'services', 'Service', 'ns', 'svc'],
  ['', 'v1', 'configmaps', 'ConfigMap', 'ns', 'cm'],
  ['', 'v1', 'secrets', 'Secret', 'ns'],
  ['', 'v1', 'events', 'Event', 'ns', 'ev'],
  ['', 'v1', 'endpoints', 'Endpoints', 'ns', 'ep'],
  ['', 'v1', 'serviceaccounts', 'ServiceAccount', 'ns', 'sa'],
  ['', 'v1', 'persistentvolumeclaims', 'PersistentVolumeClaim', 'ns', 'pvc'],
  ['', 'v1', 'replicationcontrollers', 'ReplicationController', 'ns', 'rc'],
  ['', 'v1', 'resourcequotas', 'ResourceQuota', 'ns', 'quota'],
  ['', 'v1', 'limitranges', 'LimitRange', 'ns', 'limits'],
  ['', 'v1', 'podtemplates', 'PodTemplate', 'ns'],
  ['', 'v1', 'nodes', 'Node', 'cluster', 'no'],
  ['', 'v1', 'namespaces', 'Namespace', 'cluster', 'ns'],
  ['', 'v1', 'persistentvolumes', 'PersistentVolume', 'cluster', 'pv'],
  ['apps', 'v1', 'deployments', 'Deployment', 'ns', 'deploy'],
  ['apps', 'v1', 'statefulsets', 'StatefulSet', 'ns', 'sts'],
  ['apps', 'v1', 'daemonsets', 'DaemonSet', 'ns', 'ds'],
  ['apps', 'v1', 'replicasets', 'ReplicaSet', 'ns', 'rs'],
  ['apps', 'v1', 'controllerrevisions', 'ControllerRevision', 'ns'],
  ['batch', 'v1', 'jobs', 'Job', 'ns'],
  ['networking.k8s.io', 'v1', 'ingresses', 'Ingress', 'ns', 'ing'],
  ['networking.k8s.io', 'v1', 'networkpolicies', 'NetworkPolicy', 'ns', 'netpol'],
  ['networking.k8s.io', 'v1', 'ingressclasses', 'IngressClass', 'cluster'],
  ['autoscaling', 'v1', 'horizontalpodautoscalers', 'HorizontalPodAutoscaler', 'ns', 'hpa'],
  ['rbac.authorization.k8s.io', 'v1', 'roles', 'Role', 'ns'],
  ['rbac.authorization.k8s.io', 'v1', 'rolebindings', 'RoleBinding', 'ns'],
  ['rbac.authorization.k8s.io', 'v1', 'clusterroles', 'ClusterRole', 'cluster'],
  ['rbac.authorization.k8s.io', 'v1', 'clusterrolebindings', 'ClusterRoleBinding', 'cluster'],
  ['storage.k8s.io', 'v1', 'storageclasses', 'StorageClass', 'cluster', 'sc'],
  ['apiextensions.k8s.io', 'v1', 'customresourcedefinitions', 'CustomResourceDefinition', 'cluster', 'crd,crds'],
  ['coordination.k8s.io', 'v1', 'leases', 'Lease', 'ns'],
  ['scheduling.k8s.io', 'v1', 'priorityclasses', 'PriorityClass', 'cluster', 'pc'],
  ['certificates.k8s.io', 'v1', 'certificatesigningrequests', 'CertificateSigningRequest', 'cluster', 'csr'],
]

const BY_NAME = new Map<string, KubeKind>()
for (const [group, version, plural, kind, where, shorts = ''] of ROWS) {
  const found = { group, version, plural, kind, isNamespaced: where === 'ns' }
  const names = [plural, kind.toLowerCase(), ...shorts.split(',').filter((short) => short !== '')]
  for (const name of names) if (!BY_NAME.has(name)) BY_NAME.set(name, found)
  if (group !== '') for (const name of names) BY_NAME.set(`${name}.${group}`, found)
}

/** Groups of the API server itself. Any other may be a definition, or another server behind it. */
const OWN_GROUPS: ReadonlySet<string> = new Set([...ROWS.map(([group]) => group), 'policy', 'discovery.k8s.io'])

/** Whether a group is always served by the API server itself. */
export function isServedByTheServer(group: string): boolean {
  return OWN_GROUPS.has(group)
}

/** Whether a kind is in the table: every server has it itself, and no definition can be in its place. */
export function isInEveryCluster(group: string, plural: string): boolean {
  return BY_NAME.get(group === '' ? plural : `${plural}.${group}`)?.plural === plural
}

/**
 * Returns the kind a name means: plural, kind, short name, or `plural.group`.
 *
 * @throws SallyportError `ERR_INVALID_INPUT` when nothing has that name.
 */
export async function kindNamed(name: string, find: FindKind): Promise<KubeKind> {
  const lower = name.toLowerCase()
  if (!/^[a-z][a-z0-9.-]{0,252}$/u.test(lower)) {
    throw invalid('The resource must be one kind, such as pods, deployments or certificates.cert-manager.io.')
  }
  const found = BY_NAME.get(lower) ?? (await find(lower))
  if (found === undefined)
    throw invalid('The cluster has no resource of that name; write plural.group for an own kind.')
  return found
}

/**
 * Returns the kind of a manifest. Its group and version are taken as they are written; only the plural is looked up.
 *
 * @throws SallyportError `ERR_INVALID_INPUT`
 */
export async function kindOfManifest(apiVersion: string, kind: string, find: FindKind): Promise<KubeKind> {
  const [first = '', second] = apiVersion.split('/')
  const [group, version] = second === undefined ? ['', first] : [first, second]
  if (!/^v\w{1,30}$/u.test(version) || !/^[a-z0-9.-]{0,253}$/u.test(group) || !/^[A-Za-z]\w{0,62}$/u.test(kind)) {
    throw invalid('The manifest needs apiVersion and kind, such as apps/v1 and Deployment.')
  }
  const name = group === '' ? kind.toLowerCase() : `${kind.toLowerCase()}.${group}`
  const found = BY_NAME.get(name) ?? (await find(name))
  if (found === undefined || found.group !== group || found.kind !== kind) {
    throw invalid('The cluster has no such apiVersion and kind.')
  }
  return { ...found, version }
}

function invalid(message: string): SallyportError {
  return new SallyportError('ERR_INVALID_INPUT', message)
}
