/** Longest greeting of a login shell before ours; one that talks longer is not understood. */
const GREETING_BYTES_MAX = 16 * 1024

/** What the login shell says before its process id. */
export function marker(nonce: string): string {
  return `sallyport-${nonce}:`
}

/** Takes the line with the process id off the front of a command's output, and whatever a login script said before it. */
export class Starter {
  readonly #marker: string
  #held: Buffer = Buffer.alloc(0)
  #pid: number | undefined
  #isOver = false
  #tell: () => void = () => undefined
  /** Resolves when the process id is known. */
  readonly started = new Promise<void>((resolve) => {
    this.#tell = resolve
  })

  constructor(nonce: string) {
    this.#marker = marker(nonce)
  }

  get pid(): number | undefined {
    return this.#pid
  }

  /** Whether the login shell came as far as starting ours. */
  get hasStarted(): boolean {
    return this.#pid !== undefined
  }

  /** Returns what of these bytes belongs to the command. */
  strip(bytes: Uint8Array): Uint8Array {
    if (this.#pid !== undefined) return bytes
    if (this.#isOver) return EMPTY
    this.#held = Buffer.concat([this.#held, bytes])
    const text = this.#held.toString('latin1')
    const [line = '', digits = ''] = new RegExp(`${this.#marker}(\\d{1,10})\\n`, 'u').exec(text) ?? []
    if (line === '') {
      // Fail closed: without it nobody could end what runs. The call fails when the channel closes.
      if (text.length > GREETING_BYTES_MAX) this.#isOver = true
      return EMPTY
    }
    this.#pid = Number(digits)
    this.#tell()
    const rest = this.#held.subarray(text.indexOf(line) + line.length)
    this.#held = EMPTY
    return rest
  }
}

const EMPTY = Buffer.alloc(0)
