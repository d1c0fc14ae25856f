/**
 * Drains a node: no new pods, then an eviction for each that is there. An eviction is refused while a disruption budget
 * would be broken (Kubernetes, "API-initiated eviction"); it is asked again until the call's time is up.
 *
 * @packageDocumentation
 */
import { setTimeout as delay } from 'node:timers/promises'
import { SallyportError } from '../../core/errors.ts'
import type { JsonValue } from '../../core/json.ts'
import { withoutEffect } from './connect-errors.ts'
import { RefusedByServer, type Step } from './connect-step.ts'
import { sortPods } from './drain-pods.ts'
import type { KubeRequest } from './request.ts'
import type { ToolCommand } from './tool.ts'

/** How long until a budget is asked again. */
const RETRY_MS = 2_000
/** How often; then the caller is told which pods are left. */
const TRIES_MAX = 10

/**
 * Drains. Only pods whose evictions were planned, and therefore judged by namespace and name, are evicted. Returns what
 * became of each pod, as rows.
 *
 * @param retryMs how long a disruption budget is waited for before it is asked again.
 */
export async function drainNode(
  { drain }: ToolCommand,
  requests: readonly KubeRequest[],
  step: Step,
  signal: AbortSignal,
  retryMs = RETRY_MS,
): Promise<JsonValue> {
  const [cordon, list, ...evictions] = requests
  if (cordon === undefined || list === undefined || drain?.pods === undefined) {
    throw new SallyportError('ERR_INVALID_INPUT', 'The pods of the node could not be read, so none was evicted.', {
      facts: { noEffect: true },
    })
  }
  // Before anything changes: what stands in the way is said first, as kubectl does.
  const pods = await step(list).catch((error: unknown) => {
    throw withoutEffect(error, signal)
  })
  const found = sortPods(pods, drain)
  if (found.blocked.length > 0) {
    const shown = found.blocked.slice(0, 10).join('; ')
    throw new SallyportError('ERR_INVALID_INPUT', `The node was not drained: ${shown}.`, { facts: { noEffect: true } })
  }
  await step(cordon)
  const rows: JsonValue[] = found.skipped.map(({ namespace, name, why }) => row(namespace, name, why))
  for (const [index, { namespace, name }] of drain.pods.entries()) {
    const eviction = evictions[index]
    if (eviction === undefined) continue
    const done = await evicted(eviction, step, signal, retryMs).catch((error: unknown) => {
      throw cordon.isDryRun ? error : halfWay(error, signal, `${index} of ${drain.pods?.length ?? 0}`)
    })
    rows.push(row(namespace, name, done))
  }
  const planned = new Set(drain.pods.map(({ uid }) => uid))
  for (const { namespace, name, uid } of found.pods) {
    if (!planned.has(uid)) rows.push(row(namespace, name, 'came meanwhile; drain again to evict it'))
  }
  return new Map<string, JsonValue>([
    ['kind', 'Drain'],
    ['pods', rows],
  ])
}

/** Fail closed: what ended a drain may have changed nothing itself, but by then the node is cordoned, and pods are gone. */
function halfWay(cause: unknown, signal: AbortSignal, tried: string): SallyportError {
  const { code, message, facts } = SallyportError.from(cause)
  const { noEffect: _, ...rest } = facts
  return new SallyportError(
    signal.aborted ? code : 'ERR_OUTCOME_UNKNOWN',
    `The drain ended half-way: the node is cordoned, and ${tried} pods had been tried. ${message}`,
    { facts: rest, cause },
  )
}

async function evicted(request: KubeRequest, step: Step, signal: AbortSignal, retryMs: number): Promise<string> {
  for (let tries = 1; ; tries++) {
    try {
      await step(request)
      return request.isDryRun ? 'would be evicted' : 'evicted'
    } catch (error) {
      if (!(error instanceof RefusedByServer)) throw error
      if (error.status === 404) return 'gone already'
      // Another pod of that name, made meanwhile, is not the one that was listed.
      if (error.status === 409) return 'replaced meanwhile; not evicted'
      if (error.status !== 429) return 'refused by the server'
      if (tries >= TRIES_MAX) return 'kept by its disruption budget'
      await delay(retryMs, undefined, { signal }).catch(() => undefined)
      signal.throwIfAborted()
    }
  }
}

function row(namespace: string, name: string, what: string): JsonValue {
  return new Map<string, JsonValue>([
    ['namespace', namespace],
    ['name', name],
    ['result', what],
  ])
}
