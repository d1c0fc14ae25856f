/**
 * What every plan has, and the plans of what will not run.
 *
 * @packageDocumentation
 */
import type { Part } from '../../core/action.ts'
import type { Plan, PlanRefusal, ShownRequest } from '../../core/call.ts'
import { SallyportError } from '../../core/errors.ts'
import type { Catalog } from './catalog.ts'
import type { BoundMasks } from './masks.ts'
import { unknownPart } from './parts.ts'
import type { Request } from './plan-request.ts'
import type { PlanUnder, PostgresPlan, StatementKind } from './plan-types.ts'
import { shownAsLength, shownPlainly, shownWithoutNames, shownWithoutValues } from './shown.ts'

/** One request and everything it is planned with. */
export interface Planning {
  readonly request: Request
  readonly catalog: Catalog
  readonly under: PlanUnder
  readonly masks: BoundMasks
}

/** What a plan says when nothing more is known than how many statements there are. */
export function basePlan(
  { request, catalog, under, masks }: Planning,
  parts: readonly Part[],
  kind: StatementKind,
  more: { readonly count?: number; readonly statement?: string } = {},
): PostgresPlan {
  const { count = 1, statement = kind } = more
  return {
    action: {
      parts,
      attributes: {
        statement: count === 0 ? '' : statement,
        statement_count: count,
        parameter_count: request.params.length,
        masking: masks.mode,
      },
    },
    exact: exactOf(request, catalog, request.sql),
    shown: shownPlainly(request.sql, request.params),
    masks: under.masks,
    masking: masks.mode,
    sql: request.sql,
    params: request.params,
    kind,
    // Fail closed: a belt that is too loose costs more than one that is too tight.
    readOnly: false,
    returnsRows: true,
    ...(request.rowsMax !== undefined && { rowsMax: request.rowsMax }),
    fingerprint: catalog.fingerprint,
    touchesMasked: false,
    hidesValues: false,
    objects: [],
    tripwire: masks.columns,
    maskedOutputs: NO_OUTPUTS,
  }
}

/** No result column is one with a mask. */
export const NO_OUTPUTS: PostgresPlan['maskedOutputs'] = new Map()

/** Whatever decides what happens at the target (C11): text as it came and as it is sent, its relations, values, settings. */
export function exactOf(
  request: Request,
  catalog: Catalog,
  sent: string,
  objects: readonly number[] = [],
): { readonly [key: string]: Plan['exact'] } {
  return {
    sql: request.sql,
    sent,
    objects,
    params: request.params,
    max_rows: request.rowsMax ?? null,
    settings: { database: catalog.database, search_path: catalog.searchPath },
  }
}

/** Statements whose approval may cover other values of their parameters. */
const ALIKE: ReadonlySet<StatementKind> = new Set(['select', 'insert', 'update', 'delete'])

/**
 * What a statement is without the values of its parameters: text, types, relations and settings. Values that stand in the
 * text are part of it. `undefined` for all that is more than one plain statement.
 */
export function alikeOf(plan: PostgresPlan): Plan['exact'] | undefined {
  const { kind, statements, session, outsideTransaction, changesCatalog, refused, exact } = plan
  const isPlain = statements === undefined && session === undefined && outsideTransaction === undefined
  if (!ALIKE.has(kind) || !isPlain || changesCatalog !== undefined || refused !== undefined) return undefined
  const { params: _, bound: __, ...alike } = exact as { readonly [key: string]: Plan['exact'] }
  return alike
}

/** Kinds of statements that run in a transaction of ours, which has no effect before its COMMIT. */
const PROVEN: ReadonlySet<StatementKind> = new Set(['insert', 'update', 'delete'])

/** Whether the number of its transaction is always noted before the COMMIT. */
export function isProven({
  kind,
  statements,
  session,
  outsideTransaction,
  readOnly,
  asWritten,
}: PostgresPlan): boolean {
  const isPlain = statements === undefined && session === undefined && outsideTransaction === undefined
  return PROVEN.has(kind) && isPlain && !readOnly && asWritten === undefined
}

/**
 * Whether it may end transactions by itself: code that is called at the top level can, and so can what is not understood.
 * That it failed then does not say that nothing is left of it.
 */
export function mayCommit({ kind, outsideTransaction, action }: PostgresPlan): boolean {
  if (kind === 'unknown' || outsideTransaction === true) return true
  return kind === 'utility' && action.parts.some(({ verb }) => verb === 'sql.call' || verb === 'sql.do')
}

/** The plan of what was not understood: `sql.unknown` besides whatever parts it does have. */
export function notUnderstood(
  planning: Planning,
  parts: readonly Part[],
  reasons: readonly string[],
  more: { readonly count?: number; readonly kind?: StatementKind; readonly statement?: string } = {},
): PostgresPlan {
  const { kind = 'unknown', count = 1 } = more
  const plan = basePlan(planning, [...parts, unknownPart(reasons)], kind, more)
  return { ...plan, changesCatalog: true, ...whileMasked(planning, reasons[0], count === 0) }
}

/** What is not understood may touch anything: on a database with masks it is neither run nor shown with its values. */
export function whileMasked(
  { request, masks }: Planning,
  reason = 'There is no statement.',
  isUnreadable = false,
): Partial<PostgresPlan> {
  if (masks.byRelation.size === 0) return {}
  const shown: ShownRequest = isUnreadable ? shownAsLength(request.sql) : shownWithoutNames(request.sql, request.params)
  return {
    shown,
    touchesMasked: true,
    hidesValues: true,
    refused: { construct: 'sql.unknown', message: `This database has masked columns, and ${lowerFirst(reason)}` },
  }
}

/**
 * The plan of what masks make impossible: decided and recorded like any other, without its values, and never sent.
 *
 * @throws whatever `error` is, when it names no construct.
 */
export function refusedPlan(error: unknown, plan: PostgresPlan): PostgresPlan {
  if (!(error instanceof SallyportError) || error.facts.construct === undefined) throw error
  const { construct, hint } = error.facts
  return {
    ...plan,
    shown: shownWithoutValues(plan.sql, plan.params),
    touchesMasked: true,
    hidesValues: true,
    refused: { construct, message: error.message, ...(hint !== undefined && { hint }) },
  }
}

/** A plan that this door, or the gateway itself, cannot carry out. */
export function refusedBy(refused: PlanRefusal, plan: PostgresPlan): PostgresPlan {
  return plan.refused === undefined ? { ...plan, refused } : plan
}

function lowerFirst(sentence: string): string {
  return sentence.charAt(0).toLowerCase() + sentence.slice(1)
}
