import { SallyportError } from '../../core/errors.ts'
import type { ColumnMask } from '../../core/decision.ts'
import type { Catalog } from './catalog.ts'

interface Binding {
  readonly relation: number
  readonly attnum: number
}

/**
 * Which objects the masks of one target stand for: each name together with the OID and column number it had when it was
 * first seen (R1).
 *
 * A mask is a name in a file, and names move: `ALTER TABLE … RENAME` puts another table under a masked name and the
 * masked one under a free name. So once a name stands for something else, or for nothing, nothing runs on the target at
 * all, for anyone, until an operator has looked and started the gateway again.
 */
export class MaskBindings {
  readonly #target: string
  readonly #bound = new Map<string, Binding & ColumnMask>()
  #checked: { readonly catalog: Catalog; readonly masks: readonly ColumnMask[] } | undefined

  constructor(target: string) {
    this.#target = target
  }

  /**
   * Binds new masks and checks all that were ever bound.
   *
   * @throws SallyportError `ERR_DENIED` with the construct `sql.mask.binding`.
   */
  check(catalog: Catalog, masks: readonly ColumnMask[]): void {
    if (this.#checked?.catalog === catalog && this.#checked.masks === masks) return
    for (const bound of this.#bound.values()) {
      const now = find(catalog, bound)
      if (now === undefined) throw this.#refusal(bound, 'does not exist any more')
      if (now.relation !== bound.relation || now.attnum !== bound.attnum) {
        throw this.#refusal(bound, 'is not the column it was when the gateway started')
      }
    }
    for (const mask of masks) {
      const key = JSON.stringify([mask.schema, mask.table, mask.column])
      if (this.#bound.has(key)) continue
      const found = find(catalog, mask)
      if (found === undefined) throw this.#refusal(mask, 'does not exist')
      this.#bound.set(key, { ...mask, ...found })
    }
    this.#checked = { catalog, masks }
  }

  #refusal({ schema, table, column }: ColumnMask, what: string): SallyportError {
    return new SallyportError(
      'ERR_DENIED',
      `The policy masks ${schema}.${table}.${column} on target ${this.#target}, and that column ${what}. Until an operator has corrected the policy or the schema and started the gateway again, nothing runs on this target.`,
      { facts: { construct: 'sql.mask.binding' } },
    )
  }
}

function find(catalog: Catalog, { schema, table, column }: ColumnMask): Binding | undefined {
  const relation = catalog.relationsBySchema.get(schema)?.get(table)
  const attnum = relation?.columns.find(({ name }) => name === column)?.attnum
  return relation === undefined || attnum === undefined ? undefined : { relation: relation.oid, attnum }
}
