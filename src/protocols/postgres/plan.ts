/**
 * SQL text → what it means and exactly what will be sent.
 *
 * Pure and synchronous once {@link loadParser} has resolved: the catalog is handed in. What is not understood becomes the
 * part `sql.unknown`, for the policy to decide (C4); what a mask makes impossible is refused with a code that names the
 * construct (C9). Read `walk/walk.ts` next for what is found in a statement, `taxonomy.ts` for what policies see of it, and
 * `rewrite.ts` for what is sent.
 *
 * @packageDocumentation
 */
import { z } from 'zod'
import type { Part } from '../../core/action.ts'
import type { Plan, ShownRequest } from '../../core/call.ts'
import type { Transform } from '../../core/decision.ts'
import { SallyportError } from '../../core/errors.ts'
import { text, unwrap, type Ast } from './ast.ts'
import type { Catalog } from './catalog.ts'
import { effectsOf } from './effects.ts'
import { refuseUnderMasks } from './mask-rules.ts'
import { bindMasks, NO_MASKS, type BoundMasks } from './masks.ts'
import { parse, type Parsed } from './parse.ts'
import type { Param, PlanUnder, PostgresPlan, StatementKind } from './plan-types.ts'
import { recall, remember, type RememberedPlan } from './plan-memory.ts'
import { partsOf, unknownPart } from './parts.ts'
import { recognise, recogniseInto } from './recognise.ts'
import { rewrite } from './rewrite.ts'
import { TooManySteps, withinSteps, type Use } from './scope.ts'
import { afterEffect, EMPTY_SESSION } from './session.ts'
import { shownAsLength, shownPlainly, shownWithoutNames, shownWithoutValues, withoutParams } from './shown.ts'
import { statementsIn } from './split.ts'
import type { Findings } from './walk/findings.ts'
import { walk } from './walk/walk.ts'

export { loadParser } from './parse.ts'
export type { MaskedColumn, Param, PlanUnder, PostgresPlan, StatementKind } from './plan-types.ts'

/** Parameters of one call: PostgreSQL's own limit is 65,535. */
const PARAMS_MAX = 1000
const PARAM_BYTES_MAX = 1024 * 1024

const payloadSchema = z.strictObject({
  sql: z.string(),
  params: z.array(z.union([z.string(), z.number(), z.boolean(), z.null()])).optional(),
  max_rows: z.int().min(0).optional(),
})

/** One statement as it will be bound. */
export interface StatementRequest {
  readonly sql: string
  /** Absent while nothing is bound yet, as in a Parse message: then their number is not checked. */
  readonly params?: readonly Param[]
  readonly rowsMax?: number
}

/** A request whose parameters are known, or known to come later. */
interface Request extends StatementRequest {
  readonly params: readonly Param[]
  readonly isUnbound?: true
}

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
  let masks: BoundMasks
  try {
    masks = bindMasks(catalog, under.masks, under.masking)
  } catch (error) {
    const reason = 'The masks of this database do not fit its tables.'
    return refusedPlan(error, notUnderstood(request, catalog, under, NO_MASKS, 1, [], [reason]))
  }
  const remembered = under.trustedFunctions === undefined ? recall(masks, request.sql, boundCount(request)) : undefined
  if (remembered !== undefined) return planAgain(request, catalog, under, remembered)
  const parsed = parse(request.sql)
  if (!parsed.ok) return notUnderstood(request, catalog, under, masks, 0, [], [parsed.message])
  const [first] = parsed.statements
  const statement = unwrap(first?.['stmt'])
  if (parsed.statements.length === 0) return nothing(request, catalog, under, masks)
  if (parsed.statements.length > 1 || statement === undefined) return several(request, catalog, under, masks, parsed)
  try {
    if (statement.type === 'VariableShowStmt') return show(request, catalog, under, masks, statement.fields)
    const made = planParsed(request, catalog, under, masks, parsed, statement)
    if (made.refused === undefined && under.trustedFunctions === undefined) {
      remember(masks, request.sql, boundCount(request), made)
    }
    return made
  } catch (error) {
    // Thousands of nested expressions parse, yet are too deep to walk.
    if (error instanceof RangeError) {
      const reason = error instanceof TooManySteps ? 'is too complex' : 'is nested too deeply'
      return notUnderstood(request, catalog, under, masks, 1, [], [`The statement ${reason}.`])
    }
    throw error
  }
}

/** A plan without values says nothing of whether they fit. */
function boundCount({ params, isUnbound }: Request): number {
  return isUnbound === true ? -1 : params.length
}

/** The plan of a statement that was planned before, with the values of this call. */
function planAgain(request: Request, catalog: Catalog, under: PlanUnder, remembered: RememberedPlan): PostgresPlan {
  const { shownText, ...same } = remembered
  const { sql, params, rowsMax } = request
  return {
    ...same,
    params,
    exact: exactOf(request, catalog, same.sql, same.objects),
    shown: shownText === undefined ? shownPlainly(sql, params) : withoutParams(shownText, params),
    masks: under.masks,
    ...(rowsMax !== undefined && { rowsMax }),
  }
}

/** Whatever decides what happens at the target (C11): text as it came and as it is sent, its relations, values, settings. */
function exactOf(request: Request, catalog: Catalog, sent: string, objects: readonly number[] = []): Plan['exact'] {
  return {
    sql: request.sql,
    sent,
    objects,
    params: request.params,
    max_rows: request.rowsMax ?? null,
    settings: { database: catalog.database, search_path: catalog.searchPath },
  }
}

/** What `execute` throws for a plan with {@link PostgresPlan.refused}. */
export function refusal(plan: PostgresPlan): SallyportError | undefined {
  if (plan.refused === undefined) return undefined
  const { construct, message, hint } = plan.refused
  return new SallyportError('ERR_DENIED', message, { facts: { construct, ...(hint !== undefined && { hint }) } })
}

function planParsed(
  request: Request,
  catalog: Catalog,
  under: PlanUnder,
  masks: BoundMasks,
  parsed: Parsed,
  statement: { readonly type: string; readonly fields: Ast },
): PostgresPlan {
  const { type, fields } = statement
  const kind = KINDS.get(type)
  if (kind === undefined) {
    const reason = `${type} is not understood`
    return notUnderstood(request, catalog, under, masks, 1, recognise(catalog, type, fields), [reason])
  }
  const findings = walk(catalog, type, fields)
  const effects = effectsOf(catalog, findings.uses)
  const parts = [...partsOf(findings, effects)]
  if (type === 'SelectStmt') parts.push(...recogniseInto(catalog, fields))
  if (findings.unknowns.length > 0) {
    return notUnderstood(request, catalog, under, masks, 1, parts, findings.unknowns, kind)
  }
  checkParams(request, findings)
  let sql: string
  try {
    refuseUnderMasks(findings, effects, masks, new Set(under.trustedFunctions))
    sql = rewrite(request.sql, parsed.bytes, parsed.statements[0]?.['stmt'], findings, masks)
  } catch (error) {
    return refusedPlan(error, base(request, catalog, under, masks, 1, parts, kind))
  }
  const touchesMasked =
    findings.uses.some((use) => masks.byRelation.has(use.relation.oid)) ||
    effects.cascades.some((cascade) => masks.byRelation.has(cascade.relation.oid))
  const hidesValues = findings.uses.some((use) => meetsMasked(use, masks))
  const objects = [...new Set(findings.uses.map(({ relation }) => relation.oid))].sort((a, b) => a - b)
  return {
    ...base(request, catalog, under, masks, 1, parts, kind),
    sql,
    objects,
    exact: exactOf(request, catalog, sql, objects),
    readOnly: !findings.mayWrite,
    returnsRows: kind === 'select' || kind === 'explain' || fields['returningClause'] !== undefined,
    touchesMasked,
    ...(findings.uses.some((use) => masks.ordered.has(use.relation.oid)) && { hidesOrder: true }),
    maskedOutputs: maskedOutputs(findings, masks),
    hidesValues,
    shown: hidesValues ? shownWithoutValues(request.sql, request.params) : shownPlainly(request.sql, request.params),
  }
}

/**
 * Whether a masked column is mentioned where a value of the statement could meet it (C10). Where none is, whoever is asked
 * to approve must see the values: `DELETE … WHERE id = •` is no exact call.
 */
function meetsMasked(use: Use, masks: BoundMasks): boolean {
  const named = masks.byRelation.get(use.relation.oid)
  if (named === undefined) return false
  const mentioned = [use.consulted, use.tested, use.returned, use.inserted, use.updated]
  return mentioned.some((columns) => [...columns].some((column) => named.has(column)))
}

/** SHOW: the setting is the resource. */
function show(request: Request, catalog: Catalog, under: PlanUnder, masks: BoundMasks, fields: Ast): PostgresPlan {
  const name = text(fields['name']).toLowerCase()
  const part: Part = { verb: 'sql.show', resource: { type: 'sql', name }, attributes: {} }
  if (Object.keys(fields).some((field) => field !== 'name')) {
    return notUnderstood(request, catalog, under, masks, 1, [part], ['SHOW is not understood'])
  }
  return { ...base(request, catalog, under, masks, 1, [part], 'show'), readOnly: true, returnsRows: true }
}

/** A text without a statement has no part, so nothing allows it (C3). */
function nothing(request: Request, catalog: Catalog, under: PlanUnder, masks: BoundMasks): PostgresPlan {
  return { ...base(request, catalog, under, masks, 0, [], 'unknown'), ...whileMasked(request, masks) }
}

/** Several statements in one text are never run; their parts are told so that a rule can deny them by name. */
function several(
  request: Request,
  catalog: Catalog,
  under: PlanUnder,
  masks: BoundMasks,
  parsed: Parsed,
): PostgresPlan {
  const parts: Part[] = []
  for (const raw of parsed.statements) {
    const statement = unwrap(raw['stmt'])
    if (statement === undefined) continue
    parts.push(...told(catalog, statement.type, statement.fields))
  }
  const reasons = ['Several statements in one text; send one at a time.']
  return notUnderstood(request, catalog, under, masks, parsed.statements.length, parts, reasons)
}

/** Parts of a statement that will not run, as far as they can be told. */
function told(catalog: Catalog, type: string, fields: Ast): readonly Part[] {
  if (!KINDS.has(type)) return recognise(catalog, type, fields)
  try {
    const findings = walk(catalog, type, fields)
    return [...partsOf(findings, effectsOf(catalog, findings.uses)), ...recogniseInto(catalog, fields)]
  } catch (error) {
    if (error instanceof RangeError) return []
    throw error
  }
}

function notUnderstood(
  request: Request,
  catalog: Catalog,
  under: PlanUnder,
  masks: BoundMasks,
  count: number,
  parts: readonly Part[],
  reasons: readonly string[],
  kind: StatementKind = 'unknown',
): PostgresPlan {
  const plan = base(request, catalog, under, masks, count, [...parts, unknownPart(reasons)], kind)
  return { ...plan, ...whileMasked(request, masks, reasons[0], count === 0) }
}

/**
 * The plan of what masks make impossible: decided and recorded like any other, without its values, and never sent.
 *
 * @throws whatever `error` is, when it names no construct.
 */
function refusedPlan(error: unknown, plan: PostgresPlan): PostgresPlan {
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

/** What is not understood may touch anything: on a database with masks it is neither run nor shown with its values. */
function whileMasked(
  request: Request,
  masks: BoundMasks,
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

function base(
  request: Request,
  catalog: Catalog,
  under: PlanUnder,
  masks: BoundMasks,
  count: number,
  parts: readonly Part[],
  kind: StatementKind,
): PostgresPlan {
  const statement = count === 0 ? '' : kind
  return {
    action: {
      parts,
      attributes: { statement, statement_count: count, parameter_count: request.params.length, masking: masks.mode },
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
    maskedOutputs: new Map(),
  }
}

const KINDS: ReadonlyMap<string, StatementKind> = new Map([
  ['SelectStmt', 'select'],
  ['InsertStmt', 'insert'],
  ['UpdateStmt', 'update'],
  ['DeleteStmt', 'delete'],
  ['MergeStmt', 'merge'],
  ['ExplainStmt', 'explain'],
])

function maskedOutputs(findings: Findings, masks: BoundMasks): ReadonlyMap<number, Transform> {
  const outputs = new Map<number, Transform>()
  for (const [position, origin] of (findings.origins ?? []).entries()) {
    const mask = origin && masks.byRelation.get(origin.use.relation.oid)?.get(origin.column)
    if (mask !== undefined) outputs.set(position, mask.transform)
  }
  return outputs
}

function checkParams(request: Request, findings: Findings): void {
  if (request.isUnbound === true || findings.paramsMax === request.params.length) return
  throw new SallyportError(
    'ERR_INVALID_INPUT',
    `The statement uses ${findings.paramsMax} parameters but ${request.params.length} were given.`,
  )
}

function readPayload(payload: unknown): Request {
  const read = payloadSchema.safeParse(payload)
  if (!read.success) {
    const where = read.error.issues[0]?.path.join('.') ?? ''
    throw new SallyportError(
      'ERR_INVALID_INPUT',
      `${where === '' ? 'The request' : where} is not as expected: {sql: text, params?: [text, number, boolean or null], max_rows?: whole number}.`,
    )
  }
  const { sql, params = [], max_rows: rowsMax } = read.data
  const bound = params.map(toParam)
  const bytes = bound.reduce((sum, param) => sum + (param === null ? 0 : Buffer.byteLength(param, 'utf8')), 0)
  if (bound.length > PARAMS_MAX || bytes > PARAM_BYTES_MAX) {
    throw new SallyportError(
      'ERR_TOO_LARGE',
      `At most ${PARAMS_MAX} parameters of ${PARAM_BYTES_MAX} bytes together can be sent with a statement.`,
    )
  }
  return { sql, params: bound, ...(rowsMax !== undefined && { rowsMax }) }
}

/** PostgreSQL's text form of a JSON scalar. */
function toParam(value: string | number | boolean | null): Param {
  if (value === null) return null
  if (typeof value !== 'string') return String(value)
  if (value.includes('\0') || /\p{Surrogate}/u.test(value)) {
    throw new SallyportError('ERR_INVALID_INPUT', 'A parameter holds a NUL character or half a surrogate pair.')
  }
  return value
}

function lowerFirst(sentence: string): string {
  return sentence.charAt(0).toLowerCase() + sentence.slice(1)
}
