import { randomUUID } from 'node:crypto'
import path from 'node:path'
import { afterEach } from 'vitest'
import type { Consent } from '../../src/approval/approvals.ts'
import { type ApprovalOptions, type ApprovalRoom, createApprovals } from '../../src/approval/create-approvals.ts'
import type { ApprovalEvent, ApprovalSettings } from '../../src/approval/desk.ts'
import type { Call, Judged } from '../../src/core/call.ts'
import type { Chunk } from '../../src/core/chunk.ts'
import { SallyportError } from '../../src/core/errors.ts'
import type { Principal } from '../../src/core/principal.ts'
import { keysFrom } from '../../src/store/keys.ts'
import { openLowdbStore } from '../../src/store/lowdb-store.ts'
import type { Store } from '../../src/store/store.ts'
import { temporaryDirectory } from '../store/kit.ts'
import { BOB, call, judged } from './fakes.ts'

const KEYS = keysFrom(new Uint8Array(32).fill(1))

/** One place where a gateway keeps its state, and as many runs of the gateway on it as a test wants. */
export interface World {
  readonly clock: { now: number }
  readonly store: Store
  readonly events: ApprovalEvent[]
  open(options?: Partial<ApprovalOptions>): Promise<ApprovalRoom>
  /** Files the call and returns its ticket without waiting. */
  file(room: ApprovalRoom, asked?: Call, as?: Judged): Promise<string>
}

const rooms: ApprovalRoom[] = []
afterEach(async () => {
  for (const room of rooms.splice(0)) await room.close()
})

export async function world(settings: Partial<ApprovalSettings> = {}, shared?: Store): Promise<World> {
  const clock = { now: Date.parse('2026-11-23T10:00:00Z') }
  const store = shared ?? (await storeInDirectory(() => clock.now))
  const events: ApprovalEvent[] = []
  return {
    clock,
    store,
    events,
    async open(options) {
      const room = await createApprovals({
        store,
        keys: KEYS,
        now: () => clock.now,
        instance: randomUUID(),
        onEvent: (event) => void events.push(event),
        onFault: (error) => {
          throw error
        },
        settings,
        ...options,
      })
      rooms.push(room)
      return room
    },
    async file(room, asked = call(), as = judged()) {
      const error = await errorOf(room.consent({ ...asked, hold: { waitMs: 0 } }, as))
      if (error.code !== 'ERR_APPROVAL_PENDING' || error.facts.ticket === undefined) throw error
      return error.facts.ticket
    },
  }
}

async function storeInDirectory(now: () => number): Promise<Store> {
  const directory = await temporaryDirectory()
  return openLowdbStore({
    file: path.join(directory, 'store.json'),
    blobs: path.join(directory, 'blobs'),
    key: KEYS.store,
    mustExist: false,
    now,
  })
}

/** Votes as a person does: looks at the ticket, then answers what was seen. */
export async function vote(
  room: ApprovalRoom,
  viewer: Principal,
  ticket: string,
  decision: 'approve' | 'deny' = 'approve',
  reason?: string,
): Promise<string> {
  const { digest } = await room.inbox.show(viewer, ticket)
  const view = await room.inbox.vote({ viewer, ticket, digest, decision, ...(reason !== undefined && { reason }) })
  return view.state
}

/** Votes for all that the ticket says its approval covers. */
export async function voteForAll(room: ApprovalRoom, viewer: Principal, ticket: string): Promise<string> {
  const { digest, covers } = await room.inbox.show(viewer, ticket)
  if (covers === undefined) throw new Error('its approval covers this call only')
  return (await room.inbox.vote({ viewer, ticket, digest, decision: 'approve', covers: covers.id })).state
}

export type Granted = Extract<Consent, { kind: 'granted' }>
export type Executed = Extract<Consent, { kind: 'executed' }>

export async function granted(consent: Promise<Consent>): Promise<Granted> {
  const got = await consent
  if (got.kind !== 'granted') throw new Error(`got ${got.kind}`)
  return got
}

export async function executed(consent: Promise<Consent>): Promise<Executed> {
  const got = await consent
  if (got.kind !== 'executed') throw new Error(`got ${got.kind}`)
  return got
}

/** Files, has Bob approve, and claims. */
export async function claimed(
  place: World,
  room: ApprovalRoom,
  asked = call(),
): Promise<{ ticket: string; claim: Awaited<ReturnType<Granted['claim']>> }> {
  const ticket = await place.file(room, asked)
  await vote(room, BOB, ticket)
  const grant = await granted(room.consent(asked, judged()))
  return { ticket, claim: await grant.claim(judged()) }
}

export async function errorOf(promise: Promise<unknown>): Promise<SallyportError> {
  try {
    await promise
  } catch (error) {
    if (error instanceof SallyportError) return error
    throw error
  }
  throw new Error('it did not fail')
}

export async function codeOf(promise: Promise<unknown>): Promise<string> {
  return (await errorOf(promise)).code
}

export async function collect(chunks: AsyncIterable<Chunk>): Promise<Chunk[]> {
  const all: Chunk[] = []
  for await (const chunk of chunks) all.push(chunk)
  return all
}
