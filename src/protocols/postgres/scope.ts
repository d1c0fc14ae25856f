/**
 * Who a name in a statement speaks of: PostgreSQL's rules for FROM items, nested levels and WITH (`parse_relation.c`).
 *
 * Reading is over-approximated, never under: where a name could mean two columns, both are read; where the columns of
 * something are not known for certain, the search goes on outward as if it had not been found.
 *
 * @packageDocumentation
 */
import type { Ast } from './ast.ts'
import type { Relation } from './catalog.ts'

/** What a statement does with one mention of a relation. */
export type Role = 'read' | 'insert' | 'update' | 'delete' | 'merge'

/** One mention of a relation in a statement, with everything read and written through it. */
export interface Use {
  readonly relation: Relation
  readonly role: Role
  /** The `RangeVar` that mentions it. */
  readonly ref: Ast
  /** Columns read anywhere. */
  readonly read: Set<string>
  /** Columns read in a predicate: WHERE, ON, USING, HAVING. */
  readonly tested: Set<string>
  /** Columns of a write's target that RETURNING computes something from. */
  readonly returned: Set<string>
  /** Columns read where what is read does not go straight to the caller: everywhere but in RETURNING. */
  readonly consulted: Set<string>
  /** Columns an INSERT fills. */
  readonly inserted: Set<string>
  /** Columns an UPDATE assigns. */
  readonly updated: Set<string>
  /** What it assigns to each, as far as that is an expression of its own. */
  readonly values: Map<string, unknown[]>
  /** Names of system columns read (`ctid`, `xmin` …). */
  readonly system: Set<string>
  /** Verbs of a write, in the words of the taxonomy. */
  readonly writes: Set<'insert' | 'update' | 'delete'>
  hasWhere: boolean
  locked: boolean
  sampled: boolean
  returning: boolean
  /** How often its whole row is read: by `*`, `t.*` or `t`. */
  wholeReads: number
  /** Whether NATURAL compares its columns with others, by whatever names it has. */
  natural: boolean
}

/** Something a column reference can speak of. */
export interface Item {
  /** The name it is referred to by. */
  readonly name: string | undefined
  /** The relation, when it is mentioned without an alias, so that `schema.relation.column` speaks of it. */
  readonly unaliased?: Relation
  /** Visible column names, each with the column behind it. */
  readonly columns: ReadonlyMap<string, string>
  /** Whether it may have columns besides. */
  readonly isOpen: boolean
  readonly use?: Use
  /** What an aliased join is made of. */
  readonly parts?: readonly Item[]
  /** Columns were renamed by position, so that one name could be any column of the parts. */
  readonly isOpaque?: boolean
}

/** The FROM items one level of a query can speak of, and the level around it. */
export interface Level {
  readonly items: readonly Item[]
  readonly parent: Level | undefined
}

/** What a query or a RETURNING list yields: names known for certain, and whether there may be others. */
export interface Output {
  readonly names: readonly string[]
  readonly isOpen: boolean
}

/** A WITH query in scope. Its output is filled in once it is known. */
export interface Cte {
  readonly name: string
  output: Output | undefined
}

/** WITH queries in scope, innermost first. */
export interface CteScope {
  readonly cte: Cte
  readonly parent: CteScope | undefined
}

/** How a column is being read. */
export interface Reading {
  readonly isPredicate: boolean
  readonly isReturning: boolean
  /** In RETURNING: the column is a result column as it is. */
  readonly isDirect?: boolean
}

/**
 * How many steps one text may take: its nodes, and the look-ups of its names. Each takes some ten nanoseconds and nothing
 * else runs meanwhile; statements that people and their tools write take thousands.
 */
export const STEPS_MAX = 250_000

/** Thrown when a text takes more than {@link STEPS_MAX} steps: joins and sub-selects can make look-ups grow exponentially. */
export class TooManySteps extends RangeError {}

// A walk is synchronous, so that one counter serves one text at a time.
let stepsLeft = Number.POSITIVE_INFINITY

let stepsBefore = 0

/** How many steps the last text took, {@link STEPS_MAX} and a few at most. */
export function stepsTaken(): number {
  return stepsBefore
}

/**
 * Runs `work` with a bound on the steps of all look-ups in it.
 *
 * @throws TooManySteps
 */
export function withinSteps<T>(work: () => T): T {
  stepsLeft = STEPS_MAX
  try {
    return work()
  } finally {
    stepsBefore = STEPS_MAX - stepsLeft
    stepsLeft = Number.POSITIVE_INFINITY
  }
}

/** Counts steps that were, or are about to be, taken. */
export function step(count = 1): void {
  stepsLeft -= count
  if (stepsLeft < 0) throw new TooManySteps('The statement takes too many steps to plan.')
}

/** System columns of tables (`catalog/heap.c`); no user column can have these names. */
export const SYSTEM_COLUMNS: ReadonlySet<string> = new Set(['tableoid', 'ctid', 'xmin', 'xmax', 'cmin', 'cmax'])

/** Finds the WITH query a bare name means. */
export function findCte(scope: CteScope | undefined, name: string): Cte | undefined {
  for (let at = scope; at !== undefined; at = at.parent) {
    step()
    if (at.cte.name === name) return at.cte
  }
  return undefined
}

/** The item of a relation; an alias's column list renames from the left. */
export function relationItem(use: Use, name: string, hasAlias: boolean, renamed: readonly string[]): Item {
  return {
    name,
    columns: renamed.length === 0 ? plainColumns(use.relation) : renamedColumns(use.relation, renamed),
    isOpen: false,
    use,
    ...(!hasAlias && { unaliased: use.relation }),
  }
}

/**
 * The item of a sub-select, a WITH query or a function. With a column list only the listed names are certain: which of
 * the others moved depends on positions that `*` and USING may have shifted.
 */
export function derivedItem(name: string | undefined, output: Output | undefined, renamed: readonly string[]): Item {
  const known = renamed.length > 0 ? renamed : (output?.names ?? [])
  step(known.length)
  return {
    name,
    columns: new Map(known.map((column) => [column, ''])),
    isOpen: output === undefined || output.isOpen || renamed.length > 0,
  }
}

/** Whether an item has a column of that name for certain. */
export function hasColumn(item: Item, name: string): boolean {
  step()
  if (item.columns.has(name)) return true
  if (item.use !== undefined && SYSTEM_COLUMNS.has(name)) return true
  return item.parts !== undefined && item.isOpaque !== true && item.parts.some((part) => hasColumn(part, name))
}

/** Whether an item may have columns that are not known. */
export function isOpen(item: Item): boolean {
  step()
  return item.isOpen || (item.parts !== undefined && item.parts.some(isOpen))
}

/** Marks a column as read. */
export function readColumn(item: Item, name: string, reading: Reading): void {
  if (item.isOpaque === true) {
    readAll(item, reading)
    return
  }
  for (const part of item.parts ?? []) if (hasColumn(part, name)) readColumn(part, name, reading)
  if (item.use === undefined) return
  const column = item.columns.get(name)
  if (column !== undefined) mark(item.use, column, reading)
  else if (SYSTEM_COLUMNS.has(name)) item.use.system.add(name)
}

/** Marks the whole row as read: `t`, `t.*`, `*`. */
export function readAll(item: Item, reading: Reading): void {
  for (const part of item.parts ?? []) readAll(part, reading)
  step(1 + item.columns.size)
  if (item.use === undefined) return
  item.use.wholeReads += 1
  for (const column of item.columns.values()) mark(item.use, column, reading)
}

/** Behind a column list of a join any name may be any of its columns. */
function readOpaque(item: Item, reading: Reading): void {
  step()
  if (item.isOpaque === true) readAll(item, reading)
  else for (const part of item.parts ?? []) readOpaque(part, reading)
}

/** Where a name was found: `open` means that it may also be somewhere we cannot see. */
export type Found = 'found' | 'open' | 'none'

/** Resolves an unqualified name as a column, innermost level first, and marks what it may mean as read. */
export function readUnqualified(level: Level | undefined, name: string, reading: Reading): Found {
  let found: Found = 'none'
  for (let at = level; at !== undefined; at = at.parent) {
    step()
    const holders = at.items.filter((item) => hasColumn(item, name))
    for (const item of holders) readColumn(item, name, reading)
    if (holders.length > 0) return found === 'open' ? 'open' : 'found'
    if (at.items.some(isOpen)) found = 'open'
    for (const item of at.items) readOpaque(item, reading)
  }
  return found
}

/** Items a qualifier speaks of: those of the innermost level that has one of that name. */
export function itemsNamed(level: Level | undefined, name: string): readonly Item[] {
  for (let at = level; at !== undefined; at = at.parent) {
    step(1 + at.items.length)
    const named = at.items.filter((item) => item.name === name)
    if (named.length > 0) return named
  }
  return []
}

/** Items `schema.relation` speaks of: mentions of that relation without an alias. */
export function itemsOfRelation(level: Level | undefined, schema: string, name: string): readonly Item[] {
  for (let at = level; at !== undefined; at = at.parent) {
    step(1 + at.items.length)
    const named = at.items.filter((item) => item.unaliased?.schema === schema && item.unaliased.name === name)
    if (named.length > 0) return named
  }
  return []
}

/** Names of an item's columns in order, for `*`. */
export function outputOf(items: readonly Item[]): Output {
  const names: string[] = []
  let open = false
  for (const item of items) {
    step(1 + item.columns.size)
    if (item.isOpaque === true) open = true
    for (const name of item.columns.keys()) names.push(name)
    if (item.parts !== undefined) {
      const inner = outputOf(item.parts)
      step(inner.names.length)
      if (item.isOpaque !== true) for (const name of inner.names) names.push(name)
      open ||= inner.isOpen
    }
    open ||= item.isOpen
  }
  return { names, isOpen: open }
}

function mark(use: Use, column: string, reading: Reading): void {
  use.read.add(column)
  if (reading.isPredicate) use.tested.add(column)
  if (!reading.isReturning) use.consulted.add(column)
  else if (use.role !== 'read' && reading.isDirect !== true) use.returned.add(column)
}

const plain = new WeakMap<Relation, ReadonlyMap<string, string>>()

function plainColumns(relation: Relation): ReadonlyMap<string, string> {
  const known = plain.get(relation)
  if (known !== undefined) return known
  const made = new Map(relation.columns.map((column) => [column.name, column.name]))
  plain.set(relation, made)
  return made
}

function renamedColumns(relation: Relation, renamed: readonly string[]): ReadonlyMap<string, string> {
  step(relation.columns.length)
  return new Map(relation.columns.map((column, i) => [renamed[i] ?? column.name, column.name]))
}
