/**
 * The rows of other tables that foreign keys change together with those a statement is about, found without touching them.
 *
 * What is found are the rows that refer to them. An UPDATE changes fewer where it leaves the key as it was; those that
 * are compared besides only make the comparison stricter.
 *
 * @packageDocumentation
 */
import { FIRST_USER_OID, type Catalog, type ForeignKey, type Relation } from '../catalog.ts'
import { indexOf } from '../indexes.ts'
import { pinned, quoteIdentifier, resourceName } from '../names.ts'
import type { Affected } from './affected.ts'

/** One step along a foreign key, from the rows it refers to, to the rows that hold it. SQL, all of it. */
export interface KeyStep {
  readonly from: string
  readonly alias: string
  readonly columns: readonly string[]
  readonly referenced: readonly string[]
}

/** A table that foreign keys change, and how it is reached. */
export interface Passed {
  readonly relation: Relation
  readonly verb: 'update' | 'delete'
  readonly keys: readonly KeyStep[]
  /** Columns that the keys give values. */
  readonly columns: ReadonlySet<string>
  /** Why its rows cannot be compared. */
  readonly why?: string
}

/** More ways than this from one statement are not followed. */
const WAYS_MAX = 32

/** Everything a write passes on, each way by itself. A way that comes back to a table it has been to is not followed. */
export function passedOn(
  catalog: Catalog,
  relation: Relation,
  verb: 'update' | 'delete',
  columns: ReadonlySet<string>,
): readonly Passed[] {
  const found: Passed[] = []
  const visit = (at: Omit<Passed, 'why'>, seen: ReadonlySet<number>): void => {
    for (const { owner, key } of referring(catalog, at)) {
      const next = consequence(at.verb === 'delete' ? key.onDelete : key.onUpdate, at.verb)
      if (next === undefined) continue
      const passed = { relation: owner, verb: next, columns: new Set(key.columns) }
      const why = whyNot(at.relation, owner, key, seen, found.length)
      if (why !== undefined) {
        found.push({ ...passed, keys: [], why })
        if (found.length > WAYS_MAX) return
        continue
      }
      const way = { ...passed, keys: [...at.keys, stepOf(owner, key, at.keys.length)] }
      found.push(way)
      visit(way, new Set([...seen, owner.oid]))
    }
  }
  visit({ relation, verb, columns, keys: [] }, new Set([relation.oid]))
  return found
}

/** The query for the rows at the end of a way. */
export function follow(affected: Affected, keys: readonly KeyStep[]): Affected {
  return keys.reduce(
    (by: Affected, { from, alias, columns, referenced }): Affected => ({
      kind: by.kind,
      alias,
      params: by.params,
      select: (list) => {
        const among = by.select(
          referenced.map((name) => `${quoteIdentifier(by.alias)}.${quoteIdentifier(name)}`).join(', '),
        )
        const held = columns.map((name) => `${quoteIdentifier(alias)}.${quoteIdentifier(name)}`).join(', ')
        return `SELECT ${list} FROM ${from} AS ${quoteIdentifier(alias)}
          WHERE ROW(${held}) OPERATOR(pg_catalog.=) ANY (${among})`
      },
    }),
    affected,
  )
}

/** Keys that refer to the table, to one of its children, or to one it is a child of. */
function referring(
  catalog: Catalog,
  { relation, verb, columns }: Omit<Passed, 'why'>,
): readonly { readonly owner: Relation; readonly key: ForeignKey }[] {
  const family = [...relatives(catalog, relation, 'children'), ...relatives(catalog, relation, 'parents')]
  const met = new Map<string, { readonly owner: Relation; readonly key: ForeignKey }>()
  for (const member of new Set(family)) {
    for (const { relation: owner, key } of indexOf(catalog).referencedBy.get(member.oid) ?? []) {
      if (verb === 'update' && !key.referencedColumns.some((name) => columns.has(name))) continue
      met.set(JSON.stringify([owner.oid, key.columns, key.referencedColumns]), { owner, key })
    }
  }
  return [...met.values()]
}

function relatives(catalog: Catalog, relation: Relation, direction: 'children' | 'parents'): readonly Relation[] {
  const seen = new Set([relation])
  for (const member of seen) {
    for (const oid of member[direction]) {
      const next = catalog.relationsByOid.get(oid)
      if (next !== undefined) seen.add(next)
    }
  }
  return [...seen]
}

function whyNot(
  by: Relation,
  owner: Relation,
  { columns, referencedColumns }: ForeignKey,
  seen: ReadonlySet<number>,
  ways: number,
): string | undefined {
  const name = resourceName(owner)
  if (seen.has(owner.oid)) return `its foreign keys lead from ${name} back to ${name}`
  if (ways >= WAYS_MAX) return 'its foreign keys lead to too many tables'
  // Those have operators of their own, looked up wherever the session looks.
  const typed = (of: Relation, names: readonly string[]): boolean =>
    names.every((one) => (of.columns.find((known) => known.name === one)?.typeOid ?? FIRST_USER_OID) < FIRST_USER_OID)
  const isPlain = typed(owner, columns) && typed(by, referencedColumns)
  return isPlain ? undefined : `a foreign key of ${name} compares values of a type that was made by a user`
}

function stepOf(owner: Relation, { columns, referencedColumns }: ForeignKey, depth: number): KeyStep {
  // As the key itself does: a partition's rows are its own, unless the whole table holds the key.
  const only = owner.kind === 'partitioned_table' ? '' : 'ONLY '
  return {
    from: `${only}${pinned(owner)}`,
    alias: `sallyport_key_${depth + 1}`,
    columns,
    referenced: referencedColumns,
  }
}

function consequence(action: ForeignKey['onDelete'], verb: 'update' | 'delete'): 'update' | 'delete' | undefined {
  if (action === 'cascade') return verb
  return action === 'set_null' || action === 'set_default' ? 'update' : undefined
}
