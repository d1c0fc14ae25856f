import type { ClientChannel } from 'ssh2'
import type { BytesChunk, Chunk } from '../../core/chunk.ts'

/** How much may wait here before the target is asked to wait. */
const QUEUE_BYTES_MAX = 256 * 1024

/** Says something of what follows, such as the size of a terminal. */
export type HeadChunk = Extract<Chunk, { kind: 'head' }>

/** How a channel ended: with a code, by a signal, or without saying. */
export interface Ended {
  readonly code?: number
  readonly signal?: string
}

/** Output of a channel, in the order it came, pulled: while nobody pulls, the target waits. */
export class ChannelOutput {
  readonly #channel: ClientChannel
  readonly #queue: (BytesChunk | HeadChunk)[] = []
  #bytes = 0
  #isPaused = false
  #isClosed = false
  #isDiscarding = false
  #failure: Error | undefined
  #wake: (() => void) | undefined
  readonly #onTaken: (() => void)[] = []
  ended: Ended | undefined

  /** @param strip takes off what does not belong to the output, as soon as it comes. */
  constructor(
    channel: ClientChannel,
    main: 'stdout' | 'pty' | 'wire',
    strip = (bytes: Uint8Array): Uint8Array => bytes,
  ) {
    this.#channel = channel
    channel.on('data', (bytes: Buffer) => this.push({ kind: 'data', channel: main, bytes: strip(bytes) }))
    channel.stderr.on('data', (bytes: Buffer) => this.push({ kind: 'data', channel: 'stderr', bytes }))
    channel.on('exit', (code: number | null, signal?: string) => {
      this.ended = code === null ? { signal: signal ?? 'UNKNOWN' } : { code }
    })
    channel.on('error', (error: Error) => this.fail(error))
    channel.on('close', () => {
      this.#isClosed = true
      this.#wake?.()
    })
  }

  /** Adds a chunk of another source, such as what was typed. */
  push(chunk: BytesChunk | HeadChunk): void {
    if (this.#isDiscarding || (chunk.kind === 'data' && chunk.bytes.length === 0)) return
    this.#queue.push(chunk)
    this.#bytes += lengthOf(chunk)
    if (this.#bytes > QUEUE_BYTES_MAX && !this.#isPaused) {
      this.#isPaused = true
      this.#channel.pause()
      this.#channel.stderr.pause()
    }
    this.#wake?.()
  }

  /** Whether the host has closed the channel. The channel's own `closed` stays unset until it is destroyed. */
  get isClosed(): boolean {
    return this.#isClosed
  }

  /** Drops what waits here and what still comes, so that the channel can close. */
  discard(): void {
    this.#isDiscarding = true
    this.#tellTaken()
    this.#queue.length = 0
    this.#channel.resume()
    this.#channel.stderr.resume()
  }

  /** Ends the output with an error. */
  fail(error: Error): void {
    this.#failure ??= error
    this.#tellTaken()
    this.#wake?.()
  }

  /** Resolves when everything that waits here was taken, and whoever took it came back for more. */
  taken(): Promise<void> {
    if (this.#isClosed || this.#isDiscarding || this.#failure !== undefined) return Promise.resolve()
    return new Promise((resolve) => void this.#onTaken.push(resolve))
  }

  /** Resolves with the next chunk, or `undefined` when the channel is closed. */
  async next(): Promise<BytesChunk | HeadChunk | undefined> {
    for (;;) {
      if (this.#failure !== undefined) throw this.#failure
      const chunk = this.#queue.shift()
      if (chunk !== undefined) {
        this.#bytes -= lengthOf(chunk)
        if (this.#isPaused && this.#bytes === 0) {
          this.#isPaused = false
          this.#channel.resume()
          this.#channel.stderr.resume()
        }
        return chunk
      }
      this.#tellTaken()
      if (this.#isClosed) return undefined
      await new Promise<void>((resolve) => {
        this.#wake = resolve
      })
      this.#wake = undefined
    }
  }

  #tellTaken(): void {
    for (const tell of this.#onTaken.splice(0)) tell()
  }
}

function lengthOf(chunk: BytesChunk | HeadChunk): number {
  return chunk.kind === 'data' ? chunk.bytes.length : 0
}
