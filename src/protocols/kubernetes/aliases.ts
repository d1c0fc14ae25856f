/**
 * One object under several names. An API server has some kinds in more than one group, over the same storage
 * (`DefaultStorageFactory`, "cohabitating resources", and the groups they have moved from since Kubernetes 1.16), and hands
 * out whole objects under some of their subresources. What a policy forbids under one name it forbids under all of them;
 * what it allows it allows under the name it says.
 *
 * @packageDocumentation
 */
import { kindOf, type KubeRequest } from './request.ts'

/** Kinds that are the same objects, as `group/plural`; `core` is the group without a name. */
const SAME: readonly (readonly string[])[] = [
  ['core/events', 'events.k8s.io/events'],
  ['core/replicationcontrollers', 'extensions/replicationcontrollers'],
  ['apps/deployments', 'extensions/deployments'],
  ['apps/daemonsets', 'extensions/daemonsets'],
  ['apps/replicasets', 'extensions/replicasets'],
  ['networking.k8s.io/ingresses', 'extensions/ingresses'],
  ['networking.k8s.io/networkpolicies', 'extensions/networkpolicies'],
  ['policy/podsecuritypolicies', 'extensions/podsecuritypolicies'],
  // The old form of the subresource `binding`.
  ['core/pods', 'core/bindings'],
  // What OpenShift serves for these is made of them, and changes them.
  ['core/namespaces', 'project.openshift.io/projects', 'project.openshift.io/projectrequests'],
  ['rbac.authorization.k8s.io/roles', 'authorization.openshift.io/roles'],
  ['rbac.authorization.k8s.io/rolebindings', 'authorization.openshift.io/rolebindings'],
  ['rbac.authorization.k8s.io/clusterroles', 'authorization.openshift.io/clusterroles'],
  ['rbac.authorization.k8s.io/clusterrolebindings', 'authorization.openshift.io/clusterrolebindings'],
]

/** Groups in which the same values stand under other names than where rules and masks look for them. */
const RENAMED: ReadonlySet<string> = new Set(['events.k8s.io/events', 'extensions/ingresses'])

/** Subresources that hand out the whole object when they are read, and take its labels and annotations when written. */
const WHOLE: ReadonlySet<string> = new Set(['status', 'ephemeralcontainers', 'resize', 'approval', 'finalize'])

const BY_KIND = new Map<string, readonly string[]>()
for (const names of SAME) for (const name of names) BY_KIND.set(name, names)

/** Every other name of what a request touches; see `Resource.also`. */
export function otherKindsOf(request: KubeRequest): readonly string[] {
  const { group = '', resource, subresource } = request
  const own = kindOf(request)
  if (resource === undefined || own === undefined) return []
  const plain = `${group === '' ? 'core' : group}/${resource}`
  const rest = own.slice(plain.length)
  const names = BY_KIND.get(plain) ?? [plain]
  const isWhole = rest !== '' && subresource !== undefined && WHOLE.has(subresource) && request.verb !== 'unknown'
  const all = names.flatMap((name) => (isWhole ? [`${name}${rest}`, name] : [`${name}${rest}`]))
  return all.filter((name) => name !== own)
}

/** Whether masks by field name would look for the values of these objects in the wrong places. */
export function isRenamed({ group, resource }: KubeRequest): boolean {
  return RENAMED.has(`${group ?? ''}/${resource ?? ''}`)
}
