/**
 * SQL text → what it means and exactly what will be sent.
 *
 * Pure and synchronous once {@link loadParser} has resolved: the catalog is handed in. What is not understood becomes the
 * part `sql.unknown`, for the policy to decide (C4); what a mask makes impossible is refused with a code that names the
 * construct (C9). Read `plan-statement.ts` next for how one statement is planned, `walk/` for what is found in it,
 * `statements/` for everything that is no query, `taxonomy.ts` for what policies see of it, and `rewrite.ts` for what is
 * sent.
 *
 * @packageDocumentation
 */
import { SallyportError } from '../../core/errors.ts'
import type { Catalog } from './catalog.ts'
import { bindMasks, NO_MASKS } from './masks.ts'
import { parse } from './parse.ts'
import { notUnderstood, refusedPlan, type Planning } from './plan-base.ts'
import { readPayload, type Request, type StatementRequest } from './plan-request.ts'
import { planOne } from './plan-statement.ts'
import type { PlanUnder, PostgresPlan } from './plan-types.ts'
import { withinSteps } from './scope.ts'
import { afterEffect, EMPTY_SESSION } from './session.ts'
import { statementsIn } from './split.ts'

export { loadParser } from './parse.ts'
export type { StatementRequest } from './plan-request.ts'
export type { PlanUnder, PostgresPlan } from './plan-types.ts'

/** One statement of a text with the plan it has. */
export interface PlannedStatement {
  /** The statement as it stands in the text. */
  readonly text: string
  /** Its position there, in UTF-16 units. */
  readonly start: number
  readonly plan: PostgresPlan
}

/**
 * Plans one call.
 *
 * @param payload `{ sql, params?, max_rows? }`, not yet trusted.
 * @throws SallyportError `ERR_INVALID_INPUT`, `ERR_TOO_LARGE`; `ERR_DENIED` with `facts.construct` where masks forbid it.
 */
export function planQuery(payload: unknown, catalog: Catalog, under: PlanUnder): PostgresPlan {
  const request = readPayload(payload)
  return withinSteps(() => planRequest(request, catalog, under))
}

/**
 * Plans one statement of a door that has its own idea of a request. A text with several is not understood here:
 * {@link planStatements} takes it apart.
 */
export function planStatement(request: StatementRequest, catalog: Catalog, under: PlanUnder): PostgresPlan {
  const { params } = request
  return withinSteps(() =>
    planRequest(
      params === undefined ? { ...request, params: [], isUnbound: true } : { ...request, params },
      catalog,
      under,
    ),
  )
}

/**
 * Takes a text with any number of statements apart and plans each by itself, with what those before it prepare and
 * declare. A text that cannot be read is one statement that is not understood.
 *
 * Whatever follows a statement that changes the catalog or a setting was planned as if that had not run yet: it is to be
 * planned again when that has (`changesCatalog`, `session`), and nothing is to be sent before.
 */
export function planStatements(sql: string, catalog: Catalog, under: PlanUnder): readonly PlannedStatement[] {
  const parsed = parse(sql)
  const texts = parsed.ok ? statementsIn(sql, parsed) : [{ text: sql, start: 0 }]
  let session = under.session ?? EMPTY_SESSION
  return texts.map(({ text: one, start }) => {
    const made = planStatement({ sql: one, params: [] }, catalog, { ...under, session })
    session = afterEffect(session, made.session)
    return { text: one, start, plan: made }
  })
}

function planRequest(request: Request, catalog: Catalog, under: PlanUnder): PostgresPlan {
  const planning = planningOf(request, catalog, under)
  return 'plan' in planning ? planning.plan : planOne(planning)
}

/** The plan of a text that is not even read, because its session no longer means what a plan would say (C7). */
export function planUnread(
  sql: string,
  params: readonly (string | null)[],
  catalog: Catalog,
  under: PlanUnder,
  reason: string,
): PostgresPlan {
  const planning = planningOf({ sql, params }, catalog, under)
  return 'plan' in planning ? planning.plan : notUnderstood(planning, [], [reason])
}

/** Everything to plan with, or the plan of what cannot be planned because the masks do not fit. */
function planningOf(request: Request, catalog: Catalog, under: PlanUnder): Planning | { readonly plan: PostgresPlan } {
  try {
    return { request, catalog, under, masks: bindMasks(catalog, under.masks, under.masking) }
  } catch (error) {
    const reason = 'The masks of this database do not fit its tables.'
    return { plan: refusedPlan(error, notUnderstood({ request, catalog, under, masks: NO_MASKS }, [], [reason])) }
  }
}

/** What `execute` throws for a plan with {@link PostgresPlan.refused}. */
export function refusal(plan: PostgresPlan): SallyportError | undefined {
  if (plan.refused === undefined) return undefined
  const { construct, message, hint } = plan.refused
  return new SallyportError('ERR_DENIED', message, { facts: { construct, ...(hint !== undefined && { hint }) } })
}
