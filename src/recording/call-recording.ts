import type { Part } from '../core/action.ts'
import type { Call, Ending, Judged } from '../core/call.ts'
import type { Chunk, ExitChunk } from '../core/chunk.ts'
import type { Decision, Obligations, PartDecision } from '../core/decision.ts'
import { SallyportError } from '../core/errors.ts'
import type { CallRecording } from '../core/recording.ts'
import type { Member } from '../core/roster.ts'
import { CallBulk } from './bulk-file.ts'
import type { RecorderContext } from './context.ts'
import { encodeJson } from './format.ts'
import { fingerprint } from './keys.ts'
import type { SessionLog } from './session-log.ts'

/** The record of one call while it runs. */
export class LiveCall implements CallRecording, Member {
  place = -1
  readonly #context: RecorderContext
  readonly #log: SessionLog
  readonly #call: Call
  /** Its name in the recording. */
  readonly id: string
  readonly #session: { readonly isClosing: () => boolean; readonly onEnded: () => void }
  readonly #startedAtMs: number
  readonly #bulk: CallBulk
  #isDecided = false
  #isEnded = false
  #rows = 0
  #resultBytes = 0
  #exit: ExitChunk | undefined

  constructor(
    context: RecorderContext,
    log: SessionLog,
    call: Call,
    id: string,
    session: { readonly isClosing: () => boolean; readonly onEnded: () => void },
  ) {
    this.#context = context
    this.#log = log
    this.#call = call
    this.id = id
    this.#session = session
    this.#startedAtMs = context.now()
    this.#bulk = new CallBulk(id, call.target.record, () => log.bulk(), context.now)
  }

  decided(judged: Judged): Promise<void> | undefined {
    if (this.#isEnded || (!this.#isDecided && this.#session.isClosing())) return Promise.reject(endedAlready())
    const full = this.#context.space.check()
    if (full !== undefined) return Promise.reject(full)
    const sync = this.#context.fsync !== 'off' && mayChangeState(judged.decision, this.#context)
    const writing = this.#log.append('decision', decisionBody(this.id, this.#call, judged), { sync })
    if (writing !== undefined) return this.#whenWritten(writing)
    this.#isDecided = true
    return undefined
  }

  async #whenWritten(writing: Promise<void>): Promise<void> {
    await writing
    this.#isDecided = true
  }

  approval(event: {
    readonly ticket: string
    readonly state: string
    readonly by?: readonly string[]
  }): Promise<void> | undefined {
    if (this.#isEnded) return Promise.reject(endedAlready())
    const { ticket, state, by } = event
    // Whatever state an approval is in, what follows it may rest on this entry: it goes to the device.
    return this.#log.append('approval', { call: this.id, ticket, state, by }, { sync: this.#context.fsync !== 'off' })
  }

  shown(chunk: Chunk): Promise<void> | undefined {
    if (this.#isEnded) return Promise.reject(endedAlready())
    const adding = this.#bulk.add(chunk, this.#context.fsync === 'always')
    if (adding === undefined) {
      this.#count(chunk)
      return undefined
    }
    return adding.then(
      () => this.#count(chunk),
      (error: unknown) => {
        if (error instanceof SallyportError) this.#context.space.failed(error)
        throw error
      },
    )
  }

  #count(chunk: Chunk): void {
    if (chunk.kind === 'exit') this.#exit = chunk
    if (chunk.kind !== 'data') return
    if (chunk.channel === 'rows') this.#rows += chunk.rows.length
    else this.#resultBytes += chunk.bytes.length
  }

  close(ending: Ending, error?: SallyportError): Promise<void> | undefined {
    if (this.#isEnded) return undefined
    this.#isEnded = true
    const settling = this.#bulk.settled()
    const writing =
      settling === undefined ? this.#writeEnd(ending, error) : settling.then(() => this.#writeEnd(ending, error))
    if (writing !== undefined) return this.#ended(writing)
    this.#session.onEnded()
    return undefined
  }

  #writeEnd(ending: Ending, error: SallyportError | undefined): Promise<void> | undefined {
    try {
      return this.#log.append('end', this.#endBody(ending, error), { isOwed: true })
    } catch (failure) {
      return Promise.reject(SallyportError.from(failure))
    }
  }

  async #ended(writing: Promise<void>): Promise<void> {
    try {
      await writing
    } catch (failure) {
      // The caller's own error must reach it; the entry is owed and follows when writing works again.
      this.#context.log.error({ err: failure, call: this.id }, 'The end of a call could not be recorded yet')
    } finally {
      this.#session.onEnded()
    }
  }

  /** Ends the record of a call that did not end in time before its session was sealed. */
  async abandon(): Promise<void> {
    await this.close('abandoned')
  }

  #endBody(ending: Ending, error: SallyportError | undefined): object {
    const exit = this.#exit
    return {
      call: this.id,
      ending,
      duration_ms: Math.max(0, this.#context.now() - this.#startedAtMs),
      ...(!this.#isDecided && this.#undecided()),
      ...(error && { error: { code: error.code, message: error.message, facts: error.facts } }),
      ...(exit && {
        status: exit.status,
        row_count: exit.rowCount,
        truncated: exit.truncated,
        truncated_by: exit.truncatedBy,
        masked: exit.masked,
        replayed: exit.replayed,
      }),
      ...(this.#rows > 0 && { rows: this.#rows }),
      ...(this.#resultBytes > 0 && { bytes: this.#resultBytes }),
      ...this.#bulk.summary(),
    }
  }

  /** A call that was never decided has no decision entry: what it was, this says, without a word of its payload. */
  #undecided(): object {
    const { tool, target, payload } = this.#call
    return { tool, target: target.name, payload: fingerprint(this.#context.payloadKey, payload) }
  }
}

/** Whether a call may change something at its target, so that its decision must survive a power cut. */
function mayChangeState(decision: Decision, context: RecorderContext): boolean {
  if (decision.effect === 'deny') return false
  if (decision.effect === 'require_approval') return true
  return decision.parts.length === 0 || decision.parts.some(({ verb }) => context.classOf(verb) !== 'read')
}

/** Spelled JSON of what stands in the entries of every call with the same decision on the same plan. */
const spelled = new WeakMap<
  Decision,
  { readonly parts: readonly Part[]; readonly masking: unknown; readonly text: string }
>()

/** The decision entry, as JSON text without what the chain adds. */
function decisionBody(id: string, call: Call, { plan, decision, shown, reason }: Judged): string {
  const { parts } = plan.action
  let same = spelled.get(decision)
  if (same?.parts !== parts || same.masking !== plan.masking) {
    same = { parts, masking: plan.masking, text: encodeJson(decidedAs(decision, plan)) }
    spelled.set(decision, same)
  }
  const own = encodeJson({ call: id, target: call.target.name, tool: call.tool, request: shown, reason })
  return `${own.slice(0, -1)},${same.text.slice(1)}`
}

/** What of the entry is the decision's and the plan's. */
function decidedAs(decision: Decision, plan: Judged['plan']): object {
  return {
    effect: decision.effect,
    observed: decision.observed,
    rules: decision.rules,
    why: decision.reason,
    policy_version: decision.policyVersion,
    masking: plan.masking,
    parts: decision.parts.map((part, index) => ({
      verb: part.verb,
      resource: resourceOf(part, plan.action.parts, index, decision.parts.length),
      effect: part.effect,
      rules: part.rules,
    })),
    ...(decision.approvals.length > 0 && {
      approvals: decision.approvals.map(({ rule, anyOf, count }) => ({ rule, any_of: anyOf, count })),
    }),
    obligations: obligationsOf(decision.obligations),
  }
}

/**
 * Names a part's resource. Names of relations and objects are written out; words of a command line, paths and URLs may
 * hold what the shown request has masked, so only their kind is, and the request says the rest.
 */
function resourceOf(part: PartDecision, planned: readonly Part[], index: number, count: number): string {
  const same = planned.length === count ? planned[index] : undefined
  if (same?.verb !== part.verb) {
    return planned.every(({ resource }) => isName(resource.type)) ? part.resource : '(in the request)'
  }
  return isName(same.resource.type) ? part.resource : `(${same.resource.type} in the request)`
}

function isName(type: Part['resource']['type']): boolean {
  return type === 'none' || type === 'sql' || type === 'k8s'
}

function obligationsOf(obligations: Obligations): object {
  const { rates, budgets, columns, detect, fields = [] } = obligations
  return {
    rows: obligations.rowsMax,
    bytes: obligations.bytesMax,
    timeout_ms: obligations.timeoutMs,
    concurrency: obligations.concurrencyMax,
    ...(rates.length > 0 && { rates: rates.map((rate) => rate.id) }),
    ...(budgets.length > 0 && { budgets: budgets.map((budget) => budget.id) }),
    ...(columns.length > 0 && {
      masks: columns.map(({ schema, table, column, transform }) => `${schema}.${table}.${column}: ${transform}`),
    }),
    ...(fields.length > 0 && { fields: fields.map(({ path, transform }) => `${path}: ${transform}`) }),
    ...(detect.length > 0 && { detect: detect.map(({ detector, transform }) => `${detector}: ${transform}`) }),
  }
}

function endedAlready(): SallyportError {
  return new SallyportError('ERR_RECORDING_FAILED', 'The record of this call has ended; make the call again.')
}
