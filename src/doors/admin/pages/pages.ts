/**
 * The approval page: what waits, one ticket whole, and its answer, as plain HTML. No script runs in it.
 *
 * A person shows their token once, by a form; from then on a cookie stands for it. What a browser sends by itself is
 * worth something here, and so each form must come from a page of ours (its origin), be of this session (its token),
 * and name what was seen (the digest). Who may answer what is the inbox's to say, as for every other surface.
 *
 * @packageDocumentation
 */
import { Router, type NextFunction, type Request, type Response } from 'express'
import { SallyportError } from '../../../core/errors.ts'
import type { Principal, Role } from '../../../core/principal.ts'
import { checkRole } from '../guard.ts'
import type { AdminAct, AdminRooms } from '../rooms.ts'
import { READERS, VOTERS } from '../routes.ts'
import { STATUS } from '../status.ts'
import { listBody, problemBody, signInBody, stepBody } from './bodies.ts'
import { sessionCookie } from './cookie.ts'
import { checkFormToken, checkOrigin, formToken, type FormOrigins, readForm } from './form.ts'
import { type Page, protect, sendPage } from './page.ts'
import { ticketBody } from './ticket-page.ts'

/** How often a list renews itself. */
const LIST_SECONDS = 20
const TICKET = /^[A-Za-z0-9][A-Za-z0-9._:@+-]{0,199}$/

/** A person who signed in. */
interface Viewer {
  readonly principal: Principal
  readonly session: string
}

/** Builds the pages; whoever mounts them has checked the Host header. */
export function createPages(rooms: AdminRooms, origins: FormOrigins): Router {
  const isSecure = origins.isTls || origins.publicOrigin?.startsWith('https:') === true
  const cookie = sessionCookie(isSecure)
  const router = Router({ caseSensitive: true, strict: true })
  const paths = ['/', '/approvals', '/approvals/:id', '/sign-in', '/sign-out']
  router.all(paths, (request, response, next) => {
    protect(response)
    if (request.method === 'POST') checkOrigin(request, origins)
    next()
  })

  router.get('/', (_request, response) => response.redirect(303, '/approvals'))

  router.get('/approvals', async (request, response) => {
    const viewer = await viewerOf(request, response)
    if (viewer === undefined) return
    const tickets = await rooms.approvals.list(viewer.principal)
    send(response, viewer, { title: 'Approvals', body: listBody(tickets), again: LIST_SECONDS })
  })

  router.get('/approvals/:id', async (request, response) => {
    const viewer = await viewerOf(request, response)
    if (viewer === undefined) return
    const ticket = await rooms.approvals.show(viewer.principal, request.params.id)
    const form = { token: formToken(viewer.session), mayVote: has(viewer.principal, VOTERS) }
    send(response, viewer, { title: `Ticket ${ticket.id}`, body: ticketBody(ticket, form) })
  })

  router.post('/approvals/:id', async (request, response) => {
    const viewer = await viewerOf(request, response)
    if (viewer === undefined) return
    const fields = await readForm(request, response)
    checkFormToken(viewer.session, fields.get('form'))
    // The form may have taken its time: who sends it counts as what their token is worth now.
    const principal = await rooms.browsers.find(viewer.session)
    if (principal === undefined) throw signedOut()
    await checkVoter(principal)
    const { id } = request.params
    const said = fields.get('decision')
    const covers = said === 'approve-all' ? fields.get('covers') : undefined
    const decision = covers === undefined ? said : 'approve'
    const digest = fields.get('digest')
    if ((decision !== 'approve' && decision !== 'deny') || digest === undefined) {
      throw new SallyportError('ERR_INVALID_INPUT', 'The form says neither approve nor deny, or not of what.')
    }
    const reason = fields.get('reason')?.trim() ?? ''
    await rooms.approvals.vote({
      viewer: principal,
      ticket: id,
      decision,
      digest,
      ...(reason !== '' && { reason }),
      ...(covers !== undefined && { covers }),
    })
    response.redirect(303, pathOf(id))
  })

  router.post('/sign-in', async (request, response) => {
    const fields = await readForm(request, response)
    const ticket = ticketOf(fields.get('ticket'))
    let principal: Principal
    try {
      principal = await rooms.identity.authenticate((fields.get('token') ?? '').trim())
    } catch (error) {
      const known = SallyportError.from(error)
      if (known.code !== 'ERR_UNAUTHENTICATED') throw known
      return sendSignIn(response, ticket, known.message)
    }
    if (!has(principal, READERS)) await refused('page.sign_in', principal)
    checkRole(principal, READERS)
    // What the browser brought along was perhaps planted: it ends, and what comes now is fresh.
    const before = cookie.read(request)
    if (before !== undefined) await rooms.browsers.end(before)
    await rooms.record({ act: 'page.sign_in', by: principal, outcome: 'attempted' })
    const session = await rooms.browsers.open(principal)
    await rooms.record({ act: 'page.sign_in', by: principal, outcome: 'done' })
    cookie.write(response, session)
    response.redirect(303, ticket === undefined ? '/approvals' : pathOf(ticket))
  })

  router.post('/sign-out', async (request, response) => {
    const session = cookie.read(request)
    if (session !== undefined && (await rooms.browsers.find(session)) !== undefined) {
      checkFormToken(session, (await readForm(request, response)).get('form'))
      await rooms.browsers.end(session)
    }
    cookie.clear(response)
    response.redirect(303, '/approvals')
  })

  router.use((error: unknown, request: Request, response: Response, next: NextFunction): void => {
    if (response.headersSent) return next(error)
    // A path that cannot be decoded matched no route, and nothing has protected its answer yet.
    protect(response)
    const known = error instanceof URIError ? badPath() : SallyportError.from(error)
    if (known.code === 'ERR_INTERNAL') rooms.onFault(known, { method: request.method, path: request.path })
    const ticket = ticketOf(/^\/approvals\/([^/]+)$/u.exec(request.path)?.[1])
    const back = ticket === undefined || known.code === 'ERR_UNKNOWN_TICKET' ? '/approvals' : pathOf(ticket)
    const { hint } = known.facts
    const message = `${known.code}: ${known.message}${typeof hint === 'string' ? ` ${hint}` : ''}`
    const title = 'That did not happen'
    sendPage(response, { status: STATUS[known.code], title, body: problemBody(title, message, back) })
  })
  return router

  /** Returns who is signed in; otherwise answers, and returns `undefined`. */
  async function viewerOf(request: Request, response: Response): Promise<Viewer | undefined> {
    const session = cookie.read(request)
    const principal = session === undefined ? undefined : await rooms.browsers.find(session)
    if (session !== undefined && principal !== undefined) {
      checkRole(principal, READERS)
      return { principal, session }
    }
    const ticket = ticketOf(request.params['id'])
    const site = request.headers['sec-fetch-site']
    if (session === undefined && request.method === 'GET' && (site === 'cross-site' || site === 'same-site')) {
      const path = ticket === undefined ? '/approvals' : pathOf(ticket)
      sendPage(response, { title: 'Approvals', body: stepBody(path), again: 0 })
      return undefined
    }
    if (session !== undefined) cookie.clear(response)
    sendSignIn(response, ticket, request.method === 'POST' ? signedOut().message : undefined)
    return undefined
  }

  async function checkVoter(principal: Principal): Promise<void> {
    if (!has(principal, VOTERS)) await refused('page.vote', principal)
    checkRole(principal, VOTERS)
  }

  async function refused(act: AdminAct['act'], by: Principal): Promise<void> {
    await rooms.record({ act, by, outcome: 'refused' })
  }
}

function send(response: Response, { principal, session }: Viewer, page: Page): void {
  sendPage(response, { ...page, viewer: { id: principal.id, form: formToken(session) } })
}

function sendSignIn(response: Response, ticket: string | undefined, problem?: string): void {
  response.set('www-authenticate', 'Bearer')
  sendPage(response, { status: 401, title: 'Sign in', body: signInBody(ticket, problem) })
}

function has({ roles }: Principal, wanted: readonly Role[]): boolean {
  return roles.some((role) => wanted.includes(role))
}

/** The only part of an address that comes from outside; what is no id of a ticket leads nowhere. */
function ticketOf(value: unknown): string | undefined {
  return typeof value === 'string' && TICKET.test(value) ? value : undefined
}

function pathOf(ticket: string): string {
  return `/approvals/${encodeURIComponent(ticket)}`
}

function signedOut(): SallyportError {
  return new SallyportError('ERR_UNAUTHENTICATED', 'You are not signed in any more; nothing was answered.')
}

function badPath(): SallyportError {
  return new SallyportError('ERR_INVALID_INPUT', 'The path is not valid percent-encoding.')
}
