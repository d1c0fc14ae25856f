/**
 * VACUUM, ANALYZE, REINDEX, CLUSTER, REFRESH and CHECKPOINT, and what they run: expressions of indexes, queries of views.
 *
 * @packageDocumentation
 */
import { asList, text, unwrap, type Ast } from '../ast.ts'
import type { Relation } from '../catalog.ts'
import { functionsOf } from '../functions.ts'
import { word } from '../names.ts'
import type { Draft, Handler } from './draft.ts'
import { fieldsOf, options, relationName, schemaName } from './objects.ts'

export const vacuum: Handler = (draft, fields) => {
  const isVacuum = fields['is_vacuumcmd'] === true
  draft.outsideTransaction = isVacuum
  const operation = isVacuum ? 'vacuum' : 'analyze'
  const rels = asList(fields['rels']).map((rel) => fieldsOf(rel)['relation'])
  each(
    draft,
    operation,
    rels,
    options(fields['options']).map(({ name }) => name),
  )
}

export const reindex: Handler = (draft, fields) => {
  const kind = text(fields['kind']) || 'REINDEX_OBJECT_INDEX'
  const given = options(fields['params']).map(({ name }) => name)
  draft.outsideTransaction = given.includes('concurrently') || !/_(INDEX|TABLE)$/.test(kind)
  if (kind === 'REINDEX_OBJECT_TABLE') {
    each(draft, 'reindex', [fields['relation']], given)
    draft.outsideTransaction ||= isInParts(draft)
    return
  }
  const rel = fieldsOf(fields['relation'])
  const path =
    rel['schemaname'] === undefined ? [text(rel['relname'])] : [text(rel['schemaname']), text(rel['relname'])]
  const name = kind === 'REINDEX_OBJECT_INDEX' ? schemaName(draft, path) : word(text(fields['name']))
  draft.part('sql.maintain', name === '""' ? undefined : name, { operation: 'reindex', options: given })
  // Which table an index is of is not known here: it may be any.
  everyRelation(draft)
}

export const cluster: Handler = (draft, fields) => {
  draft.outsideTransaction = fields['relation'] === undefined
  each(draft, 'cluster', fields['relation'] === undefined ? [] : [fields['relation']], [])
  draft.outsideTransaction ||= isInParts(draft)
}

/** Of a partitioned table the server does each partition in a transaction of its own (PostgreSQL manual, REINDEX, CLUSTER). */
function isInParts({ named }: Draft): boolean {
  return named.some(({ kind }) => kind === 'partitioned_table')
}

export const refresh: Handler = (draft, fields) => {
  each(draft, 'refresh', [fields['relation']], [])
  draft.changesCatalog = true
}

export const checkpoint: Handler = (draft) =>
  draft.part('sql.maintain', undefined, { operation: 'checkpoint', options: [] })

function each(draft: Draft, operation: string, rels: readonly unknown[], given: readonly string[]): void {
  for (const rel of rels) {
    const before = draft.named.length
    draft.part('sql.maintain', relationName(draft, asRef(rel)), { operation, options: given })
    for (const relation of draft.named.slice(before)) runs(draft, relation)
  }
  if (rels.length > 0) return
  draft.part('sql.maintain', undefined, { operation, options: given })
  everyRelation(draft)
}

function everyRelation(draft: Draft): void {
  for (const relation of draft.catalog.relations) {
    if (relation.builtin) continue
    draft.named.push(relation)
    runs(draft, relation)
  }
}

/** Functions in what the catalog keeps of a relation: indexes, statistics, the query of a materialised view. */
function runs(draft: Draft, relation: Relation): void {
  for (const fn of functionsOf(draft.catalog, [...relation.readFunctions, ...relation.writeFunctions])) {
    draft.functions.push({ fn, via: relation.kind === 'materialized_view' ? 'view' : 'index' })
  }
}

function asRef(rel: unknown): Ast {
  const one = unwrap(rel)
  return one?.type === 'RangeVar' ? one.fields : fieldsOf(rel)
}
