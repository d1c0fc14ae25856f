import { loadParser } from './parse.ts'
import { planQuery } from './plan.ts'
import { postgresProtocol, type PostgresProtocol } from './protocol.ts'

export { endpointOf, POSTGRES_SETTINGS, postgresOptions, postgresSchema } from './options.ts'

/** PostgreSQL for the spine. Ends its connections with `close()`. */
export function createPostgres(): PostgresProtocol {
  return postgresProtocol(async (payload, catalog, under) => {
    await loadParser()
    return planQuery(payload, catalog, under)
  })
}
