/**
 * Kubernetes as the spine sees it.
 *
 * @packageDocumentation
 */
import type { Call, Permit, PlanContext, Protocol, Secret } from '../../core/call.ts'
import type { Chunk } from '../../core/chunk.ts'
import { SallyportError } from '../../core/errors.ts'
import type { Target } from '../../core/target.ts'
import { loginOf } from './connect-login.ts'
import { Pools } from './connect-pool.ts'
import type { Upstream } from './connect-send.ts'
import { runApi } from './connector.ts'
import { endpointOf, type KubeOptions } from './options.ts'
import { readPayload } from './payload.ts'
import { planApi, type KubePlan } from './plan.ts'
import { withoutValues } from './shown.ts'

/** Kubernetes for the spine. Ends its connections with `close()`. */
export function createKubernetes(): Protocol<KubePlan> {
  const pools = new Map<string, Pools>()
  let isClosed = false

  function poolsOf(target: Target, options: KubeOptions): Pools {
    if (isClosed) throw new SallyportError('ERR_SHUTTING_DOWN', 'The gateway is shutting down.')
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

  return {
    name: 'kubernetes',

    async plan(call: Call, { masks }: PlanContext) {
      const under = { masks, streams: call.input !== undefined }
      if (readPayload(call.payload)?.kind === 'api') return planApi(call.payload, under)
      throw new SallyportError('ERR_INVALID_INPUT', 'This is no request to a Kubernetes cluster.')
    },

    withoutValues,

    async *execute(call: Call, plan: KubePlan, permit: Permit, secret: Secret): AsyncGenerator<Chunk, void, undefined> {
      const { refused } = plan
      if (refused !== undefined) {
        throw new SallyportError('ERR_DENIED', refused.message, { facts: { construct: refused.construct } })
      }
      const upstream = await upstreamOf(call.target, secret, permit.signal)
      yield* runApi(call, plan, permit, upstream)
    },

    async close() {
      isClosed = true
      await Promise.all([...pools.values()].map((one) => one.close()))
      pools.clear()
    },
  }
}
