import { createHash, type Hash } from 'node:crypto'
import { hashOf } from './format.ts'

/** Up to here the bytes themselves are kept: to hash them in one go costs a tenth of making a hash for them. */
const GATHERED_BYTES_MAX = 16 * 1024
/** A small piece may hold on to a large buffer it was cut from. */
const GATHERED_MAX = 16

/** SHA-256 over bytes as they come, which most often are few. */
export class RunningHash {
  #gathered: Uint8Array[] = []
  #bytes = 0
  #hash: Hash | undefined

  update(bytes: Uint8Array): void {
    if (this.#hash !== undefined) {
      this.#hash.update(bytes)
      return
    }
    this.#gathered.push(bytes)
    this.#bytes += bytes.length
    if (this.#bytes <= GATHERED_BYTES_MAX && this.#gathered.length <= GATHERED_MAX) return
    this.#hash = createHash('sha256')
    for (const piece of this.#gathered) this.#hash.update(piece)
    this.#gathered = []
  }

  /** The hash of what came so far, and of `more` behind it, in lower-case hex. More may come after. */
  hex(more?: Uint8Array): string {
    if (this.#hash !== undefined) {
      const copy = this.#hash.copy()
      if (more !== undefined) copy.update(more)
      return copy.digest('hex')
    }
    return hashOf(Buffer.concat(more === undefined ? this.#gathered : [...this.#gathered, more]))
  }
}
