import path from 'node:path'
import { z } from 'zod'
import type { ChannelReader } from '../core/channel-reader.ts'
import { rangeSchema } from './entries.ts'
import { describeLoss } from './ledger.ts'
import { LINE_BYTES_MAX, visible } from './format.ts'
import { ByteReader, parseEntry, walkFrames } from './read.ts'
import type { Entry, FrameHead } from './read.ts'

/** What a transcript holds. */
export interface TranscriptOptions {
  /** How much of each result to show, in bytes; what is left out is counted. Default 0: results are left out. */
  readonly resultBytesMax?: number
  /** Makes the reader of a channel whose bytes are a protocol's own; other channels are shown as text. */
  readonly readerOf?: (channel: string, tool: string) => ChannelReader | undefined
}

/**
 * Renders a recording for reading, line by line, without newlines. Control, directional and invisible characters show
 * as escapes: a recording must not be able to move the cursor of the person who reads it. It shows what the file says
 * and proves nothing; `verify` does.
 */
export async function* transcript(
  file: string,
  options: TranscriptOptions = {},
): AsyncGenerator<string, void, undefined> {
  const reader = await ByteReader.open(file)
  /** What calls that have not ended came as. */
  const tools = new Map<unknown, unknown>()
  try {
    for (;;) {
      const bytes = await reader.line(LINE_BYTES_MAX)
      if (bytes.length === 0) return
      const entry = bytes.at(-1) === 10 ? parseEntry(bytes.toString('utf8', 0, bytes.length - 1)) : undefined
      if (entry === undefined) yield `(${bytes.length} bytes that are no entry)`
      else yield* renderEntry(entry)
      const { call, tool } = entry?.members ?? {}
      if (entry?.type === 'decision') tools.set(call, tool)
      if (entry?.type !== 'end') continue
      yield* renderResult(file, entry, tools.get(call), options)
      tools.delete(call)
    }
  } finally {
    await reader.close()
  }
}

const strings = z.array(z.string())
const text = z.string().catch('?')
const facts = z.record(z.string(), z.unknown())

const rendered = z.object({
  call: z.string().optional(),
  target: z.unknown().optional(),
  tool: z.unknown().optional(),
  request: z.object({ text: z.string(), params: z.array(z.string().nullable()).optional() }).optional(),
  reason: z.string().optional(),
  effect: text.optional(),
  observed: z.string().optional(),
  rules: strings.optional(),
  why: z.string().optional(),
  ending: z.string().optional(),
  duration_ms: z.number().optional(),
  status: z.string().optional(),
  rows: z.number().optional(),
  truncated: z.boolean().optional(),
  masked: z.record(z.string(), z.number()).optional(),
  error: z.object({ code: z.string(), message: z.string().optional() }).optional(),
  cut: z.object({ by: z.string(), bytes: z.number() }).optional(),
  payload: z.object({ bytes: z.number() }).optional(),
  ticket: z.string().optional(),
  state: z.string().optional(),
  by: z.union([z.string(), strings]).optional(),
  act: z.string().optional(),
  subject: z.string().optional(),
  facts: facts.optional(),
  text: z.string().optional(),
  kind: z.string().optional(),
  channel: z.string().optional(),
})

type Rendered = z.infer<typeof rendered>

function* renderEntry(entry: Entry): Generator<string> {
  const head = `${entry.at.slice(11, 23)}  `
  const parsed = rendered.safeParse(entry.members)
  if (!parsed.success) {
    // What does not have the shape it should is shown as it is, not left out.
    yield `${head}${entry.type} ${visible(JSON.stringify(restOf(entry)))}`
    return
  }
  const members = parsed.data
  const call = members.call === undefined ? '' : `${visible(members.call)}  `
  switch (entry.type) {
    case 'open':
      yield* renderHeader(entry)
      return
    case 'decision':
      yield `${head}${call}${name(members.tool)} on ${name(members.target)}`
      yield* renderDecision(members)
      return
    case 'approval':
      yield `${head}${call}approval ${show(members.ticket)}: ${show(members.state)}${members.by === undefined ? '' : ` by ${show([members.by].flat().join(', '))}`}`
      return
    case 'end':
      // A call that was never decided says here what it was.
      if (members.tool !== undefined) {
        yield `${head}${call}${name(members.tool)} on ${name(members.target)} (${members.payload?.bytes ?? '?'} bytes not kept)`
      }
      yield `${head}${call}${renderEnding(members)}`
      return
    case 'refused':
      yield `${head}refused ${name(members.tool)}: ${show(members.error?.code)} (${members.payload?.bytes ?? '?'} bytes not kept)`
      return
    case 'admin':
      yield `${head}${show([members.by].flat().join(', '))}: ${show(members.act)} ${show(members.subject ?? '')} ${members.facts === undefined ? '' : visible(JSON.stringify(members.facts))}`.trimEnd()
      return
    case 'heard':
      yield `${head}${show(members.kind)}${members.channel === undefined ? '' : ` on ${visible(members.channel)}`} from ${name(members.target)}: ${members.text === undefined ? '(withheld)' : visible(members.text)}`
      return
    case 'gap':
    case 'cut':
      yield `${head}${entry.type.toUpperCase()}: ${visible(describeLoss(entry))}`
      return
    case 'seal':
      yield `${head}sealed (${show(members.ending)})`
      return
    default:
      yield `${head}${entry.type} ${visible(JSON.stringify(restOf(entry)))}`
  }
}

function* renderHeader({ at, members }: Entry): Generator<string> {
  const principal = facts.safeParse(members['principal']).data
  if (principal === undefined) {
    yield `journal of ${name(members['instance'])} · ${at}`
    return
  }
  const actsFor = principal['acts_for'] === undefined ? '' : ` for ${name(principal['acts_for'])}`
  const who = `${name(principal['id'])} (${name(principal['kind'])} of ${name(principal['owner'])})${actsFor}`
  const run = members['run'] === undefined ? '' : ` · run ${name(members['run'])}`
  yield `session ${name(members['session'])} · ${who} · ${name(members['door'])}${run} · ${at}`
}

function* renderDecision({ request, reason, effect, observed, rules, why }: Rendered): Generator<string> {
  for (const line of (request?.text ?? '').split('\n')) yield `    ${visible(line)}`
  for (const [index, value] of (request?.params ?? []).entries()) {
    yield `    $${index + 1} = ${value === null ? 'NULL' : visible(JSON.stringify(value))}`
  }
  if (reason !== undefined) yield `    the agent says: ${visible(reason)}`
  const wouldBe = observed === undefined ? '' : ` (observed only; would be ${visible(observed)})`
  const by = rules === undefined || rules.length === 0 ? '' : ` by ${visible(rules.join(', '))}`
  yield `    ${show(effect)}${by}${wouldBe}: ${show(why)}`
}

function renderEnding(members: Rendered): string {
  const masked = Object.entries(members.masked ?? {}).map(([detector, count]) => `${detector} ×${count}`)
  const pieces = [
    `${show(members.ending)} after ${members.duration_ms ?? '?'} ms`,
    members.status,
    members.rows === undefined ? undefined : `${members.rows} rows`,
    members.truncated === true ? 'truncated' : undefined,
    masked.length > 0 ? `masked ${masked.join(', ')}` : undefined,
    members.error && `${members.error.code}: ${members.error.message ?? ''}`,
    members.cut && `of ${members.cut.bytes} bytes not all are recorded (${members.cut.by})`,
  ]
  return pieces.flatMap((piece) => (piece === undefined ? [] : [visible(piece)])).join(' · ')
}

async function* renderResult(
  file: string,
  entry: Entry,
  tool: unknown,
  { resultBytesMax: bytesMax = 0, readerOf }: TranscriptOptions,
): AsyncGenerator<string> {
  const range = rangeSchema.safeParse(entry.members['bulk'])
  if (!range.success || bytesMax === 0) return
  const { offset, end, bytes, file: sidecar } = range.data
  const result = new ResultLines((channel) => (typeof tool === 'string' ? readerOf?.(channel, tool) : undefined))
  let left = bytesMax
  let isOurs = false
  // The name comes out of the file: only its last part counts, so that it cannot lead elsewhere.
  await walkFrames(
    path.join(path.dirname(file), path.basename(sidecar)),
    {
      frame(head) {
        isOurs = head.call === entry.members['call']
        if (isOurs && left > 0) result.begin(head)
        return left > 0
      },
      bytes(piece, part) {
        if (!isOurs || part === 'head') return
        const taken = piece.subarray(0, left)
        if (part === 'payload') result.take(taken)
        left -= taken.length
      },
    },
    end,
    offset,
  )
  for (const line of result.end()) yield `    ${visible(line)}`
  if (left <= 0) yield `    | … of ${bytes} bytes, the first ${bytesMax} are shown`
}

/** The lines of one result: what came from the caller behind `>`, what it was shown behind `|`. */
class ResultLines {
  readonly #lines: string[] = []
  readonly #readerOf: (channel: string) => ChannelReader | undefined
  readonly #readers = new Map<string, ChannelReader | undefined>()
  #text: Buffer[] = []
  #channel = ''
  #reader: ChannelReader | undefined

  constructor(readerOf: (channel: string) => ChannelReader | undefined) {
    this.#readerOf = readerOf
  }

  begin({ kind, channel = '' }: FrameHead): void {
    const next = kind === 'data' ? channel : ''
    // What is no data is a text of its own; pieces of one channel are one text.
    if (next !== this.#channel || next === '' || next === 'rows') this.#flush()
    this.#channel = next
    if (!this.#readers.has(next)) this.#readers.set(next, this.#readerOf(next))
    this.#reader = this.#readers.get(next)
  }

  take(piece: Buffer): void {
    // The buffer is only lent.
    if (this.#reader === undefined) this.#text.push(Buffer.from(piece))
    else this.#add('|', this.#reader.push(piece))
  }

  end(): readonly string[] {
    this.#flush()
    for (const reader of this.#readers.values()) if (reader !== undefined) this.#add('|', reader.end())
    return this.#lines
  }

  #flush(): void {
    const text = Buffer.concat(this.#text).toString('utf8')
    this.#text = []
    this.#add(
      this.#channel === 'stdin' ? '>' : '|',
      text.split('\n').filter((line) => line !== ''),
    )
  }

  #add(mark: string, lines: readonly string[]): void {
    for (const line of lines) this.#lines.push(`${mark} ${line}`)
  }
}

function restOf({ members }: Entry): object {
  const { seq: _seq, at: _at, type: _type, prev: _prev, sig: _sig, ...rest } = members
  return rest
}

function name(value: unknown): string {
  return visible(typeof value === 'string' ? value : JSON.stringify(value ?? '?'))
}

function show(value: string | undefined): string {
  return visible(value ?? '?')
}
