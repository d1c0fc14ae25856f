/**
 * The settings a session of ours is pinned to, and the statements that compare it with them (C7).
 *
 * @packageDocumentation
 */
import type { PostgresPlan } from './plan-types.ts'
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
export function pinGuard(options: PostgresOptions, timeoutMs: number, plan?: PostgresPlan): RunStep {
  return {
    do: 'run',
    sql: plan?.hidesOrder === true ? PIN_GUARD_SQL.replace('SELECT ', `SELECT ${heapOrder(plan)}, `) : PIN_GUARD_SQL,
    params: [String(timeoutMs), searchPathOf(options)],
  }
}

/**
 * Indexes are then read as bitmaps, whose rows come as they lie in the table. The other ways to find and to order rows
 * are switched on: a session, or a role's own settings, that had switched those off would be given the index after all.
 */
const SWITCHES = [
  ['enable_indexscan', 'off'],
  ['enable_indexonlyscan', 'off'],
  ['enable_bitmapscan', 'on'],
  ['enable_seqscan', 'on'],
  ['enable_sort', 'on'],
].map(([name, value]) => `pg_catalog.set_config('${name}', '${value}', true)`)

/**
 * Before PostgreSQL 18, what is switched off only costs 10^10 more (`disable_cost`), so that a statement with an even
 * dearer sort, such as a large cross join, would read the index in its order. All costs are made smaller by the same
 * factor, which changes no other choice; no estimate of rows, of which there are at most 10^100, is dear enough then.
 */
const COST_SETTINGS = [
  'seq_page_cost',
  'random_page_cost',
  'cpu_tuple_cost',
  'cpu_index_tuple_cost',
  'cpu_operator_cost',
  'parallel_setup_cost',
  'parallel_tuple_cost',
]

/** Makes the costs small, or again what they were. Once in a transaction is enough: all would become nothing, or more. */
function costsTimes(factor: '1e-100' | '1e100'): readonly string[] {
  return COST_SETTINGS.map((name) => {
    const cost = `pg_catalog.current_setting('${name}')::pg_catalog.float8`
    const isSmall = `${cost} OPERATOR(pg_catalog.<) 1e-50::pg_catalog.float8`
    const [small, large] = factor === '1e-100' ? [cost, scaled(cost, factor)] : [scaled(cost, factor), cost]
    return `pg_catalog.set_config('${name}', (CASE WHEN ${isSmall} THEN ${small} ELSE ${large} END)::pg_catalog.text, true)`
  })
}

const scaled = (cost: string, factor: string): string => `${cost} OPERATOR(pg_catalog.*) ${factor}::pg_catalog.float8`

const ORDERED = [...SWITCHES, ...costsTimes('1e-100')].join(', ')
const SHOWN = [...SWITCHES, ...costsTimes('1e100')].join(', ')

/** Expressions that make the rest of the transaction read tables in heap order; EXPLAIN shows costs as they are. */
export function heapOrder({ kind }: Pick<PostgresPlan, 'kind'>): string {
  return kind === 'explain' ? SHOWN : ORDERED
}

const PIN_GUARD_SQL = `SELECT pg_catalog.set_config('statement_timeout', $1::pg_catalog.text, true),
  1 OPERATOR(pg_catalog./) CASE WHEN
    pg_catalog.current_setting('standard_conforming_strings') OPERATOR(pg_catalog.=) 'on'::pg_catalog.text
    AND pg_catalog.current_setting('client_encoding') OPERATOR(pg_catalog.=) 'UTF8'::pg_catalog.text
    AND pg_catalog.current_setting('search_path') OPERATOR(pg_catalog.=) $2::pg_catalog.text THEN 1 ELSE 0 END`

/**
 * The same over every pin, and the role: for a statement before which something else of the caller ran, whose functions
 * may have changed any setting.
 */
export function wholePinGuard(options: PostgresOptions, timeoutMs: number, plan?: PostgresPlan): RunStep {
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
    sql: `SELECT ${plan?.hidesOrder === true ? `${heapOrder(plan)},` : ''}
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
