/**
 * Makes the text that is sent: every relation pinned to `"schema"."name"`, every masked relation replaced by a sub-select
 * that yields masked values (C9, R4, R6, R7).
 *
 * The text is edited in place, at the byte positions the parser gave, so that everything else in it stays as it was
 * written. Then it is parsed again and compared with what the edits should have made of it (`rewrite-check.ts`). Nothing
 * is sent that differs.
 *
 * @packageDocumentation
 */
import { SallyportError } from '../../core/errors.ts'
import type { Ast } from './ast.ts'
import { groupByStart } from './group-by.ts'
import { noteEdits, unwatched } from './literal-watch.ts'
import {
  maskedCopy,
  maskedSource,
  maskExpression,
  missingValueMasks,
  sizeMasks,
  type SourceForm,
} from './mask-source.ts'
import type { Relation } from './catalog.ts'
import type { BoundMasks, RelationMasks } from './masks.ts'
import { pinned, quoteIdentifier, resourceName } from './names.ts'
import { fromBytes, STATEMENT_BYTES_MAX, toBytes } from './parse.ts'
import { assertRewritten, type Expected } from './rewrite-check.ts'
import { doubt, Source, type Edit } from './rewrite-source.ts'
import type { Item, Use } from './scope.ts'
import type { CopyOut, Findings, Returning, Sample, Star } from './walk/findings.ts'

/**
 * Rewrites one understood statement, whatever statements stand inside it.
 *
 * @param statement the wrapped node of the statement.
 * @throws SallyportError `ERR_DENIED` (`sql.mask.*`, `sql.rewrite`) when it cannot be rewritten without doubt.
 */
export function rewrite(sql: string, bytes: string, statement: unknown, findings: Findings, masks: BoundMasks): string {
  const { rewritten, expected, isPinnedOnly } = edited(sql, bytes, findings, masks)
  if (!isPinnedOnly) unwatched(() => assertRewritten(rewritten, statement, expected))
  return rewritten
}

/** A text after its edits, before anything was asserted of it. */
export interface Edited {
  readonly rewritten: string
  readonly expected: ReadonlyMap<Ast, Expected>
  /**
   * Whether every edit put `"schema"."name"` where a plain name stood, so that there is nothing to assert.
   *
   * Why that needs no second parse: the parser's position is where the scanner began the first token of the name. A plain
   * identifier token is as long as identifier characters go (`scan.l`), so what was matched is those tokens and no others,
   * and it was compared with the names in the tree. What stands there now are identifier tokens again, in quotes and with
   * blanks or punctuation on both sides, so no token beside them changes. In the grammar both are the same nonterminal,
   * `qualified_name`, with one part or several; the parser so makes the same tree around it, and of the name a `RangeVar`
   * with the schema and name that were written.
   */
  readonly isPinnedOnly: boolean
}

/** Makes all edits of one statement. */
export function edited(sql: string, bytes: string, findings: Findings, masks: BoundMasks): Edited {
  const rewriting = new Rewriting(new Source(sql, bytes), findings, masks)
  rewriting.relations()
  if (masks.byRelation.size > 0) rewriting.results()
  const { edits, expected } = rewriting
  if (edits.length === 0) return { rewritten: sql, expected, isPinnedOnly: true }
  const spliced = splice(bytes, edits)
  const isPinnedOnly = rewriting.isPinnedOnly && spliced.length <= STATEMENT_BYTES_MAX
  return { rewritten: fromBytes(spliced), expected, isPinnedOnly }
}

class Rewriting {
  readonly edits: Edit[] = []
  readonly expected = new Map<Ast, Expected>()
  readonly #source: Source
  readonly #findings: Findings
  readonly #masks: BoundMasks
  /** Column references that were replaced as a whole. */
  readonly #replaced = new Set<Ast>()
  /** Names that were pinned where they stood as plain identifiers. */
  #plainPins = 0
  #length = 0

  constructor(source: Source, findings: Findings, masks: BoundMasks) {
    this.#source = source
    this.#findings = findings
    this.#masks = masks
  }

  get isPinnedOnly(): boolean {
    return this.edits.length === this.#plainPins
  }

  /** Puts the relations in their place: pinned, or masked. */
  relations(): void {
    for (const use of this.#findings.twins) {
      if (this.#masksOf(use) === undefined) continue
      throw refused(
        'sql.mask.qualified_column',
        `Another table beside ${resourceName(use.relation)}, which has masked columns, has the same name.`,
        'Give both tables an alias: FROM a.t AS x, b.t AS y.',
      )
    }
    const samples = new Map(this.#findings.samples.map((sample) => [sample.use, sample]))
    const copies = new Map(this.#findings.copies.map((copy) => [copy.use, copy]))
    for (const use of this.#findings.uses) {
      const named = this.#masksOf(use)
      const copy = copies.get(use)
      if (named === undefined) {
        const plain = this.#source.plainSpan(use.ref)
        if (plain !== undefined) this.#plainPins += 1
        const { start, end } = plain ?? this.#source.nameSpan(use.ref)
        this.edits.push({ start, end, text: pinnedName(use.relation) })
        this.expected.set(use.ref, { kind: 'pinned', use })
      } else if (copy !== undefined) this.#copied(copy, named)
      else this.#masked(use, named, samples.get(use))
    }
  }

  /** What the sub-selects changed elsewhere: names, stars, GROUP BY; and what RETURNING shows. */
  results(): void {
    for (const star of this.#findings.stars) this.#star(star)
    for (const returning of this.#findings.returnings) this.#returning(returning)
    for (const ref of this.#findings.qualifiedRefs) {
      if (this.#masksOf(ref.use) === undefined || this.#replaced.has(ref.ref)) continue
      this.edits.push(this.#source.unqualify(ref))
      this.expected.set(ref.ref, { kind: 'unqualified', name: ref.name })
    }
    for (const [select, columns] of this.#addedToGroupBy()) {
      const start = groupByStart(select)
      const added = columns.map((column) => column.map(quoteIdentifier).join('.'))
      this.edits.push({ start, end: start, text: `${added.join(', ')}, ` })
      this.expected.set(select, { kind: 'clause', replaced: this.#replacedIn(select), grouped: columns })
    }
  }

  #masksOf(use: Use): RelationMasks | undefined {
    if (use.role !== 'read') return undefined
    const named = this.#masks.byRelation.get(use.relation.oid)
    if (named !== undefined || !use.relation.builtin) return named
    const { byRelation, pieces } = this.#masks
    if (use.relation.name === 'pg_class') return pieces.size > 0 ? sizeMasks(use.read) : undefined
    if (use.relation.name !== 'pg_attribute') return undefined
    return use.read.has('attmissingval') && byRelation.size > 0 ? missingValueMasks(byRelation.keys()) : undefined
  }

  #masked(use: Use, named: RelationMasks, sample: Sample | undefined): void {
    this.#checkSystem(use)
    const span = sample === undefined ? undefined : this.#source.sampleSpan(sample)
    if (sample !== undefined && mentionsColumn(sample.node['args'], sample.node['repeatable'])) {
      throw refused(
        'sql.mask.tablesample',
        'TABLESAMPLE of a masked table by a column.',
        'Use a number or a parameter.',
      )
    }
    const form = {
      isOnly: use.ref['inh'] !== true,
      system: [...use.system].sort(),
      sample: span === undefined ? '' : fromBytes(this.#source.slice(span)),
      isSorted: this.#masks.sorted.has(use.relation.oid),
    }
    const source = sourceOf(use.relation, named, { ...form, standIns: this.#masks.standIns.get(use.relation.oid) })
    this.#lengthen(source)
    this.edits.push(...this.#source.maskedEdits(use, source))
    if (span !== undefined) this.edits.push({ ...span, text: '' })
    this.expected.set(sample?.node ?? use.ref, { kind: 'masked', ref: use.ref, source })
  }

  /** What is too long is not parsed, and thousands of mentions of a wide table are millions of characters. */
  #lengthen(made: string): void {
    this.#length += made.length
    if (this.#length > STATEMENT_BYTES_MAX) throw doubt('a result that is too long')
  }

  /** System columns of a sub-select are columns like any other: `*` would show them, and NATURAL compare them. */
  #checkSystem(use: Use): void {
    if (use.system.size === 0) return
    const stars = this.#findings.stars.flatMap(({ items }) => items).filter((item) => item.use === use)
    if (stars.length === use.wholeReads && !use.natural) return
    throw refused(
      'sql.mask.system_column',
      `System columns of ${resourceName(use.relation)}, which has masked columns, beside its whole row.`,
      'Name the columns you need, or give the table an alias t and select t.* and t.ctid.',
    )
  }

  #copied({ stmt, use, columns }: CopyOut, named: RelationMasks): void {
    const source = maskedCopy(use.relation, named, columns, {
      isSorted: this.#masks.sorted.has(use.relation.oid),
      standIns: this.#masks.standIns.get(use.relation.oid),
    })
    this.edits.push({ ...this.#source.copiedSpan(use, columns.length > 0), text: source })
    this.expected.set(stmt, { kind: 'copied', source })
  }

  /** A `*` over a sub-select with system columns is written out, so that it does not show them. */
  #star({ clause, index, ref, items, isPlain }: Star): void {
    const isWidened = (item: Item): boolean =>
      item.use !== undefined && item.use.system.size > 0 && this.#masksOf(item.use) !== undefined
    if (!items.some(isWidened)) return
    const list = items.map((item) => {
      if (item.name === undefined || (items.length > 1 && !isPlain)) return undefined
      const name = quoteIdentifier(item.name)
      if (!isWidened(item)) return `${name}.*`
      return [...item.columns.keys()].map((column) => `${name}.${quoteIdentifier(column)}`).join(', ')
    })
    if (list.includes(undefined)) {
      throw refused(
        'sql.mask.system_column',
        'System columns of a table with masked columns, beside a * that cannot be written out.',
        'Name the columns you need.',
      )
    }
    this.#replace(clause, index, ref, list.join(', '))
  }

  /** RETURNING shows masked columns of its target as their masks. */
  #returning({ clause, index, ref, items, column, isNamed, isPlain }: Returning): void {
    const hidden = (item: Item): RelationMasks | undefined =>
      item.use === undefined || item.use.role === 'read' ? undefined : this.#masks.byRelation.get(item.use.relation.oid)
    const [first] = items
    if (column !== undefined) {
      const shown = first === undefined ? undefined : this.#returned(first, column, hidden(first))
      if (shown === undefined) return
      this.#replace(clause, index, ref, isNamed ? `(${shown})` : `${shown} AS ${quoteIdentifier(column)}`)
      return
    }
    if (!items.some((item) => hidden(item) !== undefined)) return
    const list = items.map((item) => {
      if (item.name === undefined || (items.length > 1 && !isPlain)) return undefined
      const named = hidden(item)
      const name = quoteIdentifier(item.name)
      if (named === undefined) return `${name}.*`
      return [...item.columns.keys()]
        .map((visible) => {
          const shown = this.#returned(item, visible, named)
          const plain = quoteIdentifier(visible)
          return shown === undefined ? `${name}.${plain}` : `${shown} AS ${plain}`
        })
        .join(', ')
    })
    if (list.includes(undefined)) {
      throw refused('sql.mask.returning', 'RETURNING * beside other tables.', 'Name the columns you need.')
    }
    this.#replace(clause, index, ref, list.join(', '))
  }

  #returned({ name, use, columns }: Item, visible: string, masks: RelationMasks | undefined): string | undefined {
    const real = columns.get(visible)
    const mask = real === undefined ? undefined : masks?.get(real)
    const column = use?.relation.columns.find((one) => one.name === real)
    if (mask === undefined || column === undefined || name === undefined) return undefined
    return maskExpression(column, mask.transform, {
      standIn: use === undefined ? undefined : this.#masks.standIns.get(use.relation.oid)?.get(column.name),
      qualifier: `${quoteIdentifier(name)}.`,
    })
  }

  #replace(clause: Ast, index: number, ref: Ast, made: string): void {
    this.#lengthen(made)
    this.#replaced.add(ref)
    this.edits.push({ ...this.#source.withParentheses(this.#source.refSpan(ref)), text: made })
    const replaced = this.#replacedIn(clause)
    replaced.set(index, made)
    this.expected.set(clause, { kind: 'clause', replaced, grouped: [] })
  }

  #replacedIn(clause: Ast): Map<number, string> {
    const known = this.expected.get(clause)
    return known?.kind === 'clause' ? known.replaced : new Map()
  }

  /** Columns that a primary key in GROUP BY stood for, before its table became a sub-select. */
  #addedToGroupBy(): ReadonlyMap<Ast, readonly (readonly [string, string])[]> {
    const added = new Map<Ast, (readonly [string, string])[]>()
    for (const { select, use, name, others } of this.#findings.groupings) {
      const named = this.#masksOf(use)
      // A masked key is no key.
      if (named === undefined || use.relation.primaryKey.some((column) => named.has(column))) continue
      const columns = [...others].filter(([, column]) => use.read.has(column)).map(([visible]) => visible)
      const all = [...columns, ...use.system]
      if (all.length === 0) continue
      added.set(select, [...(added.get(select) ?? []), ...all.map((column) => [name, column] as const)])
    }
    return added
  }
}

const pinnedNames = new WeakMap<Relation, string>()

function pinnedName(relation: Relation): string {
  const known = pinnedNames.get(relation)
  if (known !== undefined) return known
  const made = pinned(relation)
  pinnedNames.set(relation, made)
  return made
}

const sources = new WeakMap<RelationMasks, Map<string, string>>()

/** Forms kept per masked relation: a few in practice, but samples may be written in any number of ways. */
const FORMS_MAX = 64

/** The sub-select of a relation; the same few are asked for in statement after statement. */
function sourceOf(relation: Relation, named: RelationMasks, form: SourceForm): string {
  const key = `${form.isOnly ? 'only' : ''} ${form.system.join()} ${form.sample}`
  let known = sources.get(named)
  if (known === undefined) sources.set(named, (known = new Map()))
  const before = known.get(key)
  if (before !== undefined) return before
  const made = maskedSource(relation, named, form)
  if (known.size >= FORMS_MAX) known.clear()
  known.set(key, made)
  return made
}

function splice(bytes: string, edits: readonly Edit[]): string {
  const ordered = [...edits].sort((a, b) => a.start - b.start || a.end - b.end)
  const made: Edit[] = []
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
    made.push(edit)
  }
  noteEdits(made)
  return result + bytes.slice(at)
}

function mentionsColumn(...values: readonly unknown[]): boolean {
  return /"(ColumnRef|SubLink)":/.test(JSON.stringify(values))
}

function refused(construct: string, message: string, hint: string): SallyportError {
  return new SallyportError('ERR_DENIED', message, { facts: { construct, hint } })
}
