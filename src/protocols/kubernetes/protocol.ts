/**
 * Kubernetes as the spine sees it.
 *
 * @packageDocumentation
 */
import type { Call, Permit, PlanContext, Protocol, Secret } from '../../core/call.ts'
import type { Chunk } from '../../core/chunk.ts'
import { SallyportError } from '../../core/errors.ts'
import { isJsonObject } from '../../core/json.ts'
import type { PreviewContext } from '../../core/preview.ts'
import type { Target } from '../../core/target.ts'
import { PlanMemory } from '../shared/plan-memory.ts'
import { loginOf } from './connect-login.ts'
import { Pools } from './connect-pool.ts'
import { Discovery, evictionVersion } from './connect-discovery.ts'
import { previewOf } from './connect-preview.ts'
import { ask, type Upstream } from './connect-send.ts'
import { runTool } from './connect-tool.ts'
import { runApi } from './connector.ts'
import { endpointOf, type KubeOptions } from './options.ts'
import { readPayload } from './payload.ts'
import { planApi, planTool, type KubePlan } from './plan.ts'
import { withoutValues } from './shown.ts'
import type { Lookups } from './tool.ts'

/** Enough to know an object by, and nothing of what is in it. */
const METADATA_ONLY = 'application/json;as=PartialObjectMetadata;v=v1;g=meta.k8s.io'

/** Kubernetes for the spine. Ends its connections with `close()`. */
export function createKubernetes(): Protocol<KubePlan> {
  const pools = new Map<string, Pools>()
  const discoveries = new Map<string, Discovery>()
  const plans = new PlanMemory<KubePlan>()
  let isClosed = false

  function poolsOf(target: Target, options: KubeOptions): Pools {
    if (isClosed) {
      throw new SallyportError('ERR_SHUTTING_DOWN', 'The gateway is shutting down.', { facts: { noEffect: true } })
    }
    const key = JSON.stringify([target.name, endpointOf(options)])
    const known = pools.get(key)
    if (known !== undefined) return known
    const made = new Pools(options)
    pools.set(key, made)
    return made
  }

  async function upstreamOf(target: Target, secret: Secret, signal: AbortSignal): Promise<Upstream> {
    const options = target.options as KubeOptions
    return { options, pools: poolsOf(target, options), login: await loginOf(secret, options), signal }
  }

  /** What planning reads of the cluster: names of kinds, and ids of what is to be deleted. */
  function lookupsFor(call: Call, { secret, signal, resolve }: PlanContext): Lookups {
    const { target } = call
    const opened = async (): Promise<Upstream> => upstreamOf(target, await secret(), signal)
    // An explanation asks no cluster.
    const isOffline = resolve !== undefined
    return {
      async findKind(name) {
        if (isOffline) return undefined
        const known = discoveries.get(target.name) ?? new Discovery()
        discoveries.set(target.name, known)
        return known.find(name, await opened(), performance.now())
      },
      async uidOf(request) {
        if (isOffline) return undefined
        const { value } = await ask({ ...request, accept: METADATA_ONLY }, await opened())
        const metadata = isJsonObject(value) ? value.get('metadata') : undefined
        const uid = isJsonObject(metadata) ? metadata.get('uid') : undefined
        return typeof uid === 'string' ? uid : undefined
      },
      async podsOf(list) {
        if (isOffline) return undefined
        const upstream = await opened()
        const [{ status, value }, eviction] = await Promise.all([ask(list, upstream), evictionVersion(upstream)])
        return status === 200 && value !== undefined ? { list: value, eviction } : undefined
      },
    }
  }

  return {
    name: 'kubernetes',

    plan(call: Call, context: PlanContext) {
      const { masks, fields = [] } = context
      const under = { masks, fields, streams: call.input !== undefined }
      const payload = readPayload(call.payload)
      if (payload?.kind !== 'api') {
        const { namespace } = call.target.options as KubeOptions
        return planTool(call.payload, namespace, under, lookupsFor(call, context))
      }
      // A body may be large, and is seldom the same again.
      if (under.streams || payload.body !== undefined) return planApi(payload, under)
      return plans.plan(JSON.stringify([payload, fields]), masks, () => planApi(payload, under))
    },

    withoutValues,

    async *execute(call: Call, plan: KubePlan, permit: Permit, secret: Secret): AsyncGenerator<Chunk, void, undefined> {
      const { refused } = plan
      if (refused !== undefined) {
        throw new SallyportError('ERR_DENIED', refused.message, {
          facts: { construct: refused.construct, noEffect: true },
        })
      }
      const upstream = await upstreamOf(call.target, secret, permit.signal)
      if (plan.door === 'api') yield* runApi(call, plan, permit, upstream)
      else yield* runTool(call, plan, permit, upstream)
    },

    async preview(call: Call, plan: KubePlan, { secret, signal }: PreviewContext) {
      return previewOf(plan, await upstreamOf(call.target, await secret(), signal))
    },

    async close() {
      isClosed = true
      await Promise.all([...pools.values()].map((one) => one.close()))
      pools.clear()
    },
  }
}
