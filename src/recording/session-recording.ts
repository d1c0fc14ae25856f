import type { Call } from '../core/call.ts'
import { SallyportError } from '../core/errors.ts'
import type { CallRecording, Said, SessionRecording } from '../core/recording.ts'
import { Roster } from '../core/roster.ts'
import { LiveCall } from './call-recording.ts'
import type { RecorderContext } from './context.ts'
import { fingerprint } from './keys.ts'
import type { SessionLog } from './session-log.ts'

/** Names that are ours: anything else in a refused attempt may be whatever a caller put there. */
const PLAIN_NAME = /^[A-Za-z][A-Za-z0-9_.-]{0,63}$/

/** The recording of one session, as the gateway sees it. */
export class RecordedCalls implements SessionRecording {
  readonly #context: RecorderContext
  readonly #log: SessionLog
  readonly #live = new Roster<LiveCall>()
  readonly #onClosed: () => void
  #begun = 0
  #closing: Promise<void> | undefined
  #onIdle: (() => void) | undefined

  constructor(context: RecorderContext, log: SessionLog, onClosed: () => void) {
    this.#context = context
    this.#log = log
    this.#onClosed = onClosed
  }

  begin(call: Call): CallRecording {
    this.#begun++
    // Frames and entries are told apart by this name, so two running calls never share one.
    const id = this.#live.find((one) => one.id === call.id) !== undefined ? `${call.id}#${this.#begun}` : call.id
    const live = new LiveCall(this.#context, this.#log, call, id, {
      isClosing: () => this.#closing !== undefined,
      onEnded: () => {
        this.#live.remove(live)
        if (this.#live.size === 0) this.#onIdle?.()
      },
    })
    this.#live.add(live)
    return live
  }

  async refused(attempt: Parameters<SessionRecording['refused']>[0]): Promise<void> {
    if (this.#closing !== undefined) throw sessionEnded()
    const full = this.#context.space.check()
    if (full !== undefined) throw full
    const { payloadKey } = this.#context
    const name = (text: string): unknown => (PLAIN_NAME.test(text) ? text : fingerprint(payloadKey, text))
    const { code, facts } = attempt.error
    await this.#log.append('refused', {
      tool: name(attempt.tool),
      ...(attempt.target !== undefined && { target: name(attempt.target) }),
      payload: fingerprint(payloadKey, attempt.payload),
      // The message of such an error may quote what was wrong with the payload; the code says enough.
      error: { code, rules: facts.rules, construct: facts.construct },
    })
  }

  heard({ kind, target, channel, text }: Said): Promise<void> | undefined {
    if (this.#closing !== undefined) return Promise.reject(sessionEnded())
    const full = this.#context.space.check()
    if (full !== undefined) return Promise.reject(full)
    return this.#log.append('heard', {
      kind,
      target,
      ...(channel !== undefined && { channel }),
      ...(text === undefined ? { withheld: true } : { text }),
    })
  }

  close(): Promise<void> {
    this.#closing ??= this.#close()
    return this.#closing
  }

  async #close(): Promise<void> {
    await this.#idle()
    for (const live of this.#live) await live.abandon()
    await this.#log.seal()
    this.#onClosed()
  }

  /** Waits until all calls have ended, so that their ends come before the seal; but not for ever. */
  async #idle(): Promise<void> {
    if (this.#live.size === 0) return
    let timer: NodeJS.Timeout | undefined
    await new Promise<void>((resolve) => {
      this.#onIdle = resolve
      timer = setTimeout(resolve, this.#context.closeWaitMs)
    })
    clearTimeout(timer)
  }
}

function sessionEnded(): SallyportError {
  return new SallyportError('ERR_RECORDING_FAILED', 'The session is ending; open a new one.')
}
