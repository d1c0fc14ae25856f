import type { Transform } from '../../core/decision.ts'
import type { CatalogColumn, Relation } from './catalog.ts'
import type { RelationMasks } from './masks.ts'
import { pinned, quoteIdentifier } from './names.ts'

/** What a redacted text reads. A valid regular expression, because it may end up as a pattern. */
export const REDACTED = '[masked]'

/** Partial masks keep this many characters, of texts at least twice as long. */
const KEPT = 4

/** Types whose values are text, so that a text can stand for them. Compared without modifier. */
const TEXT_TYPES = new Set(['text', 'character varying', 'character', 'bpchar', 'name', '"char"'])

/** How a relation was mentioned, as far as the sub-select in its place must say the same. */
export interface SourceForm {
  readonly isOnly: boolean
  /** System columns that are read, sorted. They come last, so that a list of column aliases still fits. */
  readonly system: readonly string[]
  /** `TABLESAMPLE …`, empty without one. */
  readonly sample: string
  /** Whether the order its rows lie in would tell how masked values compare. */
  readonly isSorted: boolean
  /** Columns that partial masks read in place of ones the backend role may not, by column. */
  readonly standIns: ReadonlyMap<string, string> | undefined
}

/**
 * The sub-select that stands for a masked relation: every column by name, the masked ones replaced, type, modifier and
 * collation kept. Constant masks do not read the column at all, so they also run without SELECT on it.
 *
 * INVARIANT: functions and operators in it are written with their schema; otherwise a user's `public.right` would be
 * handed the raw value.
 */
export function maskedSource(relation: Relation, masks: RelationMasks, form: SourceForm): string {
  const columns = relation.columns.map((column) => maskedColumn(column, masks, form.standIns))
  const only = form.isOnly ? 'ONLY ' : ''
  const sample = form.sample === '' ? '' : ` ${form.sample}`
  const list = [...columns, ...form.system].join(', ')
  return `(SELECT ${list} FROM ${only}${pinned(relation)}${sample}${form.isSorted ? sortedBy(relation, masks) : ''})`
}

/** `SELECT columns FROM ONLY relation`, for COPY: in the order that was asked for, under their own names. */
export function maskedCopy(
  relation: Relation,
  masks: RelationMasks,
  columns: readonly string[],
  { isSorted, standIns }: Pick<SourceForm, 'isSorted' | 'standIns'>,
): string {
  const listed = columns.length === 0 ? relation.columns.filter(({ generated }) => !generated) : undefined
  const meant = listed ?? columns.flatMap((name) => relation.columns.find((column) => column.name === name) ?? [])
  const list = meant.map((column) => maskedColumn(column, masks, standIns)).join(', ')
  return `(SELECT ${list} FROM ONLY ${pinned(relation)}${isSorted ? sortedBy(relation, masks) : ''})`
}

function maskedColumn(column: CatalogColumn, masks: RelationMasks, standIns: SourceForm['standIns']): string {
  const mask = masks.get(column.name)
  const name = quoteIdentifier(column.name)
  if (mask?.expression !== undefined) return `${mask.expression} AS ${name}`
  return mask === undefined
    ? name
    : `${maskExpression(column, mask.transform, { standIn: standIns?.get(column.name) })} AS ${name}`
}

/** Rows that are equal in everything that is shown may come in any order: telling them apart tells nothing. */
function sortedBy(relation: Relation, masks: RelationMasks): string {
  const { primaryKey } = relation
  const isKeyed = primaryKey.length > 0 && primaryKey.every((column) => !masks.has(column))
  // Values that compare as equal may still look different, and so tell rows apart; their bytes do not.
  const keys = isKeyed
    ? primaryKey.map(quoteIdentifier)
    : relation.columns
        .filter(({ name }) => !masks.has(name))
        .map(({ name }) => `${quoteIdentifier(name)}::pg_catalog.text COLLATE "pg_catalog"."C"`)
  // Without anything to order by, all rows look the same.
  return keys.length === 0 ? '' : ` ORDER BY ${keys.join(', ')}`
}

/**
 * The masks of `pg_attribute` where its `attmissingval` is read: a column added with a default has that value there, and
 * the default of a masked column is a value of it.
 */
export function missingValueMasks(masked: Iterable<number>): RelationMasks {
  const oids = [...masked].join(',')
  const isMasked = `"attrelid" OPERATOR(pg_catalog.=) ANY ('{${oids}}'::pg_catalog.oid[])`
  const expression = `CASE WHEN ${isMasked} THEN NULL ELSE "attmissingval" END`
  return new Map([
    ['attmissingval', { transform: 'null', allowWrite: false, comparesMask: true, isNull: true, expression }],
  ])
}

/** What ANALYZE notes in `pg_class` of how many rows and pages a relation has, with what a table says that was never analysed. */
const SIZES: readonly (readonly [column: string, expression: string])[] = [
  ['reltuples', "'-1'::pg_catalog.float4"],
  ['relpages', '0::pg_catalog.int4'],
  ['relallvisible', '0::pg_catalog.int4'],
  ['relallfrozen', '0::pg_catalog.int4'],
]

/**
 * The masks of `pg_class` where a masked column decides in which partition a row is: how many rows a partition has then
 * tells how many have such a value. Indexes and TOAST tables tell the same, so no relation keeps its sizes.
 */
const SIZE_MASKS: RelationMasks = new Map(
  SIZES.map(([column, expression]) => [
    column,
    { transform: 'null', allowWrite: false, comparesMask: true, isNull: false, expression },
  ]),
)

/** Those masks, when one of those columns is read. */
export function sizeMasks(read: ReadonlySet<string>): RelationMasks | undefined {
  return SIZES.some(([column]) => read.has(column)) ? SIZE_MASKS : undefined
}

/** What the expression of a mask is written with. */
export interface MaskPlace {
  /** The column a partial mask reads instead. */
  readonly standIn: string | undefined
  /** The name of the relation and a dot, where several could have a column of that name. */
  readonly qualifier?: string
}

/** The expression that stands for a column. Types that cannot hold a text become NULL. */
export function maskExpression(column: CatalogColumn, transform: Transform, place: MaskPlace): string {
  // A domain may forbid NULL or our text; its base type is what results show anyway.
  const type = column.typeKind === 'd' ? column.baseType : column.type
  const collate =
    column.collation === null
      ? ''
      : ` COLLATE ${pinned({ schema: column.collation.schema, name: column.collation.name })}`
  return `(${isTextType(column) ? textMask(column, transform, type, place) : 'NULL'})::${type}${collate}`
}

/** Whether the mask is NULL whatever the value: comparing with it finds nothing, as in SQL itself. */
export function isNullMask(column: CatalogColumn, transform: Transform): boolean {
  return transform === 'null' || !isTextType(column)
}

/** Whether a text can stand for the values of a column. */
export function isTextType({ baseType }: Pick<CatalogColumn, 'baseType'>): boolean {
  return TEXT_TYPES.has(withoutModifier(baseType)) || /(^|\.)citext$/.test(baseType)
}

function textMask(
  column: CatalogColumn,
  transform: Transform,
  type: string,
  { standIn, qualifier = '' }: MaskPlace,
): string {
  if (standIn !== undefined) return `${qualifier}${quoteIdentifier(standIn)}`
  if (transform === 'redact') return `'${redactedFor(type)}'`
  // Fail closed: a keyed hash never gets here (`bindMasks` refuses it); were it to, it would show nothing.
  return transform === 'partial' ? partialMask(column.name, qualifier) : 'NULL'
}

/** The expression of a partial mask. Immutable, so that a generated column can be made of it. */
export function partialMask(column: string, qualifier = ''): string {
  const value = `${qualifier}${quoteIdentifier(column)}::pg_catalog.text`
  return (
    `CASE WHEN pg_catalog.length(${value}) OPERATOR(pg_catalog.>=) ${2 * KEPT} ` +
    `THEN '****'::pg_catalog.text OPERATOR(pg_catalog.||) pg_catalog."right"(${value}, ${KEPT}) ` +
    `ELSE '****'::pg_catalog.text END`
  )
}

/** The text fits the type: cut off, `[masked]` would be half a bracket, which is no regular expression any more. */
function redactedFor(type: string): string {
  if (type === '"char"') return 'm'
  const [, length] = /\((\d+)\)$/.exec(type) ?? (type === 'character' ? ['', '1'] : [])
  if (length === undefined || Number(length) >= REDACTED.length) return REDACTED
  return 'masked'.slice(0, Number(length))
}

/** A type's name without what stands in parentheses behind it. */
export function withoutModifier(type: string): string {
  return type.replace(/\(.*\)$/, '')
}
