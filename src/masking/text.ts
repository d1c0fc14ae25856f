import assert from 'node:assert'
import type { Transform } from '../core/decision.ts'
import type { Compiled } from './compile.ts'
import { fold, type Folded } from './fold.ts'
import { keyEnd, keyMarks, keyStart, mayBelongToKey } from './key-block.ts'
import { findSpans, type Span } from './spans.ts'
import { redacted, type Replacer } from './transforms.ts'

/** Longest line that is searched whole; a longer one is searched in overlapping windows of this many characters. */
export const WINDOW = 65_536
/** Overlap of two windows: a value up to this length is found wherever it lies. */
export const HOLD = 16_384
/** What of the text before a window detectors may still look at. */
const CONTEXT = 256

/**
 * Masks one text that arrives in pieces.
 *
 * INVARIANT: how the text is cut into pieces changes nothing. Everything is decided per line, and per window of a line
 * that is too long, and where those begin depends on the text alone. Memory is bounded by a window.
 */
export class TextMasker {
  readonly #compiled: Compiled
  readonly #replacer: Replacer
  readonly #count: (kind: string) => void
  #pending = ''
  /** Text before `#pending` on the same line, already given out. Empty at the start of a line. */
  #context = ''
  /** Set while the rest of a line is withheld. */
  #isWithholding = false
  #key: { readonly value: ReturnType<Replacer['pieces']>; lineBreak: string; isMidLine: boolean } | undefined

  /** @param count told the kind of each replaced value. */
  constructor(compiled: Compiled, replacer: Replacer, count: (kind: string) => void) {
    this.#compiled = compiled
    this.#replacer = replacer
    this.#count = count
  }

  /** Whether part of a line is held back. */
  get isWaiting(): boolean {
    return this.#pending !== '' && this.#key === undefined && !this.#isWithholding
  }

  /** Takes a piece and returns what can be shown by now: all complete lines, masked. */
  push(piece: string): string {
    this.#pending += piece
    if (this.#pending.length <= WINDOW && !piece.includes('\n')) return ''
    return this.#drain(false)
  }

  /** Ends the text and returns the rest. */
  end(): string {
    let shown = this.#drain(true)
    if (this.#key !== undefined) shown += this.#closeKey()
    this.#context = ''
    this.#isWithholding = false
    return shown
  }

  /**
   * Returns the unfinished line as it can be shown now, for a person who waits for a prompt. What was shown stays the
   * context of what follows, so the rest of a value that began in it is still hidden; its beginning is not.
   */
  flush(): string {
    let shown = this.#drain(false)
    if (this.#key === undefined && !this.#isWithholding && this.#pending !== '') {
      const line = this.#pending
      shown += this.#maskLines(line)
      this.#remember(line)
      this.#pending = ''
    }
    return shown
  }

  #drain(isFinal: boolean): string {
    let shown = ''
    while (this.#pending !== '') {
      const newline = this.#pending.indexOf('\n')
      if (newline > WINDOW || (newline < 0 && this.#pending.length > WINDOW)) {
        shown += this.#takeWindow()
      } else if (newline >= 0) {
        // As many whole lines as a window holds: none of them is longer than a window.
        const end = this.#pending.lastIndexOf('\n', WINDOW) + 1
        shown += this.#take(end)
        this.#context = ''
      } else if (isFinal) {
        shown += this.#take(this.#pending.length)
      } else break
    }
    return shown
  }

  #take(end: number): string {
    const text = this.#pending.slice(0, end)
    this.#pending = this.#pending.slice(end)
    return this.#maskLines(text)
  }

  /** Takes the front of a line that is longer than a window, up to a place where no value lies across. */
  #takeWindow(): string {
    const lead = this.#context.length
    const text = this.#context + this.#pending.slice(0, WINDOW)
    const cut = this.#cutOf(text, lead)
    const segment = cut === undefined ? this.#pending.slice(0, WINDOW) : text.slice(lead, cut)
    const shown = this.#maskLines(segment, cut === undefined ? '' : text.slice(cut))
    this.#pending = this.#pending.slice(segment.length)
    this.#remember(segment)
    // Fail closed: where a value as long as the window ends, nobody can say.
    if (cut === undefined) this.#isWithholding = true
    return shown
  }

  /** Returns where to cut, or `undefined` when one value fills the window. */
  #cutOf(text: string, lead: number): number | undefined {
    let cut = text.length - HOLD
    if (this.#isWithholding) return cut
    if (this.#key === undefined) {
      const across = findSpans(text, this.#compiled, fold(text)).find(({ start, end }) => start < cut && end > cut)
      if (across !== undefined) cut = across.end < text.length ? across.end : across.start
      if (cut <= lead) return undefined
    }
    if (this.#compiled.keyBlocks !== undefined) {
      const mark = keyMarks(text).find(({ start, end }) => start < cut && end > cut)
      if (mark !== undefined && mark.start > lead) cut = mark.start
    }
    return isLowSurrogate(text.charCodeAt(cut)) && cut - 1 > lead ? cut - 1 : cut
  }

  /** Masks lines, or the part of one, following private keys across them. `after` is what follows on the same line. */
  #maskLines(text: string, after = ''): string {
    if (this.#isWithholding) {
      const newline = text.indexOf('\n')
      if (newline < 0) return ''
      this.#isWithholding = false
      this.#context = ''
      return this.#maskLines(text.slice(newline), after)
    }
    const folded = fold(text)
    const keys = this.#compiled.keyBlocks
    const mayHoldKey =
      this.#key !== undefined || text.includes('PRIVATE KEY') || (folded?.text.includes('PRIVATE KEY') ?? false)
    if (keys === undefined || !mayHoldKey) return this.#maskPlain(text, after, folded)
    return this.#maskAroundKeys(text, after, folded !== undefined, keys)
  }

  /** Goes line by line: a key begins and ends on a line, and what lies between two of them is masked as one text. */
  #maskAroundKeys(text: string, after: string, isFoldable: boolean, transform: Transform): string {
    let shown = ''
    let plainFrom = 0
    let at = 0
    while (at < text.length) {
      const newline = text.indexOf('\n', at)
      const lineEnd = newline < 0 ? text.length : newline + 1
      const line = text.slice(at, lineEnd)
      if (this.#key === undefined) {
        const start = keyStartIn(line, isFoldable ? fold(line) : undefined)
        if (start < 0) {
          at = lineEnd
          continue
        }
        shown += this.#maskPiece(text.slice(plainFrom, at + start), '')
        this.#context = ''
        this.#key = { value: this.#replacer.pieces('private_key', transform), lineBreak: '', isMidLine: true }
        at += start
      } else {
        const { used, isOver } = this.#continueKey(line)
        if (isOver) shown += this.#closeKey()
        at += used
      }
      plainFrom = at
    }
    return plainFrom === text.length ? shown : shown + this.#maskPiece(text.slice(plainFrom), after)
  }

  /** Takes what belongs to the open key from the front of a line, or of the part of one. */
  #continueKey(text: string): { readonly used: number; readonly isOver: boolean } {
    const key = this.#key
    assert(key !== undefined)
    const lineBreak = /\r?\n$/.exec(text)?.[0] ?? ''
    const line = text.slice(0, text.length - lineBreak.length)
    const mark = keyEndIn(line)
    if (mark < 0 && !key.isMidLine && !mayBelongToKey(line)) return { used: 0, isOver: true }
    key.value.add(key.lineBreak + (mark < 0 ? line : line.slice(0, mark)))
    key.lineBreak = mark < 0 ? lineBreak : ''
    key.isMidLine = lineBreak === ''
    return mark < 0 ? { used: text.length, isOver: false } : { used: mark, isOver: true }
  }

  #closeKey(): string {
    const key = this.#key
    assert(key !== undefined)
    this.#key = undefined
    this.#count('private_key')
    return key.value.end() + key.lineBreak
  }

  #maskPiece(text: string, after: string): string {
    return this.#maskPlain(text, after, fold(text))
  }

  /** @param folded what {@link fold} returns for `text`. */
  #maskPlain(text: string, after: string, folded: Folded | undefined): string {
    const lead = this.#context.length
    const isAll = lead === 0 && after === ''
    const whole = isAll ? text : this.#context + text + after
    const limit = lead + text.length
    let shown = ''
    let at = lead
    for (const span of findSpans(whole, this.#compiled, isAll ? folded : fold(whole))) {
      if (span.end <= lead) continue
      if (span.start >= limit) break
      shown += whole.slice(at, Math.max(at, span.start)) + this.#replace(span, span.start >= lead)
      at = Math.min(span.end, limit)
    }
    return at === lead ? text : shown + whole.slice(at, limit)
  }

  #replace(span: Span, isWhole: boolean): string {
    this.#count(span.kind)
    return isWhole ? this.#replacer.replace(span.kind, span.transform, span.value) : redacted(span.kind)
  }

  #remember(segment: string): void {
    this.#context = (this.#context + segment).slice(-CONTEXT)
  }
}

/** Masks a whole text. */
export function maskText(text: string, compiled: Compiled, replacer: Replacer, count: (kind: string) => void): string {
  const masker = new TextMasker(compiled, replacer, count)
  return masker.push(text) + masker.end()
}

/** Finds a key's begin mark. Behind a disguise only its line is known, and the key is taken to begin with that. */
function keyStartIn(text: string, folded: Folded | undefined): number {
  const plain = keyStart(text)
  const disguised = folded === undefined ? -1 : keyStart(folded.text)
  if (folded === undefined || disguised < 0) return plain
  const from = folded.startOf(disguised)
  if (plain >= 0 && plain <= from) return plain
  return text.lastIndexOf('\n', from) + 1
}

/** Returns where a key's end mark ends. Behind a disguise that is the end of the line. */
function keyEndIn(line: string): number {
  const plain = keyEnd(line, 0)
  if (plain >= 0) return plain
  const folded = fold(line)
  return folded !== undefined && keyEnd(folded.text, 0) >= 0 ? line.length : -1
}

function isLowSurrogate(code: number): boolean {
  return code >= 0xdc00 && code <= 0xdfff
}
