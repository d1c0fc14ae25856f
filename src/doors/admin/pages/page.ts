import type { Response } from 'express'
import { type Html, html } from './html.ts'
import { STYLE_ELEMENT, STYLE_HASH } from './style.ts'

/** A page to be sent. */
export interface Page {
  readonly status?: number
  readonly title: string
  readonly body: Html
  /** Who is signed in, and the token of the form that signs them out. */
  readonly viewer?: { readonly id: string; readonly form: string }
  /** Seconds after which the browser asks for it again by itself. */
  readonly again?: number
}

/** No script, no picture, no frame, no address but this one: what gets into a page can still do nothing in it. */
const POLICY = [
  `default-src 'none'`,
  `style-src '${STYLE_HASH}'`,
  `form-action 'self'`,
  `frame-ancestors 'none'`,
  `base-uri 'none'`,
].join('; ')

/**
 * Protects a page, before anything can fail. Of the referrer policies `same-origin` is meant: it tells other sites
 * nothing, while under `no-referrer` a form of our own comes with `Origin: null` (Fetch, section 3.1) and could not be
 * told from a stranger's.
 */
export function protect(response: Response): void {
  response.set({
    'content-security-policy': POLICY,
    'x-frame-options': 'DENY',
    'referrer-policy': 'same-origin',
    'cross-origin-opener-policy': 'same-origin',
    'cross-origin-resource-policy': 'same-origin',
    'permissions-policy': 'clipboard-read=(), clipboard-write=(), publickey-credentials-get=()',
  })
}

/** Sends a page. */
export function sendPage(response: Response, page: Page): void {
  response
    .status(page.status ?? 200)
    .type('html')
    .send(documentOf(page))
}

function documentOf({ title, body, viewer, again }: Page): string {
  const head = html`<meta charset="utf-8" />
    <meta name="viewport" content="width=device-width,initial-scale=1" />
    <meta name="robots" content="noindex" />
    ${again !== undefined && html`<meta http-equiv="refresh" content="${again}" />`}
    <title>${title} · Sallyport</title>`
  const who =
    viewer === undefined
      ? undefined
      : html`<span class="soft">signed in as <bdi>${viewer.id}</bdi></span>
          <form method="post" action="/sign-out">
            <input type="hidden" name="form" value="${viewer.form}" /><button class="plain">Sign out</button>
          </form>`
  const page = html`<!doctype html>
    <html lang="en">
      <head>
        ${head} ${STYLE_ELEMENT}
      </head>
      <body>
        <header><b>Sallyport</b>${viewer !== undefined && html`<a href="/approvals">Approvals</a>`} ${who}</header>
        <main>${body}</main>
      </body>
    </html>`
  return `${page.markup}\n`
}
