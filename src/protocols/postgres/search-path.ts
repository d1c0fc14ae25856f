/**
 * A session whose `search_path` its client has moved: names are looked up where that session looks them up.
 *
 * @packageDocumentation
 */
import { unwrap } from './ast.ts'
import type { Catalog } from './catalog.ts'
import { parse } from './parse.ts'

/** Derived catalogs kept per snapshot; a client that moves its path more often than this pays for it itself. */
const PATHS_MAX = 8

const moved = new WeakMap<Catalog, Map<string, Catalog>>()

/**
 * The catalog as such a session sees it.
 *
 * @param session the schemas the server itself says it looks into, in order.
 * @returns undefined where `pg_catalog` does not come first: the words of the gateway itself, and names of types in the
 *   masks, could then be taken for something else. The same where a temporary schema does not come last: PostgreSQL puts
 *   it before all others unless the path names it, and what a client keeps there is in no catalog of the gateway.
 */
export function withSearchPath(catalog: Catalog, session: readonly string[]): Catalog | undefined {
  // Behind all others it hides nothing, and what is found in it alone is not understood.
  const path = isTemporary(session.at(-1)) ? session.slice(0, -1) : session
  if (path[0] !== 'pg_catalog' || path.some(isTemporary)) return undefined
  let known = moved.get(catalog)
  if (known === undefined) moved.set(catalog, (known = new Map()))
  const key = JSON.stringify(path)
  const before = known.get(key)
  if (before !== undefined) return before
  const made: Catalog = { ...catalog, searchPath: path, isPathMoved: true }
  if (known.size >= PATHS_MAX) known.clear()
  known.set(key, made)
  return made
}

/** Users cannot make schemas whose names begin like that. */
function isTemporary(schema: string | undefined): boolean {
  return schema?.startsWith('pg_temp') === true
}

/** Statements that look no name up: by them a client finds its way back, whatever its session has become. */
const NAMELESS = new Set(['TransactionStmt', 'VariableSetStmt', 'VariableShowStmt', 'DiscardStmt'])

/** Whether a text is one statement that looks no name up. Needs the parser to be loaded. */
export function isNameless(sql: string): boolean {
  const parsed = parse(sql)
  if (!parsed.ok || parsed.statements.length !== 1) return false
  return NAMELESS.has(unwrap(parsed.statements[0]?.['stmt'])?.type ?? '')
}
