import { isLoopback } from '../config.ts'
import { SallyportError, type ErrorCode, type ErrorFacts } from '../core/errors.ts'
import { STATUS } from '../doors/admin/status.ts'
import { loginFile, readLogin } from './login-file.ts'

/** Speaks with the admin door of a running gateway. Commands never touch its state themselves (C17). */
export interface AdminClient {
  readonly url: string
  get<T>(path: string): Promise<T>
  post<T>(path: string, body?: unknown): Promise<T>
  delete<T>(path: string): Promise<T>
  /** Yields a long text as it comes. */
  text(path: string): AsyncGenerator<string, void, undefined>
  /** Yields events until the gateway or `signal` ends them. */
  events<T>(path: string, signal: AbortSignal): AsyncGenerator<T, void, undefined>
}

/** Where the door of a gateway with the default configuration is. */
export const ADMIN_URL_DEFAULT = 'http://127.0.0.1:7401'

/** No answer of this door takes longer, but for its streams. */
const ANSWER_MS = 30_000

/** An event larger than this is not one of ours. */
const EVENT_CHARS_MAX = 4 * 1024 * 1024

/**
 * Finds URL and token: the environment first, then the login file.
 *
 * There is no option for the token, because every process of the machine can read a command line.
 *
 * @throws SallyportError `ERR_UNAUTHENTICATED` without a token, `ERR_CONFIG_INVALID` for a URL a token may not go to.
 */
export async function openAdminClient(options: { readonly url?: string }): Promise<AdminClient> {
  const { url, token } = await findLogin(options)
  return adminClient(url, token)
}

/** What {@link openAdminClient} finds. @throws SallyportError `ERR_UNAUTHENTICATED` without a token */
export async function findLogin(options: {
  readonly url?: string
}): Promise<{ readonly url: string; readonly token: string }> {
  const { SALLYPORT_ADMIN_URL: envUrl, SALLYPORT_TOKEN: envToken } = process.env
  const file = loginFile()
  const needsFile = envToken === undefined || (options.url === undefined && envUrl === undefined)
  const login = needsFile ? await readLogin(file) : {}
  const token = envToken ?? login.token
  if (token === undefined || token === '') {
    throw new SallyportError('ERR_UNAUTHENTICATED', 'No token was found.', {
      facts: { hint: `Set SALLYPORT_TOKEN, or save one in ${file} with "sallyport login".` },
    })
  }
  return { url: options.url ?? envUrl ?? login.url ?? ADMIN_URL_DEFAULT, token }
}

/** A client for one URL and token. */
export function adminClient(url: string, token: string): AdminClient {
  const base = checkedUrl(url)

  async function ask(method: string, path: string, body: unknown, signal: AbortSignal): Promise<Response> {
    let response: Response
    try {
      response = await fetch(new URL(path, base), {
        method,
        redirect: 'error',
        headers: {
          authorization: `Bearer ${token}`,
          ...(body !== undefined && { 'content-type': 'application/json' }),
        },
        ...(body !== undefined && { body: JSON.stringify(body) }),
        signal,
      })
    } catch (error) {
      if (signal.aborted && signal.reason instanceof SallyportError) throw signal.reason
      throw new SallyportError('ERR_UPSTREAM_UNREACHABLE', `No gateway answers at ${base.origin}.`, {
        facts: { hint: 'Start one with "sallyport serve", or set SALLYPORT_ADMIN_URL to where it listens.' },
        cause: error,
      })
    }
    if (!response.ok) throw await refusal(response, base)
    return response
  }

  async function json<T>(method: string, path: string, body?: unknown): Promise<T> {
    const response = await ask(method, path, body, AbortSignal.timeout(ANSWER_MS))
    try {
      return (await response.json()) as T
    } catch (error) {
      throw notOurs(base, error)
    }
  }

  return {
    url: base.origin,
    get: (path) => json('GET', path),
    post: (path, body) => json('POST', path, body ?? {}),
    delete: (path) => json('DELETE', path),
    async *text(path) {
      const response = await ask('GET', path, undefined, new AbortController().signal)
      try {
        if (response.body !== null) yield* response.body.pipeThrough(new TextDecoderStream())
      } catch (error) {
        throw lost(base, error)
      }
    },
    async *events<T>(path: string, signal: AbortSignal) {
      const response = await ask('GET', path, undefined, signal)
      try {
        for await (const data of eventsOf(response, base)) yield data as T
      } catch (error) {
        if (signal.aborted) return
        throw error instanceof SallyportError ? error : lost(base, error)
      }
    },
  }
}

/** Reads server-sent events. Ours have one `data` line each. */
async function* eventsOf(response: Response, base: URL): AsyncGenerator<unknown, void, undefined> {
  if (response.body === null) return
  let rest = ''
  for await (const piece of response.body.pipeThrough(new TextDecoderStream())) {
    rest += piece
    const lines = rest.split('\n')
    rest = lines.pop() ?? ''
    if (rest.length > EVENT_CHARS_MAX) throw notOurs(base, undefined)
    for (const line of lines) {
      if (line.startsWith('data: ')) yield JSON.parse(line.slice('data: '.length))
    }
  }
}

function checkedUrl(text: string): URL {
  let url: URL
  try {
    url = new URL(text)
  } catch {
    throw new SallyportError(
      'ERR_CONFIG_INVALID',
      'The URL of the gateway is not a URL, such as http://127.0.0.1:7401.',
    )
  }
  const host = url.hostname.replace(/^\[|\]$/gu, '')
  if (url.protocol !== 'https:' && !(url.protocol === 'http:' && isLoopback(host))) {
    // Fail closed: over plain HTTP everybody on the way would learn the token.
    throw new SallyportError(
      'ERR_CONFIG_INVALID',
      `A token is sent to other machines over https only, not to ${url.origin}.`,
    )
  }
  if (url.username !== '' || url.password !== '') {
    throw new SallyportError('ERR_CONFIG_INVALID', 'The URL of the gateway must not hold a user or password.')
  }
  return url
}

async function refusal(response: Response, base: URL): Promise<SallyportError> {
  const body: unknown = await response.json().catch(() => undefined)
  if (typeof body === 'object' && body !== null && 'error' in body) {
    const { code, message, ...facts } = body.error as { code?: unknown; message?: unknown } & ErrorFacts
    if (isCode(code) && typeof message === 'string') return new SallyportError(code, message, { facts })
  }
  return notOurs(base, undefined)
}

function isCode(code: unknown): code is ErrorCode {
  return typeof code === 'string' && Object.hasOwn(STATUS, code)
}

function notOurs(base: URL, cause: unknown): SallyportError {
  return new SallyportError(
    'ERR_UPSTREAM_UNREACHABLE',
    `What answers at ${base.origin} is not the admin door of a Sallyport.`,
    {
      facts: { hint: 'The admin door has a port of its own, 7401 unless listen.admin says otherwise.' },
      cause,
    },
  )
}

function lost(base: URL, cause: unknown): SallyportError {
  return new SallyportError('ERR_UPSTREAM_UNREACHABLE', `The gateway at ${base.origin} ended the connection.`, {
    cause,
  })
}
