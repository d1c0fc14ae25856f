import type { TicketView } from '../../approval/view.ts'
import type { Principal } from '../../core/principal.ts'
import type { McpDoorDeps, VisibleTarget } from './deps.ts'

/** The targets a principal may touch. */
export const TARGETS_URI = 'targets://'

/** What the policy lets a principal do. */
export const POLICY_URI = 'policy://effective'

/** Tickets that wait for this approver. */
export const PENDING_URI = 'approvals://pending'

/** Whether a principal is offered what approvers are. What it may answer is the inbox's to say. */
export function isApprover({ kind, roles }: Principal): boolean {
  return kind === 'person' && roles.includes('approver')
}

/** The resources a principal is offered, in the order every list shows them. */
export function resourcesFor(principal: Principal): readonly (typeof RESOURCES | typeof APPROVER_RESOURCES)[number][] {
  return isApprover(principal) ? [...RESOURCES, ...APPROVER_RESOURCES] : RESOURCES
}

const APPROVER_RESOURCES = [
  {
    uri: PENDING_URI,
    name: 'pending-approvals',
    title: 'Approvals that wait for you',
    description: 'Calls of others that wait for your answer. `approvals_review` shows one and takes the answer.',
    mimeType: 'application/json',
  },
] as const

const RESOURCES = [
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
export async function readResource(uri: string, principal: Principal, deps: McpDoorDeps): Promise<string | undefined> {
  switch (uri) {
    case PENDING_URI: {
      // To all others it does not exist.
      if (!isApprover(principal)) return undefined
      const pending = await deps.inbox.pending(principal)
      return JSON.stringify({ pending: pending.map(summaryOf) }, undefined, 2)
    }
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

/** Enough to choose by. Whoever answers is shown all of it first. */
export function summaryOf({ id, requester, target, tool, verbs, decisionReason, expiresAt }: TicketView) {
  return {
    ticket: id,
    requester: requester.id,
    owner: requester.owner,
    target,
    tool,
    actions: [...verbs],
    why: decisionReason,
    expires_at: expiresAt,
  }
}

/** Only these: a target also has an address, an account and settings, and none of them is a caller's business. */
function publicFacts({ name, protocol, labels, mode }: VisibleTarget): VisibleTarget {
  return { name, protocol, labels, mode }
}
