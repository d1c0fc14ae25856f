import { createHash } from 'node:crypto'
import type { IncomingMessage } from 'node:http'
import type { SallyportError } from '../../core/errors.ts'
import type { ErrorAnswer } from '../../core/http-error.ts'
import type { Principal } from '../../core/principal.ts'

/** A client tries its second way at once, which on a busy machine takes its time; what comes later is another request. */
const REMEMBERED_MS = 30_000
const REMEMBERED_MAX = 1_000

/** An answer instead of streams, and why it was given. */
export interface Refusal {
  readonly answer: ErrorAnswer
  readonly error: SallyportError
}

/**
 * Upgrades that were refused a moment ago.
 *
 * kubectl asks over WebSocket first, and when that is refused, for whatever reason, asks for the same again over SPDY. To
 * the policy these are one request: it is neither counted nor asked about twice, and gets the same answer. Only refusals
 * are remembered, each is given once, and only to whom it was given before.
 */
export class Refusals {
  readonly #now: () => number
  readonly #byKey = new Map<string, { readonly refusal: Refusal; readonly until: number }>()

  constructor(now: () => number) {
    this.#now = now
  }

  keyOf(principal: Principal, target: string, rest: string): string {
    return createHash('sha256')
      .update(JSON.stringify([principal.id, principal.actsFor ?? null, principal.credentialId ?? null, target, rest]))
      .digest('base64')
  }

  remember(request: IncomingMessage, key: string | undefined, refusal: Refusal): void {
    if (key === undefined || !isWebSocket(request)) return
    this.#byKey.delete(key)
    this.#byKey.set(key, { refusal, until: this.#now() + REMEMBERED_MS })
    for (const [oldest] of this.#byKey) {
      if (this.#byKey.size <= REMEMBERED_MAX) break
      this.#byKey.delete(oldest)
    }
  }

  /** What the first try heard, when this is the second one. */
  take(request: IncomingMessage, key: string): Refusal | undefined {
    if (isWebSocket(request)) return undefined
    const known = this.#byKey.get(key)
    this.#byKey.delete(key)
    return known === undefined || known.until < this.#now() ? undefined : known.refusal
  }
}

function isWebSocket({ headers }: IncomingMessage): boolean {
  return headers.upgrade?.toLowerCase() === 'websocket'
}
