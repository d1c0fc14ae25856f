/**
 * What waiting for persons costs: memory of calls that are held, how soon they wake, and how often a governed call asks
 * the store. Over the real approvals and both stores.
 *
 * @packageDocumentation
 */
import { randomUUID } from 'node:crypto'
import { mkdtemp, rm } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import path from 'node:path'
import { Client } from 'pg'
import { createApprovals } from '../src/approval/create-approvals.ts'
import { startEmbeddedPostgres } from '../src/cli/demo/embedded-postgres.ts'
import { createControl, FREEZES } from '../src/control/control.ts'
import type { Call, Judged } from '../src/core/call.ts'
import type { Decision, RateLimit } from '../src/core/decision.ts'
import type { Principal } from '../src/core/principal.ts'
import { createSharedLimits } from '../src/limits/limits.ts'
import { keysFrom } from '../src/store/keys.ts'
import { openLowdbStore } from '../src/store/lowdb-store.ts'
import { openPostgresStore } from '../src/store/postgres/postgres-store.ts'
import type { Store } from '../src/store/store.ts'

const HELD = Number(process.env['SALLYPORT_HELD'] ?? 10_000)
const KEYS = keysFrom(new Uint8Array(32).fill(1))
const BOB: Principal = { id: 'bob', kind: 'person', owner: 'bob', groups: ['dba'], roles: ['approver'] }

await benchApprovals()

async function benchApprovals(): Promise<void> {
  const directory = await mkdtemp(path.join(tmpdir(), 'sallyport-bench-'))
  const postgres = await startEmbeddedPostgres()
  try {
    const file = path.join(directory, 'store.json')
    const alone = await openLowdbStore({
      file,
      blobs: path.join(directory, 'blobs'),
      key: KEYS.store,
      mustExist: false,
      now: Date.now,
    })
    await held('one instance, in its state directory', alone)
    await alone.close()
    const { host, port, user, password } = postgres
    const shared = await openPostgresStore({
      address: { host, port, user, database: 'postgres', tls: { mode: 'disable' } },
      password: async () => password,
      key: KEYS.store,
      mirrored: ['tokens', FREEZES],
    })
    const admin = new Client({ host, port, user, password, database: 'postgres' })
    await admin.connect()
    await roundTrips(shared, admin)
    await admin.end()
    await shared.close()
  } finally {
    await postgres.stop()
    await rm(directory, { recursive: true, force: true })
  }
}

/** Holds many identical and a few different calls, approves one ticket, and sees how soon all that wait for it know. */
async function held(name: string, store: Store): Promise<void> {
  const room = await createApprovals({
    store,
    keys: KEYS,
    now: Date.now,
    instance: randomUUID(),
    onEvent: () => undefined,
    onFault: (error) => console.error(error),
    settings: { sweepMs: 3_600_000 },
  })
  const end = new AbortController()
  global.gc?.()
  const before = process.memoryUsage().heapUsed
  const startedAt = performance.now()
  const woken: number[] = []
  const judgement = judged('UPDATE orders SET price = 1 WHERE id = 7')
  const waiting = Array.from({ length: HELD }, async (_, n) => {
    const consent = room.consent(call(end.signal), n < HELD - 1 ? judgement : judged(`UPDATE orders SET price = 2`))
    await consent.catch(() => undefined)
    woken.push(performance.now())
  })
  let pending = await room.inbox.pending(BOB)
  while (pending.length < 2) {
    await new Promise((resolve) => setTimeout(resolve, 20))
    pending = await room.inbox.pending(BOB)
  }
  await new Promise((resolve) => setTimeout(resolve, 500))
  const filedMs = performance.now() - startedAt
  global.gc?.()
  const perCall = (process.memoryUsage().heapUsed - before) / HELD
  const alone = pending.find(({ request }) => request?.text.endsWith('price = 2') === true)
  const many = pending.find(({ id }) => id !== alone?.id)
  if (alone === undefined || many === undefined) throw new Error('two tickets')
  const votedAt = performance.now()
  await room.inbox.vote({ viewer: BOB, ticket: alone.id, digest: alone.digest, decision: 'deny' })
  const oneMs = (await firstAfter(woken, 1)) - votedAt
  const allAt = performance.now()
  await room.inbox.vote({ viewer: BOB, ticket: many.id, digest: many.digest, decision: 'deny' })
  const allMs = (await firstAfter(woken, HELD)) - allAt
  await Promise.all(waiting)
  await room.close()
  console.log(
    `${name}: ${HELD} held calls: ${(perCall / 1024).toFixed(1)} KiB of heap each, held after ${filedMs.toFixed(0)} ms; ` +
      `one among them woke ${oneMs.toFixed(1)} ms after the vote began, all ${HELD - 1} others of one ticket ${allMs.toFixed(0)} ms after theirs`,
  )
}

async function firstAfter(woken: readonly number[], count: number): Promise<number> {
  while (woken.length < count) await new Promise((resolve) => setImmediate(resolve))
  return woken[count - 1] ?? Number.NaN
}

/** Counts transactions at the store for what each governed call asks: who calls, freezes, and its limits. */
async function roundTrips(store: Store, admin: Client): Promise<void> {
  const control = createControl({
    store,
    now: Date.now,
    onFreeze: () => undefined,
    onFault: () => undefined,
  })
  const limits = createSharedLimits({ now: () => performance.now(), store, instance: 'bench' })
  await store.commit([{ kind: 'put', collection: 'tokens', id: 't', expect: 0, value: { ok: true } }])
  const calls = 5_000
  const rates: readonly RateLimit[] = [{ id: 'r', max: 1_000_000, windowMs: 60_000, per: ['principal'] }]
  for (const [name, decision] of [
    ['no approval, no shared limit', limited([])],
    ['no approval, a shared rate', limited(rates)],
  ] as const) {
    const before = await transactions(admin)
    const startedAt = performance.now()
    for (let n = 0; n < calls; n++) {
      await store.get('tokens', 't')
      await control.barred('bot', 'shop-db')
      const reservation = await limits.reserve(call(new AbortController().signal), decision)
      reservation.release({ ran: true })
      if (n % 500 === 0) await new Promise((resolve) => setImmediate(resolve))
    }
    const tookMs = performance.now() - startedAt
    const idle = Math.ceil(tookMs / 250) + 2
    const asked = Math.max(0, (await transactions(admin)) - before)
    console.log(
      `round trips to the shared store, ${name}: ${(asked / calls).toFixed(4)} per call ` +
        `(${asked} in ${calls} calls, of which about ${Math.min(asked, idle)} are the instance's own look for changes), ${((tookMs / calls) * 1000).toFixed(1)} µs per call`,
    )
  }
  await limits.close()
  control.close()
}

async function transactions(admin: Client): Promise<number> {
  // Statistics are gathered with a delay; asking for them to be flushed costs a transaction itself.
  await new Promise((resolve) => setTimeout(resolve, 1_500))
  const { rows } = await admin.query<{ n: string }>(
    'SELECT xact_commit + xact_rollback AS n FROM pg_stat_database WHERE datname = current_database()',
  )
  return Number(rows[0]?.n)
}

function limited(rates: readonly RateLimit[]): Decision {
  return { ...judged('').decision, effect: 'allow', obligations: { rates, budgets: [], columns: [], detect: [] } }
}

function judged(text: string): Judged {
  return {
    plan: {
      action: { parts: [], attributes: {} },
      exact: { text },
      shown: { text },
      masks: [],
    },
    decision: {
      effect: 'require_approval',
      rules: ['writes'],
      reason: 'Writes need a DBA.',
      obligations: { rates: [], budgets: [], columns: [], detect: [] },
      approvals: [{ rule: 'writes', anyOf: ['group:dba'], count: 1, expiresMs: 900_000, reasonRequired: false }],
      policyVersion: 'v1',
      parts: [],
    },
    shown: { text },
  }
}

function call(signal: AbortSignal): Call {
  return {
    id: randomUUID(),
    session: {
      id: 's',
      principal: { id: 'bot', kind: 'agent', owner: 'ana', groups: [], roles: ['caller'] },
      door: 'mcp',
      signal,
      recording: {
        begin: () => {
          throw new Error('not recorded here')
        },
        refused: async () => undefined,
        close: async () => undefined,
      },
    },
    target: {
      name: 'shop-db',
      protocol: 'postgres',
      labels: {},
      mode: 'enforce',
      record: 'full',
      endpoint: 'db:5432/shop',
      options: {},
    },
    tool: 'query_database',
    payload: {},
    signal,
    hold: { waitMs: 600_000 },
  }
}
