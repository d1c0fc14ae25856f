import type { Call } from '../../../core/call.ts'
import { SallyportError } from '../../../core/errors.ts'
import { encodeCopy } from '../messages/copy.ts'
import type { PostgresPlan } from '../plan-types.ts'
import type { Answer } from './answer.ts'
import type { WireBackend } from './backend.ts'

/** What COPY data on its way to a backend needs. */
export interface Feeding {
  readonly call: Call
  readonly plan: PostgresPlan
  readonly backend: WireBackend
  readonly answer: Answer
}

/**
 * COPY data on its way from the client to the backend, as fast as that takes it.
 *
 * A piece is recorded before it goes there, like everything a call does. Of data that may meet masked columns only its
 * length is: nobody masks what a client writes, and a recording holds no raw value (C10).
 */
export class CopyFeed {
  readonly #feeding: Feeding
  readonly #input: AsyncIterator<Uint8Array> | undefined
  readonly #isKept: boolean
  /** A piece that stands in the recording and was not sent yet. */
  #piece: Buffer | undefined
  #bytes = 0

  constructor(feeding: Feeding) {
    this.#feeding = feeding
    this.#input = feeding.call.input?.[Symbol.asyncIterator]()
    this.#isKept = mayBeKept(feeding.plan)
  }

  /** Sends what was recorded and takes the next piece. Resolves with whether there is one. */
  async goOn(): Promise<boolean> {
    const { backend, answer } = this.#feeding
    try {
      if (this.#piece !== undefined && answer.stopped === undefined) {
        await backend.sendPaced([encodeCopy({ type: 'CopyData', data: this.#piece })])
      }
      this.#piece = undefined
      const next = answer.stopped === undefined ? await this.#input?.next() : undefined
      if (answer.stopped !== undefined) {
        await this.#input?.return?.()
        return this.#fail('stopped')
      }
      if (next === undefined || next.done === true) return this.#end()
      this.#piece = Buffer.from(next.value)
      this.#bytes += this.#piece.length
      if (this.#isKept) answer.record({ kind: 'data', channel: 'stdin', bytes: this.#piece })
      return true
    } catch (error) {
      return this.#fail(error instanceof SallyportError ? error.message : 'the client ended it')
    }
  }

  #end(): false {
    const { backend, answer } = this.#feeding
    if (!this.#isKept) answer.record({ kind: 'head', attributes: { copy_bytes_not_kept: String(this.#bytes) } })
    backend.send([encodeCopy({ type: 'CopyDone' })])
    return false
  }

  #fail(reason: string): false {
    this.#feeding.backend.send([encodeCopy({ type: 'CopyFail', reason })])
    return false
  }
}

/** Fail closed: values that are hidden in the statement, or relations of which anything is masked, keep the data out. */
function mayBeKept({ hidesValues, touchesMasked, objects, tripwire, kind, masks }: PostgresPlan): boolean {
  if (kind === 'unknown') return masks.length === 0 && tripwire.length === 0
  return !hidesValues && !touchesMasked && !tripwire.some(({ relation }) => objects.includes(relation))
}
