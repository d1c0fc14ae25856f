import { createHmac, timingSafeEqual } from 'node:crypto'
import type { IncomingMessage } from 'node:http'
import express, { type Request, type Response } from 'express'
import { SallyportError } from '../../../core/errors.ts'

/** A reason of 2,000 characters takes up to 24,000 bytes when all of it is percent-encoded. */
const FORM_BYTES_MAX = 32 * 1024

/** The origins a form of ours can come from. */
export interface FormOrigins {
  /** Whether this door speaks TLS itself. */
  readonly isTls: boolean
  /** Where browsers find this door when something stands before it. */
  readonly publicOrigin?: string
}

/**
 * Refuses a form that no page of ours sent. Browsers name the origin of every form (Fetch, section 3.1), so one that
 * does not is refused too.
 *
 * @throws SallyportError `ERR_FORBIDDEN`.
 */
export function checkOrigin(request: IncomingMessage, { isTls, publicOrigin }: FormOrigins): void {
  const { origin, host = '', 'sec-fetch-site': site } = request.headers
  const own = `${isTls ? 'https' : 'http'}://${host.toLowerCase()}`
  const isOwn = origin !== undefined && (origin.toLowerCase() === own || origin === publicOrigin)
  if (isOwn && (site === undefined || site === 'same-origin')) return
  throw new SallyportError('ERR_FORBIDDEN', 'This form did not come from a page of this gateway.', {
    facts: { hint: 'Behind a proxy, set admin_url to the address browsers use.' },
  })
}

/** What every form of one session must carry: nobody who cannot read its pages knows it. */
export function formToken(session: string): string {
  return createHmac('sha256', session).update('approval page').digest('base64url')
}

/** @throws SallyportError `ERR_FORBIDDEN` when the form is not one of this session. */
export function checkFormToken(session: string, given: string | undefined): void {
  const expected = Buffer.from(formToken(session))
  const actual = Buffer.from(given ?? '')
  if (actual.length === expected.length && timingSafeEqual(actual, expected)) return
  throw new SallyportError('ERR_FORBIDDEN', 'This form belongs to another session; load the page again.')
}

const parseText = express.text({ limit: FORM_BYTES_MAX, inflate: false, defaultCharset: 'utf-8', type: () => true })

/**
 * Reads a form, each field once.
 *
 * @throws SallyportError `ERR_INVALID_INPUT`, `ERR_TOO_LARGE`.
 */
export async function readForm(request: Request, response: Response): Promise<ReadonlyMap<string, string>> {
  if (request.is('application/x-www-form-urlencoded') !== 'application/x-www-form-urlencoded') {
    throw new SallyportError('ERR_INVALID_INPUT', 'This must be a form, sent as application/x-www-form-urlencoded.')
  }
  await new Promise<void>((resolve, reject) => {
    parseText(request, response, (error: unknown) => {
      if (error === undefined) resolve()
      else reject(bodyError(error))
    })
  })
  const fields = new Map<string, string>()
  for (const [name, value] of new URLSearchParams(typeof request.body === 'string' ? request.body : '')) {
    // Of two values a reader and a checker could each take another.
    if (fields.has(name)) throw new SallyportError('ERR_INVALID_INPUT', 'The form has a field twice.')
    fields.set(name, value)
  }
  return fields
}

function bodyError(error: unknown): SallyportError {
  if (error instanceof Error && 'type' in error && error.type === 'entity.too.large') {
    return new SallyportError('ERR_TOO_LARGE', `The form is larger than ${FORM_BYTES_MAX} bytes.`)
  }
  return new SallyportError('ERR_INVALID_INPUT', 'The form cannot be read.')
}
