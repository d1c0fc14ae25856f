import type { Protocol } from '../../core/call.ts'
import { systemLookup, type Lookup } from './connect-addresses.ts'
import type { HttpPlan } from './plan.ts'
import { httpProtocol } from './protocol.ts'

export { HTTP_SETTINGS } from './options.ts'

/**
 * HTTP for the spine. Ends its connections with `close()`.
 *
 * @param lookup how names become addresses; the system's own way by default.
 */
export function createHttp(lookup: Lookup = systemLookup): Protocol<HttpPlan> {
  return httpProtocol(lookup)
}
