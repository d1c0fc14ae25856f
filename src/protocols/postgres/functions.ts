/**
 * Which functions of PostgreSQL itself ride on the rule that allows a statement, and which need a rule of their own.
 *
 * A name is judged over every overload it could mean: argument types are only known to the backend, so the worst of the
 * candidates counts.
 *
 * @packageDocumentation
 */
import { FIRST_USER_OID, type Catalog, type CatalogFunction } from './catalog.ts'
import { spoken } from './names.ts'

/** What a function name in a statement comes to. */
export interface FunctionVerdict {
  /** Overloads that need `sql.call`; empty when the call rides on the statement's rule. */
  readonly calls: readonly CatalogFunction[]
  /** Set when the call cannot be understood at all; says why. */
  readonly unknown?: string
  /** Whether a database with masks must refuse it, because it could read what the masks hide. */
  readonly refusedUnderMasks: boolean
  /** Whether any candidate may have effects (`volatile`, or not understood), so that a read-only belt would not fit. */
  readonly mayWrite: boolean
}

/**
 * Functions that run SQL they are given as text or by name, run the code of a type they are given by OID or name (a
 * domain's checks may call anything), or change what later statements mean: never understood.
 */
const RUNS_ARGUMENT = new Set([
  'query_to_xml',
  'query_to_xmlschema',
  'query_to_xml_and_xmlschema',
  'table_to_xml',
  'table_to_xmlschema',
  'table_to_xml_and_xmlschema',
  'schema_to_xml',
  'schema_to_xmlschema',
  'schema_to_xml_and_xmlschema',
  'database_to_xml',
  'database_to_xmlschema',
  'database_to_xml_and_xmlschema',
  'cursor_to_xml',
  'cursor_to_xmlschema',
  'ts_stat',
  'ts_rewrite',
  'set_config',
  'domain_in',
  'domain_recv',
  'array_in',
  'array_recv',
  'record_in',
  'record_recv',
  'range_in',
  'range_recv',
  'multirange_in',
  'multirange_recv',
  'pg_input_is_valid',
  'pg_input_error_info',
  'satisfies_hash_partition',
])

/** Volatile, yet they neither change nor reveal anything a policy would name: clocks, dice, sizes, drivers' questions. */
const HARMLESS_VOLATILE = new Set([
  'random',
  'random_normal',
  'clock_timestamp',
  'timeofday',
  'gen_random_uuid',
  'uuidv4',
  'uuidv7',
  'pg_relation_size',
  'pg_total_relation_size',
  'pg_table_size',
  'pg_indexes_size',
  'pg_database_size',
  'pg_tablespace_size',
  'pg_relation_is_updatable',
  'pg_column_is_updatable',
  'pg_is_in_recovery',
  'pg_partition_tree',
  'pg_partition_ancestors',
  'pg_sequence_last_value',
])

/**
 * Immutable or stable, yet they show what a statement did not name: settings an application keeps secrets in, other
 * sessions' statements, large objects, statistics.
 */
const REVEALING = new Set([
  'current_setting',
  'pg_show_all_settings',
  'pg_show_all_file_settings',
  'pg_hba_file_rules',
  'pg_ident_file_mappings',
  'pg_stat_get_activity',
  'pg_stat_get_backend_activity',
  'pg_stat_get_backend_idset',
  'pg_stat_get_wal_senders',
  'pg_stat_get_wal_receiver',
  'pg_stat_get_subscription',
  'pg_prepared_statement',
  'pg_prepared_xact',
  'pg_cursor',
  'pg_mcv_list_items',
  'lo_get',
  'pg_config',
  'inet_client_addr',
  'inet_client_port',
  'inet_server_addr',
  'inet_server_port',
])

/** Volatile functions that stay harmless on a database with masks: they cannot read a row. */
const HARMLESS_UNDER_MASKS = new Set([
  'nextval',
  'currval',
  'lastval',
  'setval',
  'pg_sleep',
  'pg_sleep_for',
  'pg_sleep_until',
  'setseed',
  'txid_current',
  'pg_current_xact_id',
  'current_setting',
  'inet_client_addr',
  'inet_client_port',
  'inet_server_addr',
  'inet_server_port',
  'pg_try_advisory_lock',
  'pg_advisory_lock',
  'pg_advisory_unlock',
  'pg_advisory_unlock_all',
  'pg_advisory_xact_lock',
  'pg_try_advisory_xact_lock',
])

/**
 * Judges a call of `schema.name` (or unqualified `name`) with `count` arguments.
 *
 * An unqualified name with a user's overload anywhere on the search path counts as that user function, whatever
 * `pg_catalog` holds: overload resolution prefers the better match, not the earlier schema.
 */
export function judgeFunction(
  catalog: Catalog,
  schema: string | undefined,
  name: string,
  count: number | undefined,
): FunctionVerdict {
  const named = catalog.functionsByName.get(name) ?? []
  const candidates = named.filter((fn) =>
    schema === undefined ? catalog.searchPath.includes(fn.schema) : fn.schema === schema,
  )
  if (candidates.length === 0) return notUnderstood(`function ${spoken(name)} was not found`)
  const users = candidates.filter((fn) => !isBuiltin(fn) && accepts(fn, count))
  const builtins = candidates.filter(isBuiltin)
  if (builtins.length > 0 && RUNS_ARGUMENT.has(name)) return notUnderstood(`function ${name} runs what it is given`)
  if (builtins.length === 0 && users.length === 0)
    return notUnderstood(`no overload of ${spoken(name)} takes these arguments`)
  const notable = builtins.filter((fn) => !rides(fn))
  const calls = [...users, ...notable]
  return {
    calls,
    refusedUnderMasks: users.length > 0 || notable.some((fn) => !HARMLESS_UNDER_MASKS.has(fn.name)),
    mayWrite: calls.some((fn) => fn.volatility === 'volatile'),
  }
}

/** Whether a function of PostgreSQL itself turns values into JSON: by a user's cast, where their type has one. */
export function makesJson(name: string): boolean {
  return name.includes('json')
}

/** Whether a function of PostgreSQL itself makes values of types its arguments have: their domains' checks run. */
export function makesRows(name: string): boolean {
  return /^jsonb?_populate_record/.test(name)
}

/**
 * Whether a function of PostgreSQL itself reads, or runs code that reads, more than its arguments. Asked of the functions
 * inside a view, where nobody judges the arguments.
 */
export function mayReadAnything(fn: Pick<CatalogFunction, 'oid' | 'name' | 'volatility'>): boolean {
  if (fn.oid >= FIRST_USER_OID) return false
  return RUNS_ARGUMENT.has(fn.name) || makesRows(fn.name) || (!rides(fn) && !HARMLESS_UNDER_MASKS.has(fn.name))
}

/** Whether a function of PostgreSQL itself does something wherever it is run, so that a view that runs it says so (C3). */
export function hasEffect(fn: Pick<CatalogFunction, 'oid' | 'name' | 'volatility'>): boolean {
  return fn.oid < FIRST_USER_OID && fn.volatility === 'volatile' && !HARMLESS_VOLATILE.has(fn.name)
}

/**
 * Whether a function of PostgreSQL itself counts where it is stored with a table, in a default, a check, an index or a
 * policy. The next number of a sequence is what most defaults are, and belongs to the table.
 */
export function countsWhereStored(fn: Pick<CatalogFunction, 'oid' | 'name' | 'volatility'>): boolean {
  return mayReadAnything(fn) || (hasEffect(fn) && !NUMBERS.has(fn.name))
}

const NUMBERS = new Set(['nextval', 'currval', 'lastval'])

/** Judges functions the catalog names by OID: behind an operator, a cast, a trigger, a default. */
export function functionsOf(catalog: Catalog, oids: readonly number[]): readonly CatalogFunction[] {
  return oids.flatMap((oid) => catalog.functionsByOid.get(oid) ?? [])
}

/** Whether it is part of PostgreSQL itself. A user's function placed in `pg_catalog` is not. */
export function isBuiltin(fn: CatalogFunction): boolean {
  return fn.oid < FIRST_USER_OID && (fn.schema === 'pg_catalog' || fn.schema === 'information_schema')
}

function rides(fn: Pick<CatalogFunction, 'name' | 'volatility'>): boolean {
  if (REVEALING.has(fn.name)) return false
  return fn.volatility !== 'volatile' || HARMLESS_VOLATILE.has(fn.name)
}

/** Whether `count` arguments can call it; undefined means that the count is not known. */
function accepts(fn: CatalogFunction, count: number | undefined): boolean {
  if (count === undefined || fn.variadic) return true
  return count <= fn.argTypes.length && count >= fn.argTypes.length - fn.defaults
}

function notUnderstood(unknown: string): FunctionVerdict {
  return { calls: [], unknown, refusedUnderMasks: true, mayWrite: true }
}
