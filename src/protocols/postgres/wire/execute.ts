import type { Call, Permit } from '../../../core/call.ts'
import type { Chunk } from '../../../core/chunk.ts'
import { SallyportError } from '../../../core/errors.ts'
import type { LoadedCatalog } from '../catalog-load.ts'
import { NotOpened, StaleCatalog, type GuardKind } from '../connector.ts'
import type { PostgresPlan } from '../plan.ts'
import type { WireCall } from './payload.ts'
import { runWire } from './run.ts'

/** What running a wire call needs of its target. */
export interface WireTarget {
  /** The catalog as last seen. */
  readonly latest: () => LoadedCatalog | undefined
  /** The catalog now. */
  readonly look: () => Promise<LoadedCatalog>
  readonly guardOf: (catalog: LoadedCatalog, plan: PostgresPlan) => GuardKind
  /** Others write so often that a snapshot tells nothing. */
  readonly onBusy: () => void
  readonly plan: (catalog: LoadedCatalog, masks: PostgresPlan['masks']) => Promise<PostgresPlan>
  readonly meansTheSame: (judged: PostgresPlan, again: PostgresPlan) => boolean
}

/** How often a call is planned again because the schema changed under it, before it is sent back. */
const REPLANS_MAX = 2

/** Runs a wire call, and runs it again with a fresh catalog while nothing of it has run and it still means the same. */
export async function* executeWire(
  call: Call,
  wire: WireCall,
  planned: PostgresPlan,
  permit: Permit,
  target: WireTarget,
): AsyncGenerator<Chunk, void, undefined> {
  // Nothing of a statement without values runs; a Parse message is only ever judged.
  if (wire.isUnbound) throw new TypeError('A statement that is not bound cannot run.')
  let plan = planned
  if (wire.backend.status === 'E' && !mayRunInFailed(plan)) throw aborted()
  let moves = 0
  for (let replans = 0; ;) {
    const catalog = target.latest() ?? (await target.look())
    const guard = target.guardOf(catalog, plan)
    try {
      for await (const chunk of runWire({ call, wire, plan, permit, catalog, guard, look: target.look })) yield chunk
      return
    } catch (error) {
      if (!(error instanceof StaleCatalog || error instanceof NotOpened)) throw error
      // What was not understood says nothing of a catalog, so no other one could make it right.
      if (error instanceof NotOpened && plan.kind === 'unknown') throw error.rejection
      const isRetryable = wire.backend.status === 'I'
      if (isRetryable) await wire.backend.sync()
      const fresh = await target.look()
      if (error instanceof StaleCatalog && !error.isCertain && fresh.catalog.fingerprint === plan.fingerprint) {
        // Somebody wrote, but not to the catalog. Who writes again that soon writes all the time.
        if (++moves > 1) target.onBusy()
        continue
      }
      const isUnchanged = fresh.catalog.fingerprint === plan.fingerprint
      if (error instanceof NotOpened && isUnchanged) throw error.rejection
      if (!isRetryable || ++replans > REPLANS_MAX) throw stale(call, permit)
      const again = await target.plan(fresh, plan.masks)
      // Only what was judged may run (C1): with the new schema the call must mean the very same.
      if (!target.meansTheSame(plan, again)) throw stale(call, permit)
      plan = again
    }
  }
}

/** In a failed transaction the server takes nothing but its end, and only that is sent; of what is unknown it decides. */
function mayRunInFailed({ session, kind, statements }: PostgresPlan): boolean {
  if (kind === 'unknown') return true
  const first = statements?.[0]
  if (first !== undefined) return mayRunInFailed(first)
  return session?.does === 'commit' || session?.does === 'rollback' || session?.does === 'rollback_to'
}

function aborted(): SallyportError {
  return new SallyportError(
    'ERR_UPSTREAM_REJECTED',
    'current transaction is aborted, commands ignored until end of transaction block',
    { facts: { sqlstate: '25P02' } },
  )
}

function stale(call: Call, permit: Permit): SallyportError {
  const isApproved = permit.decision.effect === 'require_approval'
  return new SallyportError(
    isApproved ? 'ERR_APPROVAL_STALE' : 'ERR_UPSTREAM_REJECTED',
    `The schema of target ${call.target.name} changed after the call was judged; nothing ran. Send it again.`,
    { facts: { sqlstate: '40001', retryAfterMs: 0 } },
  )
}
