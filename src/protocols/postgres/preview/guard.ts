import type { Step } from '../exchange.ts'
import type { Param, PostgresPlan } from '../plan-types.ts'
import { affectedBy, type Affected } from './affected.ts'

/** What an execution must find as the preview found it: the rows the statement is about, as its approvers saw them. */
export interface RowGuard {
  /** SQL of the columns that are compared; made by the preview, which knows which of them may be read. */
  readonly list: string
  readonly count: number
  /** SHA-256 over those columns of every row. */
  readonly digest: string
}

/** A preview of more rows than this has no guard: each of them would be compared. */
export const GUARDED_ROWS_MAX = 200_000

/** Writes a guard down for the ticket. */
export function writeGuard(guard: RowGuard): string {
  return JSON.stringify({ v: 1, ...guard })
}

/** Reads a guard back; `undefined` for one that is not ours. */
export function readGuard(text: string): RowGuard | undefined {
  const { v, list, count, digest } = JSON.parse(text) as Readonly<Record<string, unknown>>
  if (v !== 1 || typeof list !== 'string' || !Number.isSafeInteger(count)) return undefined
  if (typeof digest !== 'string' || !/^[0-9a-f]{64}$/.test(digest)) return undefined
  return { list, count: Number(count), digest }
}

/** Counts the rows and hashes what is compared of them, in no order: two result columns. */
export function digestStep(
  affected: Affected,
  list: string,
  params: readonly Param[],
  onRow: (count: number, digest: string) => void,
): Step {
  return {
    do: 'run',
    sql: `SELECT n::pg_catalog.text, digest${mentioned(affected, params)} FROM (${digestSql(affected, list)}) AS found`,
    params,
    onRow: ([count, digest]) => onRow(Number(count), digest ?? ''),
  }
}

/**
 * A statement that fails with a division by zero unless the rows are those of the guard. `undefined` when the statement is
 * not one a guard is made for.
 */
export function guardStep({ sql, params }: PostgresPlan, guard: RowGuard): Step | undefined {
  const affected = affectedBy(sql)
  if (affected === undefined) return undefined
  const isSame = `n OPERATOR(pg_catalog.=) ${guard.count} AND digest OPERATOR(pg_catalog.=) '${guard.digest}'`
  return {
    do: 'run',
    sql: `SELECT 1 OPERATOR(pg_catalog./) CASE WHEN ${isSame} THEN 1 ELSE 0 END${mentioned(affected, params)}
FROM (${digestSql(affected, guard.list)}) AS found`,
    params,
  }
}

/** A join may meet a row twice, and a write changes it once: equal rows count once, so the list holds what tells them apart. */
function digestSql(affected: Affected, list: string): string {
  const hash = `pg_catalog.sha256(pg_catalog.convert_to((ROW(met.*))::pg_catalog.text, 'UTF8'::pg_catalog.name))`
  return `SELECT pg_catalog.count(*) AS n, pg_catalog.encode(pg_catalog.sha256(COALESCE(
    pg_catalog.string_agg(h, ''::pg_catalog.bytea ORDER BY h), ''::pg_catalog.bytea)), 'hex') AS digest
  FROM (SELECT ${affected.kind === 'insert' ? '' : 'DISTINCT '}${hash} AS h FROM (${affected.select(list)}) AS met
    LIMIT ${GUARDED_ROWS_MAX + 1}) AS hashed`
}

/** Every parameter must be mentioned in a text to which all of them are given. */
export function mentioned({ params: named }: Affected, params: readonly Param[]): string {
  return params
    .map((_, index) => index + 1)
    .filter((number) => !named.has(number))
    .map((number) => `, $${number}::pg_catalog.text IS NULL`)
    .join('')
}
