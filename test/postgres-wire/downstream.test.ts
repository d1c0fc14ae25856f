import { once } from 'node:events'
import { connect, createServer, type AddressInfo, type Server, type Socket } from 'node:net'
import { afterEach, beforeEach, describe, expect, it } from 'vitest'
import { Downstream } from '../../src/protocols/postgres/wire/downstream.ts'

/** More than the kernel takes for somebody who does not read. */
const MUCH = Buffer.alloc(64 * 1024 * 1024)

describe('a client that does not read', () => {
  let server: Server
  let reader: Socket
  let downstream: Downstream

  beforeEach(async () => {
    server = createServer().listen(0, '127.0.0.1')
    await once(server, 'listening')
    const accepted = once(server, 'connection')
    reader = connect((server.address() as AddressInfo).port, '127.0.0.1').pause()
    const [socket] = (await accepted) as [Socket]
    downstream = new Downstream(socket, undefined, 1)
  })

  afterEach(() => {
    reader.destroy()
    downstream.socket.destroy()
    server.close()
  })

  it('is waited for until its session is to end, and never after that', async () => {
    downstream.write(MUCH)
    const waiting = downstream.flush()
    expect(waiting).toBeInstanceOf(Promise)
    downstream.stopWaiting()
    await waiting
    downstream.write(MUCH)
    expect(downstream.flush()).toBeUndefined()
  })

  it('loses its connection when it does not read the last words either', async () => {
    const closed = once(downstream.socket, 'close')
    downstream.write(MUCH)
    downstream.end()
    expect(downstream.gone.aborted).toBe(true)
    await closed
  })
})
