/** An API server whose every answer is spelled out, and what it was asked. */
import { Readable } from 'node:stream'
import type { Upstream } from '../../src/protocols/kubernetes/connect-send.ts'

/** One request as it was sent. */
export interface Sent {
  readonly method: string
  readonly path: string
  readonly body?: Uint8Array
}

/** What a server says instead of an object; a text is said as it is. */
export class Said {
  readonly status: number
  readonly value: unknown

  constructor(status: number, value: unknown = { kind: 'Status' }) {
    this.status = status
    this.value = value
  }
}

/** @param answer says what is answered: an object, or a {@link Said}. */
export function upstreamOf(answer: (asked: Sent) => unknown, signal: AbortSignal): Upstream {
  return {
    options: { server: new URL('https://127.0.0.1:1'), bytesMax: 1e6 },
    pools: {
      of: () => ({
        async request(asked: Sent) {
          const said = answer(asked)
          const { status, value } = said instanceof Said ? said : { status: 200, value: said }
          const text = typeof value === 'string' ? value : JSON.stringify(value)
          const body = Readable.from([Buffer.from(text)])
          return { statusCode: status, headers: { 'content-type': 'application/json' }, body }
        },
      }),
    },
    login: {},
    signal,
  } as unknown as Upstream
}
