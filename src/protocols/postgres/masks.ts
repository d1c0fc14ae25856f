/**
 * Masks bound to the catalog: which columns of which relations, by name and by (OID, attnum).
 *
 * @packageDocumentation
 */
import type { ColumnMask, MaskingMode, Transform } from '../../core/decision.ts'
import { SallyportError } from '../../core/errors.ts'
import type { Catalog, Relation } from './catalog.ts'
import { findRelation } from './catalog.ts'
import { isReadable, modeOf, needsValue, standInOf } from './masking-mode.ts'
import { resourceName } from './names.ts'
import type { PostgresOptions } from './options.ts'
import type { MaskedColumn } from './plan-types.ts'

/** How each masked column of one relation is replaced, by column name. */
export type RelationMasks = ReadonlyMap<string, Transform>

/** The masks of one principal on one database. */
export interface BoundMasks {
  /** By relation OID; empty when the principal sees everything. */
  readonly byRelation: ReadonlyMap<number, RelationMasks>
  /** Relations whose rules read, or may read, a masked relation and that have no masks of their own. */
  readonly tainted: ReadonlySet<number>
  /** Masked relations that an index may give in an order that tells of a masked column. */
  readonly ordered: ReadonlySet<number>
  /** Every masked column, for the tripwire. */
  readonly columns: readonly MaskedColumn[]
  /** What stands behind these masks at the backend. */
  readonly mode: MaskingMode
  /** Columns that partial masks read in place of ones the backend role may not: by relation OID, then by column. */
  readonly standIns: ReadonlyMap<number, ReadonlyMap<string, string>>
  /** Masked relations that must not be touched, because their masks are not what the target demands. */
  readonly unmet: ReadonlyMap<number, UnmetMasks>
}

/** Why a masked relation must not be touched. */
export interface UnmetMasks {
  /** Masked columns the backend role may read although the target demands `masking: enforced`. */
  readonly readable: readonly string[]
  /** Columns with a partial mask that the backend role may not read, and that have no stand-in. */
  readonly withoutStandIn: readonly string[]
}

const bound = new WeakMap<Catalog, Map<string, BoundMasks>>()

/** Mask sets kept per catalog snapshot: one per distinct set of groups in practice. */
const BOUND_MAX = 64

/**
 * Binds masks to a catalog.
 *
 * Fail closed: a mask whose relation or column the catalog lacks may have been renamed away, and the column it guarded
 * now has another name, so the whole database is refused until an operator has looked (R1).
 *
 * @throws SallyportError `ERR_DENIED` (`sql.mask.binding`, `sql.mask.hash`)
 */
export function bindMasks(
  catalog: Catalog,
  masks: readonly ColumnMask[],
  demanded: PostgresOptions['masking'] = 'rewrite',
): BoundMasks {
  const key = JSON.stringify([demanded, ...masks.map((mask) => [mask.schema, mask.table, mask.column, mask.transform])])
  let known = bound.get(catalog)
  if (known === undefined) bound.set(catalog, (known = new Map()))
  const before = known.get(key)
  if (before !== undefined) return before
  const made = bind(catalog, masks, demanded)
  if (known.size >= BOUND_MAX) known.clear()
  known.set(key, made)
  return made
}

function bind(catalog: Catalog, masks: readonly ColumnMask[], demanded: PostgresOptions['masking']): BoundMasks {
  const byRelation = new Map<number, Map<string, Transform>>()
  for (const mask of masks) {
    if (mask.transform === 'hash') throw hashRefused(mask)
    const relation = findRelation(catalog, mask.schema, mask.table)
    if (relation === undefined || !relation.columns.some((column) => column.name === mask.column)) throw unbound(mask)
    spread(catalog, byRelation, relation, mask.column, mask.transform)
  }
  const standIns = standInsOf(catalog, byRelation)
  maskDerivedColumns(catalog, byRelation, standIns)
  const columns: MaskedColumn[] = []
  for (const [oid, named] of byRelation) {
    for (const column of catalog.relationsByOid.get(oid)?.columns ?? []) {
      const transform = named.get(column.name)
      if (transform !== undefined) columns.push({ relation: oid, attnum: column.attnum, transform })
    }
  }
  return {
    byRelation,
    tainted: taintedBy(catalog, byRelation),
    ordered: orderedBy(catalog, byRelation),
    columns,
    mode: modeOf(catalog.rights, columns),
    standIns,
    unmet: unmetOf(catalog, byRelation, standIns, demanded),
  }
}

function standInsOf(
  catalog: Catalog,
  byRelation: ReadonlyMap<number, RelationMasks>,
): ReadonlyMap<number, ReadonlyMap<string, string>> {
  const standIns = new Map<number, ReadonlyMap<string, string>>()
  for (const [oid, named] of byRelation) {
    const relation = catalog.relationsByOid.get(oid)
    const found = (relation?.columns ?? []).flatMap((column): (readonly [string, string])[] => {
      const transform = named.get(column.name)
      if (relation === undefined || transform === undefined || !needsValue(column, transform)) return []
      const standIn = standInOf(catalog, relation, column)
      return standIn === undefined || named.has(standIn.name) ? [] : [[column.name, standIn.name]]
    })
    if (found.length > 0) standIns.set(oid, new Map(found))
  }
  return standIns
}

/** Fail closed: what the target demands of its backend role must be so before a masked relation is touched. */
function unmetOf(
  catalog: Catalog,
  byRelation: ReadonlyMap<number, RelationMasks>,
  standIns: BoundMasks['standIns'],
  demanded: PostgresOptions['masking'],
): ReadonlyMap<number, UnmetMasks> {
  const unmet = new Map<number, UnmetMasks>()
  for (const [oid, named] of byRelation) {
    const masked = (catalog.relationsByOid.get(oid)?.columns ?? []).filter(({ name }) => named.has(name))
    const readable = masked.filter(({ attnum }) => isReadable(catalog.rights, oid, attnum))
    const withoutStandIn = masked.filter(
      (column) =>
        !readable.includes(column) &&
        needsValue(column, named.get(column.name) ?? 'null') &&
        standIns.get(oid)?.has(column.name) !== true,
    )
    const missing = demanded === 'enforced' ? readable : []
    if (missing.length === 0 && withoutStandIn.length === 0) continue
    unmet.set(oid, {
      readable: missing.map(({ name }) => name),
      withoutStandIn: withoutStandIn.map(({ name }) => name),
    })
  }
  return unmet
}

/** Masks a column and, by name, the same column of every parent, partition and child (R5). */
function spread(
  catalog: Catalog,
  byRelation: Map<number, Map<string, Transform>>,
  start: Relation,
  column: string,
  transform: Transform,
): void {
  const seen = new Set<number>()
  const queue = [start.oid]
  for (let oid = queue.pop(); oid !== undefined; oid = queue.pop()) {
    const relation = catalog.relationsByOid.get(oid)
    if (seen.has(oid) || relation === undefined) continue
    seen.add(oid)
    // A parent may lack the column: then its other children's column of that name is another one.
    if (!relation.columns.some((candidate) => candidate.name === column)) continue
    let named = byRelation.get(oid)
    if (named === undefined) byRelation.set(oid, (named = new Map()))
    const before = named.get(column)
    // Unequal transforms → redact (C5).
    named.set(column, before === undefined || before === transform ? transform : 'redact')
    queue.push(...relation.parents, ...relation.children)
  }
}

/** Columns computed from a masked one, and columns that hold whole rows of a masked relation, become NULL (R5). */
function maskDerivedColumns(
  catalog: Catalog,
  byRelation: Map<number, Map<string, Transform>>,
  standIns: BoundMasks['standIns'],
): void {
  for (let grew = true; grew;) {
    grew = false
    for (const relation of catalog.relations) {
      const named = byRelation.get(relation.oid)
      const masks = new Set(standIns.get(relation.oid)?.values())
      for (const column of relation.columns) {
        // It holds what the mask shows; its owner lets the role read it and not the column it is made of.
        if (masks.has(column.name)) continue
        if (named?.has(column.name) === true) continue
        const derived = column.generatedFrom.some((source) => named?.has(source) === true)
        if (!derived && !holdsRowsOf(catalog, byRelation, column.rowTypeOf)) continue
        spread(catalog, byRelation, relation, column.name, 'null')
        grew = true
      }
    }
  }
}

function holdsRowsOf(catalog: Catalog, masked: ReadonlyMap<number, unknown>, rowType: number): boolean {
  return rowType !== 0 && masked.has(rowType) && catalog.relationsByOid.has(rowType)
}

/**
 * Views and materialized views over a masked relation, however far, unless they have masks of their own (R12); and those
 * of which nobody can tell what they read.
 */
function taintedBy(catalog: Catalog, masked: ReadonlyMap<number, unknown>): ReadonlySet<number> {
  const tainted = new Set<number>()
  if (masked.size === 0) return tainted
  for (let grew = true; grew;) {
    grew = false
    for (const relation of catalog.relations) {
      if (tainted.has(relation.oid) || masked.has(relation.oid)) continue
      if (relation.kind !== 'view' && relation.kind !== 'materialized_view') continue
      if (!relation.readsOpaquely && !relation.dependsOn.some((oid) => masked.has(oid) || tainted.has(oid))) continue
      tainted.add(relation.oid)
      grew = true
    }
  }
  return tainted
}

/**
 * Rows come in the order of the index they were found by. An index over a masked column and another one so shows how
 * masked values compare, and a row inserted for comparison shows the values themselves.
 */
function orderedBy(catalog: Catalog, masked: ReadonlyMap<number, RelationMasks>): ReadonlySet<number> {
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
  return ordered
}

function addWithParents(catalog: Catalog, into: Set<number>, relation: Relation): void {
  if (into.has(relation.oid)) return
  into.add(relation.oid)
  for (const oid of relation.parents) {
    const parent = catalog.relationsByOid.get(oid)
    if (parent !== undefined) addWithParents(catalog, into, parent)
  }
}

function unbound(mask: ColumnMask): SallyportError {
  const name = `${resourceName({ schema: mask.schema, name: mask.table })}.${mask.column}`
  return new SallyportError(
    'ERR_DENIED',
    `The policy masks ${name}, which this database does not have; nothing runs here until the mask is corrected.`,
    { facts: { construct: 'sql.mask.binding' } },
  )
}

function hashRefused(mask: ColumnMask): SallyportError {
  const name = `${resourceName({ schema: mask.schema, name: mask.table })}.${mask.column}`
  return new SallyportError(
    'ERR_DENIED',
    `The mask on ${name} asks for a keyed hash, which SQL must not see the key of.`,
    {
      facts: { construct: 'sql.mask.hash', hint: 'Use redact, null or partial for columns of a database.' },
    },
  )
}
