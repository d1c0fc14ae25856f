/**
 * A gateway of its own for each copy: every room is the real one, the recording is written to disk and the log is kept,
 * so that whatever a caller, an approver or an auditor could get hold of can be searched.
 */
import { randomBytes } from 'node:crypto'
import { once } from 'node:events'
import { mkdtemp, readdir, readFile, rm } from 'node:fs/promises'
import type { AddressInfo } from 'node:net'
import { tmpdir } from 'node:os'
import path from 'node:path'
import { createApprovals } from '../../src/approval/create-approvals.ts'
import type { Approvals } from '../../src/approval/approvals.ts'
import type { Call, Judged, Protocol, Session } from '../../src/core/call.ts'
import type { Chunk } from '../../src/core/chunk.ts'
import { SallyportError } from '../../src/core/errors.ts'
import type { Principal } from '../../src/core/principal.ts'
import type { Target } from '../../src/core/target.ts'
import { govern, judge, type Rooms } from '../../src/gateway/gateway.ts'
import { createPermits } from '../../src/gateway/permits.ts'
import { classOf, knownOf } from '../../src/known.ts'
import { createLimits } from '../../src/limits/limits.ts'
import { createMasking } from '../../src/masking/masking.ts'
import { loadPolicy } from '../../src/policy/load.ts'
import { createPostgresDoor, type PostgresDoor, type PostgresDoorRooms } from '../../src/protocols/postgres/listener.ts'
import { endpointOf, postgresOptions, postgresSchema } from '../../src/protocols/postgres/index.ts'
import { loadParser, planQuery } from '../../src/protocols/postgres/plan.ts'
import { postgresProtocol, type PostgresProtocol } from '../../src/protocols/postgres/protocol.ts'
import { createRecorder } from '../../src/recording/index.ts'
import { keysFrom } from '../../src/store/keys.ts'
import { openLowdbStore } from '../../src/store/lowdb-store.ts'
import { createLog } from '../../src/telemetry/log.ts'
import type { TestDatabase, TestRole } from '../services/postgres.ts'
import { MASK_RULES } from './schema.ts'

/** What a caller sees of one statement, in one form for all copies. */
export interface Answer {
  /** `same`, `refused <construct>`, `error <sqlstate>`, `denied`, `timeout` or the code of the gateway's own error. */
  readonly verdict: string
  /** Everything of it. */
  readonly text: string
  /** Absent when the gateway could not judge it at all. */
  readonly judged?: Judged
  readonly columns?: readonly { readonly name: string; readonly type: string }[]
  /** How long the planner worked on it: the least of several tries when it was long. */
  readonly planningMs?: number
}

/** One copy behind its gateway. */
export interface Gateway {
  ask(sql: string, params?: readonly (string | null)[]): Promise<Answer>
  /** What an approver would be shown of it; `undefined` when nobody is asked. */
  approverSees(sql: string): Promise<string | undefined>
  /** Opens the PostgreSQL door, if that was not done, and says where: user `loop`, database `copy`. */
  listen(): Promise<number>
  /** Everything written to recordings and log until now. */
  written(): Promise<string>
  close(): Promise<void>
}

const AGENT: Principal = { id: 'loop', kind: 'agent', groups: ['agents'], roles: ['caller'], owner: 'maria' }
const DBA: Principal = { id: 'ann', kind: 'person', groups: ['dba'], roles: ['approver'], owner: 'ann' }
const TARGET = 'copy'

const policyText = (rest: string): string => `
targets: [${TARGET}]
rules:
  - {id: all, principals: [group:agents], actions: ["sql.*", "sql.unknown"], resources: ["**"], ${rest}}
masks:
${MASK_RULES}`

/** Opens the gateway of one copy. */
export async function openGateway(
  db: TestDatabase,
  role: TestRole,
  options: {
    readonly masking?: 'rewrite' | 'enforced'
    readonly statementTimeout?: string
    /** Called between planning and execution. */
    readonly between?: () => Promise<void>
  } = {},
): Promise<Gateway> {
  const home = await mkdtemp(path.join(tmpdir(), 'sallyport-proof-'))
  const lines: string[] = []
  const log = createLog({ level: 'debug', stream: { write: (line) => void lines.push(line) } })
  const target = targetOf(db, options.masking ?? 'rewrite', options.statementTimeout ?? '60s')
  const keys = keysFrom(randomBytes(32))
  const recorder = createRecorder({
    dir: path.join(home, 'recordings'),
    stateDir: home,
    instance: 'proof',
    payloadKey: keys.derive('recording'),
    classOf,
    now: Date.now,
    log,
    fsync: 'off',
  })
  const recording = await recorder.open({ id: 'proof', principal: AGENT, door: 'test' })
  let planningMs = 0
  const protocol = timedPostgres((ms) => (planningMs = ms), options.between)
  const judgements = new Map<string, Judged>()
  const session: Session = {
    id: 'proof',
    principal: AGENT,
    door: 'test',
    signal: new AbortController().signal,
    recording: {
      ...recording,
      refused: (attempt) => recording.refused(attempt),
      close: () => recording.close(),
      begin(call) {
        const entry = recording.begin(call)
        return {
          decided: (judged) => {
            judgements.set(call.id, judged)
            return entry.decided(judged)
          },
          approval: (event) => entry.approval(event),
          shown: (chunk) => entry.shown(chunk),
          close: (ending, error) => entry.close(ending, error),
        }
      },
    },
  }

  const store = await openLowdbStore({
    file: path.join(home, 'store.json'),
    blobs: path.join(home, 'blobs'),
    key: keys.store,
    mustExist: false,
    now: Date.now,
  })
  const approvals = await createApprovals({
    store,
    keys,
    now: Date.now,
    instance: 'proof',
    onEvent: () => undefined,
    onFault: (error) => log.error({ err: error }, 'approvals'),
  })
  const allowing = roomsOf(policyText('effect: allow'), { protocol, role, target, approvals })
  const asking = roomsOf(policyText('effect: require_approval, approvers: {any_of: [group:dba]}'), {
    protocol,
    role,
    target,
    approvals,
  })

  function callOf(sql: string, params?: readonly (string | null)[]): Call {
    return {
      id: randomBytes(9).toString('base64url'),
      session,
      target,
      tool: 'query_database',
      payload: { sql, ...(params !== undefined && { params }) },
      signal: new AbortController().signal,
      hold: { waitMs: 0 },
    }
  }

  async function ask(sql: string, params?: readonly (string | null)[]): Promise<Answer> {
    const chunks: Chunk[] = []
    let error: SallyportError | undefined
    const call = callOf(sql, params)
    planningMs = 0
    try {
      for await (const chunk of govern(call, allowing)) chunks.push(chunk)
    } catch (thrown) {
      error = SallyportError.from(thrown)
      log.error({ door: 'test', code: error.code, err: error }, error.message)
    }
    const judged = judgements.get(call.id)
    judgements.delete(call.id)
    const head = chunks.find((chunk) => chunk.kind === 'head')
    return {
      verdict: verdictOf(error, judged),
      text: textOf(chunks, error).replaceAll(db.name, 'DB'),
      planningMs,
      ...(judged !== undefined && { judged }),
      ...(head?.columns !== undefined && { columns: head.columns }),
    }
  }

  let door: PostgresDoor | undefined
  let sessions = 0
  async function listen(): Promise<number> {
    if (door === undefined) {
      door = createPostgresDoor(doorRooms(), {
        idleMs: 60_000,
        idleInTransactionMs: 60_000,
        connectionsMax: 50,
        connectionsPerPrincipalMax: 50,
      })
      door.server.listen(0, '127.0.0.1')
      await once(door.server, 'listening')
    }
    return (door.server.address() as AddressInfo).port
  }

  function doorRooms(): PostgresDoorRooms {
    return {
      tls: () => undefined,
      auth: 'password',
      isLocal: () => true,
      scram: () => Promise.reject(new Error('Nobody asks for that here.')),
      authenticate: async () => AGENT,
      target: () => target,
      statementTimeoutMs: () => 60_000,
      async openSession(principal) {
        const controller = new AbortController()
        const id = `wire${++sessions}`
        const kept = await recorder.open({ id, principal, door: 'postgres' })
        return {
          session: { id, principal, door: 'postgres', signal: controller.signal, recording: kept },
          async close() {
            controller.abort()
            await kept.close()
          },
        }
      },
      connect: async (_principal, to, settings, signal) =>
        protocol.openWire(to, { user: role.user, value: role.password }, settings, signal),
      run: (call) => govern(call, allowing),
      judge: (call) => judge(call, allowing),
      withdraw: async () => undefined,
      policyVersion: () => allowing.policy().version,
      isOpen: () => false,
      onFault: (error) => log.error({ err: error }, 'door'),
    }
  }

  return {
    ask,
    listen,
    async approverSees(sql) {
      try {
        for await (const _ of govern(callOf(sql), asking));
      } catch (thrown) {
        const { ticket } = SallyportError.from(thrown).facts
        if (ticket === undefined) return undefined
        const seen = await approvals.inbox.show(DBA, ticket)
        await approvals.inbox.vote({ viewer: DBA, ticket, digest: seen.digest, decision: 'deny' })
        return JSON.stringify(seen)
      }
      return undefined
    },
    async written() {
      const texts = [...lines]
      for (const file of await readdir(home, { recursive: true, withFileTypes: true })) {
        // A file that takes the place of another one may have done so in between; it is read under its new name.
        if (!file.isFile() || file.name.endsWith('.new')) continue
        texts.push(await readFile(path.join(file.parentPath, file.name), 'utf8'))
      }
      return texts.join('\n')
    },
    async close() {
      await door?.close()
      await protocol.close()
      await recording.close()
      await recorder.close()
      await approvals.close()
      await store.close()
      await rm(home, { recursive: true, force: true })
    },
  }
}

/** Longer than this is worth a second look: the first may have been the garbage collector's. */
const LONG_MS = 50
const TRIES = 4

/** The protocol as it is, with a watch on its planner. */
function timedPostgres(onPlanned: (ms: number) => void, between?: () => Promise<void>): PostgresProtocol {
  const protocol = postgresProtocol(async (payload, catalog, under) => {
    await loadParser()
    const started = performance.now()
    const plan = planQuery(payload, catalog, under)
    let leastMs = performance.now() - started
    for (let tries = 1; leastMs > LONG_MS && tries < TRIES; tries++) {
      const { sql, ...rest } = payload as { readonly sql: string }
      const again = performance.now()
      // Another text by a blank: plans are remembered by their text.
      planQuery({ ...rest, sql: sql + ' '.repeat(tries) }, catalog, under)
      leastMs = Math.min(leastMs, performance.now() - again)
    }
    onPlanned(leastMs)
    return plan
  })
  return {
    ...protocol,
    async *execute(...planned) {
      await between?.()
      yield* protocol.execute(...planned)
    },
  }
}

function targetOf(
  { host, port, name }: TestDatabase,
  masking: 'rewrite' | 'enforced',
  statementTimeout: string,
): Target {
  const options = postgresOptions(
    postgresSchema.parse({
      host,
      port,
      database: name,
      tls: 'disable',
      pool: 1,
      masking,
      statement_timeout: statementTimeout,
    }),
  )
  return {
    name: TARGET,
    protocol: 'postgres',
    labels: {},
    mode: 'enforce',
    record: 'full',
    endpoint: endpointOf(options),
    options,
  }
}

function roomsOf(
  yaml: string,
  from: {
    readonly protocol: Protocol
    readonly role: TestRole
    readonly target: Target
    readonly approvals: Approvals
  },
): Rooms {
  const loaded = loadPolicy([{ path: 'proof.yaml', text: yaml }], knownOf([from.target]))
  const { policy } = loaded
  if (policy === undefined) throw new Error(JSON.stringify(loaded.problems))
  return {
    protocols: { postgres: from.protocol },
    policy: () => policy,
    permits: createPermits({
      approvals: from.approvals,
      limits: createLimits({ now: () => performance.now() }),
      policyVersion: () => policy.version,
      isCurrent: async () => true,
    }),
    credentials: { read: async () => ({ user: from.role.user, value: from.role.password }) },
    masking: createMasking({ hashKey: new Uint8Array(32) }),
    now: Date.now,
  }
}

function verdictOf(error: SallyportError | undefined, judged: Judged | undefined): string {
  if (error === undefined) return 'same'
  const construct = error.facts.construct ?? judged?.plan.refused?.construct
  if (construct !== undefined) return `refused ${construct}`
  if (error.facts.sqlstate !== undefined) return `error ${error.facts.sqlstate}`
  return error.code
}

/** Where one chunk of rows ends and the next begins is a matter of time; everything else counts. */
function textOf(chunks: readonly Chunk[], error: SallyportError | undefined): string {
  const rows = chunks.flatMap((chunk) => (chunk.kind === 'data' && chunk.channel === 'rows' ? chunk.rows : []))
  const bytes = chunks.flatMap((chunk) => (chunk.kind === 'data' && chunk.channel !== 'rows' ? [chunk.bytes] : []))
  const others = chunks.filter((chunk) => chunk.kind !== 'data')
  const said = error === undefined ? [] : [{ code: error.code, message: error.message, facts: error.facts }]
  return JSON.stringify([...others, rows, Buffer.concat(bytes).toString('latin1'), ...said])
}
