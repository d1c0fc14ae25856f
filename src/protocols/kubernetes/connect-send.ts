/**
 * One exchange with the API server: exactly the canonical request, with the credential and with no header of a caller.
 *
 * @packageDocumentation
 */
import type { Dispatcher } from 'undici'
import { SallyportError } from '../../core/errors.ts'
import { parseJson, type JsonValue } from '../../core/json.ts'
import { mapError, withoutEffect } from './connect-errors.ts'
import type { Login } from './connect-login.ts'
import type { Pools } from './connect-pool.ts'
import type { KubeOptions } from './options.ts'
import { targetOf, type KubeRequest } from './request.ts'

/** What every exchange of a call has in common. */
export interface Upstream {
  readonly options: KubeOptions
  readonly pools: Pools
  readonly login: Login
  readonly signal: AbortSignal
}

/** An answer whose body is still to be read. Whoever gets it destroys the body, in `finally`. */
export type Answer = Dispatcher.ResponseData

const USER_AGENT = 'sallyport'

/** Path and query as they are sent, beneath the path of the server. */
export function sentTarget(request: KubeRequest, { server }: KubeOptions): string {
  return server.pathname.replace(/\/$/u, '') + targetOf(request)
}

/**
 * Sends one request.
 *
 * @param accept what is asked for, where it is less than the request would take.
 * @throws SallyportError `ERR_UPSTREAM_*`, `ERR_TIMEOUT`, or why the call was stopped.
 */
export async function send(request: KubeRequest, upstream: Upstream, accept = request.accept): Promise<Answer> {
  const { options, pools, login, signal } = upstream
  const { method, body } = request
  // Whoever was stopped by now has sent nothing.
  if (signal.aborted) throw withoutEffect(undefined, signal)
  try {
    const answer = await pools.of(login).request({
      path: sentTarget(request, options),
      method,
      headers: {
        accept,
        'user-agent': USER_AGENT,
        // What cannot be read cannot be masked, and a bomb is nothing but compressed.
        'accept-encoding': 'identity',
        ...(login.authorization !== undefined && { authorization: login.authorization }),
        ...(body !== undefined && { 'content-type': body.type, 'content-length': String(body.bytes.length) }),
      },
      signal,
      // What follows may be silent for hours.
      ...(follows(request) && { bodyTimeout: 0 }),
      ...(body !== undefined && { body: body.bytes }),
    })
    refuseCompressed(answer)
    return answer
  } catch (error) {
    throw mapError(error, signal, false)
  }
}

/** Fail closed: no detector finds anything in what was compressed although nobody asked for it, behind a proxy for one. */
function refuseCompressed({ headers, body }: Answer): void {
  const encoding = headers['content-encoding'] ?? 'identity'
  if (encoding === 'identity') return
  body.on('error', () => undefined).destroy()
  throw new SallyportError(
    'ERR_UPSTREAM_REJECTED',
    'The answer is compressed, and what cannot be read cannot be masked.',
  )
}

/** Whether an answer goes on until somebody ends it. */
export function follows({ verb, query }: KubeRequest): boolean {
  return verb === 'watch' || (verb === 'logs' && query.some(([name]) => name === 'follow'))
}

/** Reads a whole body. @throws SallyportError `ERR_TOO_LARGE` */
export async function wholeOf(answer: Answer, bytesMax: number, signal: AbortSignal): Promise<Buffer> {
  const pieces: Buffer[] = []
  let bytes = 0
  try {
    for await (const piece of answer.body as AsyncIterable<Buffer>) {
      bytes += piece.length
      if (bytes > bytesMax) {
        throw new SallyportError('ERR_TOO_LARGE', `The answer has more than ${bytesMax} bytes.`, {
          facts: { hint: 'Name a namespace, a selector or a limit, or ask for one object.' },
        })
      }
      pieces.push(piece)
    }
  } catch (error) {
    throw mapError(error, signal, true)
  } finally {
    answer.body.on('error', () => undefined).destroy()
  }
  return Buffer.concat(pieces)
}

/** What the gateway itself asks the server: a status and a value. */
export interface Asked {
  readonly status: number
  /** `undefined` when the answer was no JSON. */
  readonly value: JsonValue | undefined
}

/** Sends a request and reads its answer as JSON. */
export async function ask(request: KubeRequest, upstream: Upstream): Promise<Asked> {
  const answer = await send(request, upstream)
  const bytes = await wholeOf(answer, upstream.options.bytesMax, upstream.signal)
  return { status: answer.statusCode, value: parseJson(bytes.toString('utf8'))?.value }
}
