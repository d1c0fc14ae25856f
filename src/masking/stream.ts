import type { BytesChunk, Chunk, ExitChunk, RowsChunk } from '../core/chunk.ts'
import { type CellShape, maskRows, shapeOf } from './cells.ts'
import type { Compiled } from './compile.ts'
import { untilIdle } from './idle.ts'
import { maskText, TextMasker } from './text.ts'
import { redacted, type Replacer } from './transforms.ts'
import { ByteText, encode } from './utf8.ts'

/**
 * How many characters operator patterns are matched against in one call, each pattern counted. They run some twenty
 * times slower than the declared detectors, on the thread all calls share: this is about a second.
 */
export const CUSTOM_CHARS_MAX = 8 * 1024 * 1024

/** How long a terminal's unfinished line waits for more before a person sees it. */
const PTY_IDLE_MS = 80

/** Masks the chunks of one call. */
export async function* maskStream(
  source: AsyncIterable<Chunk>,
  compiled: Compiled,
  replacer: Replacer,
): AsyncGenerator<Chunk, void, undefined> {
  const result = new ResultMasker(compiled, replacer)
  const idleMs = (): number | undefined => (result.isPromptWaiting ? PTY_IDLE_MS : undefined)
  for await (const chunk of untilIdle(source, idleMs)) {
    if (chunk === undefined) yield* result.flushPrompt()
    else yield* result.take(chunk)
  }
  yield* result.endChannels()
}

interface Channel {
  readonly name: BytesChunk['channel']
  readonly bytes: ByteText
  readonly text: TextMasker
}

class ResultMasker {
  readonly #compiled: Compiled
  readonly #replacer: Replacer
  readonly #counts = new Map<string, number>()
  readonly #count: (kind: string) => void
  readonly #channels = new Map<string, Channel>()
  #shapes: readonly CellShape[] = []
  #customChars = 0
  #isOverBudget = false

  constructor(compiled: Compiled, replacer: Replacer) {
    this.#compiled = compiled
    this.#replacer = replacer
    this.#count = (kind) => {
      this.#counts.set(kind, (this.#counts.get(kind) ?? 0) + 1)
    }
  }

  *take(chunk: Chunk): Generator<Chunk> {
    switch (chunk.kind) {
      case 'head':
        yield* this.endChannels() // a new result begins
        yield this.#head(chunk)
        return
      case 'data':
        yield* chunk.channel === 'rows' ? this.#rows(chunk) : this.#bytes(chunk)
        return
      case 'notice':
        yield { ...chunk, text: this.#text(chunk.text) }
        return
      case 'exit':
        yield* this.endChannels()
        yield this.#exit(chunk)
    }
  }

  /** Whether a terminal's unfinished line is held back. */
  get isPromptWaiting(): boolean {
    return this.#channels.get('pty')?.text.isWaiting ?? false
  }

  *flushPrompt(): Generator<Chunk> {
    const pty = this.#channels.get('pty')
    if (pty !== undefined && !this.#isOverBudget) yield* bytesOf('pty', pty.text.flush())
  }

  *endChannels(): Generator<Chunk> {
    for (const { name, bytes, text } of this.#channels.values()) {
      // Fail closed: past the budget the unfinished line was not searched to its end.
      if (!this.#isOverBudget) yield* bytesOf(name, text.push(bytes.end()) + text.end())
    }
    this.#channels.clear()
  }

  /**
   * Column names and header values are masked too: a caller chooses the names, and what it writes there stands in the
   * recording. The transform does not matter for a name, so names are always redacted in place.
   */
  #head(chunk: Extract<Chunk, { kind: 'head' }>): Chunk {
    this.#shapes = chunk.columns?.map(({ type }) => shapeOf(type)) ?? []
    return {
      ...chunk,
      ...(chunk.columns && { columns: chunk.columns.map((column) => ({ ...column, name: this.#text(column.name) })) }),
      ...(chunk.attributes && {
        attributes: Object.fromEntries(
          // The name goes along: `authorization` says what its value is.
          Object.entries(chunk.attributes).map(([name, value]) => [this.#text(name), this.#attribute(name, value)]),
        ),
      }),
    }
  }

  #attribute(name: string, value: string): string {
    const prefix = `${name}: `
    const shown = this.#text(prefix + value)
    return shown.startsWith(prefix) ? shown.slice(prefix.length) : this.#text(value)
  }

  *#rows(chunk: RowsChunk): Generator<Chunk> {
    const patterns = this.#compiled.custom.length
    if (patterns > 0) {
      let chars = 0
      for (const row of chunk.rows) for (const cell of row) chars += cell?.length ?? 0
      if (this.#spend(chars * patterns) < chars * patterns) {
        yield* this.#withhold()
        return
      }
    }
    const rows = maskRows(chunk.rows, this.#shapes, this.#compiled, this.#replacer, this.#count)
    yield rows === chunk.rows ? chunk : { ...chunk, rows }
  }

  *#bytes(chunk: BytesChunk): Generator<Chunk> {
    if (chunk.channel === 'wire') {
      yield chunk // framed by its protocol, which masks what is inside; text replaced here would break the frames
      return
    }
    if (this.#isOverBudget) return
    const channel = this.#channel(chunk.channel)
    const wasHolding = channel.bytes.isHolding
    let text = channel.bytes.decode(chunk.bytes)
    const patterns = this.#compiled.custom.length
    const allowed = patterns === 0 ? text.length : Math.floor(this.#spend(text.length * patterns) / patterns)
    const isCut = allowed < text.length
    if (isCut) text = text.slice(0, allowed)
    // A character that began in the chunk before, or ends in the next one, is not the chunk's alone.
    const isFresh = !channel.text.isWaiting && !wasHolding && !channel.bytes.isHolding
    const shown = channel.text.push(text)
    // Nothing was held before, nothing is held now, nothing was replaced: the chunk itself goes on.
    if (isFresh && !isCut && shown === text && shown !== '') yield chunk
    else yield* bytesOf(chunk.channel, shown)
    if (isCut) yield* this.#withhold()
  }

  #channel(name: BytesChunk['channel']): Channel {
    let channel = this.#channels.get(name)
    if (channel === undefined) {
      channel = { name, bytes: new ByteText(), text: new TextMasker(this.#compiled, this.#replacer, this.#count) }
      this.#channels.set(name, channel)
    }
    return channel
  }

  #text(text: string): string {
    const chars = text.length * this.#compiled.custom.length
    return this.#spend(chars) < chars
      ? redacted('unsearched')
      : maskText(text, this.#compiled, this.#replacer, this.#count)
  }

  /** Takes `chars` from the budget of operator patterns and returns how many of them were left. */
  #spend(chars: number): number {
    const granted = Math.min(chars, CUSTOM_CHARS_MAX - this.#customChars)
    this.#customChars += granted
    return granted
  }

  /** Fail closed: what was not searched is not shown. The source is still drained, so that the call ends as it ends. */
  *#withhold(): Generator<Chunk> {
    if (this.#isOverBudget) return
    this.#isOverBudget = true
    yield {
      kind: 'notice',
      severity: 'WARNING',
      text: `The rest of this result is withheld: it is larger than operator patterns are searched in (${CUSTOM_CHARS_MAX} characters for all patterns together).`,
    }
  }

  #exit(chunk: ExitChunk): ExitChunk {
    const status = this.#text(chunk.status)
    const masked = { ...chunk.masked }
    for (const [kind, count] of this.#counts) masked[kind] = (masked[kind] ?? 0) + count
    return {
      ...chunk,
      status,
      ...(chunk.results !== undefined && {
        results: chunk.results.map((result) => ({ ...result, status: this.#text(result.status) })),
      }),
      ...(this.#isOverBudget && { truncated: true, truncatedBy: 'bytes' as const }),
      ...(Object.keys(masked).length > 0 && { masked }),
    }
  }
}

function* bytesOf(channel: BytesChunk['channel'], text: string): Generator<Chunk> {
  if (text !== '') yield { kind: 'data', channel, bytes: encode(text) }
}
