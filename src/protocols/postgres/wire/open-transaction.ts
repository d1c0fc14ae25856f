/**
 * What the server says of the transaction that is open on a connection: which numbers it has, and how long it may be idle.
 *
 * @packageDocumentation
 */

/**
 * The number of the transaction, which gets one now if it has none, and those of all its open subtransactions: each holds a
 * lock on its own (PostgreSQL manual, section 54.12). One cell.
 */
export const OPEN_XIDS_SQL = `SELECT pg_catalog.json_build_object('top', pg_catalog.txid_current()::pg_catalog.text, 'open', (
  SELECT pg_catalog.json_agg(l.transactionid::pg_catalog.text) FROM pg_catalog.pg_locks AS l
  WHERE l.locktype OPERATOR(pg_catalog.=) 'transactionid'::pg_catalog.text
    AND l.pid OPERATOR(pg_catalog.=) pg_catalog.pg_backend_pid()
    AND l.mode OPERATOR(pg_catalog.=) 'ExclusiveLock'::pg_catalog.text AND l.granted))::pg_catalog.text`

/**
 * Gives the innermost subtransaction a number of its own, where what it did needed none: a notification, a lock, code of a
 * user. It leaves an empty message in the write-ahead log, which logical decoding ignores unless it is asked for messages.
 */
export const TAKE_XID_SQL = `SELECT pg_catalog.pg_logical_emit_message(true, 'sallyport'::pg_catalog.text, ''::pg_catalog.text)`

const EPOCH = 2n ** 32n

/**
 * Returns the number of the innermost of them, with its epoch. Subtransactions get theirs after what they stand in, so it is
 * the one farthest behind the transaction's own, also where the 32 bits of a lock began anew between the two.
 */
export function innermost(said: string): string | undefined {
  const { top, open } = JSON.parse(said === '' ? '{}' : said) as {
    readonly top?: string
    readonly open?: readonly string[]
  }
  if (top === undefined) return undefined
  const first = BigInt(top)
  const behind = (open ?? []).map((xid) => (((BigInt(xid) - first) % EPOCH) + EPOCH) % EPOCH)
  return String(behind.reduce((last, one) => (one > last ? one : last), 0n) + first)
}

/** Settings that end a transaction which does nothing, in milliseconds, and for how long it has been open. One cell. */
export const IDLE_LIMITS_SQL = `SELECT pg_catalog.json_build_object(
  'idle', (SELECT s.setting FROM pg_catalog.pg_settings AS s
    WHERE s.name OPERATOR(pg_catalog.=) 'idle_in_transaction_session_timeout'::pg_catalog.text),
  'whole', (SELECT s.setting FROM pg_catalog.pg_settings AS s
    WHERE s.name OPERATOR(pg_catalog.=) 'transaction_timeout'::pg_catalog.text),
  'since', pg_catalog.date_part('epoch'::pg_catalog.text,
    pg_catalog.clock_timestamp() OPERATOR(pg_catalog.-) pg_catalog.transaction_timestamp())
)::pg_catalog.text`

/** Returns for how many milliseconds the server leaves the transaction idle; infinite where it sets no limit. */
export function readIdleLimit(said: string): number {
  const { idle, whole, since } = JSON.parse(said === '' ? '{}' : said) as Readonly<Record<string, unknown>>
  const limit = (setting: unknown): number => Number(setting ?? 0) || Number.POSITIVE_INFINITY
  // Fail closed: what was not answered is no time at all.
  return typeof since === 'number' && idle !== undefined ? Math.min(limit(idle), limit(whole) - since * 1_000) : 0
}
