/**
 * HTTP as the spine sees it.
 *
 * @packageDocumentation
 */
import type { Protocol } from '../../core/call.ts'
import type { Target } from '../../core/target.ts'
import { SallyportError } from '../../core/errors.ts'
import type { Lookup } from './connect-addresses.ts'
import { Pools } from './connect-pool.ts'
import { send } from './connector.ts'
import { endpointOf, type HttpOptions } from './options.ts'
import { planRequest, type HttpPlan } from './plan.ts'
import { withoutValues } from './shown.ts'

/** Builds the protocol with the look-up it is to use. */
export function httpProtocol(lookup: Lookup): Protocol<HttpPlan> {
  const pools = new Map<string, Pools>()
  let isClosed = false

  function poolsOf(target: Target, options: HttpOptions): Pools {
    if (isClosed) throw new SallyportError('ERR_SHUTTING_DOWN', 'The gateway is shutting down.')
    const key = JSON.stringify([target.name, endpointOf(options)])
    const known = pools.get(key)
    if (known !== undefined) return known
    const made = new Pools(options)
    pools.set(key, made)
    return made
  }

  return {
    name: 'http',

    async plan(call, { masks, resolve }) {
      return planRequest(call.payload, call.target.options as HttpOptions, {
        masks,
        streams: call.input !== undefined,
        ...(resolve !== undefined && { resolve }),
      })
    },

    withoutValues,

    async *execute(call, plan, permit, secret) {
      const { refused } = plan
      if (refused !== undefined) {
        throw new SallyportError('ERR_DENIED', refused.message, { facts: { construct: refused.construct } })
      }
      const options = call.target.options as HttpOptions
      yield* send({ call, plan, permit, secret, options, pools: poolsOf(call.target, options), lookup })
    },

    async close() {
      isClosed = true
      await Promise.all([...pools.values()].map((one) => one.close()))
      pools.clear()
    },
  }
}
