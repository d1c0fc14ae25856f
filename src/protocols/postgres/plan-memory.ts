/**
 * Plans that were made before, without the values they were made with (C8).
 *
 * What a statement means follows from its text, the number of its parameters, the catalog and the masks; the values of the
 * parameters decide nothing of it. So the key is the text itself, kept under the {@link BoundMasks}, which exist once per
 * catalog snapshot and set of masks: another catalog, other session settings or other masks are another memory. Literals
 * stay part of the text: which constant meets which column can decide a mask rule.
 *
 * @packageDocumentation
 */
import type { BoundMasks } from './masks.ts'
import type { PostgresPlan } from './plan-types.ts'

/** What of a plan is the same for every call with the same text. Values, and what shows them, are not in it. */
export type RememberedPlan = Omit<PostgresPlan, 'params' | 'exact' | 'rowsMax' | 'shown' | 'masks'> & {
  /** The text without its values, when values must not be shown. */
  readonly shownText: string | undefined
}

/** Statements kept per set of masks; the oldest goes first. */
const STATEMENTS_MAX = 500
/** Longer texts are rarely sent twice, and would take the room of many. */
const TEXT_CHARS_MAX = 4096

const memories = new WeakMap<BoundMasks, Map<string, RememberedPlan>>()

/** Returns what is known of a statement. */
export function recall(masks: BoundMasks, sql: string, paramCount: number): RememberedPlan | undefined {
  return memories.get(masks)?.get(keyOf(sql, paramCount))
}

/** Keeps what a plan says for every call with this text. */
export function remember(masks: BoundMasks, sql: string, paramCount: number, plan: PostgresPlan): void {
  if (sql.length > TEXT_CHARS_MAX) return
  let memory = memories.get(masks)
  if (memory === undefined) memories.set(masks, (memory = new Map()))
  if (memory.size >= STATEMENTS_MAX) {
    const oldest = memory.keys().next()
    if (oldest.done !== true) memory.delete(oldest.value)
  }
  const { params: _params, exact: _exact, rowsMax: _rowsMax, shown, masks: _masks, ...same } = plan
  memory.set(keyOf(sql, paramCount), { ...same, shownText: plan.hidesValues ? shown.text : undefined })
}

function keyOf(sql: string, paramCount: number): string {
  return `${paramCount}:${sql}`
}
