import { randomUUID } from 'node:crypto'
import type { ClientBase } from 'pg'
import { SallyportError } from '../../core/errors.ts'

/** The channel on which a commit says that something changed. What changed stands in the table `change`. */
export const CHANNEL = 'sallyport_change'

/** Held while a schema is brought up to date, so that instances that start together do it one after the other. */
const MIGRATION_LOCK = 0x5a11_0001

/**
 * The schema's versions, in order. A version that was ever released is never edited; another one is appended.
 *
 * `change` is the log from which instances learn what others did. Each row carries its transaction's id, and a reader
 * asks for what its last snapshot did not see (`pg_visible_in_snapshot`, PostgreSQL manual section 9.27): unlike numbers
 * from a sequence, which commit out of order, that misses nothing.
 */
const MIGRATIONS: readonly string[] = [
  `
CREATE TABLE sallyport.document (
  collection text COLLATE "C" NOT NULL,
  id text COLLATE "C" NOT NULL,
  version bigint NOT NULL,
  value bytea NOT NULL,
  tokens text[] COLLATE "C" NOT NULL,
  PRIMARY KEY (collection, id)
);
CREATE INDEX document_tokens ON sallyport.document USING gin (tokens);
CREATE SEQUENCE sallyport.version AS bigint;

CREATE TABLE sallyport.change (
  seq bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
  xid xid8 NOT NULL DEFAULT pg_current_xact_id(),
  commit_id uuid NOT NULL,
  kind text NOT NULL,
  collection text COLLATE "C" NOT NULL,
  id text COLLATE "C" NOT NULL,
  version bigint NOT NULL,
  at timestamptz NOT NULL DEFAULT clock_timestamp()
);
CREATE INDEX change_xid ON sallyport.change (xid);
CREATE INDEX change_commit ON sallyport.change (commit_id);
CREATE INDEX change_at ON sallyport.change (at);

CREATE TABLE sallyport.lease (
  name text COLLATE "C" PRIMARY KEY,
  holder text COLLATE "C" NOT NULL,
  until timestamptz NOT NULL
);
CREATE TABLE sallyport.blob (name text COLLATE "C" PRIMARY KEY, bytes bytea NOT NULL);
ALTER TABLE sallyport.blob ALTER COLUMN bytes SET STORAGE EXTERNAL;

CREATE FUNCTION sallyport.commit(
  p_commit uuid, p_kinds text[], p_collections text[], p_ids text[], p_expects bigint[], p_values bytea[], p_tokens text[]
) RETURNS boolean LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp AS $body$
DECLARE
  place bigint;
  found_version bigint;
  new_version bigint;
  changed boolean := false;
BEGIN
  -- A commit whose answer was lost is sent again under its id: the first one may still be under way.
  PERFORM pg_advisory_xact_lock(hashtextextended(p_commit::text, 1));
  IF EXISTS (SELECT FROM sallyport.change WHERE commit_id = p_commit) THEN
    RETURN true;
  END IF;
  -- One order for all, so that two commits on the same documents wait for each other and never in a circle.
  FOR place IN
    SELECT DISTINCT hashtextextended(p_collections[i] || '/' || p_ids[i], 2) AS h
    FROM generate_subscripts(p_ids, 1) AS i ORDER BY h
  LOOP
    PERFORM pg_advisory_xact_lock(place);
  END LOOP;
  FOR i IN 1 .. coalesce(array_length(p_ids, 1), 0) LOOP
    SELECT d.version INTO found_version FROM sallyport.document d
      WHERE d.collection = p_collections[i] AND d.id = p_ids[i];
    IF coalesce(found_version, 0) <> p_expects[i] THEN
      RETURN false;
    END IF;
  END LOOP;
  FOR i IN 1 .. coalesce(array_length(p_ids, 1), 0) LOOP
    new_version := 0;
    IF p_kinds[i] = 'check' THEN
      CONTINUE;
    ELSIF p_kinds[i] = 'put' THEN
      new_version := nextval('sallyport.version');
      INSERT INTO sallyport.document AS d (collection, id, version, value, tokens)
        VALUES (p_collections[i], p_ids[i], new_version, p_values[i], string_to_array(p_tokens[i], ' '))
        ON CONFLICT (collection, id) DO UPDATE SET version = excluded.version, value = excluded.value, tokens = excluded.tokens;
    ELSE
      DELETE FROM sallyport.document d WHERE d.collection = p_collections[i] AND d.id = p_ids[i];
    END IF;
    INSERT INTO sallyport.change (commit_id, kind, collection, id, version)
      VALUES (p_commit, p_kinds[i], p_collections[i], p_ids[i], new_version);
    changed := true;
  END LOOP;
  IF changed THEN
    PERFORM pg_notify('${CHANNEL}', '');
  END IF;
  RETURN true;
END
$body$;
`,
]

/**
 * Brings the schema up to date, making it at the first start.
 *
 * @throws SallyportError `ERR_STORE_FAILED` when a newer Sallyport has already moved it on, or another key made it.
 */
export async function migrate(client: ClientBase, proof: string): Promise<void> {
  await client.query('SELECT pg_advisory_lock($1)', [MIGRATION_LOCK])
  try {
    await client.query(`
      CREATE SCHEMA IF NOT EXISTS sallyport;
      CREATE TABLE IF NOT EXISTS sallyport.migration (version integer PRIMARY KEY, at timestamptz NOT NULL DEFAULT now());
      CREATE TABLE IF NOT EXISTS sallyport.meta (name text PRIMARY KEY, value text NOT NULL);`)
    const { rows } = await client.query<{ version: number }>(
      'SELECT coalesce(max(version), 0)::int AS version FROM sallyport.migration',
    )
    const from = rows[0]?.version ?? 0
    if (from > MIGRATIONS.length) {
      throw new SallyportError(
        'ERR_STORE_FAILED',
        `The shared store has version ${from} and this gateway knows ${MIGRATIONS.length}. Update this gateway.`,
      )
    }
    for (const [index, sql] of MIGRATIONS.entries()) if (index >= from) await apply(client, index + 1, sql)
    await checkProof(client, proof)
    await client.query(`INSERT INTO sallyport.meta VALUES ('id', $1) ON CONFLICT DO NOTHING`, [randomUUID()])
  } finally {
    await client.query('SELECT pg_advisory_unlock($1)', [MIGRATION_LOCK])
  }
}

async function apply(client: ClientBase, version: number, sql: string): Promise<void> {
  await client.query('BEGIN')
  try {
    await client.query(sql)
    await client.query('INSERT INTO sallyport.migration (version) VALUES ($1)', [version])
    await client.query('COMMIT')
  } catch (error) {
    await client.query('ROLLBACK').catch(() => undefined)
    throw error
  }
}

/** Instances with different keys could not read each other's tickets, and would take them for damaged. */
async function checkProof(client: ClientBase, proof: string): Promise<void> {
  await client.query(`INSERT INTO sallyport.meta VALUES ('key', $1) ON CONFLICT DO NOTHING`, [proof])
  const { rows } = await client.query<{ value: string }>(`SELECT value FROM sallyport.meta WHERE name = 'key'`)
  if (rows[0]?.value === proof) return
  throw new SallyportError(
    'ERR_STORE_FAILED',
    'The key of the shared store is not the one it was made with. Give every instance the same store.key.',
  )
}

/** Which store this is, how far its documents have come, and how far the numbers that were given to them. */
export const MARK = `
SELECT (SELECT value FROM sallyport.meta WHERE name = 'id') AS store,
  (SELECT coalesce(max(version), 0) FROM sallyport.document)::float8 AS version,
  (SELECT last_value FROM sallyport.version)::float8 AS given`
