/**
 * What a write of a view becomes: of views that PostgreSQL makes writable by itself, a write of the one relation they show
 * (PostgreSQL manual, CREATE VIEW, "Updatable Views").
 *
 * @packageDocumentation
 */
import { asList, text, unwrap, words } from './ast.ts'
import { findRelation, type Catalog, type Relation } from './catalog.ts'
import { parse } from './parse.ts'

/** The relation a view shows, and what its columns are called there; a column that is computed has no name there. */
export interface ViewBase {
  readonly relation: Relation
  readonly columns: ReadonlyMap<string, string | undefined>
}

const known = new WeakMap<Catalog, Map<number, ViewBase | undefined>>()

/** The base of a view that the server calls updatable; undefined for anything else. Needs the parser to be loaded. */
export function baseOf(catalog: Catalog, view: Relation): ViewBase | undefined {
  if (view.updatableAs === undefined) return undefined
  let bases = known.get(catalog)
  if (bases === undefined) known.set(catalog, (bases = new Map()))
  if (!bases.has(view.oid)) bases.set(view.oid, read(catalog, view, view.updatableAs))
  return bases.get(view.oid)
}

/** The definition is the server's own words, in which every name outside of `pg_catalog` has its schema. */
function read(catalog: Catalog, view: Relation, definition: string): ViewBase | undefined {
  const parsed = parse(definition)
  const select = parsed.ok && parsed.statements.length === 1 ? unwrap(parsed.statements[0]?.['stmt']) : undefined
  const sources = asList(select?.fields['fromClause'])
  const source = unwrap(sources[0])
  if (select?.type !== 'SelectStmt' || sources.length !== 1 || source?.type !== 'RangeVar') return undefined
  const schema = source.fields['schemaname'] === undefined ? 'pg_catalog' : text(source.fields['schemaname'])
  const relation = findRelation(catalog, schema, text(source.fields['relname']))
  const targets = asList(select.fields['targetList'])
  if (relation === undefined || targets.length !== view.columns.length) return undefined
  const columns = new Map(view.columns.map(({ name }, index) => [name, columnOf(targets[index], relation)]))
  return { relation, columns }
}

function columnOf(target: unknown, relation: Relation): string | undefined {
  const value = unwrap(unwrap(target)?.fields['val'])
  const name = value?.type === 'ColumnRef' ? words(value.fields['fields'])?.at(-1) : undefined
  return relation.columns.some((column) => column.name === name) ? name : undefined
}
