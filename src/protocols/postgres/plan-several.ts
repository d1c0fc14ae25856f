/**
 * One text with several statements → one plan: all of them in one transaction, all or nothing.
 *
 * Each statement is planned by itself; the action has the parts of all, so that the strictest rule over any of them
 * decides for the whole text (C5). What a statement leaves behind decides what the next one means, so nothing that
 * changes the session may stand in such a text, and nothing that surely changes the catalog before its end. What only
 * might (a function, a trigger) is found out between the statements, by the connector.
 *
 * @packageDocumentation
 */
import type { Part } from '../../core/action.ts'
import type { PlanRefusal } from '../../core/call.ts'
import { SallyportError } from '../../core/errors.ts'
import type { Parsed } from './parse.ts'
import { basePlan, exactOf, notUnderstood, refusedBy, type Planning } from './plan-base.ts'
import type { PostgresPlan } from './plan-types.ts'
import { statementsIn } from './split.ts'

/** Most statements in one text. */
export const STATEMENTS_MAX = 100

/**
 * Plans a text with more than one statement.
 *
 * @param planOne plans a text with one.
 * @throws SallyportError `ERR_INVALID_INPUT` when values are given: they belong to one statement.
 */
export function planSeveral(
  planning: Planning,
  parsed: Parsed,
  planOne: (planning: Planning) => PostgresPlan,
): PostgresPlan {
  const { request, under } = planning
  const count = parsed.statements.length
  if (count > STATEMENTS_MAX) {
    return notUnderstood(planning, [], [`More than ${STATEMENTS_MAX} statements in one text.`], { count })
  }
  const isSession = under.door === 'session'
  if (!isSession && request.params.length > 0) {
    throw new SallyportError(
      'ERR_INVALID_INPUT',
      'Parameters can be given for a single statement only; send the statements one at a time, or write the values in them.',
    )
  }
  const statements = statementsIn(request.sql, parsed).map(({ text: sql }) =>
    planOne({ ...planning, request: { sql, params: [], ...(isSession && { isUnbound: true }) } }),
  )
  const parts = statements.flatMap(({ action }) => action.parts).filter(({ verb }) => verb !== 'sql.unknown')
  if (isSession) {
    return notUnderstood(planning, parts, ['Several statements in one text; send one at a time.'], { count })
  }
  const unknowns = statements.flatMap((statement, at) => unknownsOf(statement).map((why) => `${nth(at)}: ${why}`))
  const whole =
    unknowns.length > 0 ? notUnderstood(planning, parts, unknowns, { count }) : together(planning, statements, parts)
  const refused = refusalOf(statements)
  return refused === undefined ? whole : refusedBy(refused, whole)
}

function nth(at: number): string {
  return `Statement ${at + 1}`
}

/** Why a statement is not understood; empty when it is. */
function unknownsOf({ action }: PostgresPlan): readonly string[] {
  // What is one statement inside a text must be one by itself, or it was not taken apart as the server would.
  if (action.attributes['statement_count'] !== 1) return ['it cannot be read by itself']
  return action.parts
    .filter(({ verb }) => verb === 'sql.unknown')
    .flatMap(({ attributes: { reasons } }) => (Array.isArray(reasons) ? reasons.map(String) : ['it is not understood']))
}

/** The first statement that cannot stand in such a text, and why. */
function refusalOf(statements: readonly PostgresPlan[]): PlanRefusal | undefined {
  for (const [at, statement] of statements.entries()) {
    const refused = statement.refused ?? misplaced(statement, at === statements.length - 1)
    if (refused === undefined) continue
    return { ...refused, message: `${nth(at)} of ${statements.length}: ${refused.message}` }
  }
  return undefined
}

function misplaced(statement: PostgresPlan, isLast: boolean): PlanRefusal | undefined {
  if (unknownsOf(statement).length > 0) {
    // Fail closed, also where a rule allows what is not understood: it could end the transaction the others rely on.
    return {
      construct: 'sql.unknown',
      message: 'What is not understood cannot run together with others.',
      hint: 'Send it by itself.',
    }
  }
  if (statement.session !== undefined) {
    return {
      construct: 'sql.session',
      message: 'It would change the session in which the statements after it run.',
      hint: 'Leave it out: the statements of one call are one transaction anyway.',
    }
  }
  if (statement.definesObjects === true && !isLast) {
    return {
      construct: 'sql.several',
      message: 'It changes the schema, and the statements after it were judged by the schema before it.',
      hint: 'Send it by itself, or as the last statement of the text.',
    }
  }
  return undefined
}

/** The plan of statements that are all understood. */
function together(planning: Planning, statements: readonly PostgresPlan[], parts: readonly Part[]): PostgresPlan {
  const { request, catalog } = planning
  const plan = basePlan(planning, parts, 'several', { count: statements.length })
  const sql = statements.map((statement) => statement.sql).join(';\n')
  const objects = [...new Set(statements.flatMap((statement) => statement.objects))].sort((a, b) => a - b)
  const hidesValues = statements.some((statement) => statement.hidesValues)
  return {
    ...plan,
    sql,
    objects,
    exact: { ...exactOf(request, catalog, sql, objects), statements: statements.map(({ exact }) => exact) },
    // Whoever is asked sees every statement, in order.
    shown: hidesValues ? { text: statements.map(({ shown }) => shown.text).join(';\n') } : plan.shown,
    readOnly: statements.every(({ readOnly }) => readOnly),
    returnsRows: statements.some(({ returnsRows }) => returnsRows),
    touchesMasked: statements.some(({ touchesMasked }) => touchesMasked),
    hidesValues,
    ...(statements.some(({ hidesOrder }) => hidesOrder === true) && { hidesOrder: true }),
    ...(statements.some(({ changesCatalog }) => changesCatalog === true) && { changesCatalog: true }),
    statements,
  }
}
