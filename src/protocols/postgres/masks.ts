/**
 * Masks bound to the catalog: which columns of which relations, by name and by (OID, attnum).
 *
 * @packageDocumentation
 */
import type { ColumnMask, MaskingMode, Transform } from '../../core/decision.ts'
import { SallyportError } from '../../core/errors.ts'
import type { Catalog, Relation } from './catalog.ts'
import { findRelation } from './catalog.ts'
import { standInsOf, unmetOf, type StandIns, type UnmetMasks } from './mask-backing.ts'
import { isNullMask } from './mask-source.ts'
import { rejectedOf, trialsOf } from './mask-trials.ts'
import { orderedBy, sortedBy, taintedBy } from './mask-taint.ts'
import { isReadable, modeOf } from './masking-mode.ts'
import { resourceName } from './names.ts'
import type { PostgresOptions } from './options.ts'
import type { MaskedColumn } from './plan-types.ts'

/** How one masked column is replaced, and what the operator allows beside. */
export interface BoundMask {
  readonly transform: Transform
  /** Whether callers may give the column values. */
  readonly allowWrite: boolean
  /** Whether conditions may compare with the mask. */
  readonly comparesMask: boolean
  /** Whether the mask is NULL, whatever the value. */
  readonly isNull: boolean
  /** The expression that stands for the column, where it is not made from the transform. */
  readonly expression?: string
}

/** The masks of one relation, by column name. */
export type RelationMasks = ReadonlyMap<string, BoundMask>

/** The masks of one principal on one database. */
export interface BoundMasks {
  /** By relation OID; empty when the principal sees everything. */
  readonly byRelation: ReadonlyMap<number, RelationMasks>
  /** Relations whose rules read, or may read, a masked column and that have no masks of their own. */
  readonly tainted: ReadonlySet<number>
  /** Relations that an index may give in an order that tells of a masked column. */
  readonly ordered: ReadonlySet<number>
  /** Masked relations whose rows lie in an order that tells of a masked column: clustered, or partitioned, by it. */
  readonly sorted: ReadonlySet<number>
  /** Partitions by a masked column: which rows they hold tells of it. */
  readonly pieces: ReadonlySet<number>
  /** Every masked column, for the tripwire. */
  readonly columns: readonly MaskedColumn[]
  /** What stands behind these masks at the backend. */
  readonly mode: MaskingMode
  /** Columns that partial masks read in place of ones the backend role may not: by relation OID, then by column. */
  readonly standIns: StandIns
  /** Masked relations of which the backend role may not read every column, so no system column either. */
  readonly guarded: ReadonlySet<number>
  /** Masked relations that must not be touched, because their masks are not what the target demands. */
  readonly unmet: ReadonlyMap<number, UnmetMasks>
  /** The expressions to try at the database before these masks are used, each with the relations it is for. */
  readonly trials: ReadonlyMap<string, ReadonlySet<number>>
  /** Masked relations of which the database refused a mask, each with the SQLSTATE. */
  readonly rejected: ReadonlyMap<number, string>
}

/** What holds while masks fit nothing: there is nothing behind them but the refusal. */
export const NO_MASKS: BoundMasks = {
  byRelation: new Map(),
  tainted: new Set(),
  ordered: new Set(),
  sorted: new Set(),
  pieces: new Set(),
  columns: [],
  mode: 'rewrite',
  standIns: new Map(),
  guarded: new Set(),
  unmet: new Map(),
  trials: new Map(),
  rejected: new Map(),
}

type Building = Map<number, Map<string, BoundMask>>

type Demanded = PostgresOptions['masking']

const bound = new WeakMap<Catalog, Map<string, BoundMasks>>()
/** The same list of masks is handed in call after call; writing it down as a key costs more than looking it up. */
const boundByList = new WeakMap<Catalog, Record<Demanded, WeakMap<readonly ColumnMask[], BoundMasks>>>()

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
export function bindMasks(catalog: Catalog, masks: readonly ColumnMask[], demanded: Demanded = 'rewrite'): BoundMasks {
  let lists = boundByList.get(catalog)
  if (lists === undefined) {
    boundByList.set(catalog, (lists = { rewrite: new WeakMap(), enforced: new WeakMap() }))
  }
  const same = lists[demanded].get(masks)
  if (same !== undefined) return same
  const made = bindByContent(catalog, masks, demanded)
  lists[demanded].set(masks, made)
  return made
}

function bindByContent(catalog: Catalog, masks: readonly ColumnMask[], demanded: Demanded): BoundMasks {
  const key = JSON.stringify([
    demanded,
    ...masks.map((mask) => [
      mask.schema,
      mask.table,
      mask.column,
      mask.transform,
      mask.allowWrite === true,
      mask.onPredicate ?? 'deny',
    ]),
  ])
  let known = bound.get(catalog)
  if (known === undefined) bound.set(catalog, (known = new Map()))
  const before = known.get(key)
  if (before !== undefined) return before
  const made = bind(catalog, masks, demanded)
  if (known.size >= BOUND_MAX) known.clear()
  known.set(key, made)
  return made
}

function bind(catalog: Catalog, masks: readonly ColumnMask[], demanded: Demanded): BoundMasks {
  const byRelation: Building = new Map()
  for (const mask of masks) {
    if (mask.transform === 'hash') throw hashRefused(mask)
    const relation = findRelation(catalog, mask.schema, mask.table)
    if (relation === undefined || !relation.columns.some((column) => column.name === mask.column)) throw unbound(mask)
    const { transform, allowWrite = false, onPredicate } = mask
    const one = { transform, allowWrite, comparesMask: onPredicate === 'mask', isNull: false }
    spread(catalog, byRelation, relation, mask.column, one)
  }
  const standIns = standInsOf(catalog, byRelation)
  maskDerivedColumns(catalog, byRelation, standIns)
  const columns: MaskedColumn[] = []
  for (const [oid, named] of byRelation) {
    for (const column of catalog.relationsByOid.get(oid)?.columns ?? []) {
      const mask = named.get(column.name)
      if (mask === undefined) continue
      named.set(column.name, { ...mask, isNull: isNullMask(column, mask.transform) })
      columns.push({ relation: oid, attnum: column.attnum, transform: mask.transform })
    }
  }
  const { sorted, pieces } = sortedBy(catalog, byRelation)
  const trials = trialsOf(catalog, byRelation)
  const tainted = taintedBy(catalog, byRelation, sorted, pieces)
  return {
    byRelation,
    tainted,
    ordered: orderedBy(catalog, byRelation, tainted),
    sorted,
    pieces,
    columns,
    mode: modeOf(catalog.rights, columns),
    standIns,
    guarded: new Set(
      columns.flatMap(({ relation, attnum }) => (isReadable(catalog.rights, relation, attnum) ? [] : [relation])),
    ),
    unmet: unmetOf(catalog, byRelation, standIns, demanded),
    trials,
    rejected: rejectedOf(catalog, trials),
  }
}

/** Masks a column and, by name, the same column of every parent, partition and child (R5). */
function spread(catalog: Catalog, byRelation: Building, start: Relation, column: string, mask: BoundMask): void {
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
    named.set(column, strictest(named.get(column), mask))
    queue.push(...relation.parents, ...relation.children)
  }
}

/** Unequal transforms → redact; what any of the masks forbids is forbidden (C5). */
function strictest(before: BoundMask | undefined, mask: BoundMask): BoundMask {
  if (before === undefined) return mask
  return {
    transform: before.transform === mask.transform ? mask.transform : 'redact',
    allowWrite: before.allowWrite && mask.allowWrite,
    comparesMask: before.comparesMask && mask.comparesMask,
    isNull: false,
  }
}

const DERIVED: BoundMask = { transform: 'null', allowWrite: false, comparesMask: false, isNull: true }

/** Columns computed from a masked one, and columns that hold whole rows of a masked relation, become NULL (R5). */
function maskDerivedColumns(catalog: Catalog, byRelation: Building, standIns: StandIns): void {
  // Nothing is made of what is not masked, and a server brings thousands of columns.
  for (let grew = byRelation.size > 0; grew;) {
    grew = false
    for (const relation of catalog.relations) {
      const named = byRelation.get(relation.oid)
      const shown = new Set(standIns.get(relation.oid)?.values())
      for (const column of relation.columns) {
        // It holds what the mask shows; its owner lets the role read it and not the column it is made of.
        if (shown.has(column.name) || named?.has(column.name) === true) continue
        const derived = column.generatedFrom.some((source) => named?.has(source) === true)
        if (!derived && !holdsRowsOf(catalog, byRelation, column.rowTypeOf)) continue
        spread(catalog, byRelation, relation, column.name, DERIVED)
        grew = true
      }
    }
  }
}

function holdsRowsOf(catalog: Catalog, masked: ReadonlyMap<number, unknown>, rowType: number): boolean {
  return rowType !== 0 && masked.has(rowType) && catalog.relationsByOid.has(rowType)
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
