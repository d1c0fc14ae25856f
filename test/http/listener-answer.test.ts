/** How the door writes what the spine gives it, also what no honest service would make it give. */
import { once } from 'node:events'
import { createServer, type Server, type ServerResponse } from 'node:http'
import { connect, type AddressInfo } from 'node:net'
import { afterAll, beforeAll, describe, expect, it } from 'vitest'
import type { Chunk } from '../../src/core/chunk.ts'
import { SallyportError } from '../../src/core/errors.ts'
import { writeAnswer } from '../../src/protocols/http/listener-answer.ts'

const HEAD: Chunk = { kind: 'head', attributes: { ':status': '200', 'content-type': 'text/plain' } }
const EXIT: Chunk = { kind: 'exit', status: '200', truncated: false }
const body = (bytes: Uint8Array): Chunk => ({ kind: 'data', channel: 'body', bytes })

describe('an answer of the door', () => {
  let server: Server
  let write: (response: ServerResponse) => void = () => undefined

  beforeAll(async () => {
    server = createServer((_, response) => write(response))
    server.listen(0, '127.0.0.1')
    await once(server, 'listening')
  })
  afterAll(() => {
    server.closeAllConnections()
    server.close()
  })
  const port = (): number => (server.address() as AddressInfo).port

  /** What a client reads, or the code of what the door was thrown instead. */
  async function answered(chunks: readonly Chunk[]): Promise<Response | string> {
    let code: string | undefined
    write = (response) => {
      const signal = new AbortController().signal
      writeAnswer(each(chunks), { response, target: 'service', signal, isHead: false }).catch((error: unknown) => {
        code = SallyportError.from(error).code
        response.writeHead(500).end()
      })
    }
    const response = await fetch(`http://127.0.0.1:${port()}/`)
    return code ?? response
  }

  async function* each(chunks: readonly Chunk[]): AsyncGenerator<Chunk> {
    yield* chunks
  }

  it('is none without an end, and without a head', async () => {
    expect(await answered([HEAD])).toBe('ERR_UPSTREAM_REJECTED')
    expect(await answered([EXIT])).toBe('ERR_UPSTREAM_REJECTED')
    expect(await answered([HEAD, EXIT])).toMatchObject({ status: 200 })
  })

  it('says that it ran already where the first answer is not kept', async () => {
    expect(await answered([{ ...EXIT, replayed: true }])).toBe('ERR_APPROVAL_CONFLICT')
  })

  it('says in one line what the gateway advises', async () => {
    const advice: Chunk = { kind: 'notice', severity: 'WARNING', text: 'again é\r\nset-cookie: a=b', isAdvice: true }
    const answer = await answered([advice, HEAD, EXIT])
    if (typeof answer === 'string') throw new Error(answer)
    expect([answer.headers.get('sallyport-warning'), answer.headers.get('set-cookie')]).toEqual([
      'again ???set-cookie: a=b',
      null,
    ])
  })

  it('waits for a client that does not read', async () => {
    const gone = new AbortController()
    let pulled = 0
    async function* long(): AsyncGenerator<Chunk> {
      yield HEAD
      for (; pulled < 2_000; pulled++) yield body(Buffer.alloc(64 * 1024, 'x'))
      yield EXIT
    }
    let isAnswering = false
    const over = new Promise<unknown>((resolve) => {
      write = (response) => {
        isAnswering = true
        writeAnswer(long(), { response, target: 'service', signal: gone.signal, isHead: false }).then(resolve, resolve)
      }
    })
    const client = connect(port(), '127.0.0.1')
    client.on('error', () => undefined)
    client.pause()
    client.write('GET / HTTP/1.1\r\nHost: x\r\n\r\n')
    await expect.poll(() => isAnswering).toBe(true)
    // Nothing but the client can make it go on, so whenever it is asked, it has not come to its end.
    gone.abort()
    expect(await over).toMatchObject({ name: 'AbortError' })
    expect(pulled).toBeLessThan(2_000)
    client.destroy()
  })
})
