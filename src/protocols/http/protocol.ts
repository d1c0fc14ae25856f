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
import { talk } from './connect-websocket.ts'
import { send } from './connector.ts'
import { EchoFilters } from './echo.ts'
import type { HttpOptions } from './options.ts'
import type { HttpPlan } from './plan.ts'
import { PlanMemory } from './plan-memory.ts'
import { previewRequest } from './preview.ts'
import { withoutValues } from './shown.ts'

/** What is kept for one target between its calls. */
interface Upstream {
  readonly pools: Pools
  readonly echoes: EchoFilters
}

/** Builds the protocol with the look-up it is to use. */
export function httpProtocol(lookup: Lookup): Protocol<HttpPlan> {
  const upstreams = new Map<string, Upstream>()
  const plans = new PlanMemory()
  let isClosed = false

  function upstreamOf(target: Target, options: HttpOptions): Upstream {
    if (isClosed)
      throw new SallyportError('ERR_SHUTTING_DOWN', 'The gateway is shutting down.', { facts: { noEffect: true } })
    const key = `${target.name}\n${target.endpoint}`
    const known = upstreams.get(key)
    if (known !== undefined) return known
    const made = { pools: new Pools(options), echoes: new EchoFilters() }
    upstreams.set(key, made)
    return made
  }

  return {
    name: 'http',

    plan(call, { masks, resolve }) {
      return plans.plan(call.payload, call.target.options as HttpOptions, {
        masks,
        streams: call.input !== undefined,
        ...(resolve !== undefined && { resolve }),
      })
    },

    withoutValues,

    async preview(call, plan) {
      return previewRequest(plan, call.target.options as HttpOptions)
    },

    execute(call, plan, permit, secret) {
      const { refused } = plan
      if (refused !== undefined) {
        throw new SallyportError('ERR_DENIED', refused.message, {
          facts: { construct: refused.construct, noEffect: true },
        })
      }
      const options = call.target.options as HttpOptions
      const sending = { call, plan, permit, secret, options, lookup, ...upstreamOf(call.target, options) }
      return plan.request.upgrade === undefined ? send(sending) : talk(sending)
    },

    async close() {
      isClosed = true
      for (const { echoes } of upstreams.values()) echoes.close()
      await Promise.all([...upstreams.values()].map(({ pools }) => pools.close()))
      upstreams.clear()
    },
  }
}
