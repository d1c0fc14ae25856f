import type { Call, Permit } from '../../../core/call.ts'
import type { Chunk } from '../../../core/chunk.ts'
import { SallyportError } from '../../../core/errors.ts'
import type { LoadedCatalog } from '../catalog-load.ts'
import { NotOpened, StaleCatalog, type GuardKind } from '../connector.ts'
import { refusal, type PostgresPlan } from '../plan.ts'
import type { WireCall } from './payload.ts'
import { startRun, type HeldInside, type Run } from './run.ts'

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
  /** What the plan is compared by, when persons approved it by what it would do. */
  readonly comparison?: (plan: PostgresPlan) => string
  /** Set for what they approved inside the open transaction of its client. */
  readonly inside?: HeldInside
  /** What a call that failed ends with. */
  readonly ended: (error: unknown) => unknown
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
  const refused = refusal(planned)
  if (refused !== undefined) throw refused
  if (wire.backend.status === 'E' && !mayRunInFailed(planned)) throw aborted()
  const attempts: Attempts = { plan: planned, moves: 0, replans: 0 }
  for (;;) {
    let run: Run | undefined
    try {
      const catalog = target.latest() ?? (await target.look())
      const { plan } = attempts
      const guard = target.guardOf(catalog, plan)
      const { look, comparison, inside } = target
      run = startRun({ call, wire, plan, permit, catalog, guard, look, comparison, inside })
      await run.open()
      // One generator for all of it: each more that a chunk passes through costs as much as reading it.
      for (;;) {
        const chunk = run.shift()
        if (chunk !== undefined) {
          yield chunk
          continue
        }
        const step = run.advance()
        if (step === 'done') break
        if (step !== 'go on') await step
      }
      yield run.exit()
      return
    } catch (error) {
      await run?.end()
      run = undefined
      if (!(error instanceof StaleCatalog || error instanceof NotOpened)) throw target.ended(error)
      // What was not understood says nothing of a catalog, so no other one could make it right.
      if (error instanceof NotOpened && attempts.plan.kind === 'unknown') throw target.ended(error.rejection)
      await tryAgain(error, attempts, call, wire, permit, target).catch((why: unknown) => {
        throw target.ended(why)
      })
    } finally {
      const ended = run?.end()
      if (ended !== undefined) await ended
    }
  }
}

/** What was tried so far. */
interface Attempts {
  /** What is tried next. */
  plan: PostgresPlan
  /** How often somebody wrote, but not to the catalog. */
  moves: number
  replans: number
}

/** Plans anew what did not run because of the catalog. @throws when it may not be tried again. */
async function tryAgain(
  error: StaleCatalog | NotOpened,
  attempts: Attempts,
  call: Call,
  wire: WireCall,
  permit: Permit,
  target: WireTarget,
): Promise<void> {
  const { plan } = attempts
  const isRetryable = wire.backend.status === 'I'
  if (isRetryable) await wire.backend.sync()
  const fresh = await target.look()
  const isUnchanged = fresh.catalog.fingerprint === plan.fingerprint
  if (error instanceof StaleCatalog && !error.isCertain && isUnchanged) {
    // Somebody wrote, but not to the catalog. Who writes again that soon writes all the time.
    if (++attempts.moves > 1) target.onBusy()
    return
  }
  if (error instanceof NotOpened && isUnchanged) throw error.rejection
  if (!isRetryable || ++attempts.replans > REPLANS_MAX) throw stale(call, permit)
  const again = await target.plan(fresh, plan.masks)
  // Only what was judged may run (C1): with the new schema the call must mean the very same.
  if (!target.meansTheSame(plan, again)) throw stale(call, permit)
  attempts.plan = again
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
