/** Bytes with every form replaced, and their end that may be the beginning of one. */
export interface Scanned {
  readonly shown: Buffer
  readonly held: Buffer
}

/** Lower case of each byte read as Latin-1: letters of ASCII for certain, and what else a service may have changed. */
const FOLD = Uint8Array.from({ length: 256 }, (_, byte) => String.fromCharCode(byte).toLowerCase().charCodeAt(0))

/**
 * Searches bytes for several forms at once, in any case, without looking at most of them: a pair of bytes that stands in
 * no form lets it skip nearly the length of the shortest (Wu and Manber, 1994). What holds none is returned as it came.
 */
export class FormScan {
  /** Longest first, folded: of two forms that begin alike the longer one is what the service wrote. */
  readonly #forms: readonly Uint8Array[]
  readonly #placeholder: Buffer
  readonly #shortest: number
  /** By pair of bytes as they come: how far the window may move on when it ends with this pair. */
  readonly #shift: Uint8Array
  /** By byte as it comes: whether a form begins with it. */
  readonly #begins: Uint8Array

  /** @param forms one character per byte, none shorter than two. */
  constructor(forms: readonly string[], placeholder: Buffer) {
    this.#forms = forms.map((form) => folded(Buffer.from(form, 'latin1'))).sort((a, b) => b.length - a.length)
    this.#placeholder = placeholder
    this.#shortest = Math.min(255, this.#forms.at(-1)?.length ?? 0)
    const shift = new Uint8Array(65_536).fill(this.#shortest - 1)
    const first = new Set(this.#forms.map((form) => form[0]))
    this.#begins = FOLD.map((folded) => (first.has(folded) ? 1 : 0))
    for (const form of this.#forms) {
      for (let end = 1; end < this.#shortest; end++) {
        const pair = ((form[end - 1] ?? 0) << 8) | (form[end] ?? 0)
        shift[pair] = Math.min(shift[pair] ?? 0, this.#shortest - 1 - end)
      }
    }
    this.#shift = shift.map((_, pair) => shift[((FOLD[pair >> 8] ?? 0) << 8) | (FOLD[pair & 255] ?? 0)] ?? 0)
  }

  /**
   * Replaces every form. What is held may be the beginning of one, and belongs before the next piece.
   *
   * @param isEnd whether nothing follows: then nothing is held, and a form inside what would have been is found.
   */
  replace(bytes: Buffer, isEnd: boolean): Scanned {
    const pieces: Buffer[] = []
    let done = 0
    for (;;) {
      const start = this.#find(bytes, done, isEnd)
      if (start === bytes.length) break
      const length = this.#lengthAt(bytes, start, isEnd)
      if (length === 0) {
        // It goes on behind the end: whether it is a form, the next piece tells. A copy, so that nothing keeps the whole.
        pieces.push(bytes.subarray(done, start))
        return { shown: joined(pieces), held: Buffer.from(bytes.subarray(start)) }
      }
      pieces.push(bytes.subarray(done, start), this.#placeholder)
      done = start + length
    }
    return { shown: done === 0 ? bytes : joined([...pieces, bytes.subarray(done)]), held: NOTHING }
  }

  /** Where the first form begins, or the first beginning of one that reaches the end; else the length of the bytes. */
  #find(bytes: Buffer, from: number, isEnd: boolean): number {
    const shift = this.#shift
    const width = this.#shortest
    let end = from + width - 1
    while (end < bytes.length) {
      const step = shift[((bytes[end - 1] ?? 0) << 8) | (bytes[end] ?? 0)] ?? 0
      if (step > 0) end += step
      else if (this.#isPossible(bytes, end - width + 1, isEnd)) return end - width + 1
      else end++
    }
    if (isEnd) return bytes.length
    // Behind the last window there is room for beginnings only.
    for (let start = Math.max(from, end - width + 1); start < bytes.length; start++) {
      if (this.#isPossible(bytes, start, isEnd)) return start
    }
    return bytes.length
  }

  #isPossible(bytes: Buffer, start: number, isEnd: boolean): boolean {
    if (this.#begins[bytes[start] ?? 0] === 0) return false
    return this.#forms.some((form) => agrees(form, bytes, start, isEnd))
  }

  /** Length of the form at `start`; 0 while a longer one may still become complete. */
  #lengthAt(bytes: Buffer, start: number, isEnd: boolean): number {
    const form = this.#forms.find((one) => agrees(one, bytes, start, isEnd))
    return form === undefined || start + form.length > bytes.length ? 0 : form.length
  }
}

const NOTHING = Buffer.alloc(0)

/** Whether bytes are those of a form; unless nothing follows them, as far as there are any. */
function agrees(form: Uint8Array, bytes: Buffer, start: number, isEnd: boolean): boolean {
  const left = bytes.length - start
  if (isEnd && left < form.length) return false
  const length = Math.min(form.length, left)
  for (let at = 0; at < length; at++) if (FOLD[bytes[start + at] ?? 0] !== form[at]) return false
  return true
}

function folded(bytes: Uint8Array): Uint8Array {
  return bytes.map((byte) => FOLD[byte] ?? 0)
}

function joined(pieces: readonly Buffer[]): Buffer {
  const [only, ...more] = pieces
  return only !== undefined && more.length === 0 ? only : Buffer.concat(pieces)
}
