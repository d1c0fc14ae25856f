/**
 * The spine. Every front door turns bytes into a {@link Call} and hands it to {@link govern}; there is no second way to
 * a backend. Read this first; then `permits.ts` for what happens between a decision and the first byte upstream.
 *
 * identify → plan → decide → permit (deny · hold for approval · reserve limits) → inject credential → execute → mask → record
 *
 * @packageDocumentation
 */
import {
  NO_SECRET,
  type Call,
  type Ending,
  type Judged,
  type Plan,
  type PlanContext,
  type Protocol,
  type Secret,
} from '../core/call.ts'
import type { Chunk } from '../core/chunk.ts'
import type { Decision } from '../core/decision.ts'
import { SallyportError } from '../core/errors.ts'
import type { Preview } from '../core/preview.ts'
import type { CallRecording } from '../core/recording.ts'
import type { ProtocolName } from '../core/target.ts'
import type { Credentials } from '../credentials/credentials.ts'
import type { Masking } from '../masking/masking.ts'
import { isOpenTo } from '../policy/open.ts'
import { decideAgain } from '../policy/remembered.ts'
import type { Policy } from '../policy/policy.ts'
import { withWarning, type Claim, type Permits } from './permits.ts'
import { previewOf } from './preview.ts'

/** Everything a call passes through. Built once, in `main.ts`. */
export interface Rooms {
  readonly protocols: Readonly<Partial<Record<ProtocolName, Protocol>>>
  /** The policy in force now; a snapshot, swapped whole on reload. */
  readonly policy: () => Policy
  readonly permits: Permits
  readonly credentials: Pick<Credentials, 'read'>
  readonly masking: Masking
  /** Milliseconds since the epoch. */
  readonly now: () => number
  /** Told of each decision and how long it took, planning not included. Must not throw. */
  readonly onDecision?: (call: Call, decision: Decision, seconds: number) => void
}

/**
 * Runs one call under policy and yields what its caller may see.
 *
 * The recording is closed however this ends, also when the consumer stops pulling: a generator's `finally` runs on
 * `return()`, its `catch` does not.
 *
 * @throws SallyportError with the code of whatever refused or failed.
 */
export async function* govern(call: Call, rooms: Rooms): AsyncGenerator<Chunk, void, undefined> {
  const entry = call.session.recording.begin(call)
  let ending: Ending = 'abandoned'
  let failure: SallyportError | undefined
  let claim: Claim | undefined
  let reading: Promise<Secret> | undefined
  // Set while the backend has the word: it quotes values in its errors (C10).
  let isBackends = false
  // One use of the secret is one judgement and what follows from it; a judgement after a wait reads it anew.
  const secret = (): Promise<Secret> => (reading ??= rooms.credentials.read(call.target))
  const judgeNow = (): Judged | Promise<Judged> => {
    reading = undefined
    return judge(call, rooms, secret)
  }
  const preview = (judged: Judged): Promise<Preview | undefined> =>
    previewOf(call, judged, protocolOf(call, rooms), { policy: rooms.policy(), masking: rooms.masking, secret })
  const holdUntil = rooms.now() + call.hold.waitMs
  try {
    for (let asked = 1; ; asked++) {
      // Most calls wait for nothing before they run: a promise is only waited for where there is one.
      const judging = judgeNow()
      const judged = judging instanceof Promise ? await judging : judging
      const deciding = entry.decided(judged) // written before anything runs (C15)
      if (deciding !== undefined) await deciding
      const asking = asked === 1 ? call : held(call, holdUntil - rooms.now())
      const taking = rooms.permits.take(asking, judged, judgeNow, entry, preview)
      claim = taking instanceof Promise ? await taking : taking
      let isShown = false
      try {
        let source = claim.replay
        if (source === undefined) {
          isBackends = true
          const protocol = protocolOf(call, rooms)
          const used = protocol.isConnected?.(call) === true ? NO_SECRET : await secret()
          source = protocol.execute(call, claim.judged.plan, claim.permit, used, secret)
          if (claim.warning !== undefined) source = warned(claim.warning, source)
        }
        for await (const chunk of rooms.masking.stream(source, claim.judged.decision)) {
          isBackends = false
          isShown = true
          const recording = recorded(entry, chunk) // before it is shown
          if (recording !== undefined) await recording
          claim.shown(chunk)
          yield chunk
          isBackends = claim.replay === undefined
        }
        break
      } catch (error) {
        if (isShown || asked === ASKED_MAX || !isAskedAgain(error)) throw error
        // What its approvers saw is no longer what it would do: that grant is used up, and they are asked anew (C14).
        const over = claim
        claim = undefined
        isBackends = false
        await over.end('failed', error)
      }
    }
    ending = 'done'
  } catch (error) {
    failure = SallyportError.from(error)
    // Whatever it said passes the detectors like any other text.
    if (isBackends && claim !== undefined) failure = rooms.masking.error(failure, claim.judged.decision)
    if (claim?.warning !== undefined) failure = withWarning(failure, claim.warning)
    ending = endingOf(failure)
    throw failure
  } finally {
    if (ending === 'abandoned') ending = call.signal.aborted ? 'cancelled' : (call.stopped?.() ?? 'abandoned')
    try {
      const settling = claim?.end(ending, failure)
      if (settling !== undefined) await settling.catch(unlessStoreFailed)
    } finally {
      const closing = entry.close(ending, failure)
      if (closing !== undefined) await closing
    }
  }
}

/** How often approvers are asked for one call whose data keeps changing under it. The caller may then send it again. */
const ASKED_MAX = 3

function isAskedAgain(error: unknown): error is SallyportError {
  return error instanceof SallyportError && error.code === 'ERR_APPROVAL_STALE' && error.facts.askAgain === true
}

/** The call with what is left of the time its door can hold it. */
function held(call: Call, leftMs: number): Call {
  return { ...call, hold: { ...call.hold, waitMs: Math.max(0, leftMs) } }
}

/** A result after what its caller should know first. */
async function* warned(warning: string, source: AsyncIterable<Chunk>): AsyncIterable<Chunk> {
  yield { kind: 'notice', severity: 'WARNING', text: warning, isAdvice: true }
  yield* source
}

function recorded(entry: CallRecording, chunk: Chunk): Promise<void> | undefined {
  const isEnd = chunk.kind === 'exit' || chunk.kind === 'notice'
  try {
    const recording = entry.shown(chunk)
    if (recording === undefined || !isEnd) return recording
    return recording.catch((cause: unknown) => {
      throw unrecorded(cause)
    })
  } catch (cause) {
    throw isEnd ? unrecorded(cause) : cause
  }
}

/** A backend has confirmed the end before these come: "it failed" would invite a second run. */
function unrecorded(cause: unknown): SallyportError {
  return new SallyportError(
    'ERR_OUTCOME_UNKNOWN',
    `The call ran to its end, but that could not be recorded, so nothing of its result is shown: ${SallyportError.from(cause).message}`,
    { cause },
  )
}

/** What became of the call is known, and a ticket that could not be settled is tried again by its own room. */
function unlessStoreFailed(error: unknown): void {
  if (!(error instanceof SallyportError) || error.code !== 'ERR_STORE_FAILED') throw error
}

/**
 * Plans the call and decides it, against the policy of this moment. Runs nothing of it.
 *
 * @param resolve for explanations only, see {@link PlanContext}.
 */
export function judge(
  call: Call,
  rooms: Pick<Rooms, 'protocols' | 'policy' | 'credentials' | 'masking' | 'now' | 'onDecision'>,
  secret: () => Promise<Secret> = () => rooms.credentials.read(call.target),
  resolve?: PlanContext['resolve'],
): Judged | Promise<Judged> {
  const policy = rooms.policy()
  const fields = policy.fieldsFor(call.session.principal, call.target)
  const plan = protocolOf(call, rooms).plan(call, {
    masks: policy.masksFor(call.session.principal, call.target),
    ...(fields.length > 0 && { fields }),
    secret,
    signal: call.signal,
    ...(isOpenTo(policy, call.session.principal, call.target) && { isOpen: true }),
    ...(resolve !== undefined && { resolve }),
  })
  return plan instanceof Promise
    ? plan.then((made) => judgePlan(call, made, policy, rooms))
    : judgePlan(call, plan, policy, rooms)
}

function judgePlan(
  call: Call,
  plan: Plan,
  policy: Policy,
  rooms: Pick<Rooms, 'protocols' | 'masking' | 'now' | 'onDecision'>,
): Judged {
  const startedAt = performance.now()
  const decision = decideAgain(policy, {
    principal: call.session.principal,
    target: call.target,
    session: call.session,
    action: plan.action,
    ...(plan.refused !== undefined && { refused: plan.refused }),
    now: rooms.now(),
  })
  rooms.onDecision?.(call, decision, (performance.now() - startedAt) / 1000)
  const shown = shownOf(call, plan, decision, rooms)
  const judged =
    shown.isReduced === true
      ? { plan, decision, shown: shown.shown, isReduced: shown.isReduced }
      : { plan, decision, shown: shown.shown }
  const alike = isCoverable(decision) ? protocolOf(call, rooms).alike?.(plan) : undefined
  const proves = decision.effect === 'require_approval' && protocolOf(call, rooms).proves?.(plan) === true
  return call.reason === undefined && alike === undefined && !proves
    ? judged
    : {
        ...judged,
        ...(proves && { proves }),
        ...(call.reason !== undefined && { reason: rooms.masking.text(call.reason, decision) }),
        ...(alike !== undefined && { alike }),
      }
}

function isCoverable({ effect, approvals }: Decision): boolean {
  return effect === 'require_approval' && approvals.every(({ covers }) => covers !== undefined)
}

/** The request as others may see it: all of it but values, whatever in it looks like one. */
function shownOf(
  call: Call,
  { shown }: Plan,
  decision: Decision,
  rooms: Pick<Rooms, 'protocols' | 'masking'>,
): Pick<Judged, 'shown' | 'isReduced'> {
  const { detect, fields = [] } = decision.obligations
  const isPlain = shown.data === undefined && shown.hash === undefined && shown.isWithheld === undefined
  if (isPlain && detect.length === 0 && fields.length === 0) return { shown }
  const { hash = '', isWithheld, ...plain } = rooms.masking.fields(shown, decision)
  const masked = rooms.masking.request(plain, decision)
  // A hash of values that are masked would let anybody who can list them find the right one.
  const unhashed = (text: string): string =>
    hash === '' || masked.text === shown.text ? text : text.replaceAll(hash, 'withheld')
  if (isWithheld === true) return { shown: { ...masked, text: unhashed(masked.text) }, isReduced: true }
  if (masked.text === plain.text) return { shown: { ...masked, text: unhashed(masked.text) } }
  const protocol = protocolOf(call, rooms)
  // Fail closed: what cannot be compared may hide anything.
  if (protocol.withoutValues === undefined) {
    return { shown: { ...masked, text: unhashed(masked.text) }, isReduced: true }
  }
  const words = protocol.withoutValues(plain.text, masked.text)
  if (words === undefined) return { shown: { ...masked, text: unhashed(masked.text) } }
  const text = words.map((word) => rooms.masking.text(word, decision)).join('')
  return { shown: { ...masked, text: unhashed(text) }, isReduced: true }
}

function protocolOf(call: Call, rooms: Pick<Rooms, 'protocols'>): Protocol {
  const protocol = rooms.protocols[call.target.protocol]
  if (protocol === undefined) {
    throw new SallyportError('ERR_UNKNOWN_TARGET', `This gateway does not serve ${call.target.protocol} targets.`)
  }
  return protocol
}

/** What the recording calls an error. */
export function endingOf(error: SallyportError): Ending {
  switch (error.code) {
    case 'ERR_DENIED':
    case 'ERR_UNAUTHENTICATED':
    case 'ERR_FORBIDDEN':
    case 'ERR_APPROVAL_REFUSED':
    case 'ERR_APPROVAL_EXPIRED':
    case 'ERR_APPROVAL_STALE':
    case 'ERR_APPROVAL_CONFLICT':
    case 'ERR_LIMIT_RATE':
    case 'ERR_LIMIT_CONCURRENCY':
    case 'ERR_LIMIT_BUDGET':
    case 'ERR_POLICY_CHANGED':
      return 'denied'
    case 'ERR_APPROVAL_PENDING':
      return 'pending'
    case 'ERR_CANCELLED':
    case 'ERR_APPROVAL_CANCELLED':
      return 'cancelled'
    default:
      return 'failed'
  }
}
