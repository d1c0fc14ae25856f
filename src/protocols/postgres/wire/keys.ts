import { randomBytes, randomInt, timingSafeEqual } from 'node:crypto'

/** Protocol 3.0 has 4 bytes of key; from 3.2 on they may be as many as PostgreSQL 18 makes. */
const KEY_BYTES_OLD = 4
const KEY_BYTES = 32

/** Our own cancel keys: what a client is given stands for its session here, and says nothing of the backend's. */
export class CancelKeys {
  readonly #sessions = new Map<number, { readonly key: Buffer; readonly cancel: () => void }>()

  /** Makes a key for a session. */
  issue(minor: number, cancel: () => void): { readonly processId: number; readonly key: Buffer } {
    let processId = randomInt(1, 0x7fff_ffff)
    while (this.#sessions.has(processId)) processId = randomInt(1, 0x7fff_ffff)
    const key = randomBytes(minor >= 2 ? KEY_BYTES : KEY_BYTES_OLD)
    this.#sessions.set(processId, { key, cancel })
    return { processId, key }
  }

  forget(processId: number): void {
    this.#sessions.delete(processId)
  }

  /** Cancels the session's statement if the key is right. Nobody is told which. */
  cancel(processId: number, key: Uint8Array): void {
    const session = this.#sessions.get(processId)
    if (session === undefined || session.key.length !== key.length) return
    if (timingSafeEqual(session.key, key)) session.cancel()
  }
}
