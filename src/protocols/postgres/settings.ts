/** Settings that say how the server behaves and nothing of what anybody keeps in it. Drivers and psql ask for these. */
const TOLD: readonly string[] = [
  'application_name',
  'block_size',
  'bytea_output',
  'client_encoding',
  'client_min_messages',
  'constraint_exclusion',
  'datestyle',
  'default_table_access_method',
  'default_transaction_deferrable',
  'default_transaction_isolation',
  'default_transaction_read_only',
  'extra_float_digits',
  'idle_in_transaction_session_timeout',
  'in_hot_standby',
  'integer_datetimes',
  'intervalstyle',
  'is_superuser',
  'lc_collate',
  'lc_ctype',
  'lc_monetary',
  'lc_numeric',
  'lc_time',
  'lock_timeout',
  'max_identifier_length',
  'max_index_keys',
  'search_path',
  'server_encoding',
  'server_version',
  'server_version_num',
  'session_authorization',
  'standard_conforming_strings',
  'statement_timeout',
  'timezone',
  'transaction_deferrable',
  'transaction_isolation',
  'transaction_read_only',
  'work_mem',
  'xmlbinary',
  'xmloption',
]

/**
 * Settings a client may change without changing what its statements mean, what they may do, or what the server tells of
 * them: how values are written, how long things may take, what is logged to the client.
 */
export const SETTABLE_SETTINGS: readonly string[] = [
  'application_name',
  'bytea_output',
  'client_min_messages',
  'constraint_exclusion',
  'constraints',
  'cursor_tuple_fraction',
  'datestyle',
  'default_transaction_deferrable',
  'default_transaction_isolation',
  'default_transaction_read_only',
  'effective_cache_size',
  'enable_hashagg',
  'enable_hashjoin',
  'enable_indexonlyscan',
  'enable_indexscan',
  'enable_mergejoin',
  'enable_nestloop',
  'enable_seqscan',
  'enable_sort',
  'extra_float_digits',
  'from_collapse_limit',
  'geqo',
  'idle_in_transaction_session_timeout',
  'idle_session_timeout',
  'intervalstyle',
  'jit',
  'join_collapse_limit',
  'lock_timeout',
  'max_parallel_workers_per_gather',
  'plan_cache_mode',
  'quote_all_identifiers',
  'random_page_cost',
  // Objects of these kinds cannot be used any more; nothing else follows.
  'restrict_nonsystem_relation_kind',
  // Rows that policies hide then are an error, for whom they are hidden.
  'row_security',
  // Names mean what they mean there: plans are made with it, and code of users does not run meanwhile.
  'search_path',
  'seq_page_cost',
  'statement_timeout',
  'synchronize_seqscans',
  'synchronous_commit',
  'timezone',
  'transaction_deferrable',
  'transaction_isolation',
  'transaction_read_only',
  'transaction_timeout',
  'work_mem',
  'xmlbinary',
  'xmloption',
]

/** What may be read; the bundle `sql.client` allows it. Whoever may change a setting may as well know what it was. */
export const READABLE_SETTINGS: readonly string[] = [...new Set([...TOLD, ...SETTABLE_SETTINGS])].sort()

const readable = new Set(READABLE_SETTINGS)

/** Whether a setting is on the list; names of settings do not depend on case. */
export function isReadableSetting(name: string): boolean {
  return readable.has(name.toLowerCase())
}

const settable = new Set([...SETTABLE_SETTINGS, 'all', 'client_encoding', 'standard_conforming_strings'])

/** Whether a database with masks lets it be changed; pinned ones have their own values. */
export function isSettable(name: string): boolean {
  return settable.has(name)
}

/**
 * Settings that decide how the bytes of a statement are read, with the values in which the gateway reads them: with any
 * other, the parser here would see one statement where the server sees two.
 */
export const PINNED_SETTINGS: ReadonlyMap<string, readonly string[]> = new Map([
  ['client_encoding', ['utf8', 'utf-8', 'unicode']],
  ['standard_conforming_strings', ['on', 'true', 'yes', '1']],
])

/** Whether a pinned setting stays what it is; its default is what the gateway asked for when it connected. */
export function isPinnedValue(name: string, value: string | undefined): boolean {
  return value === undefined || PINNED_SETTINGS.get(name)?.includes(value.toLowerCase()) === true
}
