/** Fails unless PostgreSQL's own tests are on this machine afterwards; `test/setup/capabilities.mjs` asks. */
import { installedPostgres, postgresSource } from './postgres-source.ts'

try {
  await postgresSource(await installedPostgres())
} catch (error) {
  console.error(error)
  process.exitCode = 1
}
