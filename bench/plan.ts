/**
 * What planning one statement costs, in CPU of this process, beside what the parser alone takes for the same text: a text
 * that was planned before, and one that was not. Rounds of the three are interleaved.
 *
 * Run with `node --expose-gc --import tsx bench/plan.ts`.
 */
import { loadModule, parseSync } from 'libpg-query'
import { Client } from 'pg'
import { startEmbeddedPostgres } from '../src/cli/demo/embedded-postgres.ts'
import { shopSql } from '../src/cli/demo/shop.ts'
import type { ColumnMask } from '../src/core/decision.ts'
import { CatalogKeeper } from '../src/protocols/postgres/catalog-load.ts'
import type { Catalog } from '../src/protocols/postgres/catalog.ts'
import { postgresOptions, postgresSchema } from '../src/protocols/postgres/options.ts'
import { loadParser, planQuery } from '../src/protocols/postgres/plan.ts'
import { percentile } from './measure.ts'

const ROUNDS = Number(process.env['BENCH_ROUNDS'] ?? 9)
const CALLS = Number(process.env['BENCH_CALLS'] ?? 500)
/** What is asked of planning: CPU of a text that is known, and of one that is not as a multiple of parsing it. */
const GOAL = { hitMicros: 5, missRatio: 1.5 }

const MASKS: readonly ColumnMask[] = [{ schema: 'public', table: 'customers', column: 'ssn', transform: 'redact' }]

/** Small statements of the usual kinds. Each text holds the number it is given, so that no two are the same. */
const SHAPES: Readonly<Record<string, (n: number) => string>> = {
  'by key': (n) => `SELECT id, name FROM public.customers WHERE id = ${n}`,
  'all columns': (n) => `SELECT * FROM public.customers WHERE id = ${n}`,
  'other table': (n) => `SELECT id, status, total FROM orders WHERE customer_id = ${n} ORDER BY id LIMIT 10`,
  join: (n) =>
    `SELECT c.name, o.id, o.total FROM customers c JOIN orders o ON o.customer_id = c.id WHERE o.total > ${n} ORDER BY o.id`,
  aggregate: (n) =>
    `SELECT status, count(*), sum(total) FROM orders WHERE id > ${n} GROUP BY status HAVING count(*) > 1`,
  'common table': (n) =>
    `WITH big AS (SELECT customer_id, sum(total) AS s FROM orders GROUP BY 1) SELECT c.name, b.s FROM big b JOIN customers c ON c.id = b.customer_id WHERE b.s > ${n}`,
  insert: (n) => `INSERT INTO orders (customer_id, status, total) VALUES (${n}, 'new', 1.5)`,
  update: (n) => `UPDATE orders SET status = 'paid' WHERE id = ${n}`,
  'of an ORM': (n) =>
    `SELECT "o"."id", "o"."customer_id", "o"."status", "o"."total" FROM "public"."orders" AS "o" WHERE ("o"."id" = ${n} AND 1=1) LIMIT 1 OFFSET 0`,
}

interface Lane {
  readonly name: 'parse' | 'miss' | 'hit'
  readonly run: (n: number) => unknown
}

await loadParser()
await loadModule()
const catalog = await shopCatalog()
let text = 0
console.log(`CPU per statement in µs: median of ${ROUNDS} interleaved rounds of ${CALLS}`)
console.log('statement        masks    parse     miss      hit   miss/parse')
const ratios = { masked: [] as number[], unmasked: [] as number[] }
const hits: number[] = []
for (const [name, shape] of Object.entries(SHAPES)) {
  for (const masks of [[], MASKS]) {
    const { parse, miss, hit } = measured(shape, masks)
    const ratio = miss / parse
    hits.push(hit)
    ratios[masks.length > 0 ? 'masked' : 'unmasked'].push(ratio)
    const columns = [parse, miss, hit].map((micros) => micros.toFixed(1).padStart(9)).join('')
    console.log(
      `${name.padEnd(16)} ${(masks.length > 0 ? 'with' : 'none').padEnd(4)}${columns}${ratio.toFixed(2).padStart(13)}`,
    )
  }
}
const worst = Math.max(...hits)
console.log(
  `hit   worst ${worst.toFixed(1)} µs (goal ${GOAL.hitMicros}): ${worst <= GOAL.hitMicros ? 'met' : 'MISSED'}`,
)
for (const [kind, found] of Object.entries(ratios)) {
  const [median, most] = [percentile(found, 0.5), Math.max(...found)]
  const verdict = most <= GOAL.missRatio ? 'met' : median <= GOAL.missRatio ? 'met by the median only' : 'MISSED'
  console.log(
    `miss  ${kind}: median ${median.toFixed(2)}×, worst ${most.toFixed(2)}× of parsing (goal ${GOAL.missRatio}): ${verdict}`,
  )
}

function measured(shape: (n: number) => string, masks: readonly ColumnMask[]): Record<Lane['name'], number> {
  const known = shape(0)
  const under = { masks }
  const lanes: readonly Lane[] = [
    { name: 'parse', run: (n) => parseSync(shape(n)) },
    { name: 'miss', run: (n) => planQuery({ sql: shape(n) }, catalog, under) },
    { name: 'hit', run: () => planQuery({ sql: known }, catalog, under) },
  ]
  const plan = planQuery({ sql: known }, catalog, under)
  if (plan.refused !== undefined || plan.action.parts.some(({ verb }) => verb === 'sql.unknown')) {
    throw new Error(`The benchmark does not measure what it says: ${known}: ${JSON.stringify(plan.refused)}`)
  }
  const found = { parse: [] as number[], miss: [] as number[], hit: [] as number[] }
  for (let round = -2; round < ROUNDS; round++) {
    for (const { name, run } of lanes) {
      const micros = cpuMicros(run)
      // The first rounds warm the compiler up.
      if (round >= 0) found[name].push(micros)
    }
  }
  return {
    parse: percentile(found.parse, 0.5),
    miss: percentile(found.miss, 0.5),
    hit: percentile(found.hit, 0.5),
  }
}

/** CPU of this process per call. */
function cpuMicros(run: (n: number) => unknown): number {
  // What one lane leaves behind is not collected at the cost of the next.
  globalThis.gc?.()
  const before = process.cpuUsage()
  for (let i = 0; i < CALLS; i++) run(++text)
  const { user, system } = process.cpuUsage(before)
  return (user + system) / CALLS
}

async function shopCatalog(): Promise<Catalog> {
  const server = await startEmbeddedPostgres()
  try {
    const { host, port, user, password } = server
    const client = new Client({ host, port, user, password, database: 'postgres' })
    await client.connect()
    await client.query(shopSql())
    await client.end()
    const options = postgresOptions(postgresSchema.parse({ host, port, database: 'postgres', tls: 'disable' }))
    const keeper = new CatalogKeeper({ target: 'bench', options })
    const loaded = await keeper.current(async () => ({ user, value: password }), AbortSignal.timeout(30_000))
    await keeper.close()
    return loaded.catalog
  } finally {
    await server.stop()
  }
}
