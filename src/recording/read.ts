import { constants } from 'node:fs'
import fs from 'node:fs/promises'
import { z } from 'zod'
import { FRAME_HEAD_BYTES_MAX, hashOf, LINE_BYTES_MAX } from './format.ts'
import type { EntryType } from './format.ts'

/** One entry as read back. `members` is the whole line, parsed. */
export interface Entry {
  readonly seq: number
  readonly at: string
  readonly type: EntryType
  readonly prev: string
  readonly members: Readonly<Record<string, unknown>>
}

/** One line of a recording. */
export interface Line {
  /** Counted from 1, as editors do. */
  readonly number: number
  /** The line without its newline. */
  readonly text: string
  readonly hash: string
  /** Offset behind its newline. */
  readonly end: number
  /** `undefined` when the line is not an entry in the one spelling there is. */
  readonly entry: Entry | undefined
}

/** What follows the last newline. */
export interface Rest {
  readonly offset: number
  readonly bytes: number
}

const READ_BYTES = 256 * 1024

/** Reads a file front to back through one buffer; no piece of it is held longer than it takes to look at it. */
export class ByteReader {
  readonly #handle: fs.FileHandle
  readonly #buffer = Buffer.allocUnsafe(READ_BYTES)
  #start = 0
  #end = 0
  #offset = 0

  private constructor(handle: fs.FileHandle, offset: number) {
    this.#handle = handle
    this.#offset = offset
  }

  /** Opens a file at an offset; never follows a link. The caller closes. */
  static async open(path: string, offset = 0): Promise<ByteReader> {
    return new ByteReader(await fs.open(path, constants.O_RDONLY | constants.O_NOFOLLOW), offset)
  }

  /** Offset of the next byte. */
  get offset(): number {
    return this.#offset
  }

  /** Returns the next line with its newline, or without one when the file or `bytesMax` ends first. */
  async line(bytesMax: number): Promise<Buffer> {
    const pieces: Buffer[] = []
    let length = 0
    while (length < bytesMax && (await this.#fill())) {
      const newline = this.#buffer.subarray(this.#start, this.#end).indexOf(10)
      const end = newline === -1 ? this.#end : this.#start + newline + 1
      const piece = this.#buffer.subarray(this.#start, Math.min(end, this.#start + bytesMax - length))
      pieces.push(Buffer.from(piece))
      length += piece.length
      this.#advance(piece.length)
      if (newline !== -1 && piece.at(-1) === 10) break
    }
    return pieces.length === 1 && pieces[0] !== undefined ? pieces[0] : Buffer.concat(pieces)
  }

  /** Hands the next `length` bytes to `each`, in pieces. Returns whether there were so many. */
  async take(length: number, each: (bytes: Buffer) => void): Promise<boolean> {
    for (let left = length; left > 0;) {
      if (!(await this.#fill())) return false
      const piece = this.#buffer.subarray(this.#start, Math.min(this.#end, this.#start + left))
      each(piece)
      left -= piece.length
      this.#advance(piece.length)
    }
    return true
  }

  /** Counts the bytes up to the end of the file. */
  async skipRest(): Promise<number> {
    const { size } = await this.#handle.stat()
    return Math.max(0, size - this.#offset)
  }

  async close(): Promise<void> {
    await this.#handle.close()
  }

  #advance(bytes: number): void {
    this.#start += bytes
    this.#offset += bytes
  }

  async #fill(): Promise<boolean> {
    if (this.#start < this.#end) return true
    const { bytesRead } = await this.#handle.read(this.#buffer, 0, READ_BYTES, this.#offset)
    this.#start = 0
    this.#end = bytesRead
    return bytesRead > 0
  }
}

/** Hands each complete line of a recording to `visit`, which may end the walk with `false`. Returns what is behind the last. */
export async function walkLines(path: string, visit: (line: Line) => boolean | void): Promise<Rest> {
  const reader = await ByteReader.open(path)
  try {
    for (let number = 1; ; number++) {
      const offset = reader.offset
      const bytes = await reader.line(LINE_BYTES_MAX)
      if (bytes.at(-1) !== 10) return { offset, bytes: bytes.length + (await reader.skipRest()) }
      const text = bytes.toString('utf8', 0, bytes.length - 1)
      const line = { number, text, hash: hashOf(bytes), end: reader.offset, entry: parseEntry(text) }
      if (visit(line) === false) return { offset: reader.offset, bytes: await reader.skipRest() }
    }
  } finally {
    await reader.close()
  }
}

const ENTRY =
  /^\{"seq":(0|[1-9]\d{0,14}),"at":"(\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z)","type":"([a-z]+)","prev":"([0-9a-f]{64})"[,}]/

/** Parses one line; `undefined` when it is not an entry. Only the spelling the writer has is an entry. */
export function parseEntry(text: string): Entry | undefined {
  const match = ENTRY.exec(text)
  if (match === null) return undefined
  try {
    const members = JSON.parse(text) as Record<string, unknown>
    const [, seq, at, type, prev] = match
    // A second `seq` or `type` further on would make other tools read another entry than this one does.
    if (
      members['seq'] !== Number(seq) ||
      members['at'] !== at ||
      members['type'] !== type ||
      members['prev'] !== prev
    ) {
      return undefined
    }
    return { seq: Number(seq), at: at ?? '', type: type as EntryType, prev: prev ?? '', members }
  } catch {
    return undefined
  }
}

/** Returns a file's first entry, if it has one. */
export async function firstEntry(file: string): Promise<Entry | undefined> {
  let first: Entry | undefined
  await walkLines(file, (line) => {
    first = line.entry
    return false
  })
  return first
}

const TAIL_BYTES = 4096

/** Whether the last complete line is a seal. Seals of journals are short; nothing behind one may be. */
export async function endsWithSeal(file: string): Promise<boolean> {
  const handle = await fs.open(file, 'r')
  try {
    const { size } = await handle.stat()
    const length = Math.min(size, TAIL_BYTES)
    const { buffer } = await handle.read(Buffer.alloc(length), 0, length, size - length)
    const tail = buffer.toString('utf8')
    const lastLine = tail.slice(tail.lastIndexOf('\n', tail.length - 2) + 1)
    return lastLine.endsWith('\n') && parseEntry(lastLine.slice(0, -1))?.type === 'seal'
  } finally {
    await handle.close()
  }
}

/** One frame of a sidecar. */
export interface FrameHead {
  readonly call: string
  readonly n: number
  /** When it was recorded: milliseconds since 1970. Absent in recordings of before it was kept. */
  readonly t?: number | undefined
  readonly kind: string
  readonly channel?: string | undefined
  readonly bytes: number
  readonly of?: number | undefined
  readonly offset: number
  readonly end: number
}

const frameHead = z.strictObject({
  at: z.int().nonnegative(),
  call: z.string(),
  n: z.int().nonnegative(),
  t: z.int().nonnegative().optional(),
  kind: z.enum(['head', 'data', 'notice', 'exit']),
  channel: z.string().optional(),
  bytes: z.int().nonnegative(),
  of: z.int().nonnegative().optional(),
})

/** What is done with the frames of a sidecar. */
export interface FrameVisitor {
  /** A frame begins. Returning `false` ends the walk. */
  frame(head: FrameHead): boolean | void
  /** Bytes of it, as they lie in the file: first line, payload, newline. The buffer is only lent. */
  bytes?(bytes: Buffer, part: 'head' | 'payload' | 'newline'): void
  /** It is complete. */
  end?(head: FrameHead): void
}

/** Walks the complete frames of a sidecar between two offsets and returns what is behind the last one. */
export async function walkFrames(path: string, visitor: FrameVisitor, until = Infinity, from = 0): Promise<Rest> {
  const reader = await ByteReader.open(path, from)
  let good = from
  try {
    while (good < until) {
      const first = await reader.line(FRAME_HEAD_BYTES_MAX)
      const head = parseFrameHead(first, good)
      if (head === undefined || visitor.frame(head) === false) break
      visitor.bytes?.(first, 'head')
      const isWhole = await reader.take(head.bytes, (bytes) => visitor.bytes?.(bytes, 'payload'))
      let newline = 0
      const isEnded = isWhole && (await reader.take(1, (bytes) => void (newline = bytes[0] ?? 0)))
      if (!isEnded || newline !== 10) break
      visitor.bytes?.(NEWLINE, 'newline')
      visitor.end?.(head)
      good = head.end
    }
    return { offset: good, bytes: reader.offset - good + (await reader.skipRest()) }
  } finally {
    await reader.close()
  }
}

const NEWLINE = Buffer.from('\n')

/** Reads the first line of a frame that should lie at `offset`. */
export function parseFrameHead(line: Buffer, offset: number): FrameHead | undefined {
  if (line.at(-1) !== 10) return undefined
  try {
    const { at, ...head } = frameHead.parse(JSON.parse(line.toString('utf8')))
    // A frame that lies elsewhere than it was written was moved.
    if (at !== offset) return undefined
    return { ...head, offset, end: offset + line.length + head.bytes + 1 }
  } catch {
    return undefined
  }
}
