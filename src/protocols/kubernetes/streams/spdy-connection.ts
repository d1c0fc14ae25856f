/**
 * One SPDY/3.1 connection, from either side: many streams of bytes in both directions over one socket.
 *
 * Kubernetes' own implementation knows no flow control: it never grants a window and never waits for one. So neither does
 * this one; what keeps a fast side in check is the socket, which is read no faster than the slowest stream is.
 *
 * @packageDocumentation
 */
import type { Duplex } from 'node:stream'
import { SallyportError } from '../../../core/errors.ts'
import { CONTROL, controlFrame, dataHead, FLAG_FIN, FrameReader, numbers, type SpdyFrame } from './spdy-frames.ts'
import { HeaderReader, HeaderWriter, malformed, type SpdyHeaders } from './spdy-headers.ts'
import { SpdyStream } from './spdy-stream.ts'

/** Told of a stream the other side opens. What it throws ends the connection. */
export type OnStream = (stream: SpdyStream) => void

/** Streams that may be open at once; a forwarded port takes two for each connection to it. */
const STREAMS_MAX = 256

/** How long what was written may take to leave, once everything is said. */
const LINGER_MS = 5_000

/** A connection. Whoever makes one runs it, and closes it in `finally`. */
export class SpdyConnection {
  readonly #socket: Duplex
  readonly #onStream: OnStream
  readonly #streams = new Map<number, SpdyStream>()
  readonly #frames = new FrameReader()
  readonly #reader = new HeaderReader()
  readonly #writer = new HeaderWriter()
  #nextStream: number
  #lastTheirs = 0

  constructor(socket: Duplex, role: 'client' | 'server', onStream: OnStream) {
    this.#socket = socket
    this.#onStream = onStream
    this.#nextStream = role === 'client' ? 1 : 2
    socket.on('error', () => undefined)
  }

  /**
   * Reads until the other side ends, and then fails whatever waits.
   *
   * @throws SallyportError `ERR_INVALID_INPUT` for what is no SPDY, `ERR_UPSTREAM_LOST` when the socket breaks.
   */
  async run(): Promise<void> {
    let failure: SallyportError | undefined
    try {
      for await (const bytes of this.#socket as AsyncIterable<Buffer>) {
        for (const frame of this.#frames.push(bytes)) await this.#take(frame)
      }
    } catch (cause) {
      failure = cause instanceof SallyportError ? cause : lost(cause)
      throw failure
    } finally {
      this.close(failure)
    }
  }

  /** Opens a stream of ours. Resolves once the other side took it. @throws SallyportError `ERR_UPSTREAM_LOST` */
  async open(headers: SpdyHeaders): Promise<SpdyStream> {
    const id = this.#nextStream
    this.#nextStream += 2
    const stream = this.#make(id, headers)
    await this.#send(
      controlFrame(CONTROL.synStream, 0, Buffer.concat([numbers(id, 0), Buffer.alloc(2), this.#writer.write(headers)])),
    )
    await stream.accepted
    return stream
  }

  /** Takes a stream the other side opened. */
  async accept(stream: SpdyStream): Promise<void> {
    await this.#send(controlFrame(CONTROL.synReply, 0, Buffer.concat([numbers(stream.id), this.#writer.write({})])))
  }

  /** Ends in good order: what was written still leaves. */
  async end(): Promise<void> {
    if (this.#socket.destroyed) return
    const timer = setTimeout(() => this.#socket.destroy(), LINGER_MS)
    timer.unref()
    await left(this.#socket)
    clearTimeout(timer)
    this.close()
  }

  close(why: SallyportError = lost()): void {
    this.#socket.destroy()
    this.#reader.close()
    for (const stream of this.#streams.values()) stream.fail(why)
    this.#streams.clear()
  }

  async #take(frame: SpdyFrame): Promise<void> {
    if (frame.kind === 'data') {
      const stream = this.#streams.get(frame.stream)
      // Data of a stream that was reset may still be under way.
      if (stream === undefined) return
      if (frame.bytes.length > 0) await stream.receive(frame.bytes)
      if (frame.isLast) stream.receiveEnd()
      return
    }
    const { type, flags, payload } = frame
    switch (type) {
      case CONTROL.synStream:
        if (payload.length < 10) throw malformed('a frame ends early')
        return this.#opened(payload.readUInt32BE(0) & 0x7fff_ffff, flags, await this.#reader.read(payload.subarray(10)))
      case CONTROL.synReply: {
        if (payload.length < 4) throw malformed('a frame ends early')
        // Read in any case: the next block refers to this one.
        await this.#reader.read(payload.subarray(4))
        const stream = this.#streams.get(payload.readUInt32BE(0) & 0x7fff_ffff)
        stream?.accept()
        if ((flags & FLAG_FIN) !== 0) stream?.receiveEnd()
        return
      }
      case CONTROL.headers:
        if (payload.length < 4) throw malformed('a frame ends early')
        await this.#reader.read(payload.subarray(4))
        return
      case CONTROL.rstStream: {
        if (payload.length < 8) throw malformed('a frame ends early')
        const id = payload.readUInt32BE(0) & 0x7fff_ffff
        this.#streams.get(id)?.fail(new SallyportError('ERR_UPSTREAM_LOST', 'The other side ended a stream.'))
        this.#streams.delete(id)
        return
      }
      case CONTROL.ping:
        return this.#send(controlFrame(CONTROL.ping, 0, payload))
      case CONTROL.goaway:
      case CONTROL.settings:
      case CONTROL.windowUpdate:
        return
      default:
        throw malformed(`a frame of type ${type}`)
    }
  }

  #opened(id: number, flags: number, headers: SpdyHeaders): void {
    if (id % 2 === this.#nextStream % 2 || id <= this.#lastTheirs) throw malformed('the number of a stream')
    if (this.#streams.size >= STREAMS_MAX) throw malformed('too many streams')
    this.#lastTheirs = id
    const stream = this.#make(id, headers)
    stream.accept()
    if ((flags & FLAG_FIN) !== 0) stream.receiveEnd()
    this.#onStream(stream)
  }

  #make(id: number, headers: SpdyHeaders): SpdyStream {
    const stream = new SpdyStream(id, headers, {
      data: (bytes, isLast) => this.#send(dataHead(id, bytes.length, isLast), bytes),
      reset: () => this.#send(controlFrame(CONTROL.rstStream, 0, numbers(id, CANCEL))),
      closed: () => void this.#streams.delete(id),
    })
    this.#streams.set(id, stream)
    return stream
  }

  async #send(...pieces: readonly Uint8Array[]): Promise<void> {
    if (this.#socket.destroyed || !this.#socket.writable) throw lost()
    let isFull = false
    this.#socket.cork()
    for (const piece of pieces) if (piece.length > 0) isFull = !this.#socket.write(piece)
    this.#socket.uncork()
    if (isFull) await drained(this.#socket)
  }
}

/** The status of a stream that is not wanted any more. */
const CANCEL = 5

/** Waits until a socket takes more, or will never do so again. */
async function drained(socket: Duplex): Promise<void> {
  await new Promise<void>((resolve) => {
    const over = (): void => {
      socket.off('drain', over)
      socket.off('close', over)
      resolve()
    }
    socket.once('drain', over)
    socket.once('close', over)
    // It may have ended between the write and here; then neither event comes.
    if (socket.destroyed) over()
  })
  if (socket.destroyed) throw lost()
}

/** Ends a socket, and waits until what was written has left it or never will. */
async function left(socket: Duplex): Promise<void> {
  await new Promise<void>((resolve) => {
    // A socket that breaks, or whose other side reads nothing more, closes without having finished.
    socket.once('finish', resolve).once('close', resolve)
    socket.end()
    if (socket.writableFinished || socket.destroyed) resolve()
  })
}

function lost(cause?: unknown): SallyportError {
  return new SallyportError('ERR_UPSTREAM_LOST', 'The connection broke.', { ...(cause !== undefined && { cause }) })
}
