/**
 * What the connector's tests stand on: the real protocol against the real server, with a planner that takes each call at
 * its word. So a test can run what no policy would let through, and see what the connector itself holds back.
 */
import { randomUUID } from 'node:crypto'
import type { Call, Permit, Protocol, Session } from '../../src/core/call.ts'
import type { Chunk } from '../../src/core/chunk.ts'
import type { ColumnMask, Obligations } from '../../src/core/decision.ts'
import { SallyportError } from '../../src/core/errors.ts'
import type { Target } from '../../src/core/target.ts'
import type { Catalog } from '../../src/protocols/postgres/catalog.ts'
import { endpointOf, postgresOptions, postgresSchema } from '../../src/protocols/postgres/options.ts'
import type { PostgresPlan } from '../../src/protocols/postgres/plan.ts'
import { postgresProtocol } from '../../src/protocols/postgres/protocol.ts'
import type { TestDatabase, TestRole } from '../services/postgres.ts'

/** A call, and what the planner is to say of it. */
export interface Payload extends Partial<Pick<PostgresPlan, 'kind' | 'readOnly' | 'touchesMasked' | 'tripwire'>> {
  readonly sql: string
  readonly params?: readonly (string | null)[]
  readonly rowsMax?: number
}

export interface RunOptions {
  readonly obligations?: Partial<Obligations>
  readonly masks?: readonly ColumnMask[]
  readonly signal?: AbortSignal
  /** Called between planning and execution. */
  readonly between?: () => Promise<unknown>
  readonly role?: TestRole
}

export interface Answer {
  readonly columns: readonly { readonly name: string; readonly type: string }[]
  readonly rows: (string | null)[][]
  readonly notices: Extract<Chunk, { kind: 'notice' }>[]
  readonly exit: Extract<Chunk, { kind: 'exit' }>
  readonly chunks: Chunk[]
}

export interface ConnectorKit {
  readonly protocol: Protocol<PostgresPlan>
  readonly target: Target
  start(payload: Payload, options?: RunOptions): AsyncGenerator<Chunk, void, undefined>
  ask(payload: Payload | string, options?: RunOptions): Promise<Answer>
  /** The error a call ends with. */
  failure(payload: Payload | string, options?: RunOptions): Promise<SallyportError>
  close(): Promise<void>
}

/** Takes a payload at its word. */
function plannerOf(payload: unknown, catalog: Catalog, masks: readonly ColumnMask[]): PostgresPlan {
  const { sql, params = [], kind, readOnly, rowsMax, touchesMasked, tripwire } = payload as Payload
  const isSelect = /^\s*(select|with|values|table)\b/iu.test(sql)
  return {
    action: { parts: [], attributes: {} },
    exact: sql,
    shown: { text: sql },
    masks,
    sql,
    params,
    kind: kind ?? (isSelect ? 'select' : 'unknown'),
    readOnly: readOnly ?? isSelect,
    returnsRows: isSelect,
    ...(rowsMax !== undefined && { rowsMax }),
    fingerprint: catalog.fingerprint,
    hidesValues: false,
    objects: [],
    touchesMasked: touchesMasked ?? false,
    tripwire: tripwire ?? [],
    maskedOutputs: new Map(),
  }
}

export function connectorKit(
  db: Pick<TestDatabase, 'host' | 'port' | 'name' | 'user' | 'password'>,
  role: TestRole,
  config: Record<string, unknown> = {},
): ConnectorKit {
  const { host, port } = db
  const options = postgresOptions(postgresSchema.parse({ host, port, database: db.name, tls: 'disable', ...config }))
  const target: Target = {
    name: 'shop-db',
    protocol: 'postgres',
    labels: {},
    mode: 'enforce',
    record: 'full',
    endpoint: endpointOf(options),
    options,
  }
  const protocol = postgresProtocol((payload, catalog, { masks }) => plannerOf(payload, catalog, masks))

  async function* start(payload: Payload, run: RunOptions = {}): AsyncGenerator<Chunk, void, undefined> {
    const signal = run.signal ?? new AbortController().signal
    const login = run.role ?? role
    const secret = { user: login.user, value: login.password }
    const call = callOf(target, payload, signal)
    const plan = await protocol.plan(call, { masks: run.masks ?? [], secret: async () => secret, signal })
    await run.between?.()
    yield* protocol.execute(call, plan, permitOf(signal, run.obligations), secret)
  }

  async function ask(payload: Payload | string, run: RunOptions = {}): Promise<Answer> {
    const chunks: Chunk[] = []
    for await (const chunk of start(typeof payload === 'string' ? { sql: payload } : payload, run)) chunks.push(chunk)
    const exit = chunks.at(-1)
    if (exit?.kind !== 'exit') throw new Error('A result ends with its exit.')
    return {
      chunks,
      columns: chunks.flatMap((chunk) => (chunk.kind === 'head' ? (chunk.columns ?? []) : [])),
      rows: chunks.flatMap((chunk) => (chunk.kind === 'data' && chunk.channel === 'rows' ? chunk.rows : [])) as (
        | string
        | null
      )[][],
      notices: chunks.filter((chunk) => chunk.kind === 'notice'),
      exit,
    }
  }

  return {
    protocol,
    target,
    start,
    ask,
    async failure(payload, run) {
      try {
        await ask(payload, run)
      } catch (error) {
        if (error instanceof SallyportError) return error
        throw error
      }
      throw new Error('The call did not fail.')
    },
    close: () => protocol.close(),
  }
}

export function callOf(target: Target, payload: unknown, signal: AbortSignal): Call {
  const session: Session = {
    id: randomUUID(),
    principal: { id: 'loop', kind: 'agent', groups: [], roles: ['caller'], owner: 'maria' },
    door: 'test',
    recording: {
      begin: () => {
        throw new Error('Nothing is recorded here.')
      },
      refused: async () => undefined,
      close: async () => undefined,
    },
    signal,
  }
  return { id: randomUUID(), session, target, tool: 'query_database', payload, signal, hold: { waitMs: 0 } }
}

export function permitOf(signal: AbortSignal, more: Partial<Obligations> = {}): Permit {
  const obligations: Obligations = { rates: [], budgets: [], columns: [], detect: [], ...more }
  return {
    obligations,
    signal,
    decision: { effect: 'allow', rules: [], reason: '', obligations, approvals: [], policyVersion: '', parts: [] },
  }
}

/** Resolves when `holds` does; the conditions waited for here come true by themselves or the test times out. */
export async function until(holds: () => Promise<boolean>): Promise<void> {
  while (!(await holds())) await new Promise<void>((resolve) => setImmediate(resolve))
}
