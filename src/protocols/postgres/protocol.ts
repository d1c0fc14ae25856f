/**
 * PostgreSQL as the spine sees it: what a call means is asked of a planner, with the catalog of this moment; what was
 * planned is run by the connector.
 *
 * @packageDocumentation
 */
import type { Part } from '../../core/action.ts'
import type { Call, DescribedTable, Permit, PlanContext, Protocol, Secret, Proven } from '../../core/call.ts'
import type { Chunk } from '../../core/chunk.ts'
import type { ColumnMask } from '../../core/decision.ts'
import { SallyportError } from '../../core/errors.ts'
import type { Preview } from '../../core/preview.ts'
import type { Target } from '../../core/target.ts'
import { CatalogKeeper, type LoadedCatalog } from './catalog-load.ts'
import type { Catalog, Relation } from './catalog.ts'
import { DeadConnection, execute, NotOpened, StaleCatalog, type GuardKind, type Held } from './connector.ts'
import { lost } from './errors.ts'
import { MaskBindings } from './mask-bindings.ts'
import { modeOf } from './masking-mode.ts'
import { bindMasks, type BoundMasks } from './masks.ts'
import { resourceName } from './names.ts'
import { endpointOf, planSettings, type PostgresOptions } from './options.ts'
import { alikeOf, isProven } from './plan-base.ts'
import type { PlanUnder, PostgresPlan } from './plan-types.ts'
import { loadParser, refusal } from './plan.ts'
import { isParserLoaded } from './parse.ts'
import { Pool } from './pool.ts'
import { guardSql, lockSql, readGuard } from './preview/guard.ts'
import { previewInside } from './preview/inside.ts'
import { readMeaning } from './preview/meaning.ts'
import { previewWrite, type PreviewSession } from './preview/preview.ts'
import { withoutValues } from './shown.ts'
import { UpstreamConnection } from './connection.ts'
import { WireBackend } from './wire/backend.ts'
import { executeWire, type WireTarget } from './wire/execute.ts'
import type { HeldInside } from './wire/run.ts'
import { typesOf, WireCall } from './wire/payload.ts'
import { planAsWritten, planWire } from './wire/plan-wire.ts'
import { isReadableValue } from './wire/values.ts'

/** Works out what a payload means. Pure. */
export type Planner = (
  payload: unknown,
  catalog: Catalog,
  context: { readonly masks: readonly ColumnMask[] } & ReturnType<typeof planSettings>,
) => PostgresPlan | Promise<PostgresPlan>

/** What is kept for one target. */
interface Backend {
  readonly options: PostgresOptions
  readonly keeper: CatalogKeeper
  readonly pool: Pool
  readonly bindings: MaskBindings
  /** Until then (on the clock of `performance`) others write so often that a snapshot tells nothing. */
  busyUntilMs: number
  /** See {@link underOf}. */
  under?: PlanUnder
}

/** After a snapshot moved between plan and execution, the catalog itself is compared for this long. */
const BUSY_MS = 10_000
/** How often a call is planned again because the schema changed under it, before it is sent back. */
const REPLANS_MAX = 2

/** PostgreSQL for the spine and for the listener, whose clients each have a backend connection of their own. */
export interface PostgresProtocol extends Protocol<PostgresPlan> {
  /**
   * Opens the backend connection of one client. Its calls carry a `WireCall` that names it.
   *
   * @param settings start-up settings of the client, already checked.
   * @param isOpen set when the policy lets this client do anything: it then has the server's own `search_path`.
   * @throws SallyportError `ERR_UPSTREAM_UNREACHABLE`, `ERR_UPSTREAM_AUTH`, `ERR_CREDENTIAL_MISSING`, `ERR_SHUTTING_DOWN`
   */
  openWire(
    target: Target,
    secret: Secret,
    settings: Readonly<Record<string, string>>,
    signal: AbortSignal,
    isOpen?: boolean,
  ): Promise<WireBackend>
}

/** How often a catalog that changes is looked at again before its masks were tried. */
const LOOKS_MAX = 4

/** What plans of a wire are made under: the very same while masks and settings are. */
function underOf(backend: Backend, masks: readonly ColumnMask[]): PlanUnder {
  if (backend.under?.masks !== masks) backend.under = { masks, ...planSettings(backend.options) }
  return backend.under
}

/** Expressions of masks that the database was not asked about yet (R7). */
function untried({ options }: Backend, catalog: Catalog, masks: readonly ColumnMask[]): readonly string[] {
  if (masks.length === 0) return NONE
  const bound = boundOrNot(catalog, masks, options.masking)
  if (bound === undefined || bound.trials.size === 0) return NONE
  const said = catalog.maskTrials
  for (const expression of bound.trials.keys()) {
    if (said?.has(expression) !== true) return [...bound.trials.keys()]
  }
  return NONE
}

const NONE: readonly string[] = []

/** Masks that fit nothing are refused where the call is planned. */
function boundOrNot(
  catalog: Catalog,
  masks: readonly ColumnMask[],
  demanded: PostgresOptions['masking'],
): BoundMasks | undefined {
  try {
    return bindMasks(catalog, masks, demanded)
  } catch {
    return undefined
  }
}

/** Builds the protocol with the planner it is to ask. */
export function postgresProtocol(planner: Planner): PostgresProtocol {
  const backends = new Map<string, Backend>()
  /** The same by identity: to spell a target's endpoint for every call costs more than to run it. */
  const byTarget = new WeakMap<Target, Backend>()

  let closing: SallyportError | undefined

  function backendOf(target: Target): Backend {
    if (closing !== undefined) throw closing
    const met = byTarget.get(target)
    if (met !== undefined) return met
    const options = target.options as PostgresOptions
    const key = JSON.stringify([target.name, endpointOf(options)])
    const known = backends.get(key)
    if (known !== undefined) {
      byTarget.set(target, known)
      return known
    }
    const upstream = { target: target.name, options }
    const backend: Backend = {
      options,
      keeper: new CatalogKeeper(upstream),
      pool: new Pool(upstream),
      bindings: new MaskBindings(target.name),
      busyUntilMs: 0,
    }
    backends.set(key, backend)
    byTarget.set(target, backend)
    return backend
  }

  /** The catalog of this moment, with every mask standing for what it stood for. */
  async function catalogNow(
    backend: Backend,
    masks: readonly ColumnMask[],
    secret: () => Promise<Secret>,
    signal: AbortSignal,
  ): Promise<LoadedCatalog> {
    let loaded = await backend.keeper.current(secret, signal)
    for (let looks = 0; looks < LOOKS_MAX; looks++) {
      backend.bindings.check(loaded.catalog, masks)
      const trials = untried(backend, loaded.catalog, masks)
      if (trials.length === 0) return loaded
      loaded = await backend.keeper.tried(trials, secret, signal)
    }
    throw new SallyportError('ERR_UPSTREAM_REJECTED', 'The schema changes too fast for its masks to be tried.', {
      facts: { retryAfterMs: 1000 },
    })
  }

  async function* run(
    call: Call,
    planned: PostgresPlan,
    permit: Permit,
    secret: Secret,
  ): AsyncGenerator<Chunk, void, undefined> {
    const refused = refusal(planned)
    if (refused !== undefined) throw refused
    const backend = backendOf(call.target)
    let plan = planned
    let isRetried = false
    for (let replans = 0; ;) {
      permit.signal.throwIfAborted()
      const catalog =
        backend.keeper.latest ?? (await catalogNow(backend, plan.masks, async () => secret, permit.signal))
      const guard = guardOf(backend, catalog, plan)
      try {
        yield* execute(
          {
            target: call.target.name,
            options: backend.options,
            pool: backend.pool,
            plan,
            permit,
            secret,
            catalog,
            isPaged: isPaged(call, plan, permit),
            ...heldBy(backend, plan, permit, secret),
          },
          guard,
        )
        return
      } catch (error) {
        if (error instanceof DeadConnection && !isRetried) {
          isRetried = true
          continue
        }
        if (error instanceof StaleCatalog && !error.isCertain) {
          backend.busyUntilMs = performance.now() + BUSY_MS
          continue
        }
        if (!(error instanceof StaleCatalog || error instanceof NotOpened)) throw error
        // The role the plan was made for is not the one that runs it: what that one may read is asked anew.
        if (catalog.catalog.rights?.role !== secret.user) backend.keeper.reset()
        const fresh = await catalogNow(backend, plan.masks, async () => secret, permit.signal)
        const isUnchanged = fresh.catalog.fingerprint === plan.fingerprint
        if (error instanceof NotOpened && isUnchanged) throw error.rejection
        if (++replans > REPLANS_MAX) throw stale(call, permit)
        const again = await planner(call.payload, fresh.catalog, {
          masks: plan.masks,
          ...planSettings(backend.options),
        })
        // Only what was judged may run (C1): with the new schema the call must mean the very same.
        if (!meansTheSame(plan, again)) throw stale(call, permit)
        plan = again
      }
    }
  }

  /** What the approvers of the call saw, which its execution must find (C14). */
  function heldBy(
    backend: Backend,
    plan: PostgresPlan,
    permit: Permit,
    secret: Secret,
  ): { readonly held: Held } | undefined {
    if (permit.guard === undefined) return undefined
    return {
      held: {
        step: { do: 'run', sql: comparison(plan, permit.guard), params: plan.params },
        async look() {
          const { catalog } = await catalogNow(backend, plan.masks, async () => secret, permit.signal)
          if (catalog.fingerprint !== plan.fingerprint) throw new StaleCatalog(true)
        },
      },
    }
  }

  /** What a wire call needs; its look at the catalog reads the secret only when a connection must be made for it. */
  function wireTarget(
    call: Call,
    wire: WireCall,
    secret: () => Promise<Secret>,
    permit: Permit,
    plan: PostgresPlan,
  ): WireTarget {
    const backend = backendOf(call.target)
    const { keeper, options } = backend
    return {
      latest: () => keeper.latest,
      look: () => catalogNow(backend, plan.masks, secret, permit.signal),
      guardOf: (catalog, planned) => guardOf(backend, catalog, planned),
      onBusy: () => (backend.busyUntilMs = performance.now() + BUSY_MS),
      plan: async ({ catalog }, masks) => planWire(wire, catalog, { masks, ...planSettings(options) }),
      meansTheSame,
      ended: (error) => endOf(call, permit, error),
    }
  }

  async function planCall(call: Call, context: PlanContext): Promise<PostgresPlan> {
    const backend = backendOf(call.target)
    const { catalog } = await catalogNow(backend, context.masks, context.secret, context.signal)
    return planner(call.payload, catalog, { masks: context.masks, ...planSettings(backend.options) })
  }

  /** The plan as it is made with the catalog of now, provided that it means the very same. */
  async function planNow(
    backend: Backend,
    { payload }: Call,
    planned: PostgresPlan,
    { catalog }: LoadedCatalog,
  ): Promise<PostgresPlan> {
    if (planned.fingerprint === catalog.fingerprint) return planned
    const under = { masks: planned.masks, ...planSettings(backend.options) }
    const again =
      payload instanceof WireCall ? planWire(payload, catalog, under) : await planner(payload, catalog, under)
    if (meansTheSame(planned, again)) return again
    throw new SallyportError('ERR_UPSTREAM_REJECTED', 'the schema changed while it was made.')
  }

  /** While its transaction is idle, what a wire call was planned with is compared when it runs; else it is looked at now. */
  function planOnWire(call: Call, wire: WireCall, context: PlanContext): PostgresPlan | Promise<PostgresPlan> {
    const backend = backendOf(call.target)
    if (context.isOpen === true) return planOpen(backend, wire, context)
    const mustLook = wire.followsChange || wire.backend.status === 'T' || wire.backend.isOpen
    const known = mustLook || !isParserLoaded() ? undefined : backend.keeper.latest
    const under = underOf(backend, context.masks)
    if (known !== undefined && untried(backend, known.catalog, context.masks).length === 0) {
      backend.bindings.check(known.catalog, context.masks)
      const plan = planWire(wire, known.catalog, under)
      const isUnderstood = !plan.action.parts.some(({ verb }) => verb === 'sql.unknown')
      // What is not understood may be about something that was made since; nobody is refused for an old catalog.
      if (isUnderstood && plan.refused === undefined) return plan
    }
    return planWithLook(backend, wire, context, under)
  }

  async function planWithLook(
    backend: Backend,
    wire: WireCall,
    context: PlanContext,
    under: PlanUnder,
  ): Promise<PostgresPlan> {
    await loadParser()
    const { catalog } = await catalogNow(backend, context.masks, context.secret, context.signal)
    return planWire(wire, catalog, under)
  }

  /** What may be anything is never held to a catalog: the one seen last tells as much of it as there is to tell. */
  async function planOpen(backend: Backend, wire: WireCall, context: PlanContext): Promise<PostgresPlan> {
    await loadParser()
    const { catalog } = backend.keeper.latest ?? (await catalogNow(backend, [], context.secret, context.signal))
    return planAsWritten(wire, catalog, { masks: [], ...planSettings(backend.options) })
  }

  return {
    name: 'postgres',

    async openWire(target, secret, settings, signal, isOpen = false) {
      const { options } = backendOf(target)
      const upstream = { target: target.name, options }
      // Names then mean what they mean at the server, temporary tables first. Should the policy ask what they mean after
      // all, the session ends (C7).
      const unpinned = isOpen ? ['search_path'] : []
      const connection = await UpstreamConnection.open(upstream, secret, signal, settings, unpinned)
      return new WireBackend(target.name, connection.handOver(), isOpen)
    },

    plan(call, context) {
      if (call.payload instanceof WireCall) return planOnWire(call, call.payload, context)
      return planCall(call, context)
    },

    withoutValues,

    alike: alikeOf,

    proves: isProven,

    // A client's session has its connection since it began.
    isConnected: ({ payload }) => payload instanceof WireCall,

    execute(call, plan, permit, secret, readSecret = async () => secret) {
      const { payload } = call
      if (!(payload instanceof WireCall)) return ending(call, permit, run(call, plan, permit, secret))
      const { guard } = permit
      const target = wireTarget(call, payload, readSecret, permit, plan)
      return executeWire(call, payload, plan, permit, {
        ...target,
        ...(guard !== undefined && { comparison: (of: PostgresPlan) => comparison(of, guard) }),
        ...(permit.prove !== undefined && call.hold.inTransaction !== undefined && { inside: heldInside(guard) }),
      })
    },

    async preview(call, planned, { masks, secret, signal }) {
      const backend = backendOf(call.target)
      if (backend.options.preview === 'off') {
        return {
          sections: [],
          missing: 'There is no preview: the configuration of this target switches it off.',
          ...(planned.readOnly && { touched: {} }),
        }
      }
      const used = await secret()
      // A client with a session is planned for by the catalog that was seen last.
      const catalog = await catalogNow(backend, planned.masks, async () => used, signal)
      const plan = await planNow(backend, call, planned, catalog)
      const { options, pool } = backend
      const of = { target: call.target.name, options, pool, plan, catalog, masks, secret: used, signal }
      const { payload } = call
      if (!(payload instanceof WireCall)) return previewWrite(of)
      if (call.hold.inTransaction !== undefined) {
        const paramTypes = readableTypes(payload)
        if (paramTypes === undefined) return UNREAD
        const look = (): Promise<LoadedCatalog> => catalogNow(backend, plan.masks, async () => used, signal)
        return previewInside({ ...of, session: { paramTypes }, backend: payload.backend, look })
      }
      // What writes nothing needs no session to say so.
      const session = plan.readOnly ? NO_SESSION : await sessionOf(payload)
      if (typeof session === 'string') return { sections: [], missing: `There is no preview: ${session}.` }
      return previewWrite({ ...of, session })
    },

    async describe(call, context: PlanContext) {
      const loaded = await catalogNow(backendOf(call.target), context.masks, context.secret, context.signal)
      return describeTables(loaded, bindMasks(loaded.catalog, context.masks))
    },

    async outcome(target, { xid }, secret, signal) {
      if (!/^\d{1,19}$/.test(xid)) return 'unknown'
      const { pool } = backendOf(target)
      const { connection } = await pool.lease(secret, signal)
      // Whoever asks is the one that also renews leases and lets tickets expire: a server that hangs must not hold it up.
      const abort = (): void => connection.destroy(signal.reason)
      signal.addEventListener('abort', abort, { once: true })
      try {
        const [row] = await connection.query('SELECT pg_catalog.txid_status($1::pg_catalog.int8)', [xid])
        return PROVEN[row?.[0] ?? ''] ?? 'unknown'
      } finally {
        signal.removeEventListener('abort', abort)
        pool.release(connection, signal.aborted)
      }
    },

    async close() {
      closing = new SallyportError('ERR_SHUTTING_DOWN', 'The gateway is shutting down.')
      await Promise.all([...backends.values()].flatMap(({ keeper, pool }) => [keeper.close(), pool.close()]))
      backends.clear()
    },
  }
}

const NO_SESSION: PreviewSession = { settings: {}, paramTypes: [] }

/** What of a client's session its preview needs, or why there can be none. */
async function sessionOf(wire: WireCall): Promise<PreviewSession | string> {
  const settings = readMeaning(await wire.backend.meaning())
  if (settings === undefined) return 'the settings of the session could not be read'
  const paramTypes = readableTypes(wire)
  return paramTypes === undefined ? UNREAD_WHY : { settings, paramTypes }
}

const UNREAD_WHY = 'a parameter is in a binary form that is not known here'
const UNREAD: Preview = { sections: [], missing: `There is no preview: ${UNREAD_WHY}.` }

/** Types of its parameters; `undefined` where one of them could not be tried as the very value it is. */
function readableTypes({ portal }: WireCall): readonly number[] | undefined {
  if (portal === undefined) return []
  const paramTypes = typesOf(portal.statement)
  const { params, paramFormats } = portal.bind
  // A binary one is only text where its type says how.
  return params.every((value, at) => isReadableValue(value, paramFormats, paramTypes, at)) ? paramTypes : undefined
}

/** What holds an approved statement inside its client's transaction to what its approvers saw, if they saw anything. */
function heldInside(guard: string | undefined): HeldInside {
  const read = guard === undefined ? undefined : readGuard(guard)
  return {
    locks: ({ sql, params }) => (read === undefined ? [] : lockSql(sql, params.length, read)),
    count: read?.count,
  }
}

/** SQL that fails unless the plan would do what its approvers saw. */
function comparison({ sql, params }: PostgresPlan, text: string): string {
  const guard = readGuard(text)
  const made = guard === undefined ? undefined : guardSql(sql, params.length, guard)
  // Fail closed: what cannot be compared is not what was approved.
  if (made === undefined) throw new SallyportError('ERR_APPROVAL_STALE', 'The preview cannot be compared any more.')
  return made
}

async function* ending(call: Call, permit: Permit, chunks: AsyncIterable<Chunk>): AsyncGenerator<Chunk> {
  try {
    yield* chunks
  } catch (error) {
    throw endOf(call, permit, error)
  }
}

/** What a call that failed ends with: one that was aborted, whatever was met on the way, with why it was. */
function endOf(call: Call, permit: Permit, error: unknown): unknown {
  if (permit.signal.aborted && error === permit.signal.reason) return reasonOf(permit.signal)
  return error instanceof DeadConnection ? lost(call.target.name, error) : error
}

/** What `txid_status()` answers; it is NULL for a transaction so long ago that nothing is known of it any more. */
const PROVEN: Readonly<Record<string, Proven>> = {
  committed: 'took_effect',
  aborted: 'no_effect',
  'in progress': 'running',
}

/**
 * Whether the result may be left unread for a while. Not that of a write, which is committed when it was taken; and not
 * one under an approval, which is stored whole for whoever asks again (C12).
 */
function isPaged(call: Call, plan: PostgresPlan, permit: Permit): boolean {
  return call.isPaged === true && plan.readOnly && plan.kind === 'select' && permit.decision.effect === 'allow'
}

function guardOf(backend: Backend, { catalog }: LoadedCatalog, plan: PostgresPlan): GuardKind {
  const isBusy = performance.now() < backend.busyUntilMs
  return isBusy || catalog.fingerprint !== plan.fingerprint ? 'fingerprint' : 'snapshot'
}

/** Whether two plans are the same but for the fingerprint they were made with. */
function meansTheSame(judged: PostgresPlan, again: PostgresPlan): boolean {
  return JSON.stringify(comparable(judged)) === JSON.stringify(comparable(again))
}

function comparable(plan: PostgresPlan): object {
  const { statements, ...rest } = plan
  return {
    ...rest,
    fingerprint: '',
    maskedOutputs: [...plan.maskedOutputs],
    ...(statements !== undefined && { statements: statements.map(comparable) }),
  }
}

function stale(call: Call, permit: Permit): SallyportError {
  const isApproved = permit.decision.effect === 'require_approval'
  return new SallyportError(
    isApproved ? 'ERR_APPROVAL_STALE' : 'ERR_UPSTREAM_REJECTED',
    `The schema of target ${call.target.name} changed after the call was judged; nothing ran. Send it again.`,
    { facts: { retryAfterMs: 0 } },
  )
}

function reasonOf(signal: AbortSignal): SallyportError {
  if (signal.reason instanceof SallyportError) return signal.reason
  return new SallyportError('ERR_CANCELLED', 'The call was cancelled.', { cause: signal.reason })
}

const DESCRIBED_KINDS = new Set(['table', 'view', 'materialized_view', 'foreign_table', 'partitioned_table'])

function describeTables({ catalog, comments }: LoadedCatalog, masks: BoundMasks): DescribedTable[] {
  return catalog.relations
    .filter(({ builtin, kind }) => !builtin && DESCRIBED_KINDS.has(kind))
    .sort((a, b) => compare(a.schema, b.schema) || compare(a.name, b.name))
    .map((relation) => {
      const comment = comments.get(relation.oid)
      const masking = modeOf(
        catalog.rights,
        masks.columns.filter((column) => column.relation === relation.oid),
      )
      return {
        schema: relation.schema,
        name: relation.name,
        kind: relation.kind as DescribedTable['kind'],
        ...(comment !== undefined && { comment }),
        ...(masking !== 'none' && { masking }),
        columns: relation.columns.map(({ name, type, notNull }) => ({ name, type, nullable: !notNull })),
        reading: (columns) => readingPart(relation, columns),
      }
    })
}

/** The part `SELECT columns FROM relation` has. */
function readingPart(relation: Relation, columns: readonly string[]): Part {
  const read = [...columns].sort()
  return {
    verb: 'sql.select',
    resource: { type: 'sql', name: resourceName(relation), columns: read },
    attributes: { columns_read: read, has_where: false, locking: false, returning: false, via: '' },
  }
}

function compare(a: string, b: string): number {
  return a < b ? -1 : a > b ? 1 : 0
}
