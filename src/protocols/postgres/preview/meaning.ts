/**
 * Settings that decide what values a text stands for, or how values are written: a preview is made under those of the
 * session that is to run the statement, and the execution is held to them.
 *
 * @packageDocumentation
 */

/** What anybody may set. */
const SETTABLE = [
  'DateStyle',
  'IntervalStyle',
  'TimeZone',
  'array_nulls',
  'backslash_quote',
  'bytea_output',
  'default_text_search_config',
  'extra_float_digits',
  'gin_fuzzy_search_limit',
  'lc_monetary',
  'lc_numeric',
  'lc_time',
  'quote_all_identifiers',
  'row_security',
  'search_path',
  'timezone_abbreviations',
  'transform_null_equals',
  'xmlbinary',
  'xmloption',
]
/** Compared only: which triggers fire is for superusers to say. */
const MEANING = [...SETTABLE, 'session_replication_role']

/** What the settings are now: one result column, a JSON object. */
export const MEANING_SQL = `SELECT pg_catalog.json_build_object(${MEANING.map(
  (name) => `'${name}', pg_catalog.current_setting('${name}')`,
).join(', ')})::pg_catalog.text`

/** Reads the answer to {@link MEANING_SQL}; `undefined` for one that is not whole. */
export function readMeaning(json: string | null | undefined): Readonly<Record<string, string>> | undefined {
  const said = JSON.parse(json ?? 'null') as Readonly<Record<string, unknown>> | null
  if (said === null || MEANING.some((name) => typeof said[name] !== 'string')) return undefined
  return said as Readonly<Record<string, string>>
}

/** A statement after which the rest of the transaction has the settings, as far as they can be set; with its values. */
export function meaningSet(settings: Readonly<Record<string, string>>): {
  readonly sql: string
  readonly params: readonly string[]
} {
  const names = SETTABLE.filter((name) => settings[name] !== undefined)
  const sets = names.map((name, index) => `pg_catalog.set_config('${name}', $${index + 1}, true)`)
  return { sql: `SELECT ${sets.join(', ')}`, params: names.map((name) => settings[name] ?? '') }
}

/** SQL of conditions: each of the settings is what it is to be. Of no setting but those that are known here. */
export function settingsHold(settings: Readonly<Record<string, string>>): readonly string[] {
  return MEANING.map((name) => {
    const value = (settings[name] ?? '').replaceAll("'", "''")
    // Strings are read as the standard says: that is pinned, and looked at before.
    return `pg_catalog.current_setting('${name}') OPERATOR(pg_catalog.=) '${value}'::pg_catalog.text`
  })
}
