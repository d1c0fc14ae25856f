/**
 * What stands behind the masks of each relation at the backend, and what is missing there.
 *
 * @packageDocumentation
 */
import type { Catalog } from './catalog.ts'
import { isReadable, needsValue, standInOf } from './masking-mode.ts'
import type { RelationMasks } from './masks.ts'
import type { PostgresOptions } from './options.ts'

/** By relation OID, then by column: the column a partial mask reads. */
export type StandIns = ReadonlyMap<number, ReadonlyMap<string, string>>

/** Why a masked relation must not be touched. */
export interface UnmetMasks {
  /** Masked columns the backend role may read although the target demands `masking: enforced`. */
  readonly readable: readonly string[]
  /** Columns with a partial mask that the backend role may not read, and that have no stand-in. */
  readonly withoutStandIn: readonly string[]
}

/** Columns that partial masks read in place of ones the backend role may not. */
export function standInsOf(catalog: Catalog, byRelation: ReadonlyMap<number, RelationMasks>): StandIns {
  const standIns = new Map<number, ReadonlyMap<string, string>>()
  for (const [oid, named] of byRelation) {
    const relation = catalog.relationsByOid.get(oid)
    const found = (relation?.columns ?? []).flatMap((column): (readonly [string, string])[] => {
      const transform = named.get(column.name)?.transform
      if (relation === undefined || transform === undefined || !needsValue(column, transform)) return []
      const standIn = standInOf(catalog, relation, column)
      return standIn === undefined || named.has(standIn.name) ? [] : [[column.name, standIn.name]]
    })
    if (found.length > 0) standIns.set(oid, new Map(found))
  }
  return standIns
}

/** Fail closed: what the target demands of its backend role must be so before a masked relation is touched. */
export function unmetOf(
  catalog: Catalog,
  byRelation: ReadonlyMap<number, RelationMasks>,
  standIns: StandIns,
  demanded: PostgresOptions['masking'],
): ReadonlyMap<number, UnmetMasks> {
  const unmet = new Map<number, UnmetMasks>()
  for (const [oid, named] of byRelation) {
    const masked = (catalog.relationsByOid.get(oid)?.columns ?? []).filter(({ name }) => named.has(name))
    const readable = masked.filter(({ attnum }) => isReadable(catalog.rights, oid, attnum))
    const withoutStandIn = masked.filter(
      (column) =>
        !readable.includes(column) &&
        needsValue(column, named.get(column.name)?.transform ?? 'null') &&
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
