/** A relay on loopback before a server, whose connections can be broken and refused. */
import { connect, createServer, type Socket } from 'node:net'

/** Whoever lays one takes it up again. */
export interface Cable {
  /** Where it begins, on 127.0.0.1. */
  readonly port: number
  /** Breaks every connection; new ones are taken. */
  cut(): void
  /** While it blocks, every connection is broken and none is taken. */
  block(isBlocked: boolean): void
  close(): void
}

/** Lays a cable to whatever port of 127.0.0.1 is told when a connection comes. */
export async function layCable(port: () => number): Promise<Cable> {
  const sockets = new Set<Socket>()
  let isBlocked = false
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
      end.pipe(other)
    }
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
    close() {
      cut()
      server.close()
    },
  }
}
