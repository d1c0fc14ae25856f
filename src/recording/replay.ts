import path from 'node:path'
import { z } from 'zod'
import { rangeSchema } from './entries.ts'
import { FRAME_HEAD_BYTES_MAX, LINE_BYTES_MAX } from './format.ts'
import { ByteReader, parseEntry, parseFrameHead, type Entry } from './read.ts'

/** Something that happened in a session, at a time: milliseconds since 1970. */
export type ReplayEvent =
  | {
      readonly kind: 'session'
      readonly t: number
      readonly session: string
      readonly principal: string
      readonly door: string
    }
  | { readonly kind: 'call'; readonly t: number; readonly call: string; readonly tool: string; readonly text: string }
  | {
      readonly kind: 'size'
      readonly t: number
      readonly call: string
      readonly columns: number
      readonly rows: number
    }
  | {
      readonly kind: 'data'
      readonly t: number
      readonly call: string
      readonly channel: string
      readonly base64: string
    }
  | {
      readonly kind: 'end'
      readonly t: number
      readonly call: string
      readonly ending: string
      readonly status?: string
    }
  /** What was shown is not all in the recording. */
  | { readonly kind: 'cut'; readonly t: number; readonly call: string; readonly by: string }

const PIECE_BYTES = 64 * 1024

const header = z.object({ session: z.string(), principal: z.object({ id: z.string() }), door: z.string() })
const decision = z.object({ call: z.string(), tool: z.string(), request: z.object({ text: z.string() }) })
const end = z.object({
  call: z.string(),
  ending: z.string(),
  status: z.string().optional(),
  bulk: rangeSchema.optional(),
  cut: z.object({ by: z.string() }).optional(),
})
const head = z.object({ attributes: z.object({ columns: z.string(), rows: z.string() }) })

/**
 * Tells what happened in a session, call by call in the order in which they ended, each with its output as it came. It
 * says what the file says and proves nothing; `verify` does. Reads front to back and holds one piece at a time.
 */
export async function* replay(file: string): AsyncGenerator<ReplayEvent, void, undefined> {
  const calls = new Map<string, Extract<ReplayEvent, { kind: 'call' }>>()
  const reader = await ByteReader.open(file)
  try {
    for (;;) {
      const line = await reader.line(LINE_BYTES_MAX)
      if (line.at(-1) !== 10) return
      const entry = parseEntry(line.toString('utf8', 0, line.length - 1))
      if (entry !== undefined) yield* eventsOf(file, entry, calls)
    }
  } finally {
    await reader.close()
  }
}

async function* eventsOf(
  file: string,
  { type, at, members }: Entry,
  calls: Map<string, Extract<ReplayEvent, { kind: 'call' }>>,
): AsyncGenerator<ReplayEvent, void, undefined> {
  const t = Date.parse(at)
  if (type === 'open') {
    const read = header.safeParse(members).data
    if (read === undefined) return
    yield { kind: 'session', t, session: read.session, principal: read.principal.id, door: read.door }
  } else if (type === 'decision') {
    const read = decision.safeParse(members).data
    if (read === undefined) return
    const { call, tool, request } = read
    calls.set(call, { kind: 'call', t, call, tool, text: request.text })
  } else if (type === 'end') {
    const read = end.safeParse(members).data
    if (read === undefined) return
    const { call, ending, status, bulk, cut } = read
    const begun = calls.get(call)
    calls.delete(call)
    if (begun !== undefined) yield begun
    if (bulk !== undefined) {
      // The name comes out of the file: only its last part counts, so that it cannot lead elsewhere.
      yield* framesOf(path.join(path.dirname(file), path.basename(bulk.file)), call, bulk, begun?.t ?? t)
    }
    if (cut !== undefined) yield { kind: 'cut', t, call, by: cut.by }
    yield { kind: 'end', t, call, ending, ...(status !== undefined && { status }) }
  }
}

async function* framesOf(
  sidecar: string,
  call: string,
  range: { readonly offset: number; readonly end: number },
  begun: number,
): AsyncGenerator<ReplayEvent, void, undefined> {
  const reader = await ByteReader.open(sidecar, range.offset)
  try {
    let t = begun
    while (reader.offset < range.end) {
      const at = reader.offset
      const frame = parseFrameHead(await reader.line(FRAME_HEAD_BYTES_MAX), at)
      if (frame === undefined) return
      // A clock that was set back must not make time run backwards.
      t = Math.max(t, frame.t ?? t)
      const isShown = frame.call === call && (frame.kind === 'data' || frame.kind === 'head')
      const { channel = '' } = frame
      for (let left = frame.bytes; left > 0;) {
        const pieces: Buffer[] = []
        const length = Math.min(left, frame.kind === 'head' ? left : PIECE_BYTES)
        if (!(await reader.take(length, (piece) => void (isShown && pieces.push(Buffer.from(piece)))))) return
        left -= length
        const bytes = Buffer.concat(pieces)
        if (!isShown) continue
        if (frame.kind === 'data') yield { kind: 'data', t, call, channel, base64: bytes.toString('base64') }
        else yield* sizeOf(bytes, t, call)
      }
      if (!(await reader.take(1, () => undefined))) return
    }
  } finally {
    await reader.close()
  }
}

function* sizeOf(bytes: Buffer, t: number, call: string): Generator<ReplayEvent> {
  let value: unknown
  try {
    value = JSON.parse(bytes.toString('utf8'))
  } catch {
    return
  }
  const read = head.safeParse(value).data
  if (read === undefined) return
  yield { kind: 'size', t, call, columns: Number(read.attributes.columns), rows: Number(read.attributes.rows) }
}
