/**
 * What planning one statement costs, in CPU of this process, beside what the parser alone takes for the same text (its JSON
 * decoded, as everybody gets it): a text that was planned before, one that differs from others in its literals, and the
 * first of its shape. Rounds are interleaved. Then texts near the limits, which cost the most.
 *
 * The planner is the built one (`npm run build`): what runs TypeScript as it stands gives every inner function its name when
 * it is made, which is a third of the cost here.
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
import { shopCatalog as fixtureCatalog } from '../test/postgres/plan-fixture.ts'
import { WORST_TEXTS } from '../test/postgres/worst-texts.ts'
import { percentile } from './measure.ts'

const ROUNDS = Number(process.env['BENCH_ROUNDS'] ?? 9)
const CALLS = Number(process.env['BENCH_CALLS'] ?? 500)
/** Calls of each lane before any is measured, for the compiler. */
const WARM_CALLS = 4000
/** What is asked of planning: CPU of a text that is known, of one that is not as a multiple of parsing it, and of any. */
const GOAL = { hitMicros: 5, missRatio: 1.5, worstMs: 250 }

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

/** The same text as the first of its shape: a result column has a name that no other text gives. */
function unshaped(sql: string): string {
  text += 1
  return sql.replace(/^(SELECT|WITH big AS \(SELECT|INSERT INTO|UPDATE)/, (start) =>
    start.endsWith('SELECT') ? `${start} true AS c${text},` : `WITH c${text} AS (SELECT true) ${start}`,
  )
}

interface Lane {
  readonly name: 'parse' | 'hit' | 'like' | 'parse new' | 'new'
  readonly run: (n: number) => unknown
}

const BUILT = '../dist/src/protocols/postgres/'
const { parse } = (await import(`${BUILT}parse.js`)) as typeof import('../src/protocols/postgres/parse.ts')
const { loadParser, planQuery } = (await import(
  `${BUILT}plan.js`
)) as typeof import('../src/protocols/postgres/plan.ts')

let text = 0
await loadParser()
await loadModule()
const catalog = await shopCatalog()
console.log(`CPU per statement in µs: median of ${ROUNDS} interleaved rounds of ${CALLS}`)
console.log('hit: text that came before; like: new literals; new: first of its shape (its text is a little longer)')
console.log('statement        masks    parse      hit     like   like/parse      new    new/parse')
const likes = { masked: [] as number[], unmasked: [] as number[] }
const news = { masked: [] as number[], unmasked: [] as number[] }
const hits: number[] = []
for (const [name, shape] of Object.entries(SHAPES)) {
  for (const masks of [[], MASKS]) {
    const found = measured(shape, masks)
    const kind = masks.length > 0 ? 'masked' : 'unmasked'
    const like = found.like / found.parse
    const first = found.new / found['parse new']
    hits.push(found.hit)
    likes[kind].push(like)
    news[kind].push(first)
    const micros = [found.parse, found.hit, found.like].map((each) => each.toFixed(1).padStart(9)).join('')
    const label = `${name.padEnd(16)} ${(masks.length > 0 ? 'with' : 'none').padEnd(4)}`
    console.log(
      `${label}${micros}${like.toFixed(2).padStart(13)}${found.new.toFixed(1).padStart(9)}${first.toFixed(2).padStart(13)}`,
    )
  }
}
const worst = Math.max(...hits)
console.log(
  `hit   median ${percentile(hits, 0.5).toFixed(1)}, worst ${worst.toFixed(1)} µs (goal ${GOAL.hitMicros}): ${worst <= GOAL.hitMicros ? 'met' : 'MISSED'}`,
)
for (const [label, ratios] of Object.entries({ 'new literals': likes, 'new shape': news })) {
  for (const [kind, found] of Object.entries(ratios)) {
    const [median, most] = [percentile(found, 0.5), Math.max(...found)]
    const verdict = most <= GOAL.missRatio ? 'met' : median <= GOAL.missRatio ? 'met by the median only' : 'MISSED'
    console.log(
      `miss  ${label}, ${kind}: median ${median.toFixed(2)}×, worst ${most.toFixed(2)}× of parsing (goal ${GOAL.missRatio}): ${verdict}`,
    )
  }
}
worstTexts()

/** Texts near the limits, each planned afresh: the slowest of three. */
function worstTexts(): void {
  console.log('\ntext near the limits                      characters  parse ms   plan ms')
  let most = 0
  for (const [name, make] of WORST_TEXTS) {
    const sql = make(1)
    const times = { parse: [] as number[], plan: [] as number[] }
    for (let i = 0; i < 3; i++) {
      times.parse.push(millis(() => parse(sql)))
      times.plan.push(millis(() => planQuery({ sql }, { ...fixtureCatalog() }, { masks: MASKS })))
    }
    const plan = Math.max(...times.plan)
    most = Math.max(most, plan)
    const parsed = Math.max(...times.parse)
    console.log(
      `${name.padEnd(40)}${String(sql.length).padStart(12)}${parsed.toFixed(0).padStart(10)}${plan.toFixed(0).padStart(10)}`,
    )
  }
  console.log(`worst ${most.toFixed(0)} ms (goal ${GOAL.worstMs}): ${most <= GOAL.worstMs ? 'met' : 'MISSED'}`)
}

function millis(work: () => unknown): number {
  globalThis.gc?.()
  const before = process.cpuUsage()
  work()
  const { user, system } = process.cpuUsage(before)
  return (user + system) / 1000
}

function measured(shape: (n: number) => string, masks: readonly ColumnMask[]): Record<Lane['name'], number> {
  const known = shape(0)
  const under = { masks }
  const lanes: readonly Lane[] = [
    { name: 'parse', run: (n) => parseSync(shape(n)) },
    { name: 'like', run: (n) => planQuery({ sql: shape(n) }, catalog, under) },
    { name: 'hit', run: () => planQuery({ sql: known }, catalog, under) },
    { name: 'parse new', run: (n) => parseSync(unshaped(shape(n))) },
    { name: 'new', run: (n) => planQuery({ sql: unshaped(shape(n)) }, catalog, under) },
  ]
  for (const sql of [known, unshaped(known)]) {
    const plan = planQuery({ sql }, catalog, under)
    if (plan.refused !== undefined || plan.action.parts.some(({ verb }) => verb === 'sql.unknown')) {
      throw new Error(`The benchmark does not measure what it says: ${sql}: ${JSON.stringify(plan.refused)}`)
    }
  }
  const found = new Map(lanes.map(({ name }) => [name, [] as number[]]))
  // A gateway has run for a while.
  for (const { run } of lanes) for (let i = 0; i < WARM_CALLS; i++) run(++text)
  for (let round = 0; round < ROUNDS; round++) {
    for (const { name, run } of lanes) found.get(name)?.push(cpuMicros(run))
  }
  const median = (name: Lane['name']): number => percentile(found.get(name) ?? [], 0.5)
  return {
    parse: median('parse'),
    hit: median('hit'),
    like: median('like'),
    'parse new': median('parse new'),
    new: median('new'),
  }
}

/** CPU of this process per call. */
function cpuMicros(run: (n: number) => unknown): number {
  // What one lane leaves behind is not collected at the cost of the next. Only what is young: a full collection also drops
  // what the compiler has learnt, so that a few hundred calls behind one measure the compiler.
  globalThis.gc?.({ type: 'minor', execution: 'sync' })
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
