/**
 * The server's side of SCRAM-SHA-256 (RFC 5802, RFC 7677), without channel binding. It moves messages only: keys and
 * the comparison of a proof are the identity's.
 *
 * @packageDocumentation
 */
import { randomBytes } from 'node:crypto'
import { SallyportError } from '../../../core/errors.ts'
import type { Principal } from '../../../core/principal.ts'

/** What the identity says to whoever claims to be somebody. Nothing in it tells whether there is such a one. */
export interface ScramChallenge {
  readonly salt: Uint8Array
  readonly iterations: number
  /** Returns who it is and the server's own proof, or `undefined`. */
  check(
    authMessage: string,
    proof: Uint8Array,
  ): Promise<{ readonly principal: Principal; readonly signature: Uint8Array } | undefined>
}

/** The one mechanism that is offered. */
export const SCRAM = 'SCRAM-SHA-256'

const NONCE_BYTES = 18
const NONCE_CHARS_MAX = 256
const PROOF_BYTES = 32

/** One exchange, in two steps. */
export class ScramExchange {
  readonly #challenge: ScramChallenge
  #gs2 = ''
  #clientFirst = ''
  #serverFirst = ''
  #nonce = ''

  constructor(challenge: ScramChallenge) {
    this.#challenge = challenge
  }

  /** Takes client-first-message, returns server-first-message. @throws SallyportError `ERR_INVALID_INPUT` */
  first(message: string): string {
    // "y": the client could bind and was told that the server cannot, which is so.
    const [, gs2, bare, nonce] = /^([ny],(?:a=[^,]*)?,)((?:n=[^,]*),r=([!-+\--~]+)(?:,.*)?)$/u.exec(message) ?? []
    if (gs2 === undefined || bare === undefined || nonce === undefined || nonce.length > NONCE_CHARS_MAX)
      throw malformed()
    this.#gs2 = gs2
    this.#clientFirst = bare
    this.#nonce = nonce + randomBytes(NONCE_BYTES).toString('base64')
    const salt = Buffer.from(this.#challenge.salt).toString('base64')
    this.#serverFirst = `r=${this.#nonce},s=${salt},i=${this.#challenge.iterations}`
    return this.#serverFirst
  }

  /**
   * Takes client-final-message; returns who it is and server-final-message, or `undefined` for a proof that proves nothing.
   *
   * @throws SallyportError `ERR_INVALID_INPUT`
   */
  async final(message: string): Promise<{ readonly principal: Principal; readonly message: string } | undefined> {
    const [, withoutProof, binding, nonce, proof] = /^(c=([^,]*),r=([^,]*)(?:,[^p].*)?),p=([^,]+)$/u.exec(message) ?? []
    if (withoutProof === undefined || proof === undefined) throw malformed()
    if (binding !== Buffer.from(this.#gs2).toString('base64') || nonce !== this.#nonce) throw malformed()
    const bytes = Buffer.from(proof, 'base64')
    if (bytes.length !== PROOF_BYTES) throw malformed()
    const found = await this.#challenge.check(`${this.#clientFirst},${this.#serverFirst},${withoutProof}`, bytes)
    if (found === undefined) return undefined
    return { principal: found.principal, message: `v=${Buffer.from(found.signature).toString('base64')}` }
  }
}

function malformed(): SallyportError {
  return new SallyportError('ERR_INVALID_INPUT', 'The SCRAM message is not as RFC 5802 has it.', {
    facts: { sqlstate: '08P01' },
  })
}
