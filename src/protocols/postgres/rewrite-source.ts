import { SallyportError } from '../../core/errors.ts'
import { asList, text, type Ast } from './ast.ts'
import { quoteIdentifier } from './names.ts'
import { COMMENT_TYPES, scan, type Token } from './parse.ts'
import { itemsNamed, type Use } from './scope.ts'
import type { QualifiedRef, Sample } from './walk/findings.ts'

/** A piece of the text, in bytes, and what comes in its place. */
export interface Edit {
  readonly start: number
  readonly end: number
  readonly text: string
}

/** A piece of the text, in bytes. */
export interface Span {
  readonly start: number
  readonly end: number
}

const IDENTIFIER = /"(?:[^"]|"")+"|[A-Za-z_\x80-\xff][A-Za-z0-9_$\x80-\xff]*/y

const NAME_FIELDS = ['catalogname', 'schemaname', 'relname']
const DOT = 0x2e
const QUOTE = 0x22

/** What may stand right before and behind a plain name: blanks and punctuation that are tokens of their own. */
const BEFORE = codesOf(' \t\n\r,(')
const AFTER = codesOf(' \t\n\r,();')

function codesOf(chars: string): ReadonlySet<number> {
  return new Set(Buffer.from(chars))
}

/** At either end of the text there is no character. */
function isApart(code: number, neighbours: ReadonlySet<number>): boolean {
  return Number.isNaN(code) || neighbours.has(code)
}

/** Where the identifier ends that starts there and means `name`; undefined when it is not written plainly. */
function plainEnd(bytes: string, start: number, name: string): number | undefined {
  const isQuoted = bytes.charCodeAt(start) === QUOTE
  let at = isQuoted ? start + 1 : start
  for (let i = 0; i < name.length; i++, at++) {
    const meant = name.charCodeAt(i)
    const code = bytes.charCodeAt(at)
    const isSame = code === meant || (!isQuoted && code >= 0x41 && code <= 0x5a && code + 0x20 === meant)
    if (!isSame || !isPlainCode(meant, i === 0)) return undefined
  }
  if (isQuoted) return bytes.charCodeAt(at) === QUOTE && bytes.charCodeAt(at + 1) !== QUOTE ? at + 1 : undefined
  const next = bytes.charCodeAt(at)
  return next === DOT || isApart(next, AFTER) ? at : undefined
}

/** `a`-`z`, `A`-`Z`, `_`, and behind the first one digits. */
function isPlainCode(code: number, isFirst: boolean): boolean {
  const letter = code | 0x20
  return (letter >= 0x61 && letter <= 0x7a) || code === 0x5f || (!isFirst && code >= 0x30 && code <= 0x39)
}

const IDENT = 258
const UNICODE_IDENT = 259

/** Finds names in the text. Plain names by a small pattern, anything unusual by PostgreSQL's own scanner. */
export class Source {
  readonly #sql: string
  readonly #bytes: string
  #tokens: readonly Token[] | undefined
  #starts: ReadonlyMap<number, number> | undefined

  constructor(sql: string, bytes: string) {
    this.#sql = sql
    this.#bytes = bytes
  }

  /** Whether the keyword TABLE may stand anywhere in it. */
  get #hasTable(): boolean {
    return /\btable\b/i.test(this.#bytes)
  }

  /**
   * Where the name of a relation stands, when it is written in plain identifiers that are those of the tree, with blanks
   * or punctuation on both sides and none within. Undefined for everything else.
   */
  plainSpan(ref: Ast): Span | undefined {
    const start = ref['location']
    if (typeof start !== 'number' || !isApart(this.#bytes.charCodeAt(start - 1), BEFORE)) return undefined
    let at = start
    for (const field of NAME_FIELDS) {
      const name = ref[field]
      if (name === undefined) continue
      if (at !== start && this.#bytes.charCodeAt(at++) !== DOT) return undefined
      const end = typeof name === 'string' ? plainEnd(this.#bytes, at, name) : undefined
      if (end === undefined) return undefined
      at = end
    }
    return at > start && isApart(this.#bytes.charCodeAt(at), AFTER) ? { start, end: at } : undefined
  }

  /** Where the name of a relation stands. */
  nameSpan(ref: Ast): Span {
    const start = locationOf(ref)
    const count = [ref['catalogname'], ref['schemaname'], ref['relname']].filter((word) => word !== undefined).length
    return { start, end: this.#chainEnd(start, count) }
  }

  /** Where a column reference stands, a star at its end included. */
  refSpan(ref: Ast): Span {
    const start = locationOf(ref)
    const list = asList(ref['fields'])
    const last = list.at(-1)
    const isStar = typeof last === 'object' && last !== null && Object.hasOwn(last, 'A_Star')
    if (!isStar) return { start, end: this.#chainEnd(start, list.length) }
    const names = list.length - 1
    let at = this.#tokenAt(names === 0 ? start : this.#nextStart(this.#chainEnd(start, names)))
    const tokens = this.#significant()
    if (names > 0 && word(tokens[at]) === '.') at += 1
    const star = tokens[at]
    if (at < 0 || star === undefined || word(star) !== '*') throw doubt('a star')
    return { start, end: star.end }
  }

  /** A reference with the parentheses around it: within them nothing could be given a name. */
  withParentheses({ start, end }: Span): Span {
    if (!/[(\s/]/.test(this.#bytes[start - 1] ?? '') || !/^[^,]{0,64}\)/.test(this.#bytes.slice(end, end + 65))) {
      return { start, end }
    }
    const tokens = this.#significant()
    let before = this.#tokenAt(start) - 1
    let after = this.#firstFrom(end)
    let span = { start, end }
    while (word(tokens[before]) === '(' && word(tokens[after]) === ')') {
      span = { start: tokens[before--]?.start ?? -1, end: tokens[after++]?.end ?? -1 }
    }
    return span
  }

  /** The edits that put `masked` in place of a relation, together with ONLY, TABLE and `*` around it. */
  maskedEdits(use: Use, masked: string): readonly Edit[] {
    const span = this.nameSpan(use.ref)
    const hasAlias = use.ref['alias'] !== undefined
    const replacement = hasAlias ? masked : `${masked} AS ${quoteIdentifier(text(use.ref['relname']))}`
    const isOnly = use.ref['inh'] !== true
    if (!isOnly && !this.#hasTable && !/^\s*\*/.test(this.#bytes.slice(span.end, span.end + 64))) {
      return [{ ...span, text: replacement }]
    }
    const tokens = this.#significant()
    const first = this.#tokenAt(span.start)
    let last = first
    while (last >= 0 && (tokens[last]?.end ?? span.end) < span.end) last += 1
    if (first < 0 || tokens[last]?.end !== span.end) throw doubt('a name that is not where it should be')
    let start = span.start
    let end = span.end
    let before = first - 1
    let after = last + 1
    if (isOnly) {
      if (word(tokens[before]) === '(') {
        if (word(tokens[after]) !== ')') throw doubt('ONLY')
        end = tokens[after]?.end ?? end
        before -= 1
        after += 1
      }
      if (word(tokens[before]) !== 'only') throw doubt('ONLY')
      start = tokens[before]?.start ?? start
      before -= 1
    } else if (word(tokens[after]) === '*') {
      end = tokens[after]?.end ?? end
    }
    const edits: Edit[] = [{ start, end, text: replacement }]
    const table = tokens[before]
    // `TABLE t` is `SELECT * FROM t`; a quoted name "table" is no keyword.
    if (table !== undefined && table.tokenType !== IDENT && word(table) === 'table') {
      edits.push({ start: table.start, end: table.end, text: 'SELECT * FROM' })
    }
    return edits
  }

  /** Turns `schema.relation.column` into `relation.column`, where that still means the same. */
  unqualify(ref: QualifiedRef): Edit {
    const named = itemsNamed(ref.level, ref.name)
    if (named.length !== 1 || named[0]?.use !== ref.use) {
      throw new SallyportError(
        'ERR_DENIED',
        `Another table here is also called ${ref.name}, so a schema is not enough.`,
        {
          facts: { construct: 'sql.mask.qualified_column', hint: 'Give the masked table an alias and use that.' },
        },
      )
    }
    const start = locationOf(ref.ref)
    return { start, end: this.#chainEnd(start, asList(ref.ref['fields']).length - 1), text: quoteIdentifier(ref.name) }
  }

  /** Where `TABLESAMPLE method (…) REPEATABLE (…)` stands. */
  sampleSpan({ node }: Sample): Span {
    const tokens = this.#significant()
    // The parser points at the method.
    const method = this.#tokenAt(locationOf(node))
    const before = tokens[method - 1]
    if (method < 1 || before === undefined || word(before) !== 'tablesample') throw doubt('TABLESAMPLE')
    let at = method
    while (word(tokens[at]) !== '(') {
      if (tokens[at] === undefined) throw doubt('TABLESAMPLE')
      at += 1
    }
    let end = this.#closing(at)
    if (word(tokens[end + 1]) === 'repeatable') end = this.#closing(end + 2)
    return { start: before.start, end: tokens[end]?.end ?? -1 }
  }

  /** Where the relation of a COPY stands with its list of columns. */
  copiedSpan(use: Use, hasList: boolean): Span {
    const span = this.nameSpan(use.ref)
    if (!hasList) return span
    const tokens = this.#significant()
    const at = this.#tokenAt(this.#nextStart(span.end))
    if (word(tokens[at]) !== '(') throw doubt('a list of columns')
    return { start: span.start, end: tokens[this.#closing(at)]?.end ?? -1 }
  }

  /** A piece of the text as it was written. */
  slice({ start, end }: Span): string {
    return this.#bytes.slice(start, end)
  }

  /** The index of the token that closes the parenthesis at `open`. */
  #closing(open: number): number {
    const tokens = this.#significant()
    let depth = 0
    for (let at = open; at < tokens.length; at++) {
      const token = word(tokens[at])
      if (token === '(') depth += 1
      if (token === ')') depth -= 1
      if (depth === 0) return at
    }
    throw doubt('a parenthesis')
  }

  /** Where the first significant token at or behind a position starts. */
  #nextStart(at: number): number {
    return this.#significant()[this.#firstFrom(at)]?.start ?? -1
  }

  /** The index of the first significant token that starts at or behind a position; a text may ask for thousands. */
  #firstFrom(at: number): number {
    const tokens = this.#significant()
    let low = 0
    let high = tokens.length
    while (low < high) {
      const middle = (low + high) >> 1
      if ((tokens[middle]?.start ?? 0) < at) low = middle + 1
      else high = middle
    }
    return low
  }

  #chainEnd(start: number, count: number): number {
    let at = start
    for (let i = 0; i < count; i++) {
      if (i > 0) {
        if (this.#bytes[at] !== '.') return this.#scannedChainEnd(start, count)
        at += 1
      }
      IDENTIFIER.lastIndex = at
      const match = IDENTIFIER.exec(this.#bytes)
      if (match === null) return this.#scannedChainEnd(start, count)
      at += match[0].length
      // `U&"…"` starts like a plain name, and a string constant may follow a one-letter one.
      if (this.#bytes[at] === '&' || this.#bytes[at] === "'") return this.#scannedChainEnd(start, count)
    }
    return at
  }

  #scannedChainEnd(start: number, count: number): number {
    const tokens = this.#significant()
    let at = this.#tokenAt(start)
    for (let i = 0; i < count; i++) {
      if (i > 0) {
        if (word(tokens[at]) !== '.') throw doubt('a qualified name')
        at += 1
      }
      const token = tokens[at]
      if (token === undefined || at < 0) throw doubt('a name')
      at += 1
      if (token.tokenType === UNICODE_IDENT && word(tokens[at]) === 'uescape') at += 2
    }
    const end = tokens[at - 1]?.end
    if (end === undefined) throw doubt('a name')
    return end
  }

  /** The index of the significant token that starts there, or -1. */
  #tokenAt(start: number): number {
    this.#starts ??= new Map(this.#significant().map((token, index) => [token.start, index]))
    return this.#starts.get(start) ?? -1
  }

  #significant(): readonly Token[] {
    this.#tokens ??= scan(this.#sql)?.filter((token) => !COMMENT_TYPES.has(token.tokenType))
    if (this.#tokens === undefined) throw doubt('the scanner')
    return this.#tokens
  }
}

/** Fail closed: a statement that cannot be rewritten without doubt is not sent. */
export function doubt(what: string): SallyportError {
  return new SallyportError(
    'ERR_DENIED',
    'The statement cannot be rewritten without doubt; write it in a plainer form.',
    {
      facts: { construct: 'sql.rewrite' },
      detail: `rewriting stopped at ${what}`,
    },
  )
}

function locationOf(node: Ast): number {
  return typeof node['location'] === 'number' ? node['location'] : -1
}

function word(token: Token | undefined): string {
  return token?.text.toLowerCase() ?? ''
}
