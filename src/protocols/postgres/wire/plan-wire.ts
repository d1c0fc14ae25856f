import type { Canonical } from '../../../core/call.ts'
import { SallyportError } from '../../../core/errors.ts'
import type { Catalog } from '../catalog.ts'
import { planStatement, planUnread, type PlanUnder, type PostgresPlan } from '../plan.ts'
import { isNameless, withSearchPath } from '../search-path.ts'
import type { PortalRequest, WireCall } from './payload.ts'

/**
 * Works out what a call of a wire client means, with what its session holds. The parser must be there, see
 * {@link loadParser}.
 */
export function planWire(wire: WireCall, catalog: Catalog, under: PlanUnder): PostgresPlan {
  const { sql, session } = wire
  const params = wire.params
  const { paramTypes = [] } = wire.portal?.statement ?? {}
  const request = wire.isUnbound ? { sql } : { sql, params, paramTypes }
  const inSession: PlanUnder = { ...under, door: 'session', session, owesCode: wire.owesCode }
  const seen = catalogOf(wire, catalog)
  const made =
    seen === undefined
      ? planUnread(sql, params, catalog, inSession, whyUnread(wire))
      : planStatement(request, seen, inSession)
  const bound = withValues(made, wire, catalog)
  wire.planned(bound)
  return bound
}

/**
 * The plan of a call that may be anything: sent as its client wrote it, and never held to a catalog that others change
 * meanwhile. What is known of it is told as far as the catalog that was seen last can tell.
 */
export function planAsWritten(wire: WireCall, catalog: Catalog, under: PlanUnder): PostgresPlan {
  const { sql, params, session } = wire
  const inSession: PlanUnder = { ...under, door: 'session', session }
  const reason = 'The policy lets everything through, so it was sent as it was written.'
  const unread = planUnread(sql, params, catalog, inSession, reason)
  const read = wire.drift === undefined ? readAnyway(wire, catalog, inSession) : undefined
  const parts = (read ?? unread).action.parts.filter(({ verb }) => verb !== 'sql.unknown')
  const action = { ...unread.action, parts: [...parts, ...unread.action.parts] }
  const made: PostgresPlan = { ...unread, action, asWritten: true }
  const bound = withValues(made, wire, catalog)
  wire.planned(bound)
  return bound
}

/** What is wrong with a request the server is to say. */
function readAnyway(
  { sql, params, isUnbound }: WireCall,
  catalog: Catalog,
  under: PlanUnder,
): PostgresPlan | undefined {
  try {
    return planStatement(isUnbound ? { sql } : { sql, params }, catalog, under)
  } catch (error) {
    if (error instanceof SallyportError) return undefined
    throw error
  }
}

function withValues(plan: PostgresPlan, { portal, backend }: WireCall, catalog: Catalog): PostgresPlan {
  const session = unusual(backend.parameters, catalog)
  const bound =
    portal === undefined || portal.bind.params.length === 0 ? plan : { ...plan, exact: boundAs(plan, portal) }
  if (session === undefined) return bound
  return { ...bound, exact: { ...(bound.exact as Readonly<Record<string, Canonical>>), session } }
}

/**
 * What the session reads times and intervals by, where that is not what every other door does (C11): the same text stands
 * for other values then. The server tells each change of these.
 */
function unusual(parameters: ReadonlyMap<string, string>, { timeZone }: Catalog): Canonical | undefined {
  const style = parameters.get('DateStyle')
  const interval = parameters.get('IntervalStyle')
  const zone = parameters.get('TimeZone')
  if (style === 'ISO, MDY' && interval === 'postgres' && zone === timeZone) return undefined
  return { DateStyle: style ?? null, IntervalStyle: interval ?? null, TimeZone: zone ?? null }
}

function whyUnread({ drift, isUnwatched }: WireCall): string {
  return isUnwatched ? UNWATCHED : `The session's setting ${drift} is not as it was pinned.`
}

const UNWATCHED = 'The policy has let everything through in this session, so nothing is known of what it holds.'

/** The catalog to plan with; none where what the text means cannot be told (C7). */
function catalogOf({ drift, searchPath, sql, isUnwatched }: WireCall, catalog: Catalog): Catalog | undefined {
  // Fail closed: the policy has become another one between the look at the session and this.
  if (isUnwatched) return undefined
  if (drift === undefined) return catalog
  const seen = searchPath === undefined ? undefined : withSearchPath(catalog, searchPath)
  return seen ?? (isNameless(sql) ? catalog : undefined)
}

/** The very bytes that are bound, and what the client says they are (C11): one text can stand for different values. */
function boundAs({ exact }: PostgresPlan, { statement, bind }: PortalRequest): Canonical {
  return {
    ...(exact as Readonly<Record<string, Canonical>>),
    types: statement.paramTypes,
    formats: bind.paramFormats,
    bound: bind.params.map((value) => value && value.toString('hex')),
  }
}
