import { Buffer } from 'node:buffer'
import type { BytesChunk, Chunk, ExitChunk } from '../../src/core/chunk.ts'
import type { Decision, Detection, Transform } from '../../src/core/decision.ts'
import { DETECTORS } from '../../src/masking/detectors/index.ts'
import { createMasking } from '../../src/masking/masking.ts'

/** A masking with a fixed key, so that hashes in tests are stable. */
export const masking = createMasking({ hashKey: Buffer.from('0123456789abcdef0123456789abcdef') })

/** A decision whose only obligation is to look for these. */
export function looking(...detect: readonly Detection[]): Decision {
  return {
    effect: 'allow',
    rules: ['r'],
    reason: '',
    obligations: { rates: [], budgets: [], columns: [], detect },
    approvals: [],
    policyVersion: 'v',
    parts: [],
  }
}

/** A decision that looks for every declared detector. */
export function lookingForAll(transform: Transform = 'redact'): Decision {
  return looking(...[...DETECTORS.keys()].map((detector) => ({ detector, transform })))
}

/** Runs chunks through the masking and collects what comes out. */
export async function masked(chunks: readonly Chunk[], decision: Decision): Promise<readonly Chunk[]> {
  const shown: Chunk[] = []
  for await (const chunk of masking.stream(from(chunks), decision)) shown.push(chunk)
  return shown
}

/** An iterable of chunks. */
export async function* from(chunks: readonly Chunk[]): AsyncGenerator<Chunk> {
  yield* chunks
}

/** A chunk of bytes. */
export function bytes(channel: BytesChunk['channel'], data: string | Uint8Array): BytesChunk {
  return { kind: 'data', channel, bytes: typeof data === 'string' ? Buffer.from(data) : data }
}

/** A chunk of rows. */
export function rows(...cells: readonly (readonly (string | null)[])[]): Chunk {
  return { kind: 'data', channel: 'rows', rows: cells }
}

/** An ordinary end. */
export const exit: ExitChunk = { kind: 'exit', status: 'SELECT 1', truncated: false }

/** The bytes of a channel, joined. */
export function joined(chunks: readonly Chunk[], channel: BytesChunk['channel']): Buffer {
  return Buffer.concat(
    chunks.flatMap((chunk) => (chunk.kind === 'data' && chunk.channel === channel ? [chunk.bytes] : [])),
  )
}
