import type { ColumnMask } from '../core/decision.ts'
import type { Target } from '../core/target.ts'
import type { Policy } from '../policy/policy.ts'

/**
 * Every mask of a target, whoever it is for. Where transforms differ, `partial` is the one that needs something of the
 * database.
 */
export function everyMaskOf(policy: Policy, target: Target): readonly ColumnMask[] {
  const byName = new Map<string, ColumnMask>()
  for (const mask of policy.forTarget(target).masks.flatMap(({ columns }) => columns)) {
    const key = JSON.stringify([mask.schema, mask.table, mask.column])
    if (!byName.has(key) || mask.transform === 'partial') byName.set(key, mask)
  }
  return [...byName.values()]
}
