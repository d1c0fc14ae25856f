/**
 * Settings that say how the server behaves and nothing of what anybody keeps in it. Drivers and psql ask for these;
 * the bundle `sql.client` allows them.
 */
export const READABLE_SETTINGS: readonly string[] = [
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

const readable = new Set(READABLE_SETTINGS)

/** Whether a setting is on the list; names of settings do not depend on case. */
export function isReadableSetting(name: string): boolean {
  return readable.has(name.toLowerCase())
}
