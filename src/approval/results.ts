import type { Chunk, ExitChunk } from '../core/chunk.ts'
import type { Judged } from '../core/call.ts'
import { createHash } from 'node:crypto'

/** Gathers the masked chunks of one execution, up to a bound. */
export interface ResultKeeper {
  add(chunk: Chunk): void
  /** How it ended; `undefined` as long as the backend has not said so. */
  readonly exit: () => ExitChunk | undefined
  /** The whole result, or only its exit when it was larger than the bound. */
  readonly taken: () => { readonly kept: 'full' | 'status'; readonly bytes: Uint8Array }
}

/** Keeps at most `bytesMax` bytes; a larger result is let go whole, because half of one would be taken for all of it. */
export function keepResult(bytesMax: number): ResultKeeper {
  let parts: string[] | undefined = []
  let bytes = 0
  let exit: ExitChunk | undefined
  return {
    add(chunk) {
      const text = encode(chunk)
      if (chunk.kind === 'exit') exit = chunk
      bytes += Buffer.byteLength(text)
      if (bytes > bytesMax) parts = undefined
      parts?.push(text)
    },
    exit: () => exit,
    taken: () => ({
      kept: parts === undefined ? 'status' : 'full',
      bytes: Buffer.from(`[${(parts ?? (exit === undefined ? [] : [encode(exit)])).join(',')}]`),
    }),
  }
}

/** Reads back what was kept. The bytes come out of an authenticated envelope, so their shape is our own. */
export function keptChunks(bytes: Uint8Array): readonly Chunk[] {
  const chunks = JSON.parse(Buffer.from(bytes).toString('utf8')) as readonly (Chunk | EncodedBytes)[]
  return chunks.map(decode)
}

/**
 * Names the masks under which a judged call's result may be seen. A stored result is shown again only under equal ones:
 * a mask that was added since must not be got around by asking for the old answer.
 */
export function masksOf({ plan, decision }: Judged): string {
  return createHash('sha256')
    .update(JSON.stringify([plan.masks, decision.obligations.detect, decision.obligations.fields]))
    .digest('hex')
}

/** Bytes are base64 in JSON; everything else already is JSON. */
type EncodedBytes = { readonly kind: 'data'; readonly channel: Exclude<BytesChannel, 'rows'>; readonly base64: string }
type BytesChannel = Extract<Chunk, { kind: 'data' }>['channel']

function encode(chunk: Chunk): string {
  if (chunk.kind === 'data' && chunk.channel !== 'rows') {
    const { channel, bytes } = chunk
    return JSON.stringify({ kind: 'data', channel, base64: Buffer.from(bytes).toString('base64') })
  }
  return JSON.stringify(chunk)
}

function decode(chunk: Chunk | EncodedBytes): Chunk {
  if (!('base64' in chunk)) return chunk
  return { kind: 'data', channel: chunk.channel, bytes: Buffer.from(chunk.base64, 'base64') }
}
