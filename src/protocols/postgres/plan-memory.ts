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
import type { PlanUnder, PostgresPlan } from './plan-types.ts'

/** What of a plan is the same for every call with the same text. Values, and what shows them, are not in it. */
export interface RememberedPlan {
  readonly same: Omit<PostgresPlan, 'params' | 'exact' | 'rowsMax' | 'shown' | 'masks'>
  /** The text without its values, when values must not be shown. */
  readonly shownText: string | undefined
}

/** What an operator vouches for: it decides what masks refuse. */
type Trust = Pick<PlanUnder, 'trustedFunctions' | 'trustedSideEffects'>

/** Statements kept per set of masks: twice as many at most, because the older half goes at once. */
const STATEMENTS_MAX = 250
/** Longer texts are rarely sent twice, and would take the room of many. */
const TEXT_CHARS_MAX = 4096

/** Plans of one set of masks. Two generations, because taking the oldest entry off a map costs more the more were taken. */
interface Memory {
  young: Map<string, ByParams>
  old: Map<string, ByParams>
}

/** Plans of one text, by the number of its parameters; -1 where none are bound yet. */
type ByParams = Map<number, RememberedPlan>

/** By what is vouched for: of one target that is always the same, until its settings change. */
const memories = new WeakMap<BoundMasks, Map<string, Memory>>()

function trustOf({ trustedFunctions, trustedSideEffects }: Trust): string {
  if (trustedFunctions === undefined && trustedSideEffects === undefined) return ''
  return JSON.stringify([trustedFunctions ?? [], trustedSideEffects ?? []])
}

/** Returns what is known of a statement. */
export function recall(masks: BoundMasks, sql: string, paramCount: number, under: Trust): RememberedPlan | undefined {
  const memory = memories.get(masks)?.get(trustOf(under))
  if (memory === undefined) return undefined
  const young = memory.young.get(sql)
  if (young !== undefined) return young.get(paramCount)
  const old = memory.old.get(sql)
  if (old === undefined) return undefined
  keep(memory, sql, old)
  return old.get(paramCount)
}

/** Keeps what a plan says for every call with this text. */
export function remember(masks: BoundMasks, sql: string, paramCount: number, under: Trust, plan: PostgresPlan): void {
  if (sql.length > TEXT_CHARS_MAX) return
  const memory = memoryOf(masks, trustOf(under))
  const { params: _params, exact: _exact, rowsMax: _rowsMax, shown, masks: _masks, ...same } = plan
  const remembered = { same, shownText: plan.hidesValues ? shown.text : undefined }
  const known = memory.young.get(sql) ?? memory.old.get(sql)
  if (known === undefined) keep(memory, sql, new Map([[paramCount, remembered]]))
  else if (known.size < COUNTS_MAX) known.set(paramCount, remembered)
}

function memoryOf(masks: BoundMasks, trust: string): Memory {
  let byTrust = memories.get(masks)
  if (byTrust === undefined) memories.set(masks, (byTrust = new Map()))
  let memory = byTrust.get(trust)
  if (memory === undefined) byTrust.set(trust, (memory = { young: new Map(), old: new Map() }))
  return memory
}

/** Only one number of parameters fits a text, and whoever has none yet asks for another plan. */
const COUNTS_MAX = 4

function keep(memory: Memory, sql: string, plans: ByParams): void {
  if (memory.young.size >= STATEMENTS_MAX) {
    memory.old = memory.young
    memory.young = new Map()
  }
  memory.young.set(sql, plans)
}
