import { once } from 'node:events'
import type { ServerResponse } from 'node:http'
import type { Chunk, ExitChunk } from '../../core/chunk.ts'
import { SallyportError } from '../../core/errors.ts'
import { isRedirect } from './redirect.ts'

/** What an answer is written with. */
export interface Answering {
  readonly response: ServerResponse
  readonly target: string
  /** Aborts when the client goes away. */
  readonly signal: AbortSignal
  readonly isHead: boolean
}

/**
 * Writes a result as it comes, no faster than it is read.
 *
 * An answer that was cut, or whose body was withheld, never looks complete: before anything was sent it becomes an
 * error, and after that the connection breaks in the middle of the body, which every client notices.
 *
 * @throws SallyportError `ERR_UPSTREAM_REJECTED` for what cannot be passed on; whatever the call throws.
 */
export async function writeAnswer(chunks: AsyncIterable<Chunk>, answering: Answering): Promise<void> {
  const { response, isHead } = answering
  const answer = new Answer(answering)
  let exit: ExitChunk | undefined
  let problem: SallyportError | undefined
  let said: string | undefined
  // What was not begun yet is read to its end all the same: a call that is left in the middle has no known outcome.
  const fail = (error: unknown): void => {
    if (response.headersSent) throw error
    answer.drop()
    problem ??= SallyportError.from(error)
  }
  try {
    for await (const chunk of chunks) {
      if (problem !== undefined) continue
      try {
        if (chunk.kind === 'head') answer.head(chunk.attributes ?? {}, chunk.replayed === true)
        else if (chunk.kind === 'notice' && chunk.isAdvice === true) answer.advise(chunk.text)
        else if (chunk.kind === 'notice' && chunk.severity === 'NOTICE') said = chunk.text
        else if (chunk.kind === 'notice' && chunk.severity === 'WARNING') throw rejected(chunk.text)
        else if (chunk.kind === 'data' && chunk.channel === 'body') await answer.body(chunk.bytes)
        else if (chunk.kind === 'exit') exit = chunk
      } catch (error) {
        fail(error)
      }
    }
    if (problem !== undefined) throw problem
    if (exit?.replayed === true && !answer.hasHead) {
      throw new SallyportError('ERR_APPROVAL_CONFLICT', said ?? 'This request ran already, and its answer is not kept.')
    }
    if (exit?.truncated === true && !isHead) throw rejected('The answer is larger than policy allows.')
    if (exit === undefined) throw rejected('The service gave no answer.')
    answer.end()
  } finally {
    answer.drop()
  }
}

/** What may wait to be sent to one client. */
const AHEAD_BYTES_MAX = 256 * 1024

/** Up to here head and body are copied into one piece: two cost the kernel more. */
const ONE_TEXT_BYTES_MAX = 16 * 1024

/** Turns of the event loop in which the end of a short answer comes, if it is there: recording takes some of them. */
const HELD_TURNS = 4

/** One response. `sallyport-replayed` says that it is a stored one, `sallyport-warning` that its caller goes round in circles. Its first piece waits a moment for the end: most answers are short, and one write says them whole. */
class Answer {
  readonly #answering: Answering
  #status = 0
  #advice: string | undefined
  #headers: Readonly<Record<string, string>> | undefined
  #first: Uint8Array | undefined
  #turn: NodeJS.Immediate | undefined

  constructor(answering: Answering) {
    this.#answering = answering
  }

  /** @throws SallyportError `ERR_UPSTREAM_REJECTED` for a redirect that leads out of the target. */
  head(attributes: Readonly<Record<string, string>>, isReplayed: boolean): void {
    const { ':status': status = '502', ':redirect': redirect, ...headers } = attributes
    const location = redirect === undefined ? undefined : placeAt(this.#answering.target, redirect)
    if (headers['location'] !== undefined && location === undefined && isRedirect(Number(status))) {
      // A client that follows it would leave the gateway, and take along whatever the service wrote into the place.
      throw rejected('The service redirects to a place that is not part of this target.')
    }
    this.#status = Number(status)
    this.#headers = {
      ...headers,
      ...(location !== undefined && { location }),
      ...(isReplayed && { 'sallyport-replayed': 'true' }),
      ...(this.#advice !== undefined && { 'sallyport-warning': this.#advice }),
    }
  }

  /** What the gateway tells its caller beside the answer; it comes before the answer does. */
  advise(text: string): void {
    this.#advice = text.replaceAll(/[^\x20-\x7e]/gu, '?')
  }

  async body(bytes: Uint8Array): Promise<void> {
    const { response, signal } = this.#answering
    if (!response.headersSent && this.#first === undefined) {
      if (this.#headers === undefined) throw rejected('The service gave no answer.')
      this.#first = bytes
      this.#wait(HELD_TURNS)
      return
    }
    this.#begin()
    // Some pieces ahead go out with one system call; beyond them the service waits for the client.
    if (!response.write(bytes) && response.writableLength > AHEAD_BYTES_MAX) await once(response, 'drain', { signal })
  }

  get hasHead(): boolean {
    return this.#headers !== undefined
  }

  /** @throws SallyportError `ERR_UPSTREAM_REJECTED` */
  end(): void {
    const { response, isHead } = this.#answering
    const first = this.#first
    this.drop()
    if (response.headersSent) return void response.end()
    if (this.#headers === undefined) throw rejected('The service gave no answer.')
    const hasLength = !isHead && this.#status !== 204 && this.#status !== 304
    response.writeHead(this.#status, {
      ...this.#headers,
      ...(hasLength && { 'content-length': String(first?.length ?? 0) }),
    })
    if (first === undefined || first.length > ONE_TEXT_BYTES_MAX) response.end(first)
    // A text goes out together with the head, in one piece; each of its characters is one byte.
    else response.end(Buffer.from(first.buffer, first.byteOffset, first.length).toString('latin1'), 'latin1')
  }

  /** Forgets what was not sent. */
  drop(): void {
    clearImmediate(this.#turn)
    this.#first = undefined
  }

  #wait(turns: number): void {
    this.#turn = setImmediate(() => (turns === 0 ? this.#begin() : this.#wait(turns - 1)))
  }

  #begin(): void {
    const { response } = this.#answering
    const first = this.#first
    this.drop()
    if (first === undefined || this.#headers === undefined || response.destroyed) return
    response.writeHead(this.#status, this.#headers)
    // Its size is bounded, so whether it is read already does not matter; what follows waits.
    response.write(first)
  }
}

function placeAt(target: string, redirect: string): string {
  return redirect.startsWith('/') ? `/${target}${redirect}` : `/${target}/${redirect}`
}

function rejected(message: string): SallyportError {
  return new SallyportError('ERR_UPSTREAM_REJECTED', message)
}
