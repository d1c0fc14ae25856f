import type { IncomingMessage } from 'node:http'
import { SallyportError } from '../../core/errors.ts'

/**
 * Reads a JSON request body within bounds. Depth is checked on the text, before anything recursive sees it.
 *
 * @throws SallyportError `ERR_TOO_LARGE`, `ERR_INVALID_INPUT`, `ERR_CANCELLED`
 */
export async function readJson(
  req: IncomingMessage,
  { bytesMax, depthMax }: { readonly bytesMax: number; readonly depthMax: number },
): Promise<unknown> {
  const text = await readText(req, bytesMax)
  if (depthOf(text) > depthMax) {
    throw new SallyportError('ERR_INVALID_INPUT', `The request body is nested deeper than ${depthMax} levels.`)
  }
  try {
    return JSON.parse(text)
  } catch {
    // The parser's own message quotes the body, so it goes nowhere.
    throw new SallyportError('ERR_INVALID_INPUT', 'Parse error: the request body is not valid JSON.')
  }
}

async function readText(req: IncomingMessage, bytesMax: number): Promise<string> {
  const tooLarge = (): SallyportError =>
    new SallyportError('ERR_TOO_LARGE', `The request body is larger than ${bytesMax} bytes.`)
  if (Number(req.headers['content-length'] ?? 0) > bytesMax) throw tooLarge()
  const pieces: Buffer[] = []
  let size = 0
  // The stream is left alive on refusal, so that the answer still reaches the client.
  try {
    for await (const piece of req.iterator({ destroyOnReturn: false }) as AsyncIterable<Buffer>) {
      size += piece.length
      if (size > bytesMax) throw tooLarge()
      pieces.push(piece)
    }
  } catch (cause) {
    if (cause instanceof SallyportError) throw cause
    throw new SallyportError('ERR_CANCELLED', 'The client went away before its request was complete.', { cause })
  }
  try {
    return new TextDecoder('utf-8', { fatal: true }).decode(Buffer.concat(pieces))
  } catch {
    throw new SallyportError('ERR_INVALID_INPUT', 'Parse error: the request body is not valid UTF-8.')
  }
}

/** How deep arrays and objects nest in a JSON text. Brackets inside strings do not count. */
function depthOf(text: string): number {
  let depth = 0
  let deepest = 0
  let isString = false
  for (let index = 0; index < text.length; index++) {
    const char = text.charCodeAt(index)
    if (isString) {
      if (char === BACKSLASH) index++
      else if (char === QUOTE) isString = false
      continue
    }
    if (char === QUOTE) isString = true
    else if (char === OPEN_ARRAY || char === OPEN_OBJECT) deepest = Math.max(deepest, ++depth)
    else if (char === CLOSE_ARRAY || char === CLOSE_OBJECT) depth--
  }
  return deepest
}

const QUOTE = 0x22
const BACKSLASH = 0x5c
const OPEN_ARRAY = 0x5b
const CLOSE_ARRAY = 0x5d
const OPEN_OBJECT = 0x7b
const CLOSE_OBJECT = 0x7d
