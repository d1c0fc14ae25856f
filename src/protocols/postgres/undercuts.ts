/**
 * Other ways to the values a policy masks: what `sallyport policy check --against` warns of.
 *
 * Views, functions, triggers, generated columns and indexes are found in the catalog. Copies are found in the data: a
 * bounded sample of other columns is compared, by the database itself, with a bounded sample of masked values. Only
 * counts come back; no value leaves the database.
 *
 * @packageDocumentation
 */
import type { ColumnMask } from '../../core/decision.ts'
import type { Catalog, CatalogColumn, Relation } from './catalog.ts'
import { findRelation } from './catalog.ts'
import type { UpstreamConnection } from './connection.ts'
import { functionsOf } from './functions.ts'
import { isTextType, withoutModifier } from './mask-source.ts'
import { isReadable } from './masking-mode.ts'
import { bindMasks, type BoundMasks } from './masks.ts'
import { functionName, pinned, quoteIdentifier, resourceName } from './names.ts'

/** One way around a mask. Names objects and counts rows; never holds a value. */
export interface Undercut {
  readonly kind: 'missing' | 'view' | 'function' | 'trigger' | 'generated' | 'index' | 'copy' | 'unchecked'
  readonly severity: 'error' | 'warning' | 'info'
  readonly message: string
  /** The mask it is about, as `schema.table.column`. */
  readonly mask?: string
}

/** Masked values compared with, for each masked column. */
const VALUES_MAX = 100
/** Rows sampled of each column that may hold copies. */
const ROWS_MAX = 1000
/** Columns sampled at most, over all tables. */
const COLUMNS_MAX = 500
/** Shorter values meet others by chance. */
const VALUE_CHARS_MIN = 6
/** No comparison may take longer, in milliseconds. */
const STATEMENT_MS_MAX = 10_000

/** Types beside texts whose values can hold another value somewhere inside. */
const CONTAINERS = new Set(['json', 'jsonb', 'xml', 'text[]', 'character varying[]', 'json[]', 'jsonb[]'])

/** Finds everything. */
export async function undercutsOf(
  catalog: Catalog,
  masks: readonly ColumnMask[],
  connection: UpstreamConnection,
): Promise<readonly Undercut[]> {
  const { present, missing } = sorted(catalog, masks)
  const bound = bindMasks(catalog, present)
  const named = await functionsNaming(catalog, bound, connection)
  return [...missing, ...ofCatalog(catalog, bound), ...named, ...(await copiesOf(catalog, bound, connection))]
}

/** Tells masks that stand for a column from those that stand for nothing. */
export function sorted(
  catalog: Catalog,
  masks: readonly ColumnMask[],
): { readonly present: readonly ColumnMask[]; readonly missing: readonly Undercut[] } {
  const present: ColumnMask[] = []
  const missing: Undercut[] = []
  for (const mask of masks) {
    const name = `${resourceName({ schema: mask.schema, name: mask.table })}.${mask.column}`
    const relation = findRelation(catalog, mask.schema, mask.table)
    if (relation?.columns.some((column) => column.name === mask.column) === true) present.push(mask)
    else {
      const what = relation === undefined ? 'the table does not exist' : 'the table has no such column'
      missing.push({
        kind: 'missing',
        severity: 'error',
        mask: name,
        message: `The mask on ${name} hides nothing, because ${what}; nothing runs on this target until it is corrected.`,
      })
    }
  }
  return { present, missing }
}

function ofCatalog(catalog: Catalog, masks: BoundMasks): readonly Undercut[] {
  const found: Undercut[] = []
  for (const oid of masks.tainted) {
    const relation = catalog.relationsByOid.get(oid)
    if (relation === undefined) continue
    const kind = relation.kind === 'materialized_view' ? 'materialized view' : 'view'
    const message = `The ${kind} ${resourceName(relation)} reads masked columns, or may; the gateway refuses it. Mask columns of its own to make it usable.`
    found.push({ kind: 'view', severity: 'warning', message })
  }
  for (const [oid, named] of masks.byRelation) {
    const relation = catalog.relationsByOid.get(oid)
    if (relation !== undefined) found.push(...ofRelation(catalog, relation, new Set(named.keys())))
  }
  return found
}

function ofRelation(catalog: Catalog, relation: Relation, masked: ReadonlySet<string>): readonly Undercut[] {
  const name = resourceName(relation)
  const triggers = relation.triggers.map((trigger): Undercut => {
    const [fn] = functionsOf(catalog, [trigger.functionOid])
    const code = fn === undefined ? 'its function' : functionName(fn)
    return {
      kind: 'trigger',
      severity: 'warning',
      message: `The trigger ${trigger.name} on ${name} hands whole rows, masked columns too, to ${code}, which may copy them.`,
    }
  })
  const generated = relation.columns
    .filter((column) => masked.has(column.name) && column.generatedFrom.some((source) => masked.has(source)))
    .map((column): Undercut => ({
      kind: 'generated',
      severity: 'info',
      message: `${name}.${column.name} is computed from ${column.generatedFrom.join(', ')} and is shown as NULL.`,
    }))
  const indexes = relation.ties
    .filter(({ kind, columns, evaluates }) => {
      return (kind === 'index' || kind === 'unique') && (evaluates || columns.length > 1) && meets(columns, masked)
    })
    .map(({ columns, evaluates }): Undercut => ({
      kind: 'index',
      severity: 'info',
      message: `An index of ${name} over ${columns.join(', ')} ${evaluates ? 'keeps values computed from' : 'orders rows by'} a masked column; the gateway does not let it show.`,
    }))
  return [...triggers, ...generated, ...indexes]
}

function meets(columns: readonly string[], masked: ReadonlySet<string>): boolean {
  return columns.some((column) => masked.has(column))
}

/** Functions whose text mentions a masked table by name, or whose text nobody can read. */
async function functionsNaming(
  catalog: Catalog,
  masks: BoundMasks,
  connection: UpstreamConnection,
): Promise<readonly Undercut[]> {
  const names = [...masks.byRelation.keys()].flatMap((oid) => catalog.relationsByOid.get(oid)?.name ?? [])
  if (names.length === 0) return []
  const rows = await connection.query(
    `SELECT p.oid::pg_catalog.text FROM pg_catalog.pg_proc p
     WHERE p.oid OPERATOR(pg_catalog.>=) 16384 AND EXISTS (
       SELECT FROM pg_catalog.json_array_elements_text($1::pg_catalog.json) AS n(name)
       WHERE pg_catalog.strpos(pg_catalog.lower(pg_catalog.concat(p.prosrc,
         CASE WHEN p.prokind OPERATOR(pg_catalog.=) 'a' THEN NULL ELSE pg_catalog.pg_get_functiondef(p.oid) END)),
         pg_catalog.lower(n.name)) OPERATOR(pg_catalog.>) 0) LIMIT 500`,
    [JSON.stringify([...new Set(names)])],
  )
  const found = functionsOf(
    catalog,
    rows.map(([oid]) => Number(oid)),
  )
  return found
    .filter(({ extension }) => extension === null)
    .map((fn): Undercut => {
      const rights = fn.securityDefiner ? "its owner's rights" : "the caller's rights"
      const message = `${functionName(fn)} mentions a masked table and runs with ${rights}; allow sql.call on it to nobody whom the mask is for.`
      return { kind: 'function', severity: fn.securityDefiner ? 'warning' : 'info', message }
    })
}

/** A masked column whose values are looked for elsewhere. */
interface Source {
  readonly relation: Relation
  readonly column: CatalogColumn
  readonly label: string
}

async function copiesOf(
  catalog: Catalog,
  masks: BoundMasks,
  connection: UpstreamConnection,
): Promise<readonly Undercut[]> {
  const { sources, unread } = sourcesOf(catalog, masks)
  const notes = unread.map((label): Undercut => ({
    kind: 'unchecked',
    severity: 'info',
    mask: label,
    message: `The database role may not read ${label}, so nobody looked for copies of its values. Check with a role that may.`,
  }))
  if (sources.length === 0) return notes
  const candidates = candidatesOf(catalog, masks)
  if (candidates.length > COLUMNS_MAX) {
    notes.push({
      kind: 'unchecked',
      severity: 'warning',
      message: `Only the first ${COLUMNS_MAX} of ${candidates.length} columns were searched for copies.`,
    })
  }
  const found: Undercut[] = []
  for (const candidate of candidates.slice(0, COLUMNS_MAX)) {
    found.push(...(await copiesIn(candidate, sources, connection)))
  }
  return [...found, ...notes]
}

function sourcesOf(
  catalog: Catalog,
  masks: BoundMasks,
): { readonly sources: readonly Source[]; readonly unread: readonly string[] } {
  const sources: Source[] = []
  const unread: string[] = []
  for (const { relation: oid, attnum } of masks.columns) {
    const relation = catalog.relationsByOid.get(oid)
    const column = relation?.columns.find((candidate) => candidate.attnum === attnum)
    if (relation === undefined || column === undefined || !isTable(relation)) continue
    // A partition's values are its parent's too, and what is computed from a masked column is no secret of its own.
    if (relation.parents.some((parent) => masks.byRelation.has(parent)) || column.generated) continue
    const label = `${resourceName(relation)}.${column.name}`
    if (!isRead(catalog, relation, column)) unread.push(label)
    else if (isPlain(column)) sources.push({ relation, column, label })
  }
  return { sources, unread }
}

function isRead(catalog: Catalog, { oid }: Relation, { attnum }: CatalogColumn): boolean {
  return isReadable(catalog.rights, oid, attnum)
}

/** Columns that are not masked and can hold such a value. */
function candidatesOf(catalog: Catalog, masks: BoundMasks): readonly Pick<Source, 'relation' | 'column'>[] {
  return catalog.relations
    .filter((relation) => !relation.builtin && isTable(relation) && !masks.tainted.has(relation.oid))
    .filter(({ parents }) => parents.length === 0)
    .flatMap((relation) =>
      relation.columns
        .filter((column) => masks.byRelation.get(relation.oid)?.has(column.name) !== true)
        .filter((column) => isPlain(column) && isRead(catalog, relation, column))
        .map((column) => ({ relation, column })),
    )
}

function isTable({ kind }: Relation): boolean {
  return kind === 'table' || kind === 'partitioned_table' || kind === 'materialized_view'
}

/** Only types of PostgreSQL itself: writing out a value of another one would run somebody's code. */
function isPlain({ typeOid, rowTypeOf }: CatalogColumn): boolean {
  return typeOid < 16_384 && rowTypeOf === 0
}

/** Compares one column with the values of all sources, inside the database. */
async function copiesIn(
  { relation, column }: Pick<Source, 'relation' | 'column'>,
  sources: readonly Source[],
  connection: UpstreamConnection,
): Promise<readonly Undercut[]> {
  const contains = isTextType(column) || CONTAINERS.has(withoutModifier(column.baseType))
  // A number or a date cannot hold another value; it can only be one.
  const fitting = sources.filter(
    (source) => contains || withoutModifier(source.column.baseType) === withoutModifier(column.baseType),
  )
  if (fitting.length === 0) return []
  const values = fitting.map((source, index) => {
    const value = `${quoteIdentifier(source.column.name)}::pg_catalog.text`
    return `(SELECT ${index} AS source, v FROM (SELECT DISTINCT ${value} AS v FROM ${pinned(source.relation)}
      WHERE pg_catalog.length(${value}) OPERATOR(pg_catalog.>=) ${VALUE_CHARS_MIN} LIMIT ${VALUES_MAX}) s)`
  })
  const test = contains
    ? 'pg_catalog.strpos(sampled.v, masked.v) OPERATOR(pg_catalog.>) 0'
    : 'sampled.v OPERATOR(pg_catalog.=) masked.v'
  const sql = `WITH masked AS MATERIALIZED (${values.join(' UNION ALL ')}),
    sampled AS MATERIALIZED (SELECT ${quoteIdentifier(column.name)}::pg_catalog.text AS v FROM ${pinned(relation)}
      WHERE ${quoteIdentifier(column.name)} IS NOT NULL LIMIT ${ROWS_MAX})
    SELECT source, pg_catalog.count(*) FROM (SELECT DISTINCT masked.source, sampled.v FROM sampled
      JOIN masked ON ${test}) AS hits GROUP BY source ORDER BY source`
  const name = `${resourceName(relation)}.${column.name}`
  const hits = await counted(sql, connection)
  if (hits === undefined) {
    return [{ kind: 'unchecked', severity: 'info', message: `${name} could not be searched for copies in time.` }]
  }
  return hits.flatMap(([index, count]): Undercut[] => {
    const source = fitting[index]
    if (source === undefined) return []
    const how = contains ? 'hold' : 'are'
    return [
      {
        kind: 'copy',
        severity: 'warning',
        mask: source.label,
        message: `${count} of at most ${ROWS_MAX} sampled values of ${name} ${how} values of ${source.label}; mask that column too, or clear it.`,
      },
    ]
  })
}

/** Runs one comparison in a read-only transaction of its own; `undefined` when it took too long or was refused. */
async function counted(
  sql: string,
  connection: UpstreamConnection,
): Promise<readonly (readonly [number, number])[] | undefined> {
  const rows: (readonly [number, number])[] = []
  const outcome = await connection.run([
    { do: 'run', sql: 'BEGIN ISOLATION LEVEL READ COMMITTED READ ONLY' },
    { do: 'run', sql: `SELECT pg_catalog.set_config('statement_timeout', '${STATEMENT_MS_MAX}', true)` },
    { do: 'run', sql, onRow: ([source, count]) => rows.push([Number(source), Number(count)]) },
    { do: 'run', sql: 'COMMIT' },
  ])
  if (outcome.kind === 'lost') throw outcome.cause
  if (outcome.failure === undefined) return rows
  await connection.run([{ do: 'run', sql: 'ROLLBACK' }])
  return undefined
}
