/**
 * Whether the backend plans what is sent as well as what was asked: thirty queries over a million customers of whom two
 * columns are masked. The indexes each reads are compared, and the run times of both texts, interleaved.
 *
 * Run with `node --import tsx bench/plans-stay-good.ts`.
 */
import { Client } from 'pg'
import { startEmbeddedPostgres } from '../src/cli/demo/embedded-postgres.ts'
import { CatalogKeeper } from '../src/protocols/postgres/catalog-load.ts'
import { postgresOptions, postgresSchema } from '../src/protocols/postgres/options.ts'
import { loadParser } from '../src/protocols/postgres/plan.ts'
import { PLANNED_QUERIES, plansSql, sentFor, treeOf } from '../test/postgres/plans.ts'
import { percentile } from './measure.ts'

const CUSTOMERS = Number(process.env['BENCH_ROWS'] ?? 1_000_000)
const RUNS = Number(process.env['BENCH_RUNS'] ?? 5)

await loadParser()
const server = await startEmbeddedPostgres({ settings: { shared_buffers: '256MB', max_wal_size: '4GB' } })
const { host, port, user, password } = server
const client = new Client({ host, port, user, password, database: 'postgres' })
try {
  await client.connect()
  await client.query(plansSql(CUSTOMERS))
  await client.query('VACUUM')
  const options = postgresOptions(postgresSchema.parse({ host, port, database: 'postgres', tls: 'disable' }))
  const keeper = new CatalogKeeper({ target: 'bench', options })
  const { catalog } = await keeper.current(async () => ({ user, value: password }), AbortSignal.timeout(60_000))
  await keeper.close()
  console.log(`${CUSTOMERS} customers, ${PLANNED_QUERIES.length} queries, median of ${RUNS} interleaved runs`)
  const ratios: number[] = []
  const counts = { sameIndexes: 0, sameTree: 0 }
  for (const sql of PLANNED_QUERIES) {
    const { sql: sent } = sentFor(sql, catalog)
    const [asked, made] = [await treeOf(client, sql), await treeOf(client, sent)]
    const hasIndexes = asked.indexes.join() === made.indexes.join()
    const isSame = hasIndexes && asked.nodes.join() === made.nodes.join()
    if (hasIndexes) counts.sameIndexes += 1
    if (isSame) counts.sameTree += 1
    const { before, after } = await runTimes(sql, sent)
    ratios.push(after / before)
    const verdict = isSame ? 'same plan' : hasIndexes ? `same indexes, ${made.nodes.join(' > ')}` : 'OTHER INDEXES'
    const times = `${before.toFixed(2).padStart(8)} ${after.toFixed(2).padStart(8)} ms ${(after / before).toFixed(2)}×`
    console.log(`${times}  ${verdict}: ${sql}`)
    if (!hasIndexes) process.exitCode = 1
  }
  const { sameIndexes, sameTree } = counts
  console.log(`same indexes ${sameIndexes}/${ratios.length}, same plan ${sameTree}/${ratios.length}`)
  console.log(
    `run time: median ${percentile(ratios, 0.5).toFixed(2)}×, p90 ${percentile(ratios, 0.9).toFixed(2)}×, worst ${Math.max(...ratios).toFixed(2)}×`,
  )
} finally {
  await client.end().catch(() => undefined)
  await server.stop()
}

/** Medians in ms, rows included. */
async function runTimes(sql: string, sent: string): Promise<{ before: number; after: number }> {
  const found = { before: [] as number[], after: [] as number[] }
  for (let run = -1; run < RUNS; run++) {
    for (const [lane, text] of [['before', sql] as const, ['after', sent] as const]) {
      const started = performance.now()
      await client.query(text)
      // The first run fills the caches.
      if (run >= 0) found[lane].push(performance.now() - started)
    }
  }
  return { before: percentile(found.before, 0.5), after: percentile(found.after, 0.5) }
}
