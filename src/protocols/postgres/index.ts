import type { Protocol } from '../../core/call.ts'
import { loadParser } from './parse.ts'
import { planQuery, type PostgresPlan } from './plan.ts'
import { postgresProtocol } from './protocol.ts'

export { endpointOf, POSTGRES_SETTINGS, postgresOptions, postgresSchema } from './options.ts'

/** PostgreSQL for the spine. Ends its connections with `close()`. */
export function createPostgres(): Protocol<PostgresPlan> {
  return postgresProtocol(async (payload, catalog, { masks, masking }) => {
    await loadParser()
    return planQuery(payload, catalog, { masks, masking })
  })
}
