/** A relay on loopback before a server, whose connections can be broken and refused. */
import { connect, createServer, type Socket } from 'node:net'
import { Transform } from 'node:stream'

/** Whoever lays one takes it up again. */
export interface Cable {
  /** Where it begins, on 127.0.0.1. */
  readonly port: number
  /** Breaks every connection; new ones are taken. */
  cut(): void
  /** While it blocks, every connection is broken and none is taken. */
  block(isBlocked: boolean): void
  /** Keeps back, once, what a connection sends to the server after the answer to what is described. */
  keepAfter(sent: (text: string) => boolean): Kept
  close(): void
}

/** What is kept from the server. */
export interface Kept {
  /** Resolves when there is something. */
  readonly reached: Promise<void>
  /** Hands it on, and whatever follows. */
  release(): void
}

/** Lays a cable to whatever port of 127.0.0.1 is told when a connection comes. */
export async function layCable(port: () => number): Promise<Cable> {
  const sockets = new Set<Socket>()
  let isBlocked = false
  let keeping: Keeping | undefined
  const server = createServer((socket) => {
    if (isBlocked) {
      socket.destroy()
      return
    }
    const upstream = connect(port(), '127.0.0.1')
    for (const [end, other] of [
      [socket, upstream],
      [upstream, socket],
    ] as const) {
      sockets.add(end)
      end.on('error', () => undefined)
      end.on('close', () => {
        sockets.delete(end)
        other.destroy()
      })
    }
    const gate = new Gate(() => keeping)
    socket.pipe(gate).pipe(upstream)
    upstream.on('data', () => gate.answered())
    upstream.pipe(socket)
  })
  await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve))
  const address = server.address()
  if (address === null || typeof address === 'string') throw new Error('no port')
  const cut = (): void => {
    for (const socket of sockets) socket.destroy()
  }
  return {
    port: address.port,
    cut,
    block(next) {
      isBlocked = next
      if (next) cut()
    },
    keepAfter(sent) {
      const made = new Keeping(sent)
      keeping = made
      return made
    },
    close() {
      keeping?.release()
      cut()
      server.close()
    },
  }
}

/** What is to be kept back, on whichever connection comes first. */
class Keeping implements Kept {
  readonly sent: (text: string) => boolean
  readonly reached: Promise<void>
  readonly released: Promise<void>
  #isTaken = false
  #reach: () => void = () => undefined
  #release: () => void = () => undefined

  constructor(sent: (text: string) => boolean) {
    this.sent = sent
    this.reached = new Promise((resolve) => (this.#reach = resolve))
    this.released = new Promise((resolve) => (this.#release = resolve))
  }

  /** Whether a connection is the first that comes with it. */
  take(): boolean {
    const isFirst = !this.#isTaken
    this.#isTaken = true
    if (isFirst) this.#reach()
    return isFirst
  }

  release(): void {
    this.#isTaken = true
    this.#release()
  }
}

/** Bytes of one connection on their way to the server. */
class Gate extends Transform {
  readonly #keeping: () => Keeping | undefined
  /** What was sent since the last answer. */
  #sent = ''
  #answered: Keeping | undefined

  constructor(keeping: () => Keeping | undefined) {
    super()
    this.#keeping = keeping
  }

  answered(): void {
    const keeping = this.#keeping()
    if (keeping !== undefined && this.#sent !== '' && keeping.sent(this.#sent)) this.#answered = keeping
    this.#sent = ''
  }

  override _transform(piece: Buffer, _: BufferEncoding, done: (error: null, piece: Buffer) => void): void {
    this.#sent += piece.toString('latin1')
    const keeping = this.#answered
    this.#answered = undefined
    if (keeping === undefined || keeping !== this.#keeping() || !keeping.take()) return done(null, piece)
    void passOn(keeping.released, () => done(null, piece))
  }
}

async function passOn(released: Promise<void>, done: () => void): Promise<void> {
  await released
  done()
}
