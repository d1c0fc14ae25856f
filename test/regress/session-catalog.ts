/**
 * The catalog as one session sees it, uncommitted changes included: the queries of the product, sent on the session's own
 * connection as one text, which is one transaction of its own or, inside a transaction, a savepoint that is undone.
 */
import { makeCatalog, type Catalog } from '../../src/protocols/postgres/catalog.ts'
import { catalogRows, type CatalogAnswers } from '../../src/protocols/postgres/catalog-rows.ts'
import * as sql from '../../src/protocols/postgres/catalog-sql.ts'

/** Rows of one statement, cells as text. */
export type Rows = readonly (readonly (string | null)[])[]

/** Runs a text of several statements; resolves with the rows of those that return any, in order. */
export type Ask = (text: string) => Promise<readonly Rows[]>

/** Types of the answers that PostgreSQL itself brings, read once per server. */
type Builtins = Pick<CatalogAnswers, sql.WideQuery>

const WIDE = ['types', 'relations', 'columns', 'functions'] as const
const NARROW = {
  generated: sql.GENERATED_SQL,
  triggers: sql.TRIGGERS_SQL,
  rules: sql.RULES_SQL,
  inherits: sql.INHERITS_SQL,
  keys: sql.KEYS_SQL,
  unique: sql.UNIQUE_SQL,
  uses: sql.USES_SQL,
  ties: sql.TIES_SQL,
  ruleReads: sql.RULE_READS_SQL,
  wholeRows: sql.WHOLE_ROWS_SQL,
  clustered: sql.CLUSTERED_SQL,
  policyReads: sql.POLICY_READS_SQL,
  viewBuiltins: sql.VIEW_BUILTINS_SQL,
  storedBuiltins: sql.STORED_BUILTINS_SQL,
  updatable: sql.UPDATABLE_SQL,
  operators: sql.OPERATORS_SQL,
  casts: sql.CASTS_SQL,
  comparisons: sql.COMPARISONS_SQL,
} satisfies Readonly<Record<Exclude<keyof CatalogAnswers, sql.WideQuery | 'searchPath'>, string>>
const PINNED = `SELECT pg_catalog.set_config('search_path', 'pg_catalog', true)`
/** Some files switch the planner's means off one by one; our own queries need all of them. */
const PLANNED_WELL = `SELECT ${[
  'seqscan',
  'indexscan',
  'bitmapscan',
  'hashjoin',
  'mergejoin',
  'nestloop',
  'sort',
  'hashagg',
]
  .map((means) => `pg_catalog.set_config('enable_${means}', 'on', true)`)
  .join(', ')}`

let builtins: Builtins | undefined

/** Queries whose plans a session keeps: planning them takes longer than running them. */
const KEPT: readonly string[] = [
  sql.SEARCH_PATH_SQL,
  sql.HEAD_SQL,
  ...WIDE.map((name) => sql.wideQueries('user')[name]),
  ...Object.values(NARROW),
]
const PREPARE = KEPT.map((query, i) => `PREPARE sallyport_${i} AS ${query}`).join(';\n')
const EXECUTE = KEPT.map((_, i) => `EXECUTE sallyport_${i}`)

/** Lets a session keep the plans of what {@link sessionCatalog} asks. */
export async function prepareSession(ask: Ask, inTransaction: boolean): Promise<void> {
  await ask(alone([PINNED, PREPARE], inTransaction))
}

/** Reads the catalog on a session that {@link prepareSession} was called for. */
export async function sessionCatalog(ask: Ask, inTransaction: boolean): Promise<Catalog> {
  const queries = [PLANNED_WELL, ...EXECUTE.slice(0, 2), PINNED, ...EXECUTE.slice(2)]
  if (builtins === undefined) {
    const own = sql.wideQueries('builtin')
    queries.push(...WIDE.map((name) => own[name]))
  }
  const [, searchPath = [], head = [], , ...answers] = await ask(alone(queries, inTransaction))
  const parsed = answers.map((rows) => rows.map(([json]) => JSON.parse(json ?? 'null') as unknown))
  const made = named(WIDE, parsed.splice(0, WIDE.length))
  const narrow = named(Object.keys(NARROW), parsed.splice(0, Object.keys(NARROW).length))
  builtins ??= named(WIDE, parsed) as unknown as Builtins
  const [database, version, , fingerprint] = head[0] ?? []
  const both = WIDE.map((name) => [name, [...(builtins?.[name] ?? []), ...(made[name] ?? [])]])
  const all = {
    ...narrow,
    ...(Object.fromEntries(both) as object),
    searchPath: searchPath.map(([json]) => JSON.parse(json ?? 'null') as unknown),
  }
  const { rows } = catalogRows(all as unknown as CatalogAnswers, {
    database: database ?? '',
    serverVersion: Number(version),
    fingerprint: fingerprint ?? '',
  })
  return makeCatalog(rows)
}

/** The fingerprint of the catalog right now. */
export async function sessionFingerprint(ask: Ask, inTransaction: boolean): Promise<string> {
  const [head = []] = await ask(alone(['EXECUTE sallyport_1'], inTransaction))
  return head[0]?.[3] ?? ''
}

function alone(queries: readonly string[], inTransaction: boolean): string {
  const text = queries.join(';\n')
  return inTransaction ? `SAVEPOINT sallyport_look; ${text}; ROLLBACK TO sallyport_look; RELEASE sallyport_look` : text
}

function named(names: readonly string[], answers: readonly (readonly unknown[])[]): Record<string, readonly unknown[]> {
  return Object.fromEntries(names.map((name, i) => [name, answers[i] ?? []]))
}
