/**
 * One text with one statement → its plan.
 *
 * @packageDocumentation
 */
import type { Part } from '../../core/action.ts'
import type { Transform } from '../../core/decision.ts'
import { SallyportError } from '../../core/errors.ts'
import { text, unwrap, type Ast } from './ast.ts'
import type { CatalogFunction } from './catalog.ts'
import { effectsOf, type Effects } from './effects.ts'
import { hasFixedOrder } from './fixed-order.ts'
import { isBuiltin } from './functions.ts'
import { Lengths } from './lengths.ts'
import { LiteralWatch, watching } from './literal-watch.ts'
import { refuseDump, refuseExplainedName, refuseLock, refuseUnderMasks, type Trusted } from './mask-rules.ts'
import { bindMasks, type BoundMasks } from './masks.ts'
import { functionName } from './names.ts'
import { parse, type Parsed } from './parse.ts'
import { partsOf } from './parts.ts'
import {
  basePlan,
  exactOf,
  NO_OUTPUTS,
  notUnderstood,
  refusedBy,
  refusedPlan,
  whileMasked,
  type Planning,
} from './plan-base.ts'
import { isWorthWatching, memoryOf, recall, recallLike, remember } from './plan-memory.ts'
import type { Request } from './plan-request.ts'
import { planSeveral } from './plan-several.ts'
import type { PlanUnder, PostgresPlan, StatementKind } from './plan-types.ts'
import { rewrite } from './rewrite.ts'
import { TooManySteps, type Use } from './scope.ts'
import { withSearchPath } from './search-path.ts'
import { EMPTY_SESSION, type KeptStatement, type SessionEffect } from './session.ts'
import { shapeOf } from './shape.ts'
import { shownPlainly, shownWithoutValues } from './shown.ts'
import { Draft } from './statements/draft.ts'
import { understand } from './statements/index.ts'
import { refuseHidden } from './statements/make.ts'
import { relationName } from './statements/objects.ts'
import { changed } from './statements/setting.ts'
import { ACCESS_SHARE } from './statements/transaction.ts'
import { refuseAlone, refuseUtility, relationsOf } from './statements/under-masks.ts'
import { explainOptions } from './walk/explain.ts'
import type { Findings, SettingChange } from './walk/findings.ts'
import { intoOf, walk, walkUtility } from './walk/walk.ts'

/** Plans a text, which most often holds one statement. */
export function planOne(planning: Planning): PostgresPlan {
  const { request, under, masks } = planning
  const memory = memoryOf(masks, under)
  const known = recall(memory, planning)
  if (known !== undefined) return known
  const shape = shapeOf(request.sql)
  const like = shape && recallLike(memory, planning, shape)
  if (like !== undefined) return like
  const parsed = parse(request.sql)
  if (!parsed.ok) return notUnderstood(planning, [], [parsed.message], { count: 0 })
  const [first] = parsed.statements
  const statement = unwrap(first?.['stmt'])
  if (parsed.statements.length === 0) return nothing(planning)
  if (parsed.statements.length > 1) return planSeveral(planning, parsed, planOne)
  if (statement === undefined) return notUnderstood(planning, [], ['The statement is not understood.'])
  try {
    const { type, fields } = statement
    const { catalog } = planning
    const reading: Reading = { request, catalog, under, masks, parsed, node: first?.['stmt'] }
    const isWatched = shape !== undefined && QUERY_KINDS.has(type) && isWorthWatching(memory, shape)
    const watch = isWatched ? new LiteralWatch(reading.node, shape) : undefined
    const plan = (): PostgresPlan => planParsed(reading, type, fields)
    const made = watch === undefined ? plan() : watching(watch, plan)
    const isOwing = planning.under.owesCode === true
    if (isTimeless(made) && !isOwing && !CURSOR.test(request.sql)) remember(memory, request, made, watch)
    return made
  } catch (error) {
    // Thousands of nested expressions parse, yet are too deep to walk.
    if (error instanceof RangeError) return tooComplex(planning, error)
    throw error
  }
}

/** `WHERE CURRENT OF` may stand in it, which is about a cursor of one session. */
const CURSOR = /\bcurrent\b[^]*\bof\b/i

/** What a text means that takes too much work to find out. */
export function tooComplex(planning: Planning, error: RangeError): PostgresPlan {
  const reason = error instanceof TooManySteps ? 'is too complex' : 'is nested too deeply'
  return notUnderstood(planning, [], [`The statement ${reason}.`])
}

/** A request with the tree of its one statement. */
interface Reading extends Planning {
  readonly parsed: Parsed
  /** The wrapped node of the statement. */
  readonly node: unknown
}

/** Whether a plan says the same whatever the session holds and whichever door asks. */
function isTimeless(plan: PostgresPlan): boolean {
  const isAlike = plan.refused === undefined && plan.session === undefined && plan.readsParams === undefined
  return isAlike && TIMELESS.has(plan.kind)
}

const TIMELESS = new Set<StatementKind>(['select', 'insert', 'update', 'delete', 'merge', 'show'])

/** A text without a statement has no part, so nothing allows it (C3). */
function nothing(planning: Planning): PostgresPlan {
  return { ...basePlan(planning, [], 'unknown', { count: 0 }), ...whileMasked(planning) }
}

function planParsed(reading: Reading, type: string, fields: Ast): PostgresPlan {
  if (type === 'VariableShowStmt') return show(reading, fields)
  const kind = QUERY_KINDS.get(type)
  if (kind !== undefined) return planQueryStatement(reading, type, fields, kind)
  if (type !== 'ExplainStmt') return planUtility(reading, type, fields)
  const inner = unwrap(fields['query'])
  return inner === undefined || QUERY_KINDS.has(inner.type)
    ? planQueryStatement(reading, type, fields, 'explain')
    : planUtility(reading, inner.type, inner.fields, fields)
}

const QUERY_KINDS: ReadonlyMap<string, StatementKind> = new Map([
  ['SelectStmt', 'select'],
  ['InsertStmt', 'insert'],
  ['UpdateStmt', 'update'],
  ['DeleteStmt', 'delete'],
  ['MergeStmt', 'merge'],
])

/** SHOW: the setting is the resource. */
function show(planning: Planning, fields: Ast): PostgresPlan {
  const name = text(fields['name']).toLowerCase()
  const part: Part = { verb: 'sql.show', resource: { type: 'sql', name }, attributes: {} }
  return { ...basePlan(planning, [part], 'show'), readOnly: true, returnsRows: true }
}

/** SELECT, INSERT, UPDATE, DELETE, MERGE, and EXPLAIN of them. */
function planQueryStatement(reading: Reading, type: string, fields: Ast, kind: StatementKind): PostgresPlan {
  const { request, catalog, under, masks } = reading
  const into = type === 'SelectStmt' ? intoOf(fields) : undefined
  const fired = new Draft(catalog, EMPTY_SESSION, 'free', () => undefined)
  if (into !== undefined) fired.fires()
  const walked = walk(catalog, type, fields)
  const findings = into === undefined ? walked : { ...walked, functions: [...walked.functions, ...fired.calls()] }
  const effects = effectsOf(catalog, findings.uses)
  const parts = [...partsOf(findings, effects)]
  const setting = new Draft(catalog, EMPTY_SESSION, 'free', () => undefined)
  if (into !== undefined) {
    parts.push(madeBy(reading, into))
    refuseHidden(setting, into['rel'] as Ast)
  }
  for (const { name, value, isLocal } of findings.settings) {
    changed(setting, name, valueOf(value, request), isLocal ? 'transaction' : 'session')
  }
  parts.push(...setting.parts)
  const unknowns = [
    ...findings.unknowns,
    ...fired.unknowns,
    ...unknownCursors(findings, under),
    ...underMovedPath(reading, parts, [...findings.functions, ...effects.functions]),
  ]
  if (findings.settings.length > 1) unknowns.push('more than one setting is changed')
  if (unknowns.length > 0) return notUnderstood(reading, parts, unknowns, { kind })
  checkParams(request, findings)
  const plan = basePlan(reading, parts, kind)
  // A setting that ends with the transaction is gone with the call.
  if (findings.settings.some(({ isLocal }) => !isLocal)) setting.needsSession = 'the setting would be gone with it'
  const refusedHere = setting.refused ?? refusedAtDoor(under, setting, 'set_config')
  if (refusedHere !== undefined) return refusedBy(refusedHere, plan)
  const lengths = new Lengths(request)
  let sql: string
  try {
    if (into !== undefined) refuseUtility('SELECT INTO', 'unmasked', findings, [], masks)
    refuseUtility('set_config', setting.underMasks, findings, [], masks)
    refuseUnderMasks(findings, effects, masks, trustedBy(under), lengths)
    sql = rewrite(request.sql, reading.parsed.bytes, reading.node, findings, masks)
  } catch (error) {
    return refusedPlan(error, plan)
  }
  // What was asked for leaves nothing to the order in which rows are found.
  const isFixed =
    kind === 'select' && into === undefined && masks.ordered.size > 0 && hasFixedOrder(fields, findings, effects, masks)
  return {
    ...plan,
    ...touched(reading, findings, effects, sql),
    ...(isFixed && { hidesOrder: false }),
    readOnly:
      !findings.mayWrite && into === undefined && !effects.functions.some(({ fn }) => fn.volatility === 'volatile'),
    returnsRows:
      (kind === 'select' && into === undefined) || kind === 'explain' || fields['returningClause'] !== undefined,
    ...(setting.effect !== undefined && { session: setting.effect }),
    ...((into !== undefined || setting.changesCatalog || disturbs([...findings.functions, ...effects.functions])) && {
      changesCatalog: true,
    }),
    ...(into !== undefined && { definesObjects: true }),
    ...(lengths.readsParams && { readsParams: true }),
  }
}

/** What SELECT INTO makes. */
function madeBy({ catalog }: Planning, into: Ast): Part {
  const draft = { catalog, named: [] }
  const rel = into['rel'] as Ast
  const name = relationName(draft, rel)
  return {
    verb: 'sql.create',
    resource: name === undefined ? { type: 'none' } : { type: 'sql', name },
    attributes: { object: 'table', temporary: rel['relpersistence'] === 't' },
  }
}

/** What the operator vouches for. */
function trustedBy({ trustedFunctions, trustedSideEffects }: PlanUnder): Trusted {
  return { functions: new Set(trustedFunctions), tables: new Set(trustedSideEffects) }
}

/** `WHERE CURRENT OF` of a cursor nobody here saw being declared. */
function unknownCursors(findings: Findings, { session }: PlanUnder): readonly string[] {
  return findings.cursors
    .filter((name) => session?.cursors.has(name) !== true)
    .map(() => 'a cursor that was not declared in this session')
}

/** What a setting becomes; of a value that is not there yet nothing is said, and NULL is its default. */
function valueOf(value: SettingChange['value'], { params, isUnbound }: Request): string | undefined {
  if (typeof value === 'string') return value
  return isUnbound === true ? '' : (params[value.param - 1] ?? undefined)
}

/**
 * Code of users looks names up where its session does, when it runs. So none runs while that is not where the target
 * does, and none that may still run at the end of the transaction is overtaken by a change of it.
 */
function underMovedPath(
  { catalog, under }: Planning,
  parts: readonly Part[],
  functions: readonly { readonly fn: CatalogFunction }[],
): readonly string[] {
  const moves = parts.some(
    ({ verb, resource, attributes }) =>
      verb === 'sql.set' && resource.type === 'sql' && resource.name === 'search_path' && attributes['reset'] !== true,
  )
  const user = functions.find(({ fn }) => !isBuiltin(fn))?.fn
  if (user !== undefined && (moves || catalog.isPathMoved === true)) {
    return [`${functionName(user)} would run while the search path is not the one of the target`]
  }
  if (!moves || under.owesCode !== true) return []
  return ['the search path is moved while a trigger may still run at the end of the transaction']
}

/** Whether a function is run that may have done anything, to the catalog or to settings. */
function disturbs(functions: readonly { readonly fn: CatalogFunction }[]): boolean {
  return functions.some(({ fn }) => !isBuiltin(fn) && fn.volatility === 'volatile')
}

/** What of a plan follows from the relations it touches. */
function touched(
  { request, catalog, masks }: Reading,
  findings: Findings,
  effects: Effects,
  sql: string,
): Partial<PostgresPlan> {
  const hidesValues = findings.uses.some((use) => meetsMasked(use, masks))
  const objects = [...new Set(findings.uses.map(({ relation }) => relation.oid))].sort((a, b) => a - b)
  return {
    sql,
    objects,
    exact: exactOf(request, catalog, sql, objects),
    touchesMasked:
      findings.uses.some((use) => masks.byRelation.has(use.relation.oid)) ||
      effects.cascades.some((cascade) => masks.byRelation.has(cascade.relation.oid)),
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

function maskedOutputs(findings: Findings, masks: BoundMasks): ReadonlyMap<number, Transform> {
  if (masks.byRelation.size === 0) return NO_OUTPUTS
  const outputs = new Map<number, Transform>()
  for (const [position, origin] of (findings.origins ?? []).entries()) {
    const mask = origin && masks.byRelation.get(origin.use.relation.oid)?.get(origin.column)
    if (mask !== undefined) outputs.set(position, mask.transform)
  }
  return outputs.size === 0 ? NO_OUTPUTS : outputs
}

function checkParams(request: Request, findings: Findings): void {
  if (request.isUnbound === true || findings.paramsMax === request.params.length) return
  throw new SallyportError(
    'ERR_INVALID_INPUT',
    `The statement uses ${findings.paramsMax} parameters but ${request.params.length} were given.`,
  )
}

/** Statements that give a table a new file, which its row in the catalog names. */
const MOVES_TABLES = new Set(['TruncateStmt', 'RefreshMatViewStmt', 'ClusterStmt'])

/** Everything that is no query: its own parts, those of the queries in it, and those of the statement it runs. */
function planUtility(reading: Reading, type: string, fields: Ast, explain?: Ast): PostgresPlan {
  const { request, catalog, under, masks } = reading
  const draft = understand(catalog, under.session ?? EMPTY_SESSION, type, fields)
  if (draft === undefined) return notUnderstood(reading, [], [`${type} is not understood`])
  const walked = walkUtility(catalog, type, fields, draft.rowNames)
  const explained = explain && explainOptions(explain)
  const findings = {
    ...walked,
    functions: [...walked.functions, ...draft.calls()],
    ...(explained !== undefined && { explain: explained }),
  }
  const effects = effectsOf(catalog, findings.uses)
  const ran = draft.runs === undefined ? undefined : planKept(reading, draft)
  const parts: Part[] = [...draft.parts, ...partsOf(findings, effects, false), ...(ran?.parts ?? [])]
  const statement = explain === undefined ? wordOf(type, parts) : 'explain'
  const unknowns = [
    ...draft.unknowns,
    ...findings.unknowns,
    ...(explained?.unknowns ?? []),
    ...unknownCursors(findings, under),
    ...underMovedPath(reading, parts, [...findings.functions, ...effects.functions]),
    ...(ran?.unknowns ?? []),
  ]
  const refusedHere = draft.refused ?? refusedAtDoor(under, draft, statement) ?? ran?.refused
  if (unknowns.length > 0) {
    const plan = notUnderstood(reading, parts, unknowns, { kind: 'unknown', statement })
    return refusedHere === undefined ? plan : refusedBy(refusedHere, plan)
  }
  // What a function body or a prepared statement calls `$1` is no parameter of this call.
  if (!OWN_PARAMETERS.has(type)) checkParams(request, findings)
  const plan = basePlan(reading, parts, 'utility', { statement })
  let sql = request.sql
  try {
    const named = [...draft.named, ...relationsOf(catalog, findings.objects)]
    refuseUtility(statement, draft.underMasks, findings, named, masks)
    // VACUUM tells nothing of a table, whichever it turns out to be.
    if (draft.outsideTransaction && type !== 'VacuumStmt') refuseAlone(statement, findings, named, masks)
    if (type === 'LockStmt') {
      if (fields['mode'] === ACCESS_SHARE) refuseDump(named, masks)
      refuseLock(named, masks)
    }
    refuseUnderMasks(findings, effects, masks, trustedBy(under), new Lengths(undefined))
    if (explain !== undefined && ran?.plan?.touchesMasked === true) refuseExplainedName()
    if (findings.uses.length > 0) sql = rewrite(request.sql, reading.parsed.bytes, reading.node, findings, masks)
  } catch (error) {
    return refusedPlan(error, plan)
  }
  const made: PostgresPlan = {
    ...plan,
    ...touched(reading, findings, effects, sql),
    readOnly: draft.isRead && !findings.mayWrite && (ran?.plan?.readOnly ?? true),
    returnsRows: explain !== undefined || draft.returnsRows,
    ...(draft.effect !== undefined &&
      explain === undefined && { session: kept(draft.effect, request.sql, sql, catalog.searchPath) }),
    ...((draft.changesCatalog || disturbs([...findings.functions, ...effects.functions])) && {
      changesCatalog: true,
    }),
    ...((draft.changesCatalog || MOVES_TABLES.has(type)) && { definesObjects: true }),
    ...(draft.outsideTransaction && { outsideTransaction: true }),
    ...(draft.hidesValues && {
      hidesValues: true,
      shown: shownWithoutValues(request.sql, request.params),
    }),
  }
  const whole = ran?.plan === undefined ? made : runningKept(made, ran.plan)
  return refusedHere === undefined ? whole : refusedBy(refusedHere, whole)
}

/** Statements whose parameters are bound inside them, or come when they are executed. */
const OWN_PARAMETERS = new Set(['CreateFunctionStmt', 'PrepareStmt', 'RuleStmt', 'ViewStmt'])

function wordOf(type: string, parts: readonly Part[]): string {
  if (type === 'CallStmt') return 'call'
  return parts[0]?.verb.replace(/^sql\./, '') ?? 'unknown'
}

/** A door without a session, or without a way to leave the transaction, cannot run everything. */
function refusedAtDoor(under: PlanUnder, draft: Draft, statement: string): PostgresPlan['refused'] {
  if (under.door === 'session') return undefined
  if (draft.needsSession !== undefined) {
    return {
      construct: 'sql.session',
      message: `A ${statement} statement makes no sense in a call of its own: ${draft.needsSession}.`,
      hint: 'A client that needs a session connects to the PostgreSQL listener of this gateway.',
    }
  }
  if (!draft.outsideTransaction) return undefined
  return {
    construct: 'sql.outside_transaction',
    message: `The database runs this ${statement} statement only outside a transaction, and each call is one.`,
    hint: 'Send it through the PostgreSQL listener of this gateway.',
  }
}

/** An effect with what will be known of the statement when its name is used. */
function kept(effect: SessionEffect, sql: string, sent: string, searchPath: readonly string[]): SessionEffect {
  if (effect.does !== 'prepare' && effect.does !== 'declare') return effect
  return { ...effect, statement: { text: sql, sent, searchPath } }
}

/** What EXECUTE and FETCH run. */
interface Ran {
  readonly parts: readonly Part[]
  readonly unknowns: readonly string[]
  readonly refused?: NonNullable<PostgresPlan['refused']>
  readonly plan?: PostgresPlan
}

/** Plans the statement behind a name anew: catalog, masks and policy may have changed since it was made (R19). */
function planKept(planning: Planning, { runs, session }: Draft): Ran {
  const known: KeptStatement | undefined =
    runs?.kind === 'prepared' ? session.prepared.get(runs.name) : session.cursors.get(runs?.name ?? '')
  if (known === undefined) {
    const what = runs?.kind === 'prepared' ? 'a prepared statement' : 'a cursor'
    return { parts: [], unknowns: [`${what} that was not made in this session`] }
  }
  const plan = planOne({
    ...(runs?.kind === 'cursor' ? asDeclared(planning, known) : planning),
    request: { sql: known.text, params: [], isUnbound: true, areUnseen: true },
    under: { ...planning.under, door: 'session', session: EMPTY_SESSION },
  })
  const parts = plan.action.parts.filter(({ verb }) => verb !== 'sql.prepare' && verb !== 'sql.cursor')
  if (parts.some(({ verb }) => verb === 'sql.unknown')) return { parts, unknowns: [], ...refusedIn(plan) }
  if (plan.refused !== undefined) return { parts, unknowns: [], refused: plan.refused }
  if (plan.sql !== known.sent) {
    return {
      parts,
      unknowns: [],
      refused: {
        construct: 'sql.stale_statement',
        message: 'The tables or masks behind this name are not what they were when it was made.',
        hint: 'Make it anew: DEALLOCATE and PREPARE, or CLOSE and DECLARE.',
      },
    }
  }
  return { parts, unknowns: [], plan }
}

/** A cursor means what its names meant when it was declared; a prepared statement looks them up each time. */
function asDeclared(planning: Planning, { searchPath }: KeptStatement): Planning {
  const { catalog, under } = planning
  if (searchPath === undefined || searchPath.join() === catalog.searchPath.join()) return planning
  const seen = withSearchPath(catalog, searchPath)
  return seen === undefined
    ? planning
    : { ...planning, catalog: seen, masks: bindMasks(seen, under.masks, under.masking) }
}

function refusedIn({ refused }: PostgresPlan): { readonly refused?: NonNullable<PostgresPlan['refused']> } {
  return refused === undefined ? {} : { refused }
}

/** The plan of EXECUTE or FETCH together with what it runs. */
function runningKept(made: PostgresPlan, ran: PostgresPlan): PostgresPlan {
  const hidesValues = made.hidesValues || ran.hidesValues
  return {
    ...made,
    objects: [...new Set([...made.objects, ...ran.objects])].sort((a, b) => a - b),
    exact: { ...(made.exact as { readonly [key: string]: PostgresPlan['exact'] }), runs: ran.exact },
    touchesMasked: made.touchesMasked || ran.touchesMasked,
    hidesValues,
    shown: hidesValues ? shownWithoutValues(made.sql, made.params) : made.shown,
    maskedOutputs: ran.maskedOutputs,
    ...(ran.hidesOrder === true && { hidesOrder: true }),
    ...(ran.changesCatalog === true && { changesCatalog: true }),
    ...(ran.definesObjects === true && { definesObjects: true }),
  }
}
