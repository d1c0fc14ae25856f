import {
  FIRST_USER_OID,
  type Catalog,
  type CatalogColumn,
  type CatalogFunction,
  type ForeignKey,
  type Relation,
  type UserCast,
  type UserOperator,
  type UserType,
} from './catalog.ts'
import { functionsOf, isBuiltin } from './functions.ts'

/** What the planner looks up in a catalog besides names. Made once per snapshot. */
export interface CatalogIndex {
  /** Operators users made, by name, without those of trusted extensions. */
  readonly operators: ReadonlyMap<string, readonly UserOperator[]>
  /** User functions behind casts that need no syntax. */
  readonly implicitCasts: readonly CatalogFunction[]
  /** User functions that compare values where no operator is written: in ORDER BY, GROUP BY, DISTINCT, UNION. */
  readonly comparisons: readonly CatalogFunction[]
  /** User functions behind casts that are written down. */
  readonly explicitCasts: readonly CatalogFunction[]
  /** User functions behind casts to JSON, which every function that makes JSON looks for by itself. */
  readonly jsonCasts: readonly CatalogFunction[]
  readonly typesByName: ReadonlyMap<string, readonly UserType[]>
  /** Functions behind any type a user made: those of users, and what counts of PostgreSQL itself. */
  readonly typeFunctions: readonly CatalogFunction[]
  /** Views, and tables with rules, by the OID of a relation their rule uses. */
  readonly readers: ReadonlyMap<number, readonly Relation[]>
  /** Foreign keys that point at a relation, by its OID. */
  readonly referencedBy: ReadonlyMap<number, readonly { readonly relation: Relation; readonly key: ForeignKey }[]>
}

/**
 * Extensions whose operators, casts and types ride like those of PostgreSQL itself: written in C, free of side effects,
 * reading nothing but their arguments. Their *functions* still need `sql.call`.
 */
export const TRUSTED_OPERATOR_EXTENSIONS: ReadonlySet<string> = new Set([
  'btree_gin',
  'btree_gist',
  'citext',
  'cube',
  'earthdistance',
  'hstore',
  'intarray',
  'isn',
  'ltree',
  'pg_trgm',
  'seg',
  'vector',
])

const indexes = new WeakMap<Catalog, CatalogIndex>()

/** The index of a catalog. */
export function indexOf(catalog: Catalog): CatalogIndex {
  const known = indexes.get(catalog)
  if (known !== undefined) return known
  const casts = catalog.casts.filter((cast) => cast.functionOid !== 0 && !isTrusted(cast.extension))
  const made: CatalogIndex = {
    operators: grouped(
      catalog.operators.filter((operator) => !isTrusted(operator.extension)),
      (operator) => operator.name,
    ),
    implicitCasts: castFunctions(
      catalog,
      casts.filter((cast) => cast.context !== 'e'),
    ),
    comparisons: functionsOf(catalog, catalog.comparisons),
    explicitCasts: castFunctions(
      catalog,
      casts.filter((cast) => cast.context === 'e'),
    ),
    jsonCasts: castFunctions(catalog, casts.filter(isJsonCast)),
    typesByName: grouped(catalog.types, (type) => type.name),
    typeFunctions: functionsOf(
      catalog,
      catalog.types.filter((type) => !isTrusted(type.extension)).flatMap((type) => type.functionOids),
    ),
    readers: readersOf(catalog),
    referencedBy: grouped(
      catalog.relations.flatMap((relation) => relation.foreignKeys.map((key) => ({ relation, key }))),
      (entry) => entry.key.references,
    ),
  }
  indexes.set(catalog, made)
  return made
}

/** Whether it is a cast to JSON that runs a function nobody vouches for. */
export function isJsonCast(cast: UserCast): boolean {
  return cast.functionOid !== 0 && !isTrusted(cast.extension) && /^jsonb?$/.test(cast.target)
}

/** Functions that run when a row of a relation is made, because of the types of its columns. */
export function rowFunctions(catalog: Catalog, { columns }: Relation): readonly CatalogFunction[] {
  const all = indexOf(catalog).typeFunctions
  const isUnread = ({ typeFunctions, typeOid }: CatalogColumn): boolean =>
    typeFunctions === undefined && typeOid >= FIRST_USER_OID
  if (all.length === 0 || columns.some(isUnread)) return all
  const oids = new Set(columns.flatMap(({ typeFunctions }) => typeFunctions ?? []))
  return functionsOf(catalog, [...oids])
}

function castFunctions(
  catalog: Catalog,
  casts: readonly { readonly functionOid: number }[],
): readonly CatalogFunction[] {
  return functionsOf(
    catalog,
    casts.map((cast) => cast.functionOid),
  ).filter((fn) => !isBuiltin(fn))
}

function readersOf(catalog: Catalog): ReadonlyMap<number, readonly Relation[]> {
  const pairs = catalog.relations.flatMap((reader) => reader.dependsOn.map((oid) => ({ oid, reader })))
  const readers = new Map<number, Relation[]>()
  for (const [oid, found] of grouped(pairs, (pair) => pair.oid)) {
    readers.set(
      oid,
      found.map((pair) => pair.reader),
    )
  }
  return readers
}

/** Whether operators, casts and types of an extension ride like those of PostgreSQL itself. */
export function isTrusted(extension: string | null): boolean {
  return extension !== null && TRUSTED_OPERATOR_EXTENSIONS.has(extension)
}

function grouped<K, V>(values: readonly V[], keyOf: (value: V) => K): ReadonlyMap<K, readonly V[]> {
  const groups = new Map<K, V[]>()
  for (const value of values) {
    const key = keyOf(value)
    const group = groups.get(key)
    if (group === undefined) groups.set(key, [value])
    else group.push(value)
  }
  return groups
}
