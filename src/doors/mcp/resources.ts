import type { Principal } from '../../core/principal.ts'
import type { McpDoorDeps, VisibleTarget } from './deps.ts'

/** The targets a principal may touch. */
export const TARGETS_URI = 'targets://'

/** What the policy lets a principal do. */
export const POLICY_URI = 'policy://effective'

/** All resources of this door, in the order every list shows them. */
export const RESOURCES = [
  {
    uri: POLICY_URI,
    name: 'effective-policy',
    title: 'What you may do',
    description: 'The rules that hold for you: what is allowed, what needs an approval, what is masked.',
    mimeType: 'application/json',
  },
  {
    uri: TARGETS_URI,
    name: 'targets',
    title: 'Targets',
    description: 'The databases, hosts, clusters and services you may address by name.',
    mimeType: 'application/json',
  },
] as const

/** The text of a resource for this principal, or `undefined` when there is none of that name. */
export function readResource(uri: string, principal: Principal, deps: McpDoorDeps): string | undefined {
  switch (uri) {
    case TARGETS_URI:
      return JSON.stringify({ targets: deps.targets(principal).map(publicFacts) }, undefined, 2)
    case POLICY_URI: {
      const policy = deps.effectivePolicy(principal)
      return typeof policy === 'string' ? policy : JSON.stringify(policy, undefined, 2)
    }
    default:
      return undefined
  }
}

/** Only these: a target also has an address, an account and settings, and none of them is a caller's business. */
function publicFacts({ name, protocol, labels, mode }: VisibleTarget): VisibleTarget {
  return { name, protocol, labels, mode }
}
