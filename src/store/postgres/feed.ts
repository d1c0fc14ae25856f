/**
 * What other instances changed: a connection that listens, and asks for what it has not seen.
 *
 * A notification only wakes it. What changed comes from the log in the store, asked for with the snapshot of the last
 * answer, so that nothing is missed and nothing comes twice, whatever became of the notification. It also asks without
 * being woken, several times a second, and so knows how old at most what it has told is: that is what lets documents be
 * read from memory (see {@link Mirror}) and still be revoked everywhere within a second.
 *
 * @packageDocumentation
 */
import { setTimeout } from 'node:timers/promises'
import type { Client } from 'pg'
import { elapsedClock } from '../elapsed.ts'
import { CHANNEL } from './migrations.ts'

/** A change as the log has it, with the document where it is one that is kept in memory. */
export interface FeedRow {
  readonly kind: 'put' | 'remove'
  readonly collection: string
  readonly id: string
  readonly version: number
  readonly document: { readonly version: number; readonly value: Uint8Array } | undefined
}

/** What a feed is built from. */
export interface FeedOptions {
  readonly connect: () => Promise<Client>
  /** Collections whose documents come along. */
  readonly mirrored: readonly string[]
  /** Told of everything that is mirrored, after each connect: what was known before is void. */
  readonly onReload: (rows: readonly FeedRow[]) => void
  /** Told of changes in the order of the log. */
  readonly onChanges: (rows: readonly FeedRow[]) => void
  /** Told when the connection is lost. It is made again. */
  readonly onLost: (error: unknown) => void
  /** Told when the database is further back in time than it was before: put back from a backup, or a copy that was behind. */
  readonly onRewound: () => void
  readonly pollMs: number
}

/** A running feed. Whoever starts it closes it. */
export interface Feed {
  /** For how many milliseconds at most what the feed has told may be out of date; infinite while it is not connected. */
  ageMs(): number
  /** What the clock of the store says now, in milliseconds since the epoch. */
  time(): number
  /** The highest version of a document that was seen. */
  reached(): number
  /** Resolves once everything that was durable when this was called has been told, or after `timeoutMs`. */
  caughtUp(timeoutMs: number): Promise<boolean>
  /** Calls what was told out of date until the next answer. */
  distrust(): void
  close(): Promise<void>
}

/** With a longer pause between two looks the log may have been tidied up meanwhile: everything is read anew. */
export const GAP_MAX_MS = 120_000

/** Between two looks, however often it is woken: whoever may notify must not keep it looking all the time. */
const PAUSE_MS = 5

/** How long an answer may take before the connection counts as lost. */
const ANSWER_MAX_MS = 2_000

/** Milliseconds since the epoch. */
export const TIME = 'floor(extract(epoch FROM clock_timestamp()) * 1000)::float8'

const RELOAD = `
SELECT s.snapshot, s.time, s.last, d.collection, d.id, d.version, d.value
FROM (
  SELECT pg_current_snapshot()::text AS snapshot, ${TIME} AS time, (SELECT last_value FROM sallyport.version) AS last
) s
LEFT JOIN sallyport.document d ON d.collection = ANY ($1::text[])`

const CHANGES = `
SELECT s.snapshot, s.time, c.xid::text AS xid, c.kind, c.collection, c.id, c.version, d.version AS "documentVersion", d.value
FROM (SELECT pg_current_snapshot()::text AS snapshot, ${TIME} AS time) s
LEFT JOIN (
  sallyport.change c LEFT JOIN sallyport.document d
    ON d.collection = c.collection AND d.id = c.id AND d.collection = ANY ($2::text[])
) ON c.xid >= pg_snapshot_xmin($1::pg_snapshot) AND NOT pg_visible_in_snapshot(c.xid, $1::pg_snapshot)
ORDER BY c.seq`

interface Row {
  readonly snapshot: string
  readonly time: number
  /** The transaction of a change. */
  readonly xid?: string | null
  /** The highest version that was ever given. */
  readonly last?: string | null
  readonly kind?: 'put' | 'remove'
  readonly collection: string | null
  readonly id: string
  readonly version: string
  readonly documentVersion?: string | null
  readonly value: Buffer | null
}

/** Starts following. Resolves once the first reload was told. @throws whatever the first connect met. */
export async function startFeed(options: FeedOptions): Promise<Feed> {
  const stop = new AbortController()
  const now = elapsedClock()
  /** The store's clock less ours. */
  let apart = Date.now() - now()
  let confirmedAt = Number.NEGATIVE_INFINITY
  let lookedAt = Number.NEGATIVE_INFINITY
  let snapshot = ''
  /** The latest that was seen committed: what is durable never goes back, except with the whole database. */
  let reached = { xid: 0n, version: 0 }
  let wake: () => void = () => undefined
  let isWoken = false
  let current: Client | undefined
  const behind = new Set<{ readonly since: number; readonly resolve: () => void }>()

  const first = await open()
  const running = run(first)

  return {
    ageMs: () => now() - confirmedAt,
    time: () => Math.round(now() + apart),
    reached: () => reached.version,
    caughtUp(timeoutMs) {
      const since = now()
      return new Promise((resolve) => {
        const end = (isCaughtUp: boolean): void => {
          clearTimeout(timer)
          behind.delete(entry)
          resolve(isCaughtUp)
        }
        const timer = globalThis.setTimeout(() => end(false), timeoutMs)
        const entry = { since, resolve: () => end(true) }
        behind.add(entry)
        rouse()
      })
    },
    distrust() {
      confirmedAt = Number.NEGATIVE_INFINITY
      rouse()
    },
    async close() {
      stop.abort()
      rouse()
      await current?.end().catch(() => undefined)
      await running
      for (const { resolve } of behind) resolve()
    },
  }

  async function run(client: Client | undefined): Promise<void> {
    let pauseMs = 50
    while (!stop.signal.aborted) {
      try {
        client ??= await open()
        pauseMs = 50
        await follow(client)
      } catch (error) {
        if (!stop.signal.aborted) options.onLost(error)
      } finally {
        current = undefined
        confirmedAt = Number.NEGATIVE_INFINITY
        await client?.end().catch(() => undefined)
        client = undefined
      }
      await setTimeout(pauseMs, undefined, { signal: stop.signal, ref: false }).catch(() => undefined)
      pauseMs = Math.min(pauseMs * 2, 500)
    }
  }

  async function open(): Promise<Client> {
    const client = await options.connect()
    try {
      current = client
      client.on('notification', rouse)
      client.on('error', rouse)
      client.on('end', rouse)
      // Listening comes before the first look: what is committed between the two wakes us.
      await client.query(`LISTEN ${CHANNEL}`)
      const askedAt = now()
      const rows = await ask(client, RELOAD, [options.mirrored])
      options.onReload(rows)
      confirm(askedAt)
      return client
    } catch (error) {
      await client.end().catch(() => undefined)
      throw error
    }
  }

  async function follow(client: Client): Promise<void> {
    while (!stop.signal.aborted) {
      if (!isWoken) await nap()
      // These pauses keep the process alive: one that ended meanwhile would end without what it was asked for, and silently.
      if (now() - lookedAt < PAUSE_MS) await setTimeout(PAUSE_MS)
      isWoken = false
      if (stop.signal.aborted) return
      const askedAt = now()
      if (askedAt - lookedAt > GAP_MAX_MS) throw new Error('the log was not looked at for too long')
      const rows = await ask(client, CHANGES, [snapshot, options.mirrored])
      if (rows.length > 0) options.onChanges(rows)
      confirm(askedAt)
    }
  }

  function confirm(askedAt: number): void {
    confirmedAt = askedAt
    lookedAt = askedAt
    for (const { since, resolve } of behind) if (since <= askedAt) resolve()
  }

  async function ask(client: Client, sql: string, values: readonly unknown[]): Promise<readonly FeedRow[]> {
    // A connection through a dead network would keep us waiting while we take old news for the latest.
    const askedAt = now()
    const { rows } = await withTimeout(client.query<Row>(sql, [...values]), ANSWER_MAX_MS)
    snapshot = rows[0]?.snapshot ?? snapshot
    throwIfRewound(rows[0])
    for (const { xid, version } of rows) {
      if (xid != null && BigInt(xid) > reached.xid) reached = { ...reached, xid: BigInt(xid) }
      if (Number(version) > reached.version) reached = { ...reached, version: Number(version) }
    }
    apart = (rows[0]?.time ?? askedAt + apart) - askedAt
    return rows.flatMap(({ kind = 'put', collection, id, version, documentVersion = version, value }) => {
      if (collection === null) return []
      const document =
        value === null || documentVersion === null ? undefined : { version: Number(documentVersion), value }
      return [{ kind, collection, id, version: Number(version), document }]
    })
  }

  function throwIfRewound(row: Row | undefined): void {
    // A snapshot is written `xmin:xmax:…`; xmax is the first transaction that had not been begun (PostgreSQL manual, 9.27).
    const next = BigInt(snapshot.split(':')[1] ?? 0)
    const last = row?.last == null ? reached.version : Number(row.last)
    if (next > reached.xid && last >= reached.version) return
    options.onRewound()
    throw new Error('the store is further back in time than it was')
  }

  function rouse(): void {
    isWoken = true
    wake()
  }

  function nap(): Promise<void> {
    return new Promise((resolve) => {
      const timer = globalThis.setTimeout(resolve, options.pollMs)
      timer.unref()
      wake = () => {
        clearTimeout(timer)
        resolve()
      }
    })
  }
}

async function withTimeout<T>(work: Promise<T>, ms: number): Promise<T> {
  let timer: NodeJS.Timeout | undefined
  try {
    return await Promise.race([
      work,
      new Promise<never>((_, reject) => {
        timer = globalThis.setTimeout(() => reject(new Error('the store did not answer in time')), ms)
        timer.unref()
      }),
    ])
  } finally {
    clearTimeout(timer)
    work.catch(() => undefined)
  }
}
