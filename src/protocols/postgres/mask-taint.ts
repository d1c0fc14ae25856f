/**
 * What tells of masked columns without showing them: views that read them, orders of rows that follow them, partitions
 * that are made by them.
 *
 * @packageDocumentation
 */
import type { Catalog, Relation } from './catalog.ts'
import type { BoundMasks, RelationMasks } from './masks.ts'

/**
 * Views and materialized views that read a masked column, however far, unless they have masks of their own (R12); and
 * those of which nobody can tell what they read. A view over the other columns of a masked table is no other than the
 * table would be.
 */
export function taintedBy(
  catalog: Catalog,
  masked: ReadonlyMap<number, RelationMasks>,
  sorted: ReadonlySet<number>,
  pieces: ReadonlySet<number>,
): ReadonlySet<number> {
  const tainted = new Set<number>()
  if (masked.size === 0) return tainted
  const isShown = (relation: Relation, oid: number): boolean => {
    const named = masked.get(oid)
    const other = catalog.relationsByOid.get(oid)
    if (other !== undefined && isShownByPolicy(other, { byRelation: masked })) return true
    if (tainted.has(oid) || sorted.has(oid) || pieces.has(oid)) return true
    if (named === undefined) return false
    // A whole row is in no list of columns, so whoever reads one may read that of any relation beside it.
    return relation.readsWholeRows || relation.ruleReads.some((read) => read.relation === oid && named.has(read.column))
  }
  for (let grew = true; grew;) {
    grew = false
    for (const relation of catalog.relations) {
      if (tainted.has(relation.oid) || masked.has(relation.oid)) continue
      if (relation.kind !== 'view' && relation.kind !== 'materialized_view') continue
      if (!relation.readsOpaquely && !relation.dependsOn.some((oid) => isShown(relation, oid))) continue
      tainted.add(relation.oid)
      grew = true
    }
  }
  return tainted
}

/** Whether a policy decides by a masked column which rows of a relation there are to see. */
export function isShownByPolicy(relation: Relation, masks: Pick<BoundMasks, 'byRelation'>): boolean {
  if (!relation.hasRls) return false
  const own = masks.byRelation.get(relation.oid)
  return (
    relation.policyReads.some((read) => masks.byRelation.get(read.relation)?.has(read.column) === true) ||
    relation.ties.some(({ kind, columns }) => kind === 'policy' && columns.some((column) => own?.has(column) === true))
  )
}

/**
 * Rows come in the order of the index they were found by. An index over a masked column and another one so shows how
 * masked values compare, and a row inserted for comparison shows the values themselves.
 */
export function orderedBy(
  catalog: Catalog,
  masked: ReadonlyMap<number, RelationMasks>,
  tainted: ReadonlySet<number>,
): ReadonlySet<number> {
  const ordered = new Set<number>()
  for (const [oid, named] of masked) {
    const relation = catalog.relationsByOid.get(oid)
    if (relation === undefined) continue
    const tells = relation.ties.some(
      ({ kind, columns }) =>
        (kind === 'index' || kind === 'unique') && columns.length > 1 && columns.some((column) => named.has(column)),
    )
    // What indexes the tables behind a view have, their masks do not say.
    if (tells || relation.kind === 'view') addWithParents(catalog, ordered, relation)
  }
  for (let grew = ordered.size > 0; grew;) {
    grew = false
    for (const { oid, kind, dependsOn } of catalog.relations) {
      if (ordered.has(oid) || tainted.has(oid) || !dependsOn.some((one) => ordered.has(one))) continue
      if (kind !== 'view' && kind !== 'materialized_view') continue
      ordered.add(oid)
      grew = true
    }
  }
  return ordered
}

/** Tables that lie in the order of masked values, and partitions whose very rows tell of them. */
export function sortedBy(
  catalog: Catalog,
  masked: ReadonlyMap<number, RelationMasks>,
): { readonly sorted: ReadonlySet<number>; readonly pieces: ReadonlySet<number> } {
  const sorted = new Set<number>()
  const pieces = new Set<number>()
  for (const [oid, named] of masked) {
    const relation = catalog.relationsByOid.get(oid)
    if (relation === undefined) continue
    if (relation.clusteredBy.some((column) => named.has(column))) addWithParents(catalog, sorted, relation)
    const isKey = relation.ties.some(
      ({ kind, columns }) => kind === 'partition' && columns.some((column) => named.has(column)),
    )
    if (!isKey) continue
    addWithParents(catalog, sorted, relation)
    for (const child of relation.children) addWithChildren(catalog, pieces, child)
  }
  return { sorted, pieces }
}

function addWithParents(catalog: Catalog, into: Set<number>, relation: Relation): void {
  if (into.has(relation.oid)) return
  into.add(relation.oid)
  for (const oid of relation.parents) {
    const parent = catalog.relationsByOid.get(oid)
    if (parent !== undefined) addWithParents(catalog, into, parent)
  }
}

function addWithChildren(catalog: Catalog, into: Set<number>, oid: number): void {
  if (into.has(oid)) return
  into.add(oid)
  for (const child of catalog.relationsByOid.get(oid)?.children ?? []) addWithChildren(catalog, into, child)
}
