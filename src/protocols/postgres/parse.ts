/**
 * PostgreSQL's own grammar, behind one door: text in, statements or a reason out, never an exception.
 *
 * @packageDocumentation
 */
import { strict as assert } from 'node:assert'
import { createRequire } from 'node:module'
import { copiedTokens, mayAssignRows } from './assigned-rows.ts'
import type { Ast } from './ast.ts'

/** Longest statement that is parsed, in bytes: the parser is synchronous and holds the event loop. */
export const STATEMENT_BYTES_MAX = 128 * 1024

/**
 * Most words, numbers and operators in one text. What they are made of costs far more than their bytes: 128 KB of
 * `a=b and` took ten times as long to plan as one string of that length.
 */
export const STATEMENT_WORDS_MAX = 15_000

/** A parsed text. `bytes` holds its UTF-8 bytes one per character, because the parser counts positions in bytes. */
export interface Parsed {
  readonly ok: true
  readonly statements: readonly Ast[]
  readonly bytes: string
}

/** A text that is no statement we can read; `reason` quotes nothing of it. */
export interface Unparsed {
  readonly ok: false
  readonly reason: 'nul' | 'surrogate' | 'too_large' | 'too_many_words' | 'operators' | 'unavailable' | 'syntax'
  readonly message: string
}

/** A token of the scanner; positions are bytes. */
export interface Token {
  readonly start: number
  readonly end: number
  readonly text: string
  readonly tokenType: number
  readonly tokenName: string
}

type Library = typeof import('libpg-query')

let library: Library | undefined
/** Takes over at once when the other one broke. */
let spare: Library | undefined
let loading: Promise<void> | undefined
let opening: Promise<void> | undefined

/**
 * Resolves when there is a sound parser: loaded on first use (1.8 MB of WebAssembly), and again after a text broke it.
 * Everything else here needs it and is synchronous.
 */
export async function loadParser(): Promise<void> {
  loading ??= load()
  await loading
  if (library !== undefined) return
  replenish()
  await opening
}

/** Whether there is a sound parser now, so that nobody needs to wait for one. */
export function isParserLoaded(): boolean {
  return library !== undefined
}

async function load(): Promise<void> {
  library = await open()
  spare = await open()
}

/** Opens a parser with memory of its own. */
async function open(): Promise<Library> {
  // The package has one instance per module. A fresh `require` keeps no list of the modules it loaded before, so that a
  // broken one is freed.
  const fresh = createRequire(import.meta.url)
  delete fresh.cache[fresh.resolve('libpg-query')]
  const opened = fresh('libpg-query') as Library
  await opened.loadModule()
  return opened
}

function replenish(): void {
  opening ??= fill().finally(() => (opening = undefined))
}

async function fill(): Promise<void> {
  try {
    while (library === undefined || spare === undefined) {
      const opened = await open()
      if (library === undefined) library = opened
      else spare = opened
    }
  } catch {
    // There may be memory for one the next time a text is to be read.
  }
}

/**
 * Gives up a parser that was torn out of its work: a tree of a hundred thousand levels overflows the stack while it is
 * written down. Its own stack is not unwound then and its memory not freed, so after some such texts it reads nothing
 * at all any more or reads for ever. So it is never asked again.
 */
function giveUpIfBroken(error: unknown): void {
  if (!(error instanceof Error)) return
  if (!/^(Range|Runtime)Error$/.test(error.name) && !error.message.includes('memory allocation')) return
  library = spare
  spare = undefined
  replenish()
}

/** Parses `sql`. Whatever the parser throws (syntax, stack, memory) is an answer, not an error. */
export function parse(sql: string): Parsed | Unparsed {
  // The parser reads a C string: it would see nothing after a NUL, the backend might.
  if (sql.includes('\0')) return refused('nul', 'The statement holds a NUL character.')
  if (sql.length > STATEMENT_BYTES_MAX) return tooLarge()
  const bytes = toBytes(sql)
  if (bytes !== sql && /\p{Surrogate}/u.test(sql)) {
    return refused('surrogate', 'The statement holds half a surrogate pair.')
  }
  if (bytes.length > STATEMENT_BYTES_MAX) return tooLarge()
  if (hasCostlyRuns(bytes)) {
    return refused('operators', 'The statement holds thousands of operator characters in a row; put data into params.')
  }
  if (hasTooManyWords(bytes)) {
    return refused(
      'too_many_words',
      `The statement holds more than ${STATEMENT_WORDS_MAX} words; put data into params, or send it in several statements.`,
    )
  }
  // The library refuses an empty text; PostgreSQL calls it a statement that does nothing.
  if (sql === '') return { ok: true, statements: [], bytes }
  const parser = loaded()
  if (parser === undefined) return refused('unavailable', 'The parser starts again; send the statement once more.')
  if (assignsTooMuch(sql)) {
    return refused(
      'too_many_words',
      'The statement assigns one row to too many columns by SET (a, b) = …; assign each column by itself.',
    )
  }
  try {
    const result = parser.parseSync(sql)
    return { ok: true, statements: (result.stmts ?? []) as readonly unknown[] as readonly Ast[], bytes }
  } catch (error) {
    giveUpIfBroken(error)
    return refused('syntax', 'The statement is not valid PostgreSQL.')
  }
}

/** Splits into tokens, comments included; undefined when the scanner cannot. */
export function scan(sql: string): readonly Token[] | undefined {
  if (sql === '') return []
  if (hasCostlyRuns(sql)) return undefined
  try {
    return loaded()?.scanSync(sql).tokens
  } catch (error) {
    giveUpIfBroken(error)
    return undefined
  }
}

/** UTF-8 bytes as a string of the same length, so that byte positions index it. ASCII comes back as it is. */
export function toBytes(text: string): string {
  for (let i = 0; i < text.length; i++) {
    if (text.charCodeAt(i) > 0x7f) return Buffer.from(text, 'utf8').toString('latin1')
  }
  return text
}

/** The inverse of {@link toBytes}. */
export function fromBytes(bytes: string): string {
  for (let i = 0; i < bytes.length; i++) {
    if (bytes.charCodeAt(i) > 0x7f) return Buffer.from(bytes, 'latin1').toString('utf8')
  }
  return bytes
}

/** Characters operators are made of (`scan.l`); comments begin and end with them. */
const OPERATOR_RUN = /[~!@#^&|`?+\-*/%<>=]{100,}/g

/** Scanning a run of them takes time in the square of its length: this much is a tenth of a second. */
const RUN_COST_MAX = 100_000_000

/** Every comment in a row of comments is first read, as an operator, to the end of the row: 64 KB took four seconds. */
function hasCostlyRuns(text: string): boolean {
  if (text.length ** 2 <= RUN_COST_MAX) return false
  let cost = 0
  for (const [run] of text.matchAll(OPERATOR_RUN)) cost += run.length ** 2
  return cost > RUN_COST_MAX
}

/** Tokens that assignments of rows may add to a statement; see `assigned-rows.ts`. */
const COPIED_TOKENS_MAX = STATEMENT_WORDS_MAX

/** What the scanner cannot read the parser cannot either. */
function assignsTooMuch(sql: string): boolean {
  if (!mayAssignRows(sql)) return false
  const tokens = scan(sql)?.filter(({ tokenType }) => !COMMENT_TYPES.has(tokenType))
  return tokens !== undefined && copiedTokens(tokens, COPIED_TOKENS_MAX) > COPIED_TOKENS_MAX
}

/** `SQL_COMMENT` and `C_COMMENT` of the scanner. */
export const COMMENT_TYPES: ReadonlySet<number> = new Set([275, 276])

/** Words inside of strings count too: where a string ends is for the parser to say. */
function hasTooManyWords(text: string): boolean {
  if (text.length <= STATEMENT_WORDS_MAX) return false
  WORD.lastIndex = 0
  for (let count = 0; WORD.test(text); count++) {
    if (count < STATEMENT_WORDS_MAX) continue
    WORD.lastIndex = 0
    return true
  }
  return false
}

const WORD = /[\w$\x80-\xff]+|[~!@#^&|`?+\-*/%<>=:]+/g

function loaded(): Library | undefined {
  assert.ok(loading !== undefined, 'loadParser() comes first')
  return library
}

function refused(reason: Unparsed['reason'], message: string): Unparsed {
  return { ok: false, reason, message }
}

function tooLarge(): Unparsed {
  return refused('too_large', `The statement is longer than ${STATEMENT_BYTES_MAX} bytes.`)
}
