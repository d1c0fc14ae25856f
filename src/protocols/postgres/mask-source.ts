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

/**
 * The sub-select that stands for a masked relation: every column by name, the masked ones replaced, type, modifier and
 * collation kept. Constant masks do not read the column at all, so they also run without SELECT on it.
 *
 * INVARIANT: functions and operators in it are written with their schema; otherwise a user's `public.right` would be
 * handed the raw value.
 */
export function maskedSource(
  relation: Relation,
  masks: RelationMasks,
  isOnly: boolean,
  standIns?: ReadonlyMap<string, string>,
): string {
  const columns = relation.columns.map((column) => {
    const transform = masks.get(column.name)
    const name = quoteIdentifier(column.name)
    return transform === undefined
      ? name
      : `${maskExpression(column, transform, standIns?.get(column.name))} AS ${name}`
  })
  return `(SELECT ${columns.join(', ')} FROM ${isOnly ? 'ONLY ' : ''}${pinned(relation)})`
}

/** The expression that stands for a column. Types that cannot hold a text become NULL. */
function maskExpression(column: CatalogColumn, transform: Transform, standIn: string | undefined): string {
  // A domain may forbid NULL or our text; its base type is what results show anyway.
  const type = column.typeKind === 'd' ? column.baseType : column.type
  const isText = isTextType(column)
  const collate =
    column.collation === null
      ? ''
      : ` COLLATE ${pinned({ schema: column.collation.schema, name: column.collation.name })}`
  return `(${isText ? (standIn === undefined ? textMask(column, transform) : quoteIdentifier(standIn)) : 'NULL'})::${type}${collate}`
}

/** Whether a text can stand for the values of a column. */
export function isTextType({ baseType }: Pick<CatalogColumn, 'baseType'>): boolean {
  return TEXT_TYPES.has(withoutModifier(baseType)) || /(^|\.)citext$/.test(baseType)
}

function textMask(column: CatalogColumn, transform: Transform): string {
  if (transform === 'redact') return `'${REDACTED}'`
  // Fail closed: a keyed hash never gets here (`bindMasks` refuses it); were it to, it would show nothing.
  if (transform !== 'partial') return 'NULL'
  return partialMask(column.name)
}

/** The expression of a partial mask. Immutable, so that a generated column can be made of it. */
export function partialMask(column: string): string {
  const value = `${quoteIdentifier(column)}::pg_catalog.text`
  return (
    `CASE WHEN pg_catalog.length(${value}) OPERATOR(pg_catalog.>=) ${2 * KEPT} ` +
    `THEN '****'::pg_catalog.text OPERATOR(pg_catalog.||) pg_catalog."right"(${value}, ${KEPT}) ` +
    `ELSE '****'::pg_catalog.text END`
  )
}

function withoutModifier(type: string): string {
  return type.replace(/\(.*\)$/, '')
}
