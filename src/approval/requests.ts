import type { Call, Judged, ShownRequest } from '../core/call.ts'
import { SallyportError } from '../core/errors.ts'
import type { Preview } from '../core/preview.ts'
import { canonicalJson } from './canonical.ts'
import type { Desk } from './desk.ts'
import { seal, unseal } from './seal.ts'

/** What is stored of a call while its ticket lives, encrypted. */
export interface StoredRequest {
  readonly target: string
  readonly tool: string
  /** The payload as the door handed it in; absent when it has no JSON form and can only be sent again by its caller. */
  readonly payload?: unknown
  /** What approvers see: already masked. */
  readonly shown: ShownRequest
  /** The agent's words, already masked. */
  readonly reason?: string
  /** What the call would change, already masked; and what its execution must find, which nobody is shown. */
  readonly preview?: Preview
}

/** The name of the blob that holds a ticket's request, or its result. */
export function blobOf(what: 'request' | 'result', ticket: string): string {
  return `${what}.${ticket}`
}

/** Stores a call's request under a ticket. @throws SallyportError `ERR_TOO_LARGE`, `ERR_STORE_FAILED`. */
export async function storeRequest(
  desk: Desk,
  ticket: string,
  call: Call,
  judged: Judged,
  preview: Preview | undefined,
): Promise<void> {
  const stored: StoredRequest = {
    target: call.target.name,
    tool: call.tool,
    ...(isJson(call.payload) && { payload: call.payload }),
    shown: judged.shown,
    ...(judged.reason !== undefined && { reason: judged.reason }),
    ...(preview !== undefined && { preview }),
  }
  const bytes = Buffer.from(JSON.stringify(stored))
  const { requestBytesMax } = desk.settings
  if (bytes.length > requestBytesMax) {
    throw new SallyportError(
      'ERR_TOO_LARGE',
      `The call needs an approval and is larger than the ${requestBytesMax} bytes that can be held for one.`,
    )
  }
  const name = blobOf('request', ticket)
  await desk.store.blobs.put(name, seal(bytes, desk.keys.payload, name))
}

/** Reads a stored request, or `undefined` once it was erased. */
export async function readRequest(desk: Desk, ticket: string): Promise<StoredRequest | undefined> {
  const name = blobOf('request', ticket)
  const sealed = await desk.store.blobs.get(name)
  if (sealed === undefined) return undefined
  return JSON.parse(Buffer.from(unseal(sealed, desk.keys.payload, name)).toString('utf8')) as StoredRequest
}

function isJson(value: unknown): boolean {
  try {
    canonicalJson(value)
    return true
  } catch {
    return false
  }
}
