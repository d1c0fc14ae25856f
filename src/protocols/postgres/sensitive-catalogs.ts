import type { Relation } from './catalog.ts'

/**
 * Relations of PostgreSQL that show data, statements of other sessions or credentials, not structure. Reading them is
 * `sql.monitor`, and a database with masks refuses it: statistics hold samples of the very columns that are masked.
 */
const SENSITIVE = new Set([
  'pg_attribute_stats',
  'pg_authid',
  'pg_backend_memory_contexts',
  'pg_config',
  'pg_cursors',
  'pg_db_role_setting',
  'pg_file_settings',
  'pg_hba_file_rules',
  'pg_ident_file_mappings',
  'pg_largeobject',
  'pg_prepared_statements',
  'pg_prepared_xacts',
  'pg_replication_origin_status',
  'pg_replication_slots',
  'pg_seclabel',
  'pg_shadow',
  'pg_stat_activity',
  'pg_stat_gssapi',
  // On a server that does nothing else, bytes written for one statement tell how long the values of its rows are.
  'pg_stat_io',
  'pg_stat_replication',
  'pg_stat_ssl',
  'pg_stat_subscription',
  'pg_stat_wal',
  'pg_stat_wal_receiver',
  'pg_statistic',
  'pg_statistic_ext_data',
  'pg_stats',
  'pg_stats_ext',
  'pg_stats_ext_exprs',
  'user_mapping_options',
  '_pg_user_mappings',
])

/** Columns of others that hold credentials; the rest of them is structure, which psql and pg_dump ask for. */
const SENSITIVE_COLUMNS: ReadonlyMap<string, readonly string[]> = new Map([
  ['pg_subscription', ['subconninfo']],
  ['pg_user_mapping', ['umoptions']],
  ['pg_user_mappings', ['umoptions']],
])

/** Views of extensions that show other sessions' statements, wherever they were installed. */
const SENSITIVE_ANYWHERE = new Set([
  'pg_stat_statements',
  'pg_stat_statements_info',
  'pg_stat_monitor',
  'pg_buffercache',
])

const COUNTERS = /^(?:pg_stat(?:io)?_(?:xact_)?(?:all|sys|user)_(?:tables|indexes)|pg_locks)$/u

/**
 * Whether a relation of PostgreSQL itself tells how many rows of each table were read and written, to the last one, or
 * which: a serializable transaction holds a lock on each row it has read (PostgreSQL manual, pg_locks).
 */
export function isCountersName(name: string): boolean {
  return COUNTERS.test(name)
}

/** Whether a relation of PostgreSQL itself with that name is one of these, or has such a column. */
export function isSensitiveName(name: string): boolean {
  return SENSITIVE.has(name) || SENSITIVE_COLUMNS.has(name)
}

/** Whether reading these columns of this relation needs `sql.monitor`. */
export function isSensitiveRead(relation: Relation, columns: ReadonlySet<string>): boolean {
  if (SENSITIVE_ANYWHERE.has(relation.name)) return true
  if (!relation.builtin) return false
  if (SENSITIVE.has(relation.name)) return true
  return SENSITIVE_COLUMNS.get(relation.name)?.some((column) => columns.has(column)) === true
}
