import { StringDecoder } from 'node:string_decoder'
import { SallyportError } from '../core/errors.ts'
import type { ReplayEvent } from '../recording/index.ts'
import { openAdminClient } from './admin-client.ts'
import { RESTORE, SafeOutput } from './replay-output.ts'
import { printable } from './terminal.ts'
import type { RemoteOptions } from './token.ts'

/** Options of `recordings play`. */
export interface PlayCommand extends RemoteOptions {
  readonly call?: string
  readonly speed: string
  readonly idle: string
}

/** Options of `recordings export`. */
export interface ExportCommand extends RemoteOptions {
  readonly call?: string
  readonly format: string
}

/** What is shown of a session, piece by piece, with the time of each. */
type Shown =
  | { readonly kind: 'output' | 'input' | 'note'; readonly t: number; readonly text: string }
  | { readonly kind: 'size'; readonly t: number; readonly columns: number; readonly rows: number }

/** Plays a session in the time it took. */
export async function recordingsPlay(session: string, options: PlayCommand): Promise<void> {
  const speed = positive(options.speed, '--speed')
  const idleMs = positive(options.idle, '--idle') * 1000
  let before: number | undefined
  let isTerminal = false
  try {
    for await (const piece of shownOf(events(session, options))) {
      const waitMs = Math.min(Math.max(0, piece.t - (before ?? piece.t)) / speed, idleMs)
      before = piece.t
      if (waitMs > 0) await new Promise((resolve) => void setTimeout(resolve, waitMs))
      isTerminal ||= piece.kind === 'size'
      // What was typed shows where the terminal echoed it.
      if (piece.kind === 'output') process.stdout.write(piece.text)
      else if (piece.kind === 'note') process.stderr.write(`${piece.text}\n`)
    }
  } finally {
    if (isTerminal && process.stdout.isTTY) process.stdout.write(RESTORE)
  }
}

/** Writes a session as an asciicast of version 2: a header, then `[seconds, kind, text]` for each piece. */
export async function recordingsExport(session: string, options: ExportCommand): Promise<void> {
  if (options.format !== 'asciicast') {
    throw new SallyportError('ERR_INVALID_INPUT', 'The only format is asciicast.')
  }
  const line = (value: unknown): void => void process.stdout.write(`${JSON.stringify(value)}\n`)
  let size: { readonly columns: number; readonly rows: number } | undefined
  const waiting: unknown[] = []
  let start: number | undefined
  const begin = (): void => {
    const { columns = 80, rows = 24 } = size ?? {}
    line({
      version: 2,
      width: columns || 80,
      height: rows || 24,
      timestamp: Math.floor((start ?? 0) / 1000),
      title: session,
    })
    for (const each of waiting.splice(0)) line(each)
  }
  let isBegun = false
  for await (const piece of shownOf(events(session, options))) {
    start ??= piece.t
    const seconds = Math.max(0, piece.t - start) / 1000
    if (piece.kind === 'size' && !isBegun) {
      size = piece
      isBegun = true
      begin()
      continue
    }
    // The header says how large the terminal is, and the first size comes before the first output.
    if (!isBegun && piece.kind !== 'note') {
      isBegun = true
      begin()
    }
    const event = castEvent(piece, seconds)
    if (isBegun) line(event)
    else waiting.push(event)
  }
  if (!isBegun) begin()
}

function castEvent(piece: Shown, seconds: number): readonly [number, string, string] {
  if (piece.kind === 'size') return [seconds, 'r', `${piece.columns}x${piece.rows}`]
  if (piece.kind === 'note') return [seconds, 'o', `${piece.text}\r\n`]
  return [seconds, piece.kind === 'input' ? 'i' : 'o', piece.text]
}

async function* events(
  session: string,
  options: RemoteOptions & { readonly call?: string },
): AsyncGenerator<ReplayEvent, void, undefined> {
  const client = await openAdminClient(options)
  let rest = ''
  for await (const piece of client.text(`/v1/recordings/${encodeURIComponent(session)}/replay`)) {
    const lines = (rest + piece).split('\n')
    rest = lines.pop() ?? ''
    for (const line of lines) {
      const event = JSON.parse(line) as ReplayEvent
      if (options.call === undefined || event.kind === 'session' || event.call === options.call) yield event
    }
  }
}

/** Turns bytes into text a terminal may be given. */
async function* shownOf(all: AsyncIterable<ReplayEvent>): AsyncGenerator<Shown, void, undefined> {
  let streams = new Map<string, Stream>()
  for await (const event of all) {
    const { t } = event
    switch (event.kind) {
      case 'session':
        yield note(t, `# session ${event.session} of ${event.principal} at the door ${event.door}`)
        break
      case 'call':
        streams = new Map()
        yield note(t, `# ${event.tool}: ${event.text}`)
        break
      case 'size':
        yield { kind: 'size', t, columns: event.columns, rows: event.rows }
        break
      case 'data': {
        const stream = streams.get(event.channel) ?? new Stream(event.channel)
        streams.set(event.channel, stream)
        const text = stream.show(Buffer.from(event.base64, 'base64'))
        if (text !== '') yield { kind: event.channel === 'stdin' ? 'input' : 'output', t, text }
        break
      }
      case 'cut':
        yield note(t, `# not all of the output is in the recording (${event.by})`)
        break
      case 'end': {
        const text = [...streams.values()].map((stream) => stream.end()).join('')
        if (text !== '') yield { kind: 'output', t, text }
        yield note(t, `# ${event.ending}${event.status === undefined ? '' : `, ${event.status}`}`)
        break
      }
      default:
    }
  }
}

function note(t: number, text: string): Shown {
  return { kind: 'note', t, text: printable(text) }
}

/** One channel's text. A terminal's moves the cursor by itself; any other has lines, and every control in it shows. */
class Stream {
  readonly #decoder = new StringDecoder('utf8')
  readonly #safe = new SafeOutput()
  readonly #isTerminal: boolean

  constructor(channel: string) {
    this.#isTerminal = channel === 'pty' || channel === 'stdin'
  }

  show(bytes: Buffer): string {
    return this.#made(this.#decoder.write(bytes))
  }

  end(): string {
    return this.#made(this.#decoder.end()) + this.#safe.end()
  }

  #made(text: string): string {
    if (this.#isTerminal) return this.#safe.filter(text)
    return text
      .split('\n')
      .map((line) => printable(line.replaceAll('\t', '        ')))
      .join('\r\n')
  }
}

function positive(text: string, option: string): number {
  const value = Number(text)
  if (Number.isFinite(value) && value > 0) return value
  throw new SallyportError('ERR_INVALID_INPUT', `${option} must be a number above 0.`)
}
