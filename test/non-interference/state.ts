/** A hash over everything a statement could leave behind: rows, sequences, catalogs, large objects, locks, settings. */
import type { Client } from 'pg'

/** The state of one database. Rows count by content; the catalog by who wrote each row of it last. */
export async function stateOf(client: Client): Promise<string> {
  const { rows: tables } = await client.query<{ name: string }>(TABLES)
  const contents = tables.map(
    ({ name }) =>
      `SELECT '${name.replaceAll("'", "''")}', md5(string_agg(t::text, ',' ORDER BY t::text)) FROM ${name} t`,
  )
  const { rows: catalogs } = await client.query<{ name: string }>(CATALOGS)
  const written = catalogs.map(
    ({ name }) => `SELECT '${name}', count(*) || ' ' || sum(xmin::text::bigint) FROM ${name}`,
  )
  const { rows: sequences } = await client.query<{ name: string }>(SEQUENCES)
  const counted = sequences.map(({ name }) => `SELECT '${name}', last_value || ' ' || is_called FROM ${name}`)
  const { rows } = await client.query<unknown[]>({
    text: [...contents, ...written, ...counted, ...OTHERS].join(' UNION ALL '),
    rowMode: 'array',
  })
  return rows.map((row) => JSON.stringify(row)).join('\n')
}

const TABLES = `SELECT quote_ident(nspname) || '.' || quote_ident(relname) AS name FROM pg_class c JOIN pg_namespace n ON n.oid = relnamespace
  WHERE relkind IN ('r', 'm') AND nspname NOT IN ('pg_catalog', 'information_schema', 'pg_toast') ORDER BY 1`
/** Shared catalogs are left out: other databases of the server change them. Statistics are of no one's statement. */
const CATALOGS = `SELECT oid::regclass::text AS name FROM pg_class
  WHERE relnamespace = 'pg_catalog'::regnamespace AND relkind = 'r' AND NOT relisshared AND relname NOT LIKE 'pg_statistic%' ORDER BY 1`
const SEQUENCES = `SELECT oid::regclass::text AS name FROM pg_class WHERE relkind = 'S' ORDER BY 1`
const OWN = `(SELECT oid FROM pg_database WHERE datname = current_database())`
const OTHERS = [
  `SELECT 'advisory locks', count(*)::text FROM pg_locks WHERE locktype = 'advisory' AND database = ${OWN}`,
  `SELECT 'settings', count(*) || coalesce(string_agg(setconfig::text, ',' ORDER BY setconfig::text), '') FROM pg_db_role_setting WHERE setdatabase = ${OWN}`,
  `SELECT 'prepared transactions', count(*)::text FROM pg_prepared_xacts WHERE database = current_database()`,
  `SELECT 'open transactions', count(*)::text FROM pg_stat_activity WHERE datid = ${OWN} AND state LIKE 'idle in%'`,
]

/** Asked through a gateway: settings of its own connection that somebody set. */
export const SESSION_SETTINGS = `SELECT string_agg(name || '=' || setting, ',' ORDER BY name) FROM pg_settings WHERE source = 'session'`
