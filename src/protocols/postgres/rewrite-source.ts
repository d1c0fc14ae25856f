import { SallyportError } from '../../core/errors.ts'
import { asList, text, type Ast } from './ast.ts'
import { quoteIdentifier } from './names.ts'
import { scan, type Token } from './parse.ts'
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

const IDENT = 258
const UNICODE_IDENT = 259
const COMMENTS = new Set([275, 276])

/** Finds names in the text. Plain names by a small pattern, anything unusual by PostgreSQL's own scanner. */
export class Source {
  readonly #sql: string
  readonly #bytes: string
  /** Whether the keyword TABLE may stand anywhere in it. */
  readonly #hasTable: boolean
  #tokens: readonly Token[] | undefined
  #starts: ReadonlyMap<number, number> | undefined

  constructor(sql: string, bytes: string) {
    this.#sql = sql
    this.#bytes = bytes
    this.#hasTable = /\btable\b/i.test(bytes)
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
    return this.#significant().find((token) => token.start >= at)?.start ?? -1
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
    this.#tokens ??= scan(this.#sql)?.filter((token) => !COMMENTS.has(token.tokenType))
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
