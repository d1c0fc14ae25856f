/**
 * Makes the text that is sent: every relation pinned to `"schema"."name"`, every masked relation replaced by a sub-select
 * that yields masked values (C9, R4, R6, R7).
 *
 * The text is edited in place, at the byte positions the parser gave, so that everything else in it stays as it was
 * written. Then it is parsed again and compared, node by node, with what the edits should have made of the first parse
 * tree. Nothing is sent that differs.
 *
 * @packageDocumentation
 */
import { SallyportError } from '../../core/errors.ts'
import { asList, text, unwrap, type Ast } from './ast.ts'
import { maskedSource } from './mask-source.ts'
import type { Relation } from './catalog.ts'
import type { BoundMasks } from './masks.ts'
import { pinned, quoteIdentifier } from './names.ts'
import { fromBytes, parse, scan, STATEMENT_BYTES_MAX, toBytes, type Token } from './parse.ts'
import { itemsNamed, type Use } from './scope.ts'
import { groupByStart, type Grouping } from './group-by.ts'
import type { Findings, QualifiedRef } from './walk/findings.ts'

interface Edit {
  readonly start: number
  readonly end: number
  readonly text: string
}

/** What a node of the first tree must have become in the second one. */
type Expected =
  | { readonly kind: 'pinned'; readonly use: Use }
  | { readonly kind: 'masked'; readonly use: Use; readonly source: string }
  | { readonly kind: 'unqualified'; readonly name: string }
  | { readonly kind: 'grouped'; readonly columns: readonly (readonly [table: string, column: string])[] }

/**
 * Rewrites one understood statement.
 *
 * @param statement the wrapped node of the statement.
 * @throws SallyportError `ERR_DENIED` (`sql.mask.*`, `sql.rewrite`) when it cannot be rewritten without doubt.
 */
export function rewrite(sql: string, bytes: string, statement: unknown, findings: Findings, masks: BoundMasks): string {
  const source = new Source(sql, bytes)
  const expected = new Map<Ast, Expected>()
  const edits: Edit[] = []
  const sources = new Map<Relation, readonly [string, string]>()
  let length = 0
  for (const use of findings.uses) {
    const named = use.role === 'read' ? masks.byRelation.get(use.relation.oid) : undefined
    if (named === undefined) {
      edits.push({ ...source.nameSpan(use.ref), text: pinned(use.relation) })
      expected.set(use.ref, { kind: 'pinned', use })
    } else {
      let both = sources.get(use.relation)
      if (both === undefined) {
        const standIns = masks.standIns.get(use.relation.oid)
        both = [maskedSource(use.relation, named, false, standIns), maskedSource(use.relation, named, true, standIns)]
        sources.set(use.relation, both)
      }
      const masked = both[use.ref['inh'] === true ? 0 : 1]
      length += masked.length
      // What is longer is not parsed, and thousands of mentions of a wide table are millions of characters.
      if (length > STATEMENT_BYTES_MAX) throw doubt('a result that is too long')
      edits.push(...source.maskedEdits(use, masked))
      expected.set(use.ref, { kind: 'masked', use, source: masked })
    }
  }
  for (const ref of findings.qualifiedRefs) {
    if (ref.use.role !== 'read' || !masks.byRelation.has(ref.use.relation.oid)) continue
    edits.push(source.unqualify(ref))
    expected.set(ref.ref, { kind: 'unqualified', name: ref.name })
  }
  for (const [select, columns] of addedToGroupBy(findings.groupings, masks)) {
    const start = groupByStart(select)
    const added = columns.map((column) => column.map(quoteIdentifier).join('.'))
    edits.push({ start, end: start, text: `${added.join(', ')}, ` })
    expected.set(select, { kind: 'grouped', columns })
  }
  if (edits.length === 0) return sql
  const rewritten = fromBytes(splice(bytes, edits))
  assertRewritten(rewritten, statement, expected)
  return rewritten
}

/** Columns that a primary key in GROUP BY stood for, before its table became a sub-select. */
function addedToGroupBy(
  found: readonly Grouping[],
  masks: BoundMasks,
): ReadonlyMap<Ast, readonly (readonly [string, string])[]> {
  const added = new Map<Ast, (readonly [string, string])[]>()
  for (const { select, use, name, others } of found) {
    const named = use.role === 'read' ? masks.byRelation.get(use.relation.oid) : undefined
    // A masked key is no key.
    if (named === undefined || use.relation.primaryKey.some((column) => named.has(column))) continue
    const columns = [...others].filter(([, column]) => use.read.has(column))
    if (columns.length === 0) continue
    const before = added.get(select) ?? []
    added.set(select, [...before, ...columns.map(([column]) => [name, column] as const)])
  }
  return added
}

function splice(bytes: string, edits: readonly Edit[]): string {
  const ordered = [...edits].sort((a, b) => a.start - b.start || a.end - b.end)
  let result = ''
  let at = 0
  let last: Edit | undefined
  for (const edit of ordered) {
    // `SET (a, b) = (SELECT …)` gives one sub-select to each column: the same edit comes twice.
    if (edit.start === last?.start && edit.end === last.end && edit.text === last.text) continue
    last = edit
    if (edit.start < at || edit.end < edit.start) throw doubt('overlapping edits')
    result += bytes.slice(at, edit.start) + toBytes(edit.text)
    at = edit.end
  }
  return result + bytes.slice(at)
}

const IDENTIFIER = /"(?:[^"]|"")+"|[A-Za-z_\x80-\xff][A-Za-z0-9_$\x80-\xff]*/y

const IDENT = 258
const UNICODE_IDENT = 259
const COMMENTS = new Set([275, 276])

/** Finds names in the text. Plain names by a small pattern, anything unusual by PostgreSQL's own scanner. */
class Source {
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

  nameSpan(ref: Ast): { readonly start: number; readonly end: number } {
    const start = typeof ref['location'] === 'number' ? ref['location'] : -1
    const count = [ref['catalogname'], ref['schemaname'], ref['relname']].filter((word) => word !== undefined).length
    return { start, end: this.#chainEnd(start, count) }
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
    const start = typeof ref.ref['location'] === 'number' ? ref.ref['location'] : -1
    const count = asList(ref.ref['fields']).length - 1
    return { start, end: this.#chainEnd(start, count), text: quoteIdentifier(ref.name) }
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

function word(token: Token | undefined): string {
  return token?.text.toLowerCase() ?? ''
}

/** Parses the result and compares it with what it should be (R6). */
function assertRewritten(rewritten: string, statement: unknown, expected: ReadonlyMap<Ast, Expected>): void {
  const again = parse(rewritten)
  const only = again.ok && again.statements.length === 1 ? again.statements[0] : undefined
  if (only === undefined) throw doubt('the result cannot be parsed')
  const seen = new Set<Ast>()
  if (!isAsExpected(statement, only['stmt'], expected, seen)) throw doubt('the result means something else')
  // Every edit must have been met where it was made.
  if (seen.size !== expected.size) throw doubt('an edit was lost')
}

const POSITIONS = new Set(['location', 'name_location', 'list_start', 'list_end', 'rexpr_list_start', 'rexpr_list_end'])

function isAsExpected(before: unknown, after: unknown, expected: ReadonlyMap<Ast, Expected>, seen: Set<Ast>): boolean {
  if (typeof before !== 'object' || before === null) return before === after
  if (typeof after !== 'object' || after === null || Array.isArray(before) !== Array.isArray(after)) return false
  const change = expected.get(before as Ast)
  if (change !== undefined) {
    seen.add(before as Ast)
    if (change.kind === 'pinned') return isPinned(before as Ast, after as Ast, change.use, expected, seen)
    if (change.kind === 'unqualified') return isUnqualified(before as Ast, after as Ast, change.name)
    if (change.kind === 'grouped') return isGrouped(before as Ast, after as Ast, change.columns, expected, seen)
    return false
  }
  const wrapped = unwrap(before)
  const masked = wrapped?.type === 'RangeVar' ? expected.get(wrapped.fields) : undefined
  if (wrapped !== undefined && masked?.kind === 'masked') {
    seen.add(wrapped.fields)
    return isMasked(wrapped.fields, after as Ast, masked.source)
  }
  return sameFields(before as Ast, after as Ast, expected, seen)
}

function sameFields(before: Ast, after: Ast, expected: ReadonlyMap<Ast, Expected>, seen: Set<Ast>): boolean {
  for (const key in before) {
    if (POSITIONS.has(key)) continue
    if (!Object.hasOwn(after, key) || !isAsExpected(before[key], after[key], expected, seen)) return false
  }
  for (const key in after) if (!POSITIONS.has(key) && !Object.hasOwn(before, key)) return false
  return true
}

function isPinned(before: Ast, after: Ast, use: Use, expected: ReadonlyMap<Ast, Expected>, seen: Set<Ast>): boolean {
  const { catalogname: _, ...rest } = before
  return sameFields({ ...rest, schemaname: use.relation.schema, relname: use.relation.name }, after, expected, seen)
}

function isUnqualified(before: Ast, after: Ast, name: string): boolean {
  const fields = [{ String: { sval: name } }, asList(before['fields']).at(-1)]
  return sameFields({ fields }, after, new Map(), new Set())
}

function isGrouped(
  before: Ast,
  after: Ast,
  columns: readonly (readonly [string, string])[],
  expected: ReadonlyMap<Ast, Expected>,
  seen: Set<Ast>,
): boolean {
  const added = columns.map((column) => ({ ColumnRef: { fields: column.map((sval) => ({ String: { sval } })) } }))
  const groupClause = [...added, ...asList(before['groupClause'])]
  return sameFields({ ...before, groupClause }, after, expected, seen)
}

function isMasked(before: Ast, after: Ast, source: string): boolean {
  const select = sourceTree(source)
  if (select === undefined) return false
  const alias = before['alias'] ?? { aliasname: before['relname'] }
  return sameFields({ RangeSubselect: { subquery: select, alias } }, after, new Map(), new Set())
}

const trees = new Map<string, unknown>()

/** Trees of generated sub-selects kept; they repeat from statement to statement. */
const TREES_MAX = 256

function sourceTree(source: string): unknown {
  const known = trees.get(source)
  if (known !== undefined) return known
  const parsed = parse(source)
  const tree = parsed.ok && parsed.statements.length === 1 ? parsed.statements[0]?.['stmt'] : undefined
  if (trees.size >= TREES_MAX) trees.clear()
  if (tree !== undefined) trees.set(source, tree)
  return tree
}

/** Fail closed: a statement that cannot be rewritten without doubt is not sent. */
function doubt(what: string): SallyportError {
  return new SallyportError(
    'ERR_DENIED',
    'The statement cannot be rewritten without doubt; write it in a plainer form.',
    {
      facts: { construct: 'sql.rewrite' },
      detail: `rewriting stopped at ${what}`,
    },
  )
}
