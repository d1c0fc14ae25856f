/**
 * What stands between a decision and the first byte upstream: deny, hold for approval, reserve limits, and the watch
 * that decides every live call again when the policy or the caller's identity changes (C2).
 *
 * @packageDocumentation
 */
import type { Approvals, ClaimedTicket } from '../approval/approvals.ts'
import type { Call, Ending, HeldInTransaction, Judged, Permit } from '../core/call.ts'
import type { Chunk } from '../core/chunk.ts'
import type { ApprovalRequirement, ColumnMask, Decision } from '../core/decision.ts'
import { SallyportError } from '../core/errors.ts'
import type { Principal } from '../core/principal.ts'
import type { Preview } from '../core/preview.ts'
import type { CallRecording } from '../core/recording.ts'
import { Roster, type Member } from '../core/roster.ts'
import { askableBudgets, type Limits, type Reservation } from '../limits/limits.ts'
import type { LoopVerdict, Loops } from '../limits/loops.ts'

/** Makes permits. One per gateway, because the live calls of all doors stand in it. */
export interface Permits {
  /**
   * Turns a judged call into a claim, or throws why not.
   *
   * @param judgeAgain plans and decides the call anew; used after a wait, because the policy may have changed (C13).
   * @param preview works out what the call would change; asked only when persons are to be (C14).
   * @throws SallyportError `ERR_DENIED`, any `ERR_APPROVAL_*`, any `ERR_LIMIT_*`, `ERR_UNAUTHENTICATED`,
   * `ERR_CANCELLED`, `ERR_SHUTTING_DOWN`.
   */
  take(
    call: Call,
    judged: Judged,
    judgeAgain: () => Judged | Promise<Judged>,
    recording: CallRecording,
    preview?: (judged: Judged) => Promise<Preview | undefined>,
  ): Claim | Promise<Claim>
  /**
   * Throws when the caller's token no longer counts, when caller or target are frozen, or when this instance does not
   * have the policy in force. For what reads a target without running anything, such as describing it.
   */
  admit(call: Call): Promise<void>
  /** Decides every live call again with `decideAgain` and cancels those it no longer allows as they run. */
  recheck(
    decideAgain: (call: Call, judged: Judged) => { readonly decision: Decision; readonly masks: readonly ColumnMask[] },
  ): void
  /** Cancels the live calls `which` selects, telling their callers why. */
  cancel(which: (call: Call) => boolean, why: SallyportError): number
  /** Calls that run or wait now. */
  live(): readonly LiveCall[]
}

/** One running or waiting call, for operators. */
export interface LiveCall {
  readonly call: Call
  readonly judged: Judged
}

interface LiveEntry extends Member {
  readonly call: Call
  judged: Judged
  readonly controller: AbortController
}

/** The permission to run one call, and the duty to end it. */
export interface Claim {
  readonly judged: Judged
  readonly permit: Permit
  /** The stored result, when this call already ran under its approval. */
  readonly replay?: AsyncIterable<Chunk>
  /** What the caller should know before the result: that it goes round in circles. */
  readonly warning?: string
  shown(chunk: Chunk): void
  end(ending: Ending, error?: SallyportError): Promise<void>
}

/** How many reloads in a row a call is judged anew for. */
const RELOADS_MAX = 5

/** Used when no rule sets a time limit: nothing may hold a backend connection for ever. */
export const TIMEOUT_DEFAULT_MS = 60_000

/** What permits are made from. */
export interface PermitRooms {
  readonly approvals: Approvals
  readonly limits: Limits
  /** Version of the policy in force now. */
  readonly policyVersion: () => string
  /** Whether the principal is still who it was authenticated as: its token neither revoked nor run out. */
  readonly isCurrent: (principal: Principal) => Promise<boolean>
  /** Why a call must not run now whatever the policy says: somebody froze its caller or target. */
  readonly barred?: (call: Call) => Promise<SallyportError | undefined>
  readonly loops?: Loops
  /** Keeps a principal from calling for a while, on every instance. */
  readonly suspend?: (call: Call, by: string, reason: string, forMs: number) => Promise<void>
}

/** Builds the permits of one gateway. */
export function createPermits(rooms: PermitRooms): Permits {
  const barred = new WeakSet<SallyportError>()
  const live = new Roster<LiveEntry>()

  return {
    async take(call, judged, judgeAgain, recording, preview) {
      const watch = rooms.loops?.follow(call, judged)
      const verdict = rooms.loops?.look(call, judged) ?? NO_LOOP
      try {
        // Also for what is denied anyway: a caller may go on asking for what it does not get.
        if (verdict.kind === 'stop' && verdict.limit.approval === undefined) {
          // Whoever is frozen already is told that, and not of a suspension that ends sooner.
          await admit(call)
          await suspend(call, verdict)
        }
        const claim = await taken(call, judged, judgeAgain, recording, verdict, preview)
        if (claim.replay !== undefined || watch === undefined) return claim
        return {
          ...claim,
          ...(verdict.kind === 'warn' && { warning: verdict.warning }),
          shown(chunk) {
            watch.shown(chunk)
            claim.shown(chunk)
          },
          async end(ending, error) {
            watch.ended(error)
            await claim.end(ending, error)
          },
        }
      } catch (error) {
        const failure = SallyportError.from(error)
        // What a freeze stopped says nothing of the caller, who would be stopped again as soon as it is over.
        if (!barred.has(failure)) watch?.ended(failure)
        throw verdict.kind === 'warn' ? withWarning(failure, verdict.warning) : error
      }
    },

    admit,

    recheck(decideAgain) {
      for (const entry of live) {
        const { call } = entry
        const { decision, masks } = decideAgain(call, entry.judged)
        const why = noLongerAllowed(entry.judged, decision, masks)
        if (why !== undefined) {
          entry.controller.abort(new SallyportError('ERR_POLICY_CHANGED', why, { facts: { rules: decision.rules } }))
        }
      }
    },

    cancel(which, why) {
      let count = 0
      for (const entry of live) {
        if (!which(entry.call)) continue
        entry.controller.abort(why)
        count++
      }
      return count
    },

    live: () => [...live].map(({ call, judged }) => ({ call, judged })),
  }

  async function taken(
    call: Call,
    judged: Judged,
    judgeAgain: () => Judged | Promise<Judged>,
    recording: CallRecording,
    verdict: LoopVerdict,
    preview?: (judged: Judged) => Promise<Preview | undefined>,
  ): Promise<Claim> {
    throwIfAborted(call)
    throwIfDenied(judged.decision)
    const controller = new AbortController()
    const entry: LiveEntry = { call, judged, controller, place: -1 }
    live.add(entry)
    const cancelled = controller.signal
    const unfollow = follow(controller, call.signal, call.session.signal)
    let reservation: Reservation | undefined
    let ticket: ClaimedTicket | undefined
    let unclaimed: (() => Promise<void>) | undefined

    /** What persons must agree to besides what the rules ask for: a budget is used up, or the caller goes in circles. */
    const excess = new Map<string, ApprovalRequirement>()
    const judgeAnew = async (): Promise<Judged> => {
      entry.judged = withExcess(await judgeAgain(), excess)
      await recording.decided(entry.judged)
      throwIfDenied(entry.judged.decision)
      return entry.judged
    }

    try {
      // Asked only now: from here on a revocation or a freeze finds the call among the live ones and cancels it.
      await admit(call)
      if (verdict.kind === 'stop' && verdict.limit.approval !== undefined) {
        excess.set(verdict.limit.id, verdict.limit.approval)
      }
      // The call is live from here on, so every later reload rechecks it; one that came between its decision and here
      // has not. Bounded: a policy that keeps changing under a call denies it.
      for (let tries = 0; entry.judged.decision.policyVersion !== rooms.policyVersion(); tries++) {
        if (tries === RELOADS_MAX)
          throw new SallyportError('ERR_POLICY_CHANGED', 'The policy keeps changing; try again.')
        await judgeAnew()
      }
      reservation = await reserved(call, entry.judged, excess)
      if (excess.size > 0) {
        // What is over a budget is asked for in the same way as what a rule wants asked.
        entry.judged = withExcess(entry.judged, excess)
        await recording.decided(entry.judged)
      }
      if (entry.judged.decision.effect === 'require_approval') {
        // Nothing is set aside while persons think.
        reservation?.release({ ran: false })
        reservation = undefined
        const asked = entry.judged
        const waiting = await heldAs({ ...call, signal: cancelled }, asked)
        const consent = await rooms.approvals.consent(waiting, asked, () =>
          preview === undefined ? Promise.resolve(undefined) : preview(asked),
        )
        if (consent.kind === 'granted') unclaimed = consent.withdraw
        await recording.approval({
          ticket: consent.ticket,
          state: consent.kind,
          ...(consent.kind === 'granted' && { by: consent.by }),
        })
        const now = await underTicket(consent.ticket, judgeAnew)
        // The policy may have taken back meanwhile that anybody waits there.
        if (now.decision.effect === 'require_approval') throwIfNotHeld(call, now.decision)
        await admit(call)
        if (consent.kind === 'executed') {
          live.remove(entry)
          return replayOf(consent.result(now), now, cancelled, unfollow)
        }
        reservation = await underTicket(consent.ticket, () => {
          return rooms.limits.reserve(call, now.decision, new Set(excess.keys()))
        })
        // Written before the claim, not after: nothing may fail between the claim and the first byte upstream.
        await recording.approval({ ticket: consent.ticket, state: 'claiming', by: consent.by })
        throwIfAborted({ signal: cancelled })
        ticket = await consent.claim(now)
        unclaimed = undefined
      }
      if (reservation === undefined) throw new TypeError('a call that needs no approval has its limits reserved')
      throwIfAborted({ signal: cancelled })
      return claimOf(call, entry, unfollow, reservation, ticket)
    } catch (error) {
      unfollow()
      live.remove(entry)
      reservation?.release({ ran: false })
      const why = cancelled.aborted ? reasonOf(cancelled) : error
      await unclaimed?.()
      // Cancelled while it claimed: the claim stands, and nothing will ever run under it. What cannot be written now is
      // tried again by the approvals themselves.
      await ticket?.end('cancelled', neverBegun(why)).catch(() => undefined)
      throw why
    }
  }

  async function suspend(call: Call, { limit, reason }: Extract<LoopVerdict, { kind: 'stop' }>): Promise<never> {
    await rooms.suspend?.(call, limit.id, reason, limit.suspendMs)
    const error = new SallyportError(
      'ERR_DENIED',
      `${call.session.principal.id} is suspended for ${Math.ceil(limit.suspendMs / 1_000)} s by ${limit.id}: ${reason}.`,
      { facts: { rules: [limit.id], retryAfterMs: limit.suspendMs } },
    )
    barred.add(error)
    throw error
  }

  async function admit(call: Call): Promise<void> {
    if (!(await rooms.isCurrent(call.session.principal))) throw noLongerKnown()
    const why = await rooms.barred?.(call)
    if (why !== undefined) {
      barred.add(why)
      throw why
    }
  }

  /**
   * A call that was asked about because a budget was used up is that request still, also when the budget has room again:
   * otherwise asking for its result would run it, each time.
   */
  async function noteStanding(call: Call, judged: Judged, excess: Map<string, ApprovalRequirement>): Promise<void> {
    const { budgets, loops = [] } = judged.decision.obligations
    const asking = [...budgets, ...loops].filter(({ approval }) => approval !== undefined)
    if (asking.length === 0) return
    const standing = await rooms.approvals.standing?.(call, judged)
    for (const { id, approval } of asking) {
      if (approval !== undefined && standing?.has(id) === true) excess.set(id, approval)
    }
  }

  /** Reserves, or notes in `excess` the budgets that persons may let the call exceed and returns `undefined`. */
  async function reserved(
    call: Call,
    judged: Judged,
    excess: Map<string, ApprovalRequirement>,
  ): Promise<Reservation | undefined> {
    const { decision } = judged
    await noteStanding(call, judged, excess)
    if (excess.size > 0) return undefined
    try {
      return await rooms.limits.reserve(call, decision)
    } catch (error) {
      const budgets = askableBudgets(error)
      // What ran already may be picked up whatever is left; what did not is held to its limits before the claim.
      if (budgets.length === 0 && decision.effect === 'require_approval') return undefined
      if (budgets.length === 0) throw error
      for (const { id, approval } of budgets) {
        // Fail closed: nobody is named who could agree.
        if (approval === undefined) throw error
        excess.set(id, approval)
      }
      return undefined
    }
  }

  function claimOf(
    call: Call,
    entry: LiveEntry,
    unfollow: () => void,
    reservation: Reservation,
    ticket: ClaimedTicket | undefined,
  ): Claim {
    const { obligations } = entry.judged.decision
    const timeoutMs = obligations.timeoutMs ?? TIMEOUT_DEFAULT_MS
    const timer = setTimeout(() => {
      entry.controller.abort(
        new SallyportError('ERR_TIMEOUT', `The call ran longer than the ${timeoutMs} ms the policy allows.`),
      )
    }, timeoutMs)
    timer.unref()
    const { signal } = entry.controller
    let isShown = false
    reservation.onLost?.((why) => entry.controller.abort(why))
    if (call.onStopped !== undefined) signal.addEventListener('abort', call.onStopped, { once: true })
    return {
      judged: entry.judged,
      permit: {
        decision: entry.judged.decision,
        obligations,
        signal,
        ...(ticket?.guard !== undefined && { guard: ticket.guard }),
        ...(ticket?.prove !== undefined && { prove: (proof) => ticket.prove?.(proof) ?? Promise.resolve() }),
      },
      shown(chunk) {
        isShown = true
        ticket?.shown(chunk)
      },
      async end(ending, error) {
        clearTimeout(timer)
        unfollow()
        live.remove(entry)
        reservation.release({ ran: !neverRan(error), isInVain: !isShown && !signal.aborted && isInVain(error) })
        await ticket?.end(ending, error, signal.aborted)
      },
    }
  }
}

const NO_LOOP: LoopVerdict = { kind: 'none' }

/** The error of a call that ended before it reached its protocol. */
function neverBegun(error: unknown): SallyportError {
  const { code, message, facts } = SallyportError.from(error)
  return new SallyportError(code, message, { facts: { ...facts, noEffect: true } })
}

/** Says it in the error too: a caller that only meets errors would never hear it. */
export function withWarning(error: SallyportError, warning: string): SallyportError {
  const { code, message, facts, detail } = error
  const hint = facts.hint === undefined ? warning : `${facts.hint} ${warning}`
  return new SallyportError(code, message, {
    facts: { ...facts, hint },
    ...(detail !== undefined && { detail }),
    cause: error,
  })
}

/** Runs what comes after persons agreed: a caller that is refused there should know which agreement still stands. */
async function underTicket<T>(ticket: string, work: () => T | Promise<T>): Promise<T> {
  try {
    return await work()
  } catch (error) {
    if (!(error instanceof SallyportError) || error.facts.ticket !== undefined) throw error
    const { code, message, facts, detail } = error
    throw new SallyportError(code, message, {
      facts: { ...facts, ticket },
      ...(detail !== undefined && { detail }),
      cause: error,
    })
  }
}

/** A decision that also asks for what budgets that are used up ask for. What is denied stays denied. */
function withExcess(judged: Judged, excess: ReadonlyMap<string, ApprovalRequirement>): Judged {
  const { decision } = judged
  if (excess.size === 0 || decision.effect === 'deny') return judged
  const why = `${[...excess.keys()].join(' and ')} asks for it now`
  return {
    ...judged,
    decision: {
      ...decision,
      effect: 'require_approval',
      rules: [...new Set([...decision.rules, ...excess.keys()])],
      reason: decision.effect === 'allow' ? `This is allowed, and ${why}.` : `${decision.reason} Besides, ${why}.`,
      approvals: [...decision.approvals, ...excess.values()],
    },
  }
}

/** Somebody who is aborted with a signal. */
interface Follower extends Member {
  readonly controller: AbortController
}

/** Who follows each signal. One listener serves all: sessions and connections outlive very many calls. */
const followers = new WeakMap<AbortSignal, Roster<Follower>>()

/**
 * Aborts `controller` with whichever of the two aborts first, until the returned function is called. Unlike
 * `AbortSignal.any` it leaves nothing behind in a signal that outlives the call, such as its session's.
 */
function follow(controller: AbortController, one: AbortSignal, other: AbortSignal): () => void {
  const ofOne: Follower = { controller, place: -1 }
  const ofOther: Follower = { controller, place: -1 }
  const forOne = enlist(ofOne, one)
  const forOther = enlist(ofOther, other)
  return () => {
    forOne?.remove(ofOne)
    forOther?.remove(ofOther)
  }
}

function enlist(follower: Follower, source: AbortSignal): Roster<Follower> | undefined {
  if (source.aborted) {
    follower.controller.abort(source.reason)
    return undefined
  }
  const roster = followers.get(source) ?? rosterOf(source)
  roster.add(follower)
  return roster
}

function rosterOf(source: AbortSignal): Roster<Follower> {
  const roster = new Roster<Follower>()
  followers.set(source, roster)
  const abort = (): void => {
    for (const { controller } of roster) controller.abort(source.reason)
  }
  source.addEventListener('abort', abort, { once: true })
  return roster
}

function replayOf(result: AsyncIterable<Chunk>, judged: Judged, signal: AbortSignal, unfollow: () => void): Claim {
  return {
    judged,
    permit: { decision: judged.decision, obligations: judged.decision.obligations, signal },
    replay: result,
    shown: () => undefined,
    end: async () => unfollow(),
  }
}

/** Whether an error says that nothing of the call reached the backend's executor. */
function neverRan(error: SallyportError | undefined): boolean {
  return (
    error !== undefined &&
    (error.code === 'ERR_UPSTREAM_UNREACHABLE' ||
      error.code === 'ERR_UPSTREAM_AUTH' ||
      error.code === 'ERR_CREDENTIAL_MISSING')
  )
}

/**
 * Whether a call came to nothing before its target did any of it: what was approved was no longer what it would do, or its
 * protocol would not send it. Not what a target said no with: that too tells its caller something, and a result that
 * breaks off at its last row would be read for nothing.
 */
function isInVain(error: SallyportError | undefined): boolean {
  return error?.facts.noEffect === true && (error.code === 'ERR_APPROVAL_STALE' || error.code === 'ERR_DENIED')
}

/** Why a running call may not go on as it was judged, or `undefined` when it may. */
function noLongerAllowed(judged: Judged, decision: Decision, masks: readonly ColumnMask[]): string | undefined {
  if (decision.effect === 'deny') return `The policy changed and now denies this call: ${decision.reason}`
  if (decision.effect === 'require_approval' && judged.decision.effect === 'allow') {
    return 'The policy changed and now asks for an approval of this call.'
  }
  // Result values may already be on their way unmasked: a call planned with other masks cannot go on.
  const { detect, fields } = judged.decision.obligations
  const before = [judged.plan.masks, detect, fields]
  if (JSON.stringify([masks, decision.obligations.detect, decision.obligations.fields]) !== JSON.stringify(before)) {
    return 'The masks of this target changed while the call ran.'
  }
  return undefined
}

function noLongerKnown(): SallyportError {
  return new SallyportError('ERR_UNAUTHENTICATED', 'The token of this call was revoked or has expired.')
}

function throwIfDenied(decision: Decision): void {
  if (decision.effect !== 'deny') return
  throw new SallyportError('ERR_DENIED', decision.reason, {
    facts: {
      rules: decision.rules,
      ...(decision.hint !== undefined && { hint: decision.hint }),
      ...(decision.construct !== undefined && { construct: decision.construct }),
    },
  })
}

/** The call as it may wait: inside a transaction for no longer than its door can answer for. */
async function heldAs(call: Call, { plan, decision }: Judged): Promise<Call> {
  const { hold, signal } = call
  const inTransaction = throwIfNotHeld(call, decision)
  if (inTransaction === undefined) return call
  const waitMs = Math.min(hold.waitMs, await inTransaction.ready(plan))
  return { ...call, hold: { ...hold, waitMs }, signal: AbortSignal.any([signal, inTransaction.signal]) }
}

/**
 * C14: where waiting would hold locks nobody is asked, unless every rule and limit that asks says that it may be (C5).
 * Returns what the call waits in, if it is a transaction.
 */
function throwIfNotHeld({ hold }: Call, { rules, approvals }: Decision): HeldInTransaction | undefined {
  const { refused, inTransaction } = hold
  if (refused === undefined) return undefined
  if (refused instanceof SallyportError) throw refused
  if (inTransaction === undefined || !approvals.every((approval) => approval.inTransaction === true)) {
    throw new SallyportError('ERR_DENIED', `The call needs an approval. ${refused}`, { facts: { rules } })
  }
  return inTransaction
}

function throwIfAborted(call: { readonly signal: AbortSignal }): void {
  if (call.signal.aborted) throw reasonOf(call.signal)
}

function reasonOf(signal: AbortSignal): SallyportError {
  if (signal.reason instanceof SallyportError) return signal.reason
  return new SallyportError('ERR_CANCELLED', 'The caller cancelled the call.', { cause: signal.reason })
}
