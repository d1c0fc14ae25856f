/**
 * What an approval covers beyond the call it was asked for: where the rule says so, the same statement with other
 * parameters, so often and so long, for the same principal at the same target under the same masks.
 *
 * A covered call gets a ticket of its own, approved from the start, that names the one whose approval it rests on. The use
 * is counted in that one by the commit that files the new ticket, so no two instances ever count the same use; and
 * everything the approval rests on is looked at again when the covered call is claimed.
 *
 * @packageDocumentation
 */
import { createHash } from 'node:crypto'
import type { Call, Judged } from '../core/call.ts'
import type { Preview } from '../core/preview.ts'
import { canonicalJson } from './canonical.ts'
import type { Desk, ReadTicket } from './desk.ts'
import { digestOf } from './digest.ts'
import { isRequestedBy, isSatisfied, progressOf } from './eligibility.ts'
import { masksOf } from './results.ts'
import type { CoverTerms, Ticket } from './ticket.ts'
import { countableVotes } from './votes.ts'

/**
 * Returns how far the approval of this call would reach, or `undefined` when it is for this call only.
 *
 * Fail closed: a statement whose preview cannot say how many rows it changes shows nobody what the next one may change.
 */
export function termsOf(desk: Desk, call: Call, judged: Judged, preview: Preview | undefined): CoverTerms | undefined {
  const key = coverKey(desk, call, judged)
  if (key === undefined) return undefined
  const scope = judged.alike === undefined ? 'same_call' : 'same_statement'
  if (scope === 'same_statement' && preview?.touched === undefined) return undefined
  if (!isWhole(preview)) return undefined
  const covers = judged.decision.approvals.flatMap((requirement) => requirement.covers ?? [])
  return {
    key,
    scope,
    forMs: Math.min(...covers.map(({ forMs }) => forMs)),
    uses: Math.min(...covers.map(({ uses }) => uses)),
    masks: masksOf(judged),
    ...(preview?.touched !== undefined && { touched: preview.touched }),
  }
}

/** What calls that one approval may cover have in common; `undefined` for a call that none may cover. */
function coverKey({ keys }: Desk, call: Call, { plan, decision, alike }: Judged): string | undefined {
  // Neither way: what was agreed to inside a transaction was agreed to with all that it had done before.
  if (call.hold.inTransaction !== undefined) return undefined
  const { effect, approvals } = decision
  if (effect !== 'require_approval' || approvals.length === 0 || plan.refused !== undefined) return undefined
  if (call.input !== undefined || approvals.some(({ covers }) => covers === undefined)) return undefined
  // What the values decide beyond the text, such as another relation by its name, is another action.
  const parts = JSON.stringify(plan.action.parts.map(({ verb, resource, account }) => [verb, resource, account]))
  const exact = { cover: alike === undefined ? 'same_call' : 'same_statement', like: alike ?? plan.exact, parts }
  return digestOf({ principal: call.session.principal, target: call.target, exact }, keys.digest)
}

/** Returns a ticket whose approval covers this call and still has a use left, if there is one. */
export async function covering(desk: Desk, call: Call, judged: Judged): Promise<ReadTicket | undefined> {
  const key = coverKey(desk, call, judged)
  if (key === undefined) return undefined
  const found = await desk.tickets.list({ coverKey: key })
  for (const read of [...found].sort((a, b) => a.value.createdAt - b.value.createdAt)) {
    const { cover } = read.value
    if (cover === undefined || cover.used >= cover.terms.uses) continue
    if ((await coverUntil(desk, read.value, call, judged)) !== undefined) return read
  }
  return undefined
}

/** Whether nothing is said to be missing from a preview; of a protocol that has none, nothing is. */
function isWhole(preview: Preview | undefined): boolean {
  return preview?.missing === undefined || preview.touched !== undefined
}

/** Whether a covered call would change no more than its approvers were shown. */
export function isWithin(ticket: Ticket, preview: Preview | undefined): boolean {
  const shown = ticket.cover?.terms.touched
  if (shown === undefined) return isWhole(preview)
  // Fail closed: what cannot say what it changes may change more.
  if (preview?.touched === undefined) return false
  return Object.entries(preview.touched).every(
    ([what, count]) => count <= (Object.hasOwn(shown, what) ? (shown[what] ?? 0) : 0),
  )
}

/**
 * Returns until when the approval of `ticket` covers this call as it is judged now, or `undefined` when it does not: the
 * policy asks for something else by now, or masks other columns; somebody ended it, or it ended by itself; or the persons
 * who agreed to just this reach no longer suffice.
 */
export async function coverUntil(desk: Desk, ticket: Ticket, call: Call, judged: Judged): Promise<number | undefined> {
  const { cover, requirements, requester, state } = ticket
  const { approvals } = judged.decision
  if (cover === undefined || cover.ended !== undefined || !STANDS.has(state)) return undefined
  if (cover.terms.key !== coverKey(desk, call, judged) || cover.terms.masks !== masksOf(judged)) return undefined
  if (!isRequestedBy(call.session.principal, requester)) return undefined
  if (JSON.stringify(requirements) !== JSON.stringify(approvals)) return undefined
  const votes = (await countableVotes(desk, ticket, desk.approverNow)).filter(({ decision }) => decision === 'approve')
  const reach = coverId(cover.terms)
  // Signed with each vote, so that whoever can write to the store cannot stretch what persons agreed to. Nobody's consent
  // is stretched by another's either: who agreed to the one call holds all of them to it.
  if (votes.length === 0 || votes.some(({ covers }) => covers !== reach)) return undefined
  if (!isSatisfied(progressOf({ ...ticket, votes }, approvals))) return undefined
  const until = Math.max(...votes.map(({ at }) => at)) + cover.terms.forMs
  return desk.now() < until ? until : undefined
}

/**
 * In these an approval goes on covering. What failed was not what its approvers expected, and of what nobody knows the
 * outcome there must not be more.
 */
const STANDS: ReadonlySet<Ticket['state']> = new Set(['approved', 'executing', 'done'])

/** Whether the approval of a ticket may still cover calls, for those who would end it. */
export function isCovering({ cover, state, votes }: Ticket, now: number): boolean {
  if (cover === undefined || cover.ended !== undefined || !STANDS.has(state) || cover.used >= cover.terms.uses)
    return false
  const agreed = votes.filter(({ decision }) => decision === 'approve')
  const reach = coverId(cover.terms)
  if (agreed.length === 0 || agreed.some(({ covers }) => covers !== reach)) return false
  return now < Math.max(...agreed.map(({ at }) => at)) + cover.terms.forMs
}

/** Ends what an approval covers; the call it was asked for is not touched. */
export function uncovered(ticket: Ticket, by: string, at: number, why: string): Ticket {
  return ticket.cover === undefined ? ticket : { ...ticket, cover: { ...ticket.cover, ended: { at, by, why } } }
}

/** A short name of the terms, by which a vote says what it saw. */
export function coverId(terms: CoverTerms): string {
  return createHash('sha256').update(canonicalJson(terms)).digest('hex').slice(0, 32)
}

/** How far an approval reaches, in words for those who are asked. */
export function reachText({ scope, forMs, uses, touched }: CoverTerms): string {
  const what =
    scope === 'same_statement' ? 'this statement with any other parameters' : 'this very call, asked for afresh'
  const rows =
    touched === undefined || Object.keys(touched).length === 0
      ? ''
      : ' Each is tried first, and asked about when it would change more rows of a table than this one.'
  return `${what}: ${uses} calls in all, within ${minutes(forMs)} of the approval, by the same requester.${rows}`
}

function minutes(ms: number): string {
  const seconds = Math.ceil(ms / 1_000)
  return seconds % 60 === 0 ? `${seconds / 60} min` : `${seconds} s`
}
