/**
 * The admin door: approvals, tokens, sessions, policy, recordings, health and metrics over HTTP.
 *
 * It has its own listener, so that a network can keep agents away from it. Its routes know bearer tokens only, so that
 * nothing a browser sends by itself is worth anything there; the approval page (`pages/`) knows a cookie only, and nothing
 * else does. Who may do what stands in one table, `routes.ts`; what an error looks like in another, `status.ts`. It never
 * touches a target.
 *
 * @packageDocumentation
 */
import express, { type Express, type NextFunction, type Request, type Response } from 'express'
import { SallyportError } from '../../core/errors.ts'
import type { Principal } from '../../core/principal.ts'
import { sendEvents, sendLines } from './events.ts'
import { bearerOf, checkCaller, checkHost, checkRole, type Neighbourhood } from './guard.ts'
import { createPages } from './pages/pages.ts'
import type { AdminAct, AdminRooms } from './rooms.ts'
import { NOBODY, type Answer, type Route } from './route.ts'
import { ROUTES } from './routes.ts'
import { STATUS } from './status.ts'

/** No request to this door needs more. */
const BODY_BYTES_MAX = 64 * 1024

/** Streams open at once; each holds a connection and a watch in the store. */
const STREAMS_MAX = 64

/** The door, to be put behind a listener. */
export interface AdminDoor {
  readonly app: Express
  /** Ends open streams, so that the listener can close. */
  close(): void
}

/** Builds the door. */
export function createAdmin(rooms: AdminRooms, neighbourhood: Neighbourhood): AdminDoor {
  const closing = new AbortController()
  const streams = { open: 0 }
  const app = express()
  app.disable('x-powered-by')
  app.disable('etag')
  app.set('query parser', 'simple')
  app.use((request, response, next) => {
    response.set({ 'cache-control': 'no-store', 'x-content-type-options': 'nosniff' })
    checkHost(request, neighbourhood)
    next()
  })
  app.use(createPages(rooms, neighbourhood))
  app.use((request, _response, next) => {
    checkCaller(request, neighbourhood)
    next()
  })
  for (const route of ROUTES) {
    app[route.method](route.path, async (request: Request, response: Response) => {
      await serve(route, request, response)
    })
  }
  app.use(async (request: Request, response: Response) => {
    // Whoever has no token learns nothing of which routes exist.
    await rooms.identity.authenticate(bearerOf(request))
    send(response, new SallyportError('ERR_INVALID_INPUT', 'There is no such route here.'), 404)
  })
  app.use(refuse)

  async function serve(route: Route, request: Request, response: Response): Promise<void> {
    const principal = await admit(route, request)
    const signal = AbortSignal.any([closing.signal, goneSignal(response)])
    const id = String(request.params['id'] ?? '')
    const body = route.method === 'post' ? await readBody(request, response) : undefined
    const answer = await recorded(route, principal, id, () =>
      route.handle({ principal, id, query: request.query, body, signal }, rooms),
    )
    if ('events' in answer) await stream(request, response, answer.events, signal)
    else if ('lines' in answer) await sendLines(response, answer.lines, signal)
    else if ('text' in answer)
      response
        .status(answer.status ?? 200)
        .type(answer.type)
        .send(answer.text)
    else response.status(answer.status ?? 200).json(answer.json)
  }

  async function admit(route: Route, request: Request): Promise<Principal> {
    if (route.audience === 'anybody') return NOBODY
    const principal = await rooms.identity.authenticate(bearerOf(request))
    if (route.audience === 'any-token') return principal
    try {
      checkRole(principal, route.audience)
    } catch (error) {
      const act = route.act ?? `${route.method} ${route.path}`
      await rooms.record({ act, by: principal, outcome: 'refused' })
      throw error
    }
    return principal
  }

  /** Writes an act down before it is done and again when it ended. */
  async function recorded(
    route: Route,
    by: Principal,
    id: string,
    handle: () => Promise<Answer> | Answer,
  ): Promise<Answer> {
    if (route.act === undefined) return handle()
    const act = { act: route.act, by, ...(id !== '' && { subject: id }) }
    // Fail closed: an act that cannot be written down does not happen.
    await rooms.record({ ...act, outcome: 'attempted' })
    try {
      const answer = await handle()
      await rooms.record({ ...act, outcome: 'done', ...factsOf(answer) })
      return answer
    } catch (error) {
      await rooms.record({ ...act, outcome: 'failed', facts: { code: SallyportError.from(error).code } })
      throw error
    }
  }

  async function stream(
    request: Request,
    response: Response,
    events: AsyncIterable<unknown>,
    signal: AbortSignal,
  ): Promise<void> {
    if (streams.open >= STREAMS_MAX) {
      throw new SallyportError('ERR_LIMIT_CONCURRENCY', `This door serves at most ${STREAMS_MAX} streams at once.`)
    }
    streams.open++
    try {
      const token = bearerOf(request)
      await sendEvents(response, events, signal, () => rooms.identity.authenticate(token))
    } finally {
      streams.open--
    }
  }

  /** Express knows an error handler by having four declared parameters; with fewer, its own one would answer. */
  function refuse(error: unknown, request: Request, response: Response, _next: NextFunction): void {
    const known = error instanceof URIError ? badPath() : SallyportError.from(error)
    if (known.code === 'ERR_INTERNAL') rooms.onFault(known, { method: request.method, path: request.path })
    if (response.headersSent) response.destroy()
    else send(response, known, STATUS[known.code])
  }

  return { app, close: () => closing.abort() }
}

const parseJson = express.json({ limit: BODY_BYTES_MAX, strict: true, inflate: false, type: () => true })

/** @throws SallyportError `ERR_INVALID_INPUT`, `ERR_TOO_LARGE`: the parser's own errors quote the body. */
async function readBody(request: Request, response: Response): Promise<unknown> {
  const { 'content-length': length = '0', 'transfer-encoding': encoding } = request.headers
  if ((length !== '0' || encoding !== undefined) && request.is('application/json') !== 'application/json') {
    throw new SallyportError('ERR_INVALID_INPUT', 'The body must be JSON, sent as application/json.')
  }
  await new Promise<void>((resolve, reject) => {
    parseJson(request, response, (error: unknown) => {
      if (error === undefined) resolve()
      else reject(bodyError(error))
    })
  })
  return request.body
}

function bodyError(error: unknown): SallyportError {
  if (error instanceof Error && 'type' in error && error.type === 'entity.too.large') {
    return new SallyportError('ERR_TOO_LARGE', `The body is larger than ${BODY_BYTES_MAX} bytes.`)
  }
  return new SallyportError('ERR_INVALID_INPUT', 'The body is not JSON.')
}

function badPath(): SallyportError {
  return new SallyportError('ERR_INVALID_INPUT', 'The path is not valid percent-encoding.')
}

function send(response: Response, error: SallyportError, status: number): void {
  if (status === 401) response.set('www-authenticate', 'Bearer')
  const { retryAfterMs } = error.facts
  if (retryAfterMs !== undefined) response.set('retry-after', String(Math.ceil(retryAfterMs / 1000)))
  response.status(status).json({ error: { code: error.code, message: error.message, ...error.facts } })
}

function factsOf(answer: Answer): Pick<AdminAct, 'facts'> {
  return 'facts' in answer && answer.facts !== undefined ? { facts: answer.facts } : {}
}

function goneSignal(response: Response): AbortSignal {
  const gone = new AbortController()
  response.once('close', () => gone.abort())
  return gone.signal
}
