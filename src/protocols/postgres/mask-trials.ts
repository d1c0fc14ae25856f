/**
 * Each mask is tried once at the database before anything is answered through it (R7).
 *
 * A mask is an expression we write: whether a role may use the column's type, and whether that type takes the value, only
 * PostgreSQL knows. Without the trial every statement on such a table would end in an error that names nothing to put
 * right.
 *
 * @packageDocumentation
 */
import type { Catalog } from './catalog.ts'
import { maskExpression } from './mask-source.ts'
import type { RelationMasks } from './masks.ts'
import { resourceName } from './names.ts'

/** Expressions in one statement; a target list holds at most 1,664 entries. */
const TRIALS_IN_ONE = 500

/** The distinct expressions behind a set of masks, each over a value of our own instead of the column's. */
export function trialsOf(
  catalog: Catalog,
  byRelation: ReadonlyMap<number, RelationMasks>,
): ReadonlyMap<string, ReadonlySet<number>> {
  const trials = new Map<string, Set<number>>()
  for (const [oid, named] of byRelation) {
    for (const column of catalog.relationsByOid.get(oid)?.columns ?? []) {
      const mask = named.get(column.name)
      if (mask === undefined) continue
      const text = maskExpression({ ...column, name: 'value' }, mask.transform, { standIn: undefined })
      const relations = trials.get(text)
      if (relations === undefined) trials.set(text, new Set([oid]))
      else relations.add(oid)
    }
  }
  return trials
}

/** One statement that evaluates them all, over a text as long as partial masks want one. */
export function trialSql(expressions: readonly string[]): string {
  return `SELECT ${expressions.join(', ')} FROM (SELECT '0123456789'::pg_catalog.text AS "value") AS "tried"`
}

/** Expressions in groups that fit one statement each. */
export function grouped(expressions: readonly string[]): readonly (readonly string[])[] {
  const groups: string[][] = []
  for (let at = 0; at < expressions.length; at += TRIALS_IN_ONE) groups.push(expressions.slice(at, at + TRIALS_IN_ONE))
  return groups
}

/** Masked relations of which PostgreSQL refused a mask, each with the SQLSTATE. */
export function rejectedOf(
  { maskTrials }: Catalog,
  trials: ReadonlyMap<string, ReadonlySet<number>>,
): ReadonlyMap<number, string> {
  const rejected = new Map<number, string>()
  for (const [text, relations] of trials) {
    const sqlstate = maskTrials?.get(text) ?? ''
    if (sqlstate !== '') for (const oid of relations) rejected.set(oid, sqlstate)
  }
  return rejected
}

/** Why a relation is refused whose mask PostgreSQL did not take. */
export function saidOfTrial(relation: { readonly schema: string; readonly name: string }, sqlstate: string): string {
  const why =
    sqlstate === '42501' ? "its role may not use the column's type" : `PostgreSQL refuses it with SQLSTATE ${sqlstate}`
  return `A mask of ${resourceName(relation)} cannot be made at this database: ${why}.`
}
