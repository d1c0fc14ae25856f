/**
 * Plans that were made before, without the values they were made with (C8).
 *
 * What a statement means follows from its text, the number of its parameters, the catalog and the masks; the values of the
 * parameters decide nothing of it. So the key is the text itself, kept under the {@link BoundMasks}, which exist once per
 * catalog snapshot and set of masks: another catalog, other session settings or other masks are another memory.
 *
 * Of the literals only those are part of the key that the planner has read: which constant meets which column can decide a
 * mask rule. A text of a known shape (`shape.ts`) that has the same literals there has the same plan, but for the literals
 * in the text that is sent.
 *
 * @packageDocumentation
 */
import type { LiteralWatch } from './literal-watch.ts'
import type { BoundMasks } from './masks.ts'
import { fromBytes, toBytes } from './parse.ts'
import { exactOf, type Planning } from './plan-base.ts'
import type { Request } from './plan-request.ts'
import type { PlanUnder, PostgresPlan } from './plan-types.ts'
import { SHAPED_CHARS_MAX, type Shape } from './shape.ts'
import { shownPlainly, withoutParams } from './shown.ts'

/**
 * What of a plan is the same for every call with the same text. Values, and what shows them, are not in it: a plan that
 * has some is kept without.
 */
interface RememberedPlan {
  /** The number of parameters it was made for. */
  readonly count: number
  readonly same: Omit<PostgresPlan, 'params' | 'exact' | 'rowsMax' | 'shown' | 'masks'>
  /** The text without its values, when values must not be shown. */
  readonly shownText: string | undefined
  /** The plan of a call without values: the very same object for each of them. */
  whole: PostgresPlan | undefined
  /** The plan of the same text for another number of parameters. */
  readonly next: RememberedPlan | undefined
}

/** The plan of texts of one shape. */
interface LikePlan {
  readonly boundCount: number
  /** Literals that were read, by position: they must be the same again. */
  readonly read: readonly (readonly [index: number, literal: string])[]
  /** The text that is sent, in bytes, around and between the literals. */
  readonly pieces: readonly string[]
  readonly remembered: RememberedPlan
}

/** What an operator vouches for: it decides what masks refuse. */
type Trust = Pick<PlanUnder, 'trustedFunctions' | 'trustedSideEffects'>

/** Statements kept per set of masks: twice as many at most, because the older half goes at once. */
const STATEMENTS_MAX = 250
/** Longer texts are rarely sent twice, and would take the room of many. */
const TEXT_CHARS_MAX = SHAPED_CHARS_MAX
/** Longest text that is sent, in bytes, of which there is a plan for its shape: the literals of another may be longer. */
const SENT_BYTES_MAX = 8192
/** Plans of one shape: one in practice, unless its literals are read. */
const LIKE_MAX = 8

/**
 * Keeps what was asked for lately. Two generations, because taking the oldest entry off a map costs more the more were
 * taken.
 */
class Generations<T> {
  #young = new Map<string, T>()
  #old = new Map<string, T>()

  get(key: string): T | undefined {
    const young = this.#young.get(key)
    if (young !== undefined) return young
    const old = this.#old.get(key)
    if (old !== undefined) this.set(key, old)
    return old
  }

  set(key: string, value: T): void {
    if (this.#young.size >= STATEMENTS_MAX) {
      this.#old = this.#young
      this.#young = new Map()
    }
    this.#young.set(key, value)
  }
}

/** Plans of one set of masks, under what an operator vouches for. */
export interface PlanMemory {
  readonly texts: Generations<RememberedPlan>
  readonly shapes: Generations<LikePlan[]>
}

/** By what is vouched for: of one target that is always the same, until its settings change. */
const memories = new WeakMap<BoundMasks, Map<string, PlanMemory>>()

/** The plans there are under these masks and with this trust. */
export function memoryOf(masks: BoundMasks, under: Trust): PlanMemory {
  let byTrust = memories.get(masks)
  if (byTrust === undefined) memories.set(masks, (byTrust = new Map()))
  const trust = trustOf(under)
  let memory = byTrust.get(trust)
  if (memory === undefined) byTrust.set(trust, (memory = { texts: new Generations(), shapes: new Generations() }))
  return memory
}

function trustOf({ trustedFunctions, trustedSideEffects }: Trust): string {
  if (trustedFunctions === undefined && trustedSideEffects === undefined) return ''
  return JSON.stringify([trustedFunctions ?? [], trustedSideEffects ?? []])
}

/** The plan of a text that was planned before, with the values of this call. */
export function recall({ texts }: PlanMemory, planning: Planning): PostgresPlan | undefined {
  const { request } = planning
  const remembered = ofCount(texts.get(request.sql), boundCount(request))
  return remembered === undefined ? undefined : planAgain(planning, remembered)
}

function ofCount(plans: RememberedPlan | undefined, count: number): RememberedPlan | undefined {
  for (let at = plans; at !== undefined; at = at.next) if (at.count === count) return at
  return undefined
}

/** The plan of a text, made of the plan of another one of the same shape. */
export function recallLike(memory: PlanMemory, planning: Planning, shape: Shape): PostgresPlan | undefined {
  const { request } = planning
  const count = boundCount(request)
  const like = memory.shapes
    .get(shape.key)
    ?.find(
      ({ boundCount: bound, read }) =>
        bound === count && read.every(([index, literal]) => shape.literals[index] === literal),
    )
  if (like === undefined) return undefined
  const { same, shownText } = like.remembered
  const sql = fromBytes(joined(like.pieces, shape.literals))
  return planAgain(planning, keepText(memory, request, { same: { ...same, sql }, shownText, whole: undefined }))
}

/**
 * Whether a text's literals are worth watching: another one of its shape has come before. Most shapes come once or
 * hundreds of times.
 */
export function isWorthWatching({ shapes }: PlanMemory, shape: Shape): boolean {
  const known = shapes.get(shape.key)
  if (known === undefined) shapes.set(shape.key, [])
  return known !== undefined && known.length < LIKE_MAX
}

/** Keeps what a plan says for every call with this text, and for texts like it where its literals were watched. */
export function remember(memory: PlanMemory, request: Request, plan: PostgresPlan, watch?: LiteralWatch): void {
  const hasValues = request.params.length > 0 || plan.rowsMax !== undefined
  const shownText = plan.hidesValues ? plan.shown.text : undefined
  // What is kept outlives the young generation of the heap, so that it is little matters more than how it is made.
  const made = hasValues
    ? { same: withoutItsValues(plan), shownText, whole: undefined }
    : { same: plan, shownText, whole: plan }
  const remembered = keepText(memory, request, made)
  if (watch !== undefined) keepShape(memory, request, remembered, watch)
}

function withoutItsValues(plan: PostgresPlan): RememberedPlan['same'] {
  const { params: _params, exact: _exact, rowsMax: _rowsMax, shown: _shown, masks: _masks, ...same } = plan
  return same
}

function keepText(
  { texts }: PlanMemory,
  request: Request,
  made: Pick<RememberedPlan, 'same' | 'shownText' | 'whole'>,
): RememberedPlan {
  const known = texts.get(request.sql)
  const count = boundCount(request)
  // Only one number of parameters fits a text, and whoever has none yet asks for another plan: what is third goes.
  const next = known?.count === count ? known.next : known && { ...known, next: undefined }
  const remembered = { count, ...made, next }
  if (request.sql.length <= TEXT_CHARS_MAX) texts.set(request.sql, remembered)
  return remembered
}

function keepShape({ shapes }: PlanMemory, request: Request, remembered: RememberedPlan, watch: LiteralWatch): void {
  const { shape, unread } = watch
  const pieces = piecesOf(watch)
  const sent = toBytes(remembered.same.sql)
  // Fail closed: what does not come out as it was sent is not made again.
  if (pieces === undefined || sent.length > SENT_BYTES_MAX || joined(pieces, shape.literals) !== sent) return
  const read = shape.literals.flatMap((literal, index): (readonly [number, string])[] =>
    unread[index] === true ? [] : [[index, literal]],
  )
  shapes.get(shape.key)?.push({ boundCount: boundCount(request), read, pieces, remembered })
}

/** What is sent, around and between the literals; undefined where an edit touches one. */
function piecesOf({ shape, edits }: LiteralWatch): readonly string[] | undefined {
  const pieces: string[] = []
  let piece = ''
  let at = 0
  let next = 0
  for (const [index, start] of [...shape.starts, Number.POSITIVE_INFINITY].entries()) {
    for (let edit = edits[next]; edit !== undefined && edit.start <= start; edit = edits[++next]) {
      if (edit.start < at || edit.end > start) return undefined
      piece += shape.bytes.slice(at, edit.start) + toBytes(edit.text)
      at = edit.end
    }
    pieces.push(piece + shape.bytes.slice(at, start))
    piece = ''
    at = start + (shape.literals[index]?.length ?? 0)
  }
  return pieces
}

function joined(pieces: readonly string[], literals: readonly string[]): string {
  let text = pieces[0] ?? ''
  for (let i = 0; i < literals.length; i++) text += (literals[i] ?? '') + (pieces[i + 1] ?? '')
  return text
}

/** A plan without values says nothing of whether they fit. */
function boundCount({ params, isUnbound }: Request): number {
  return isUnbound === true ? -1 : params.length
}

function planAgain({ request, catalog, under }: Planning, remembered: RememberedPlan): PostgresPlan {
  const { sql, params, rowsMax } = request
  const hasValues = params.length > 0 || rowsMax !== undefined
  const { same, shownText, whole } = remembered
  if (!hasValues && whole !== undefined && whole.masks === under.masks) return whole
  const plan = {
    ...same,
    params,
    exact: exactOf(request, catalog, same.sql, same.objects),
    shown: shownText === undefined ? shownPlainly(sql, params) : withoutParams(shownText, params),
    masks: under.masks,
    ...(rowsMax !== undefined && { rowsMax }),
  }
  if (!hasValues) remembered.whole = plan
  return plan
}
