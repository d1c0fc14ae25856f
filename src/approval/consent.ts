/**
 * How a call gets to its ticket, and waits there.
 *
 * @packageDocumentation
 */
import type { Call, Judged } from '../core/call.ts'
import type { Chunk } from '../core/chunk.ts'
import { SallyportError } from '../core/errors.ts'
import type { Preview } from '../core/preview.ts'
import type { Write } from '../store/store.ts'
import type { Approvals, Consent } from './approvals.ts'
import { claimTicket } from './claim.ts'
import { covering, coverUntil, isCovering, isWithin, termsOf } from './cover.ts'
import type { Desk, ReadTicket } from './desk.ts'
import { digestOf } from './digest.ts'
import { approversOf, confirmable, isSatisfied, progressOf } from './eligibility.ts'
import { blobOf, storeRequest } from './requests.ts'
import { keptChunks, masksOf } from './results.ts'
import { unseal } from './seal.ts'
import { EXPIRES_MAX_MS, deadlineOf, grantUntil, isFinal, moved, type Ticket } from './ticket.ts'
import { FILING, newTicketId, put, STANDING, standingKey } from './tickets.ts'
import { countableVotes } from './votes.ts'
import { ended, endOf } from './end-of.ts'
import {
  isRefusedInside,
  plainDigest,
  stillHeld,
  throwIfRefusedInside,
  throwIfTooManyInside,
  withdrawInside,
} from './inside.ts'

/** While one waiter was given the grant, others of the same call leave it alone for this long. */
const HANDED_MS = 1_000

const NEW_REQUEST = /^[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}$/i

/** Builds `consent()`. */
export function consenting(desk: Desk): Approvals['consent'] {
  const filing = new Map<string, Promise<unknown>>()
  const handed = new Map<string, number>()

  return async (call, judged, preview) => {
    throwUnlessBindable(call, judged)
    const { id: requester } = call.session.principal
    // One at a time per requester: fifty identical calls in one moment then join one ticket instead of racing for it.
    const since = desk.now()
    const id = await inTurn(filing, requester, () => {
      return fileOrJoin(desk, stillHeld(call, desk.now() - since), judged, preview)
    })
    if (call.hold.inTransaction === undefined) return waitFor(desk, handed, id, call)
    const withdraw = (): Promise<void> => withdrawInside(desk, id)
    try {
      const consent = await waitFor(desk, handed, id, call)
      return consent.kind === 'granted' ? { ...consent, withdraw } : consent
    } catch (error) {
      await withdraw()
      throw error
    }
  }
}

/** Builds `standing()`. */
export function standingOf(desk: Desk): (call: Call, judged: Judged) => Promise<ReadonlySet<string> | undefined> {
  return async (call, judged) => {
    const { ticket } = await desk.tickets.standing(keyOf(desk, call, judged).key)
    if (ticket === undefined || !stillStands(ticket.value, desk.now())) return undefined
    return new Set(ticket.value.requirements.map(({ rule }) => rule))
  }
}

function throwUnlessBindable(call: Call, judged: Judged): void {
  if (call.input !== undefined) {
    // Fail closed: data that is still to come cannot be shown to anybody, and nothing would bind the consent to it.
    throw new SallyportError(
      'ERR_DENIED',
      'A call that streams its input cannot be approved. Send the data as part of the request.',
      { facts: { rules: judged.decision.rules, construct: 'input.stream' } },
    )
  }
  if (judged.isReduced === true) {
    throw new SallyportError(
      'ERR_DENIED',
      'Something in the request looks like a secret, and hiding it would hide more of the request than that, so nobody ' +
        'could see what they approve. Hand values over as parameters, and leave comments out.',
      { facts: { rules: judged.decision.rules } },
    )
  }
  if (judged.decision.approvals.length === 0) {
    throw new SallyportError('ERR_DENIED', 'The policy asks for an approval and names nobody who could give it.', {
      facts: { rules: judged.decision.rules },
    })
  }
  if (call.newRequest !== undefined && !NEW_REQUEST.test(call.newRequest)) {
    throw new SallyportError('ERR_INVALID_INPUT', 'new_request must be a UUID, such as randomUUID() returns.')
  }
}

/** Returns the id of the one ticket that stands for this call, filing it when there is none. */
async function fileOrJoin(desk: Desk, call: Call, judged: Judged, preview?: Previewing): Promise<string> {
  const { digest, newRequest, key } = keyOf(desk, call, judged)
  if (call.hold.inTransaction !== undefined) await throwIfRefusedInside(desk, call, judged)
  let previewed: { readonly preview: Preview | undefined } | undefined
  for (;;) {
    call.signal.throwIfAborted()
    const standing = await desk.tickets.standing(key)
    if (standing.ticket !== undefined && stillStands(standing.ticket.value, desk.now())) {
      await refreshRequirements(desk, standing.ticket.value, judged)
      return standing.ticket.id
    }
    const covered = await covering(desk, call, judged)
    if (covered !== undefined) {
      previewed ??= { preview: await preview?.() }
      const id = await fileCovered(desk, covered, call, judged, standing.version, previewed.preview)
      if (id === 'raced') continue
      if (id !== undefined) return id
    }
    // Before a preview, which costs the target something: a flood of requests ends here.
    await throwIfTooMany(desk, call.session.principal.id, call.hold.inTransaction !== undefined)
    previewed ??= { preview: await preview?.() }
    const bare = newTicket(desk, call, judged, digest, newRequest, followed(standing.ticket?.value))
    const terms = termsOf(desk, call, judged, previewed.preview)
    const ticket = terms === undefined ? bare : { ...bare, cover: { terms, used: 1 }, coverKey: terms.key }
    if (await file(desk, ticket, call, judged, standing.version, previewed.preview)) return ticket.id
  }
}

/**
 * Files a call that an earlier approval covers, approved from the start, and counts the use in the same commit. Returns
 * `undefined` when it is not covered after all, and `'raced'` when another call came first.
 */
async function fileCovered(
  desk: Desk,
  covered: ReadTicket,
  call: Call,
  judged: Judged,
  standing: number,
  preview: Preview | undefined,
): Promise<string | undefined> {
  const { cover } = covered.value
  const until = await coverUntil(desk, covered.value, call, judged)
  if (cover === undefined || until === undefined || !isWithin(covered.value, preview)) return undefined
  const { digest, newRequest } = keyOf(desk, call, judged)
  const pending = newTicket(desk, call, judged, digest, newRequest, undefined)
  const why = `covered by the approval of ticket ${covered.id}, call ${cover.used + 1} of ${cover.terms.uses}`
  const ticket = moved(
    pending,
    'approved',
    { at: desk.now(), by: 'gateway', why },
    {
      grantUntil: Math.min(desk.now() + desk.settings.grantMs, until),
      coveredBy: { ticket: covered.id, by: approvedBy(covered.value) },
    },
  )
  const used = put({ ...covered.value, cover: { ...cover, used: cover.used + 1 } }, covered.version)
  return (await file(desk, ticket, call, judged, standing, preview, [used])) ? ticket.id : 'raced'
}

type Previewing = () => Promise<Preview | undefined>

/** The ticket that was approved for the same call, and not carried out because of what had changed. */
function followed(standing: Ticket | undefined): string | undefined {
  return standing?.state === 'failed' && standing.outcome?.code === 'ERR_APPROVAL_STALE' ? standing.id : undefined
}

function keyOf(desk: Desk, call: Call, { plan }: Judged) {
  const { id: inTransaction } = call.hold.inTransaction ?? {}
  const bound = { principal: call.session.principal, target: call.target, exact: plan.exact, inTransaction }
  const digest = digestOf(bound, desk.keys.digest)
  const newRequest = call.newRequest?.toLowerCase()
  return { digest, newRequest, key: standingKey({ digest, ...(newRequest !== undefined && { newRequest }) }) }
}

/** Whether a ticket still answers for its call. When it does not, the same call files a new one. */
function stillStands(ticket: Ticket, now: number): boolean {
  switch (ticket.state) {
    case 'pending':
    case 'approved':
    case 'executing':
    case 'outcome_unknown':
      return true
    case 'done':
      return ticket.result !== undefined && now < ticket.result.until
    case 'denied':
      // A "no" stands as long as the question would have: asking again at once is not another question.
      return now < ticket.expiresAt
    default:
      return false
  }
}

/** Brings a waiting ticket up to the policy of now, so that approvers are asked for what the claim will need. */
async function refreshRequirements(desk: Desk, standing: Ticket, { decision }: Judged): Promise<void> {
  const wanted = decision.approvals
  if (standing.state !== 'pending' || JSON.stringify(standing.requirements) === JSON.stringify(wanted)) return
  const votes = await countableVotes(desk, standing)
  await desk.tickets.change(standing.id, (ticket) => {
    if (ticket.state !== 'pending' || ticket.votes.length !== standing.votes.length) return ticket
    const { rules, reason, policyVersion } = decision
    // What it would cover was worked out under other rules, and its approvers were told so: now it is this call only.
    const { cover: _, coverKey: __, ...bare } = ticket
    const refreshed: Ticket = { ...bare, requirements: wanted, rules, decisionReason: reason, policyVersion }
    if (!isSatisfied(progressOf({ ...refreshed, votes }, wanted))) return refreshed
    const move = { at: desk.now(), by: 'gateway', why: 'the votes given satisfy the changed policy' }
    return moved(refreshed, 'approved', move, { grantUntil: grantUntil(refreshed, desk.now(), desk.settings.grantMs) })
  })
}

function newTicket(
  desk: Desk,
  call: Call,
  judged: Judged,
  digest: string,
  newRequest: string | undefined,
  follows: string | undefined,
): Ticket {
  const { plan, decision } = judged
  const { id, kind, owner, actsFor } = call.session.principal
  const now = desk.now()
  const isInTransaction = call.hold.inTransaction !== undefined
  const maxMs = isInTransaction ? call.hold.waitMs : EXPIRES_MAX_MS
  const waitMs = Math.min(maxMs, ...decision.approvals.map(({ expiresMs }) => expiresMs))
  return {
    id: newTicketId(),
    digest,
    ...(newRequest !== undefined && { newRequest }),
    ...(follows !== undefined && { follows }),
    state: 'pending',
    requester: { id, kind, owner, ...(actsFor !== undefined && { actsFor }) },
    requestedBy: id,
    target: call.target.name,
    protocol: call.target.protocol,
    tool: call.tool,
    verbs: [...new Set(plan.action.parts.map(({ verb }) => verb))].sort(),
    rules: decision.rules,
    decisionReason: decision.reason,
    policyVersion: decision.policyVersion,
    requirements: decision.approvals,
    votes: [],
    ...(isInTransaction && { inTransaction: true, plainDigest: plainDigest(desk, call, judged) }),
    createdAt: now,
    expiresAt: now + waitMs,
    history: [{ at: now, to: 'pending', by: id }],
  }
}

/** Files a ticket. Returns `false` when another one came first, or when the requester filed something else meanwhile. */
async function file(
  desk: Desk,
  ticket: Ticket,
  call: Call,
  judged: Judged,
  standing: number,
  preview: Preview | undefined,
  together: readonly Write[] = [],
): Promise<boolean> {
  const { id: requester } = ticket.requester
  // Read before counting: if anything else is filed for this requester in between, the commit fails and we count again.
  const guard = await desk.store.get(FILING, requester)
  if (ticket.state === 'pending') await throwIfTooMany(desk, requester, ticket.inTransaction === true)
  await forgetOldest(desk, requester)
  await storeRequest(desk, ticket.id, call, judged, preview)
  let filed = false
  try {
    filed = await desk.tickets.file(ticket, [
      { kind: 'put', collection: STANDING, id: standingKey(ticket), expect: standing, value: { ticket: ticket.id } },
      { kind: 'put', collection: FILING, id: requester, expect: guard?.version ?? 0, value: { at: desk.now() } },
      ...together,
    ])
  } finally {
    if (!filed) await desk.store.blobs.remove(blobOf('request', ticket.id)).catch(() => undefined)
  }
  return filed
}

async function throwIfTooMany(desk: Desk, requester: string, isInTransaction: boolean): Promise<void> {
  const pending = await desk.tickets.list({ state: 'pending', requestedBy: requester })
  // Reading a ticket whose time has run out is what expires it.
  const waiting = pending.filter(({ value }) => value.state === 'pending')
  const { pendingMax } = desk.settings
  if (isInTransaction) throwIfTooManyInside(waiting, requester)
  if (waiting.length < pendingMax) return throwIfTooManyWithdrawn(desk, requester)
  throw new SallyportError(
    'ERR_LIMIT_CONCURRENCY',
    `${waiting.length} requests of ${requester} wait for approval already, and ${pendingMax} may. ` +
      'Wait for an answer to them, or cancel some.',
  )
}

/** What is asked and withdrawn costs a preview at the target, and the attention of everybody who was told. */
async function throwIfTooManyWithdrawn(desk: Desk, requester: string): Promise<void> {
  const { pendingMax } = desk.settings
  const cancelled = await desk.tickets.list({ state: 'cancelled', requestedBy: requester })
  const since = desk.now() - WITHDRAWN_MS
  const withdrawn = cancelled.filter(({ value }) => (value.history.at(-1)?.at ?? 0) > since).length
  if (withdrawn < pendingMax) return
  throw new SallyportError(
    'ERR_LIMIT_RATE',
    `${withdrawn} requests of ${requester} for approval were withdrawn within a minute. Ask again later, and wait for the answer.`,
  )
}

const WITHDRAWN_MS = 60_000

/** Asking and withdrawing again and again must not grow the store, which is written whole with every change. */
async function forgetOldest(desk: Desk, requester: string): Promise<void> {
  const over = (await desk.tickets.list({ requestedBy: requester })).filter(
    ({ value }) =>
      isFinal(value.state) &&
      !stillStands(value, desk.now()) &&
      !isCovering(value, desk.now()) &&
      !isRefusedInside(value, desk.now()),
  )
  const excess = over.length - desk.settings.finishedMax + 1
  if (excess <= 0) return
  const oldest = over.sort((a, b) => a.value.createdAt - b.value.createdAt).slice(0, excess)
  for (const read of oldest) {
    await desk.store.blobs.remove(blobOf('request', read.id))
    await desk.store.blobs.remove(blobOf('result', read.id))
    await desk.tickets.remove(read)
  }
}

async function waitFor(desk: Desk, handed: Map<string, number>, id: string, call: Call): Promise<Consent> {
  const until = desk.now() + call.hold.waitMs
  const watch = desk.changes.watch(id)
  let told = false
  try {
    for (;;) {
      const ticket = (await desk.tickets.read(id))?.value
      if (ticket === undefined) throw ended('ERR_APPROVAL_EXPIRED', id, `Ticket ${id} is no longer kept. Ask again.`)
      const handedUntil = ticket.state === 'approved' ? (handed.get(id) ?? 0) : 0
      const answer = handedUntil > desk.now() ? undefined : answerOf(desk, ticket, call)
      if (answer !== undefined) {
        if (answer.kind === 'granted') handOut(handed, id, desk.now() + HANDED_MS)
        return answer
      }
      // Also where there is no time to wait: whoever is told of a ticket is told whom it waits for.
      if (!told) {
        told = true
        tell(call, ticket)
      }
      const remaining = call.hold.isLeft?.() === true ? 0 : until - desk.now()
      if (remaining <= 0) throw pending(ticket)
      const deadlines = [remaining, (deadlineOf(ticket) ?? Infinity) - desk.now()]
      if (handedUntil > 0) deadlines.push(handedUntil - desk.now())
      await watch.next(call.signal, Math.max(1, Math.min(...deadlines)))
    }
  } catch (error) {
    if (error instanceof SallyportError) throw error
    if (call.signal.aborted) {
      throw new SallyportError('ERR_CANCELLED', 'The caller went away; the request for approval stands.', {
        facts: { ticket: id },
        cause: error,
      })
    }
    throw error
  } finally {
    watch.close()
  }
}

/** What a ticket says to its requester now: a consent, an error, or nothing yet. */
function answerOf(desk: Desk, ticket: Ticket, call: Call): Consent | undefined {
  const { id, state } = ticket
  switch (state) {
    case 'pending':
    case 'executing':
      return undefined
    case 'approved':
      return {
        kind: 'granted',
        ticket: id,
        by: approvedBy(ticket),
        claim: (judged) => claimTicket(desk, id, call, judged),
      }
    case 'done':
      return { kind: 'executed', ticket: id, result: (judged) => replay(desk, ticket, judged) }
    default:
      throw endOf(ticket, state)
  }
}

/** How soon it makes sense to ask again. */
const RETRY_MS = 5_000

function pending(ticket: Ticket): SallyportError {
  const facts = { ticket: ticket.id, rules: ticket.rules, retryAfterMs: RETRY_MS }
  const message =
    ticket.state === 'pending'
      ? `Ticket ${ticket.id} waits for ${approversOf(ticket.requirements).join(', ')} until ` +
        `${new Date(ticket.expiresAt).toISOString()}. Nothing has run. Ask again with the same call to get its result.`
      : `Ticket ${ticket.id} was approved and its one execution is under way. Ask again with the same call for the result.`
  return new SallyportError('ERR_APPROVAL_PENDING', message, { facts })
}

function tell(call: Call, ticket: Ticket): void {
  const rules = ticket.state === 'pending' ? confirmable(ticket) : []
  call.hold.onHeld?.({
    ...(rules.length > 0 && { confirm: { digest: ticket.digest, rules } }),
    ticket: ticket.id,
    approvers: approversOf(ticket.requirements),
    expiresAt: new Date(ticket.expiresAt).toISOString(),
  })
}

function approvedBy({ votes, coveredBy }: Ticket): readonly string[] {
  if (coveredBy !== undefined) return coveredBy.by
  return votes.filter(({ decision }) => decision !== 'deny').map(({ approver }) => approver.id)
}

/** Bounded: what is older than the newest thousand has long run out. */
function handOut(handed: Map<string, number>, id: string, until: number): void {
  handed.delete(id)
  handed.set(id, until)
  if (handed.size <= 1_000) return
  const oldest = handed.keys().next()
  if (!oldest.done) handed.delete(oldest.value)
}

async function* replay(desk: Desk, ticket: Ticket, judged: Judged): AsyncGenerator<Chunk, void, undefined> {
  const name = blobOf('result', ticket.id)
  const sealed = await desk.store.blobs.get(name)
  const chunks = sealed === undefined ? [] : keptChunks(unseal(sealed, desk.keys.payload, name))
  const isComplete = ticket.result?.kept === 'full' && chunks.length > 0 && desk.now() < ticket.result.until
  // Fail closed: stored under other masks, the result may show what this caller must not see any more.
  const sameMasks = ticket.masks === masksOf(judged)
  if (isComplete && sameMasks) {
    for (const chunk of chunks) {
      if (chunk.kind !== 'exit') yield chunk.kind === 'head' ? { ...chunk, replayed: true } : chunk
    }
  } else {
    yield { kind: 'notice', severity: 'NOTICE', text: whyStatusOnly(ticket, isComplete) }
  }
  const exit = chunks.find((chunk) => chunk.kind === 'exit')
  yield exit === undefined
    ? { kind: 'exit', status: 'done', truncated: true, replayed: true }
    : { ...exit, truncated: exit.truncated || !(isComplete && sameMasks), replayed: true }
}

function whyStatusOnly({ id, outcome }: Ticket, isComplete: boolean): string {
  const ran = `This call already ran under ticket ${id} and does not run again.`
  if (outcome?.resolvedBy !== undefined)
    return `${ran} ${outcome.resolvedBy} found that it had taken effect; its result is lost.`
  if (isComplete) return `${ran} Its result was made under other masks and is not shown.`
  return `${ran} Its result was too large to keep, or is no longer kept.`
}

/** Runs `work` after all earlier work under the same key. */
async function inTurn<T>(turns: Map<string, Promise<unknown>>, key: string, work: () => Promise<T>): Promise<T> {
  const before = turns.get(key)
  const mine = (before ?? Promise.resolve()).then(work, work)
  turns.set(key, mine)
  try {
    return await mine
  } finally {
    if (turns.get(key) === mine) turns.delete(key)
  }
}
