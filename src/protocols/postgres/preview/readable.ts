import type { ColumnMask } from '../../../core/decision.ts'
import type { Catalog, Relation } from '../catalog.ts'
import { quoteIdentifier } from '../names.ts'

/** A guard lists its columns by name, and has a bound. */
const LIST_CHARS_MAX = 6_000

/** What of a table may be read for a preview: never what is masked for anybody, and what the database role may read. */
export class Readable {
  readonly #catalog: Catalog
  readonly #masks: readonly ColumnMask[]

  /** @param masks masks nobody is excepted from. */
  constructor(catalog: Catalog, masks: readonly ColumnMask[]) {
    this.#catalog = catalog
    this.#masks = masks
  }

  isMasked({ schema, name: table }: Relation, column: string): boolean {
    return this.#masks.some((mask) => mask.schema === schema && mask.table === table && mask.column === column)
  }

  has(relation: Relation, column: string): boolean {
    if (this.isMasked(relation, column)) return false
    if (this.hasAll(relation)) return true
    const columns = this.#catalog.rights?.readable.get(relation.oid)
    const attnum = relation.columns.find((known) => known.name === column)?.attnum
    return columns instanceof Set && attnum !== undefined && columns.has(attnum)
  }

  /** Whether the role may read the table whole. */
  hasAll({ oid }: Relation): boolean {
    const { rights } = this.#catalog
    if (rights === undefined || rights.powers.includes('superuser')) return true
    return rights.readable.get(oid) === 'all'
  }

  /**
   * SQL of what tells rows apart and of what is compared of them; `undefined` when it cannot be read.
   *
   * @param wanted columns to compare, all of which may be read.
   */
  list(relation: Relation, alias: string, wanted: readonly string[]): string | undefined {
    const { primaryKey, children, kind } = relation
    const isKeyed =
      primaryKey.length > 0 &&
      primaryKey.every((name) => this.has(relation, name)) &&
      (children.length === 0 || kind === 'partitioned_table')
    if (!isKeyed && !this.hasAll(relation)) return undefined
    const identity = isKeyed ? [] : ['tableoid', 'ctid']
    const named = [...identity, ...wanted].map((name) => columnOf(alias, name)).join(', ')
    if (named.length <= LIST_CHARS_MAX) return named
    const version = ['tableoid', 'ctid', 'xmin'].map((name) => columnOf(alias, name)).join(', ')
    return this.hasAll(relation) ? version : undefined
  }
}

/** A column of what the alias stands for. */
export function columnOf(alias: string, name: string): string {
  return `${quoteIdentifier(alias)}.${quoteIdentifier(name)}`
}
