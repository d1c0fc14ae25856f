import type { Part } from '../core/action.ts'
import type { Call, Ending, Judged } from '../core/call.ts'
import type { Chunk, ExitChunk } from '../core/chunk.ts'
import type { Decision, Obligations, PartDecision } from '../core/decision.ts'
import { SallyportError } from '../core/errors.ts'
import type { CallRecording } from '../core/recording.ts'
import { CallBulk } from './bulk-file.ts'
import type { RecorderContext } from './context.ts'
import { fingerprint } from './keys.ts'
import type { SessionLog } from './session-log.ts'

/** The record of one call while it runs. */
export class LiveCall implements CallRecording {
  readonly #context: RecorderContext
  readonly #log: SessionLog
  readonly #call: Call
  readonly #id: string
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
    this.#id = id
    this.#session = session
    this.#startedAtMs = context.now()
    this.#bulk = new CallBulk(id, call.target.record, () => log.bulk(), context.now)
  }

  async decided(judged: Judged): Promise<void> {
    if (this.#isEnded) throw endedAlready()
    if (!this.#isDecided && this.#session.isClosing()) throw endedAlready()
    this.#context.space.check()
    const sync = this.#context.fsync !== 'off' && mayChangeState(judged.decision, this.#context)
    await this.#log.append('decision', decisionBody(this.#id, this.#call, judged), { sync })
    this.#isDecided = true
  }

  async approval(event: {
    readonly ticket: string
    readonly state: string
    readonly by?: readonly string[]
  }): Promise<void> {
    if (this.#isEnded) throw endedAlready()
    const { ticket, state, by } = event
    // Whatever state an approval is in, what follows it may rest on this entry: it goes to the device.
    await this.#log.append('approval', { call: this.#id, ticket, state, by }, { sync: this.#context.fsync !== 'off' })
  }

  async shown(chunk: Chunk): Promise<void> {
    if (this.#isEnded) throw endedAlready()
    try {
      await this.#bulk.add(chunk, this.#context.fsync === 'always')
    } catch (error) {
      if (error instanceof SallyportError) this.#context.space.failed(error)
      throw error
    }
    if (chunk.kind === 'exit') this.#exit = chunk
    if (chunk.kind !== 'data') return
    if (chunk.channel === 'rows') this.#rows += chunk.rows.length
    else this.#resultBytes += chunk.bytes.length
  }

  async close(ending: Ending, error?: SallyportError): Promise<void> {
    if (this.#isEnded) return
    this.#isEnded = true
    try {
      await this.#bulk.settled()
      await this.#log.append('end', this.#endBody(ending, error), { isOwed: true })
    } catch (failure) {
      // The caller's own error must reach it; the entry is owed and follows when writing works again.
      this.#context.log.error({ err: failure, call: this.#id }, 'The end of a call could not be recorded yet')
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
      call: this.#id,
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

function decisionBody(id: string, call: Call, { plan, decision, shown, reason }: Judged): object {
  return {
    call: id,
    target: call.target.name,
    tool: call.tool,
    request: shown,
    reason,
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
