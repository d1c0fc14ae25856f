import type { Said, SessionRecording } from '../../../core/recording.ts'
import { encodeReport, type Report } from '../messages/report.ts'
import {
  encodeNotification,
  encodeParameterStatus,
  type Notification,
  type ParameterStatus,
} from '../messages/session-facts.ts'
import type { BackendEvents, WireBackend } from './backend.ts'
import type { Downstream } from './downstream.ts'
import { withheldNotice } from './reported.ts'

/** What an aside depends on. */
export interface AsideRooms {
  readonly client: Downstream
  readonly backend: WireBackend
  readonly recording: SessionRecording
  readonly target: string
  /** Whether a statement runs. */
  readonly isRunning: () => boolean
  /** Whether words of the backend are kept from its client. */
  readonly isWithheld: () => boolean
  /** Whether the policy is no longer the one of the last statement: what masks it has nobody has asked yet. */
  readonly isOutdated: () => boolean
}

/** What may wait for the end of a statement. A server tells of little before that. */
const WAITING_MAX = 10_000

/**
 * What a backend says beside its answers: notices, notifications, settings. Recorded as the client is told it, and told
 * between two answers: a piece of a result may end in the middle of a row.
 */
export class Asides implements BackendEvents {
  readonly #rooms: AsideRooms
  #waiting: Buffer[] = []

  constructor(rooms: AsideRooms) {
    this.#rooms = rooms
  }

  notice(report: Report): void {
    const shown = this.#rooms.isWithheld() ? withheldNotice(report) : report
    const text = `${shown.get('S') ?? ''} ${shown.get('C') ?? ''}: ${shown.get('M') ?? ''}`
    this.#record({ kind: 'notice', target: this.#rooms.target, text }, encodeReport('NoticeResponse', shown))
  }

  /** What somebody says there passes no detector and no mask. */
  notification(notification: Notification): void {
    const isWithheld = this.#rooms.isWithheld() || this.#rooms.isOutdated()
    const { channel } = notification
    const payload = isWithheld ? '' : notification.payload
    const said: Said = { kind: 'notification', target: this.#rooms.target, channel }
    this.#record(isWithheld ? said : { ...said, text: payload }, encodeNotification({ ...notification, payload }))
  }

  parameter(status: ParameterStatus): void {
    this.#tell(encodeParameterStatus(status))
  }

  /** Tells what has waited. Called where an answer has ended. */
  tellWaiting(): void {
    if (this.#waiting.length === 0) return
    const waiting = this.#waiting
    this.#waiting = []
    for (const bytes of waiting) this.#rooms.client.write(bytes)
  }

  /** Recorded before it is told. Fail closed: what cannot be recorded ends the session. */
  #record(said: Said, bytes: Buffer): void {
    const { backend, recording } = this.#rooms
    const recorded = recording.heard?.(said)
    if (recorded === undefined) this.#tell(bytes)
    else
      recorded.then(
        () => this.#tell(bytes),
        (error: unknown) => backend.destroy(error),
      )
  }

  #tell(bytes: Buffer): void {
    const { client, backend, isRunning } = this.#rooms
    if (isRunning()) {
      this.#waiting.push(bytes)
      if (this.#waiting.length > WAITING_MAX) backend.destroy(new Error('The server says too much beside its answers.'))
      return
    }
    client.write(bytes)
    // What the backend says while the client waits for nothing leaves at once.
    void client.flush()
  }
}
