/**
 * The settings a session of ours is pinned to, and the statements that compare it with them (C7).
 *
 * @packageDocumentation
 */
import type { RunStep } from './exchange.ts'
import type { PostgresOptions } from './options.ts'

/** Settings that decide what a text means or how a value is written, by the value they must have. */
export function pinnedSettings(options: PostgresOptions): Readonly<Record<string, string>> {
  return {
    client_encoding: 'UTF8',
    standard_conforming_strings: 'on',
    backslash_quote: 'safe_encoding',
    transform_null_equals: 'off',
    array_nulls: 'on',
    search_path: searchPathOf(options),
    row_security: 'on',
    DateStyle: 'ISO, MDY',
    IntervalStyle: 'postgres',
    bytea_output: 'hex',
    xmloption: 'content',
    default_transaction_read_only: 'off',
    default_transaction_isolation: 'read committed',
  }
}

/**
 * A statement that sets the time limit of the transaction and fails with a division by zero unless the session reads
 * text as the plan does. It also is the query after which a transaction cannot change from READ ONLY to READ WRITE.
 *
 * All pins were checked at the start, and nothing of a caller has run since the session was last reset to them; these
 * three are looked at again because a wrong one makes another statement of the same text.
 */
export function pinGuard(options: PostgresOptions, timeoutMs: number, hidesOrder = false): RunStep {
  return {
    do: 'run',
    sql: hidesOrder ? PIN_GUARD_SQL.replace('SELECT ', `SELECT ${IN_HEAP_ORDER} `) : PIN_GUARD_SQL,
    params: [String(timeoutMs), searchPathOf(options)],
  }
}

/** Indexes are then read as bitmaps, whose rows come as they lie in the table. */
const IN_HEAP_ORDER = `pg_catalog.set_config('enable_indexscan', 'off', true),
  pg_catalog.set_config('enable_indexonlyscan', 'off', true),`

const PIN_GUARD_SQL = `SELECT pg_catalog.set_config('statement_timeout', $1::pg_catalog.text, true),
  1 OPERATOR(pg_catalog./) CASE WHEN
    pg_catalog.current_setting('standard_conforming_strings') OPERATOR(pg_catalog.=) 'on'::pg_catalog.text
    AND pg_catalog.current_setting('client_encoding') OPERATOR(pg_catalog.=) 'UTF8'::pg_catalog.text
    AND pg_catalog.current_setting('search_path') OPERATOR(pg_catalog.=) $2::pg_catalog.text THEN 1 ELSE 0 END`

/**
 * The same over every pin, and the role: for a statement before which something else of the caller ran, whose functions
 * may have changed any setting.
 */
export function wholePinGuard(options: PostgresOptions, timeoutMs: number, hidesOrder = false): RunStep {
  const pins = Object.entries(pinnedSettings(options))
  const holds = pins.map(
    (_, index) =>
      `pg_catalog.current_setting($${2 * index + 2}) OPERATOR(pg_catalog.=) $${2 * index + 3}::pg_catalog.text`,
  )
  const isSame = [
    ...holds,
    `pg_catalog.current_setting('session_replication_role') OPERATOR(pg_catalog.=) 'origin'::pg_catalog.text`,
    'current_user OPERATOR(pg_catalog.=) session_user',
  ].join('\n    AND ')
  return {
    do: 'run',
    sql: `SELECT ${hidesOrder ? IN_HEAP_ORDER : ''}
  pg_catalog.set_config('statement_timeout', $1::pg_catalog.text, true),
  1 OPERATOR(pg_catalog./) CASE WHEN ${isSame} THEN 1 ELSE 0 END`,
    params: [String(timeoutMs), ...pins.flat()],
  }
}

/** The schemas of the target, the temporary one last so that nothing in it hides anything. */
export function searchPathOf({ searchPath }: PostgresOptions): string {
  return [...searchPath, 'pg_temp'].map(quoteIdentifier).join(', ')
}

function quoteIdentifier(name: string): string {
  return `"${name.replaceAll('"', '""')}"`
}
