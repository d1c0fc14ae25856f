/**
 * GROUP BY a primary key stands for all columns of the table (SQL:1999, functional dependency). PostgreSQL knows that of
 * tables only, so where a masked one became a sub-select its other columns are listed too, which changes no group.
 *
 * @packageDocumentation
 */
import { asList, text, unwrap, words, type Ast } from './ast.ts'
import { hasColumn, type Item, type Use } from './scope.ts'

/** A SELECT that groups by every primary key column of one relation. */
export interface Grouping {
  readonly select: Ast
  readonly use: Use
  /** The name the relation goes by. */
  readonly name: string
  /** Visible names of its columns that GROUP BY does not list, each with the column behind it. */
  readonly others: ReadonlyMap<string, string>
}

/** Finds the relations whose primary keys a SELECT groups by; none where it has grouping sets. */
export function groupings(select: Ast, items: readonly Item[]): readonly Grouping[] {
  const clause = asList(select['groupClause'])
  if (clause.length === 0 || select['groupDistinct'] === true) return []
  if (clause.some((entry) => unwrap(entry)?.type === 'GroupingSet')) return []
  const refs = clause.map((entry) => meant(entry, select))
  return items.flatMap((item): readonly Grouping[] => {
    const { use, name } = item
    if (use === undefined || name === undefined || use.relation.primaryKey.length === 0) return []
    const listed = new Set(refs.flatMap((ref) => columnOf(ref, item, items) ?? []))
    if (!use.relation.primaryKey.every((column) => listed.has(column))) return []
    const others = [...item.columns].filter(([, column]) => !listed.has(column))
    return [{ select, use, name, others: new Map(others) }]
  })
}

/** Where the first entry of the GROUP BY begins, in bytes. */
export function groupByStart(select: Ast): number {
  const location = unwrap(asList(select['groupClause'])[0])?.fields['location']
  return typeof location === 'number' ? location : -1
}

/** What an entry means: a whole number counts the columns of the result. */
function meant(entry: unknown, select: Ast): unknown {
  const one = unwrap(entry)
  if (one?.type !== 'A_Const') return entry
  const value = (one.fields['ival'] as Ast | undefined)?.['ival']
  if (typeof value !== 'number') return entry
  const list = asList(select['targetList'])
  // A star before it moves the count.
  const isCounted = list.slice(0, value).every((column) => !isStar(unwrap(column)?.fields['val']))
  return isCounted ? unwrap(list[value - 1])?.fields['val'] : undefined
}

function isStar(value: unknown): boolean {
  const one = unwrap(value)
  return (
    one?.type !== undefined &&
    unwrap(asList(one.fields['fields'] ?? one.fields['indirection']).at(-1))?.type === 'A_Star'
  )
}

/** The column of `item` a reference means, where that is certain. */
function columnOf(ref: unknown, item: Item, items: readonly Item[]): string | undefined {
  const one = unwrap(ref)
  const path = one?.type === 'ColumnRef' ? words(one.fields['fields']) : undefined
  if (path === undefined || path.length > 2) return undefined
  const name = text(path.at(-1))
  if (path.length === 2 && path[0] !== item.name) return undefined
  // A neighbour whose columns are not known may be the one that is meant, or make the name ambiguous.
  if (path.length === 1 && items.some((other) => other !== item && (other.isOpen || hasColumn(other, name)))) {
    return undefined
  }
  return item.columns.get(name)
}
