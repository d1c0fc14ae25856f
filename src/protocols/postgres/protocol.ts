/**
 * PostgreSQL as the spine sees it: what a call means is asked of a planner, with the catalog of this moment; what was
 * planned is run by the connector.
 *
 * @packageDocumentation
 */
import type { Part } from '../../core/action.ts'
import type { Call, DescribedTable, Permit, PlanContext, Protocol, Secret } from '../../core/call.ts'
import type { Chunk } from '../../core/chunk.ts'
import type { ColumnMask } from '../../core/decision.ts'
import { SallyportError } from '../../core/errors.ts'
import type { Target } from '../../core/target.ts'
import { CatalogKeeper, type LoadedCatalog } from './catalog-load.ts'
import type { Catalog, Relation } from './catalog.ts'
import { DeadConnection, execute, NotOpened, StaleCatalog, type GuardKind } from './connector.ts'
import { lost } from './errors.ts'
import { MaskBindings } from './mask-bindings.ts'
import { modeOf } from './masking-mode.ts'
import { bindMasks, type BoundMasks } from './masks.ts'
import { resourceName } from './names.ts'
import { endpointOf, type PostgresOptions } from './options.ts'
import type { PostgresPlan } from './plan-types.ts'
import { refusal } from './plan.ts'
import { Pool } from './pool.ts'
import { withoutValues } from './shown.ts'

/** Works out what a payload means. Pure. */
export type Planner = (
  payload: unknown,
  catalog: Catalog,
  context: { readonly masks: readonly ColumnMask[]; readonly masking: PostgresOptions['masking'] },
) => PostgresPlan | Promise<PostgresPlan>

/** What is kept for one target. */
interface Backend {
  readonly options: PostgresOptions
  readonly keeper: CatalogKeeper
  readonly pool: Pool
  readonly bindings: MaskBindings
  /** Until then (on the clock of `performance`) others write so often that a snapshot tells nothing. */
  busyUntilMs: number
}

/** After a snapshot moved between plan and execution, the catalog itself is compared for this long. */
const BUSY_MS = 10_000
/** How often a call is planned again because the schema changed under it, before it is sent back. */
const REPLANS_MAX = 2

/** Builds the protocol with the planner it is to ask. */
export function postgresProtocol(planner: Planner): Protocol<PostgresPlan> {
  const backends = new Map<string, Backend>()

  let closing: SallyportError | undefined

  function backendOf(target: Target): Backend {
    if (closing !== undefined) throw closing
    const options = target.options as PostgresOptions
    const key = JSON.stringify([target.name, endpointOf(options)])
    const known = backends.get(key)
    if (known !== undefined) return known
    const upstream = { target: target.name, options }
    const backend: Backend = {
      options,
      keeper: new CatalogKeeper(upstream),
      pool: new Pool(upstream),
      bindings: new MaskBindings(target.name),
      busyUntilMs: 0,
    }
    backends.set(key, backend)
    return backend
  }

  /** The catalog of this moment, with every mask standing for what it stood for. */
  async function catalogNow(
    backend: Backend,
    masks: readonly ColumnMask[],
    secret: () => Promise<Secret>,
    signal: AbortSignal,
  ): Promise<LoadedCatalog> {
    const loaded = await backend.keeper.current(secret, signal)
    backend.bindings.check(loaded.catalog, masks)
    return loaded
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
            isVerbatim: plan.sql === plan.shown.text,
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
          masking: backend.options.masking,
        })
        // Only what was judged may run (C1): with the new schema the call must mean the very same.
        if (!meansTheSame(plan, again)) throw stale(call, permit)
        plan = again
      }
    }
  }

  return {
    name: 'postgres',

    async plan(call, context) {
      const backend = backendOf(call.target)
      const { catalog } = await catalogNow(backend, context.masks, context.secret, context.signal)
      return planner(call.payload, catalog, { masks: context.masks, masking: backend.options.masking })
    },

    withoutValues,

    async *execute(call, plan, permit, secret) {
      try {
        yield* run(call, plan, permit, secret)
      } catch (error) {
        // Whatever was met on the way, an aborted call ends with why it was aborted.
        if (permit.signal.aborted && error === permit.signal.reason) throw reasonOf(permit.signal)
        throw error instanceof DeadConnection ? lost(call.target.name, error) : error
      }
    },

    async describe(call, context: PlanContext) {
      const loaded = await catalogNow(backendOf(call.target), context.masks, context.secret, context.signal)
      return describeTables(loaded, bindMasks(loaded.catalog, context.masks))
    },

    async close() {
      closing = new SallyportError('ERR_SHUTTING_DOWN', 'The gateway is shutting down.')
      await Promise.all([...backends.values()].flatMap(({ keeper, pool }) => [keeper.close(), pool.close()]))
      backends.clear()
    },
  }
}

function guardOf(backend: Backend, { catalog }: LoadedCatalog, plan: PostgresPlan): GuardKind {
  const isBusy = performance.now() < backend.busyUntilMs
  return isBusy || catalog.fingerprint !== plan.fingerprint ? 'fingerprint' : 'snapshot'
}

/** Whether two plans are the same but for the fingerprint they were made with. */
function meansTheSame(judged: PostgresPlan, again: PostgresPlan): boolean {
  const text = (plan: PostgresPlan): string =>
    JSON.stringify({ ...plan, fingerprint: '', maskedOutputs: [...plan.maskedOutputs] })
  return text(judged) === text(again)
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
