/**
 * Which plan the backend makes of a query as it came and of what is sent for it: thirty queries of the kinds people and
 * tools write, over a table of customers with masked columns and one of orders. Used by a test on few rows and a bench on
 * many.
 */
import type { Client } from 'pg'
import type { ColumnMask } from '../../src/core/decision.ts'
import type { Catalog } from '../../src/protocols/postgres/catalog.ts'
import { planQuery } from '../../src/protocols/postgres/plan.ts'

/** Masked: the number as a whole, the card but for its end. */
export const PLAN_MASKS: readonly ColumnMask[] = [
  { schema: 'public', table: 'cust', column: 'ssn', transform: 'redact' },
  { schema: 'public', table: 'cust', column: 'card', transform: 'partial' },
]

/** The tables, with as many customers as given and twice as many orders. */
export function plansSql(customers: number): string {
  return `
    CREATE TABLE public.cust (id integer PRIMARY KEY, name text NOT NULL, email text NOT NULL, city text NOT NULL,
      ssn text NOT NULL, card text NOT NULL, born date NOT NULL);
    INSERT INTO public.cust SELECT i, 'name ' || i, 'Mail' || i || '@example.com', 'city ' || i % 1000,
      'ssn ' || (i::bigint * 7919) % 1000003, lpad(((i::bigint * 104729) % 10000000000000000)::text, 16, '0'), date '1950-01-01' + i % 20000
      FROM generate_series(1, ${customers}) i;
    CREATE INDEX cust_email ON public.cust (lower(email));
    CREATE INDEX cust_city_born ON public.cust (city, born);
    CREATE INDEX cust_ssn ON public.cust (ssn);
    CREATE TABLE public.ord (id integer PRIMARY KEY, cust_id integer NOT NULL REFERENCES public.cust, at date NOT NULL,
      total integer NOT NULL);
    INSERT INTO public.ord SELECT i, 1 + (i::bigint * 7) % ${customers}, date '2024-01-01' + i % 700, i % 5000
      FROM generate_series(1, ${customers * 2}) i;
    CREATE INDEX ord_cust ON public.ord (cust_id);
    CREATE INDEX ord_at ON public.ord (at);
    CREATE TABLE public.part (id integer NOT NULL, region integer NOT NULL, total integer NOT NULL) PARTITION BY LIST (region);
    ${[1, 2, 3, 4].map((n) => `CREATE TABLE public.part_${n} PARTITION OF public.part FOR VALUES IN (${n});`).join('\n')}
    INSERT INTO public.part SELECT i, 1 + i % 4, i FROM generate_series(1, ${customers / 10}) i;
    CREATE INDEX part_id ON public.part (id);
    ANALYZE public.cust, public.ord, public.part;`
}

/** Queries whose filters and orders are on columns without a mask. */
export const PLANNED_QUERIES: readonly string[] = [
  'SELECT * FROM cust WHERE id = 500',
  'SELECT id, name FROM cust WHERE id = 500',
  'SELECT ssn, card FROM cust WHERE id = 500',
  'SELECT c.* FROM cust c WHERE c.id IN (1, 50, 500)',
  'SELECT id, ssn FROM cust WHERE id BETWEEN 100 AND 140',
  'SELECT id, card FROM cust ORDER BY id LIMIT 10',
  'SELECT id, card FROM cust ORDER BY id DESC LIMIT 10 OFFSET 20',
  "SELECT id, ssn FROM cust WHERE lower(email) = 'mail77@example.com'",
  "SELECT id, name, ssn FROM cust WHERE city = 'city 7'",
  "SELECT id, name FROM cust WHERE city = 'city 7' AND born > date '1990-01-01'",
  "SELECT city, born, card FROM cust WHERE city = 'city 7' ORDER BY born LIMIT 5",
  "SELECT count(*) FROM cust WHERE city = 'city 7'",
  'SELECT count(*) FROM cust',
  'SELECT city, count(*) FROM cust GROUP BY city',
  'SELECT id, name, count(*) FROM cust WHERE id < 100 GROUP BY id',
  'SELECT max(id) FROM cust',
  'SELECT c.name, o.total FROM cust c JOIN ord o ON o.cust_id = c.id WHERE c.id = 500',
  'SELECT c.ssn, o.total FROM cust c JOIN ord o ON o.cust_id = c.id WHERE o.id = 500',
  "SELECT c.card, sum(o.total) FROM cust c JOIN ord o ON o.cust_id = c.id WHERE c.city = 'city 7' GROUP BY c.card",
  'SELECT c.id, c.ssn FROM cust c WHERE EXISTS (SELECT FROM ord o WHERE o.cust_id = c.id AND o.id = 77)',
  'SELECT o.id, (SELECT c.ssn FROM cust c WHERE c.id = o.cust_id) FROM ord o WHERE o.id < 20',
  'SELECT c.id, l.total FROM cust c, LATERAL (SELECT total FROM ord o WHERE o.cust_id = c.id LIMIT 1) l WHERE c.id < 10',
  'WITH few AS (SELECT id, card FROM cust WHERE id < 20) SELECT f.card, o.id FROM few f JOIN ord o ON o.cust_id = f.id',
  'SELECT id, ssn FROM cust WHERE id = 5 UNION ALL SELECT id, ssn FROM cust WHERE id = 6',
  'SELECT c.name, o.total FROM cust c LEFT JOIN ord o ON o.cust_id = c.id AND o.total > 10 WHERE c.id < 10',
  "SELECT id, total FROM ord WHERE at = date '2024-03-01' ORDER BY id LIMIT 10",
  'SELECT cust_id, sum(total) FROM ord WHERE cust_id < 50 GROUP BY cust_id',
  'SELECT total FROM part WHERE region = 2 AND id = 9',
  'SELECT id, rank() OVER (ORDER BY id) FROM cust WHERE id < 30',
  'SELECT DISTINCT city FROM cust WHERE id < 300',
]

/** What the backend does for one query. */
export interface Tree {
  /** Indexes it reads, sorted, each once. */
  readonly indexes: readonly string[]
  /** Kinds of nodes from the top down, without sub-query wrappers. */
  readonly nodes: readonly string[]
}

/** What is sent for a query under {@link PLAN_MASKS}, and whether rows are then kept from coming in an index's order. */
export function sentFor(sql: string, catalog: Catalog): { readonly sql: string; readonly hidesOrder: boolean } {
  const plan = planQuery({ sql }, catalog, { masks: PLAN_MASKS })
  if (plan.refused !== undefined) throw new Error(`${sql}: ${plan.refused.message}`)
  return { sql: plan.sql, hidesOrder: plan.hidesOrder === true }
}

interface PlanNode {
  readonly 'Node Type': string
  readonly 'Index Name'?: string
  readonly Plans?: readonly PlanNode[]
}

/** The plan of the backend. */
export async function treeOf(client: Client, sql: string): Promise<Tree> {
  const { rows } = await client.query<{ readonly 'QUERY PLAN': readonly [{ readonly Plan: PlanNode }] }>(
    `EXPLAIN (FORMAT JSON, COSTS OFF) ${sql}`,
  )
  const indexes = new Set<string>()
  const nodes: string[] = []
  const visit = (node: PlanNode): void => {
    if (node['Index Name'] !== undefined) indexes.add(node['Index Name'])
    if (node['Node Type'] !== 'Subquery Scan') nodes.push(node['Node Type'])
    for (const child of node.Plans ?? []) visit(child)
  }
  const [row] = rows
  if (row !== undefined) visit(row['QUERY PLAN'][0].Plan)
  return { indexes: [...indexes].sort((a, b) => a.localeCompare(b)), nodes }
}
