/**
 * Who may answer a ticket, and when the answers suffice (C13). Pure.
 *
 * @packageDocumentation
 */
import type { ApprovalRequirement } from '../core/decision.ts'
import type { Principal } from '../core/principal.ts'
import type { Requester, Ticket, Vote } from './ticket.ts'

/** The parts of a principal that decide whether it may answer. */
export type Voter = Pick<Principal, 'id' | 'kind' | 'groups' | 'roles' | 'owner' | 'actsFor'>

/**
 * Returns why a principal may not answer, or `undefined` when it may. No role makes an exception: an administrator's own
 * request waits for somebody else like any other.
 */
export function whyNotAnswer(
  voter: Voter,
  requester: Requester,
  requirements: readonly ApprovalRequirement[],
): string | undefined {
  if (voter.kind !== 'person') return 'Only a person can answer a request for approval, never an agent or a service.'
  if (!voter.roles.includes('approver')) return `${voter.id} does not have the role approver.`
  if (isSamePerson(voter, requester)) {
    return `${voter.id} answers for the requester, ${requester.id}. Another person must approve.`
  }
  if (!requirements.some((requirement) => isNamed(voter, requirement))) {
    return `The rules ask for ${approversOf(requirements).join(', ')}; ${voter.id} is none of them.`
  }
  return undefined
}

/**
 * Whether two principals stand for one person: any name by which one is known (its own, its owner's, whom it acts for)
 * is also a name of the other. Names are compared without regard to case or to how their characters are composed, so
 * that `Maria` does not approve for `maria`.
 */
export function isSamePerson(a: Pick<Principal, 'id' | 'owner' | 'actsFor'>, b: typeof a): boolean {
  const names = namesOf(a)
  return [...namesOf(b)].some((name) => names.has(name))
}

function namesOf({ id, owner, actsFor }: Pick<Principal, 'id' | 'owner' | 'actsFor'>): Set<string> {
  return new Set([id, owner, ...(actsFor === undefined ? [] : [actsFor])].map(personKey))
}

/** Whether a principal is the requester itself: the same name, answered for by the same person, for the same person. */
export function isRequestedBy(principal: Pick<Principal, 'id' | 'owner' | 'actsFor'>, requester: Requester): boolean {
  return principal.id === requester.id && principal.owner === requester.owner && principal.actsFor === requester.actsFor
}

/** The form in which persons are compared. */
export function personKey(name: string): string {
  return name.normalize('NFKC').toLowerCase()
}

/** Whether a requirement names this principal, by id or by group. */
export function isNamed(voter: Voter, requirement: ApprovalRequirement): boolean {
  return requirement.anyOf.some((who) => {
    if (who.startsWith('group:')) return voter.groups.includes(who.slice('group:'.length))
    if (who.startsWith('id:')) return voter.id === who.slice('id:'.length)
    // Fail closed: a form we do not know names nobody.
    return false
  })
}

/** A requirement and how far it is met. */
export interface Progress {
  readonly requirement: ApprovalRequirement
  /** Ids of those whose approvals count for it, one per person. */
  readonly by: readonly string[]
  readonly isMet: boolean
}

/**
 * Counts, for each requirement, the distinct persons who agreed to exactly this digest. One person may count for several
 * requirements, and never twice for one, whatever number of tokens or groups they hold.
 */
export function progressOf(
  ticket: { readonly requester: Requester; readonly digest: string; readonly votes: readonly Vote[] },
  requirements: readonly ApprovalRequirement[],
): readonly Progress[] {
  return requirements.map((requirement) => {
    const persons = new Map<string, string>()
    for (const { approver, decision, digest } of ticket.votes) {
      if (decision !== 'approve' || digest !== ticket.digest) continue
      if (whyNotAnswer(approver, ticket.requester, [requirement]) !== undefined) continue
      if (!persons.has(personKey(approver.owner))) persons.set(personKey(approver.owner), approver.id)
    }
    // Fail closed: a count of zero, or one that is no number, is read as one person.
    const needed = requirement.count >= 1 ? requirement.count : 1
    const confirmed = confirmationOf(ticket, requirement)
    const by = [...persons.values(), ...(confirmed === undefined ? [] : [confirmed.approver.id])]
    return { requirement, by, isMet: persons.size >= needed || confirmed !== undefined }
  })
}

/** The requester's own confirmation, where the rule lets it count: of exactly this digest, asked for in this rule's name. */
function confirmationOf(
  { requester, digest, votes }: Parameters<typeof progressOf>[0],
  { selfConfirm, rule }: ApprovalRequirement,
): Vote | undefined {
  if (selfConfirm !== true) return undefined
  return votes.find(
    (vote) =>
      vote.decision === 'confirm' &&
      vote.digest === digest &&
      vote.confirms?.includes(rule) === true &&
      isRequestedBy(vote.approver, requester),
  )
}

/** Rules that wait for somebody and that the requester's own client may answer. */
export function confirmable(
  ticket: Parameters<typeof progressOf>[0] & Pick<Ticket, 'requirements'>,
): readonly string[] {
  return progressOf(ticket, ticket.requirements)
    .filter(({ requirement, isMet }) => requirement.selfConfirm === true && !isMet)
    .map(({ requirement }) => requirement.rule)
}

/** Whether every requirement is met. A ticket without any is never met: nobody was asked. */
export function isSatisfied(progress: readonly Progress[]): boolean {
  return progress.length > 0 && progress.every(({ isMet }) => isMet)
}

/** Names all who may answer, sorted, as callers are told whom they wait for. */
export function approversOf(requirements: readonly ApprovalRequirement[]): readonly string[] {
  return [...new Set(requirements.flatMap(({ anyOf }) => anyOf))].sort()
}
