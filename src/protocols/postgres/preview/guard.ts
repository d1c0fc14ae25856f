/**
 * What an execution must find as the preview found it: the settings that give its text a meaning, and the rows it is about,
 * those of other tables included that foreign keys change with them (C14).
 *
 * @packageDocumentation
 */
import type { RunStep } from '../exchange.ts'
import { quoteIdentifier } from '../names.ts'
import type { Param } from '../plan-types.ts'
import { affectedBy, type Affected } from './affected.ts'
import { follow, type KeyStep } from './keys.ts'
import { settingsHold } from './meaning.ts'

/** Everything that is compared. */
export interface RowGuard {
  readonly settings: Readonly<Record<string, string>>
  readonly compared: readonly Compared[]
  /** How many rows the statement changes. Compared where it runs under another snapshot than the comparison. */
  readonly count?: number
}

/** The rows of one table, as approvers saw them. */
export interface Compared {
  /** How they are reached from those the statement names: no step for these themselves. */
  readonly keys: readonly KeyStep[]
  /** SQL of the columns that are compared; made by the preview, which knows which of them may be read. */
  readonly list: string
  readonly count: number
  /** SHA-256 over those columns of every row. */
  readonly digest: string
  /** The table they are in. */
  readonly oid?: number
  /** Set where they are locked before they are compared, because the statement runs under another snapshot. */
  readonly lock?: true
}

/** A preview of more rows than this has no guard: each of them would be compared. */
export const GUARDED_ROWS_MAX = 200_000
/** A guard is kept with its ticket. */
const GUARD_CHARS_MAX = 30_000

/** Writes a guard down for the ticket; `undefined` for one that would be too long. */
export function writeGuard(guard: RowGuard): string | undefined {
  const text = JSON.stringify({ v: 2, ...guard })
  return text.length > GUARD_CHARS_MAX ? undefined : text
}

/** Reads a guard back; `undefined` for one that is not ours. */
export function readGuard(text: string): RowGuard | undefined {
  const { v, settings, compared, count } = JSON.parse(text) as { readonly v?: unknown } & Partial<RowGuard>
  if (v !== 2 || settings === undefined || compared === undefined) return undefined
  const isWhole = compared.every((one) => Number.isSafeInteger(one.count) && /^[0-9a-f]{64}$/.test(one.digest))
  if (!isWhole || (count !== undefined && !Number.isSafeInteger(count))) return undefined
  return { settings, compared, ...(count !== undefined && { count }) }
}

/** Counts rows and hashes what is compared of them, in no order: two result columns. */
export function digestStep(
  affected: Affected,
  list: string,
  given: Given,
  onRow: (count: number, digest: string) => void,
): RunStep {
  return {
    do: 'run',
    sql: `SELECT n::pg_catalog.text, digest${mentioned(affected, given.params)} FROM (${digestSql(affected, list)}) AS found`,
    ...given,
    onRow: ([count, digest]) => onRow(Number(count), digest ?? ''),
  }
}

/** Values for the parameters of a statement, and what its client says they are. */
export interface Given {
  readonly params: readonly Param[]
  readonly paramTypes?: readonly number[]
}

/**
 * A statement that fails with a division by zero unless everything is as the guard says. It takes the parameters of the
 * statement it stands before. `undefined` when that is not one a guard is made for.
 *
 * @param count of those parameters.
 */
export function guardSql(sql: string, count: number, guard: RowGuard): string | undefined {
  const isAboutRows = guard.compared.length > 0
  const affected = isAboutRows ? affectedBy(sql) : undefined
  if (isAboutRows && affected === undefined) return undefined
  const same = guard.compared.map((one) => sameRows(affected as Affected, one))
  const holds = [...settingsHold(guard.settings), ...same].join('\n  AND ')
  const unnamed = mentioned(affected ?? { params: new Set() }, Array.from({ length: count }))
  return `SELECT 1 OPERATOR(pg_catalog./) CASE WHEN ${holds === '' ? 'true' : holds} THEN 1 ELSE 0 END${unnamed}`
}

/**
 * Statements that lock the rows approvers saw, as they are now, and fail with a division by zero unless there are as many. They
 * take the parameters of the statement they stand before.
 *
 * @param count of those parameters.
 */
export function lockSql(sql: string, count: number, guard: RowGuard): readonly string[] {
  const affected = affectedBy(sql)
  if (affected === undefined) return []
  const unnamed = mentioned(affected, Array.from({ length: count }))
  return guard.compared
    .filter(({ lock }) => lock === true)
    .map((one) => {
      const by = follow(affected, one.keys)
      const name = quoteIdentifier(by.alias)
      const rows = `${by.select(`${name}.tableoid AS o, ${name}.ctid AS c`)} FOR UPDATE OF ${name}`
      return `SELECT 1 OPERATOR(pg_catalog./) CASE WHEN pg_catalog.count(DISTINCT ROW(met.o, met.c))
        OPERATOR(pg_catalog.=) ${one.count}::pg_catalog.int8 THEN 1 ELSE 0 END${unnamed} FROM (${rows}) AS met`
    })
}

function sameRows(affected: Affected, { keys, list, count, digest }: Compared): string {
  return `(SELECT n OPERATOR(pg_catalog.=) ${count}::pg_catalog.int8
    AND digest OPERATOR(pg_catalog.=) '${digest}'::pg_catalog.text FROM (${digestSql(follow(affected, keys), list)}) AS found)`
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
export function mentioned({ params: named }: Pick<Affected, 'params'>, params: readonly unknown[]): string {
  return params
    .map((_, index) => index + 1)
    .filter((number) => !named.has(number))
    .map((number) => `, $${number}::pg_catalog.text IS NULL`)
    .join('')
}
