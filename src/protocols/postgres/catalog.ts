/**
 * What the planner knows about a database: an immutable snapshot, handed in, never fetched from here.
 *
 * The connector reads it on the session's own connection (C7) and compares {@link Catalog.fingerprint} before each
 * statement, so that a plan is never made from a catalog the backend no longer has (C8). Names are exactly those of the
 * system catalogs: unquoted, case kept. Dropped columns, indexes, toast tables and relations of other sessions' temporary
 * schemas are left out.
 *
 * @packageDocumentation
 */

/** The letters of `pg_class.relkind`, spelled out. */
export type RelationKind =
  | 'table'
  | 'partitioned_table'
  | 'view'
  | 'materialized_view'
  | 'foreign_table'
  | 'sequence'
  | 'composite_type'

/** One row of `pg_attribute` with `attnum > 0` that is not dropped. */
export interface CatalogColumn {
  readonly name: string
  readonly attnum: number
  /** `format_type(atttypid, atttypmod)` under `search_path = pg_catalog`, so that it names one type only. */
  readonly type: string
  readonly typeOid: number
  readonly typmod: number
  /** `typtype`: `b` base, `c` composite, `d` domain, `e` enum, `r` range, `m` multirange, `p` pseudo. */
  readonly typeKind: string
  /** For a domain the type under all its layers with its modifier, as `type`; otherwise the same as `type` without its modifier. */
  readonly baseType: string
  /** `typrelid` of the column's type (or of its element or base type) when that is some relation's row type, else 0. */
  readonly rowTypeOf: number
  /** Schema and name of the collation when it differs from the type's own (`typcollation`), else null. */
  readonly collation: { readonly schema: string; readonly name: string } | null
  /** True for `NOT NULL` of the column or of any domain layer of its type. */
  readonly notNull: boolean
  /**
   * OIDs of functions that making a value of its type runs, at whatever depth: checks of domains, input functions.
   * Absent where nobody looked, which counts as those of every type.
   */
  readonly typeFunctions?: readonly number[]
  /** Whether it is `GENERATED ALWAYS AS (…)`, stored or virtual. */
  readonly generated: boolean
  /** Columns of the same relation a generated column is computed from (`pg_depend` of its `pg_attrdef`). */
  readonly generatedFrom: readonly string[]
  /** Whether the column has a default, an identity or a generation expression. */
  readonly hasDefault: boolean
}

/** A user trigger (`not tgisinternal`) that is not disabled. */
export interface CatalogTrigger {
  readonly name: string
  /** OID of the function it runs. */
  readonly functionOid: number
  readonly insert: boolean
  readonly update: boolean
  readonly delete: boolean
  readonly truncate: boolean
  /** Whether it has a WHEN condition, which reads rows. */
  readonly isConditional?: boolean
}

/** What a foreign key does to its own table when the referenced row changes. */
export type ForeignKeyAction = 'no_action' | 'restrict' | 'cascade' | 'set_null' | 'set_default'

/** A foreign key of the relation that holds it. */
export interface ForeignKey {
  readonly columns: readonly string[]
  readonly references: number
  readonly referencedColumns: readonly string[]
  readonly onDelete: ForeignKeyAction
  readonly onUpdate: ForeignKeyAction
}

/** Columns that a constraint, an index or a policy reads together, so that what happens to one may tell of another. */
export interface Tie {
  /** `unique` stands for exclusion constraints too, `index` for all other indexes, `key` for foreign keys. */
  readonly kind: 'check' | 'generated' | 'index' | 'key' | 'partition' | 'policy' | 'unique'
  readonly columns: readonly string[]
  /** Whether it computes something from them, which may fail. */
  readonly evaluates: boolean
  /** For `unique`: whether two rows may be equal where a column is NULL. */
  readonly countsNull: boolean
}

/** A table, view, sequence or row type. */
export interface Relation {
  readonly oid: number
  readonly schema: string
  readonly name: string
  readonly kind: RelationKind
  /** Owned by the bootstrap (`oid < 16384`): part of PostgreSQL itself, not made by a user. */
  readonly builtin: boolean
  readonly columns: readonly CatalogColumn[]
  /** Rewrite rules other than the `_RETURN` rule of a view. */
  readonly hasRules: boolean
  readonly triggers: readonly CatalogTrigger[]
  /** Row-level security is switched on. */
  readonly hasRls: boolean
  /** Direct parents (`pg_inherits.inhparent`), for partitions and inheritance alike. */
  readonly parents: readonly number[]
  /** Direct children (`pg_inherits.inhrelid`). */
  readonly children: readonly number[]
  /** Column names of the primary key, in key order; empty without one. */
  readonly primaryKey: readonly string[]
  /** Foreign keys of this relation to others. */
  readonly foreignKeys: readonly ForeignKey[]
  /** Names of columns in any unique index or exclusion constraint, keys and predicates alike, primary key included. */
  readonly uniqueColumns: readonly string[]
  readonly ties: readonly Tie[]
  /** Columns of other relations its row security policies read. */
  readonly policyReads: readonly { readonly relation: number; readonly column: string }[]
  /** For views: whether their rule reads what it does not name, by a function that can read anything or a statistic. */
  readonly readsOpaquely: boolean
  /** For views and tables with rules: OIDs of relations its rules use, direct ones at least; without itself. */
  readonly dependsOn: readonly number[]
  /** For views that the server lets be written by themselves: their query, with schemas; absent for all others. */
  readonly updatableAs?: string
  /** Columns of other relations its rules read by name. */
  readonly ruleReads: readonly { readonly relation: number; readonly column: string }[]
  /** Whether its rules read a whole row of something: those stand in no list of columns. */
  readonly readsWholeRows: boolean
  /** Columns of the index its rows were last put in order by (`CLUSTER`); empty when they never were. */
  readonly clusteredBy: readonly string[]
  /** OIDs of relations its row security policies read. */
  readonly policyDependsOn: readonly number[]
  /**
   * OIDs of functions that reading it runs: those of users in view rules and row security policies, and those of
   * PostgreSQL itself in the rules of users' views, as far as they do something.
   */
  readonly readFunctions: readonly number[]
  /**
   * OIDs of functions that writing it runs: defaults, checks, generated columns, index expressions, policies. Of
   * PostgreSQL itself only those that may read or do anything.
   */
  readonly writeFunctions: readonly number[]
}

/** One row of `pg_proc`. */
export interface CatalogFunction {
  readonly oid: number
  readonly schema: string
  readonly name: string
  /** `format_type` of each input argument under `search_path = pg_catalog`. */
  readonly argTypes: readonly string[]
  readonly kind: 'function' | 'procedure' | 'aggregate' | 'window'
  readonly volatility: 'immutable' | 'stable' | 'volatile'
  readonly returnsSet: boolean
  readonly variadic: boolean
  /** How many trailing arguments have defaults. */
  readonly defaults: number
  readonly language: string
  readonly securityDefiner: boolean
  /** Name of the extension that owns it (`pg_depend.deptype = 'e'`), else null. */
  readonly extension: string | null
  /** Whether its single argument is a row type, so that `row.name` calls it. */
  readonly takesRow: boolean
  /** Whether all it does is to put the time into columns of a new row, as a trigger. */
  readonly onlyStamps?: boolean
}

/** An operator or a cast that a user made (`oid >= 16384`). */
export interface UserOperator {
  readonly schema: string
  readonly name: string
  readonly functionOid: number
  readonly extension: string | null
}

/** A cast a user made, by function or by I/O. */
export interface UserCast {
  /** `format_type` of both sides under `search_path = pg_catalog`. */
  readonly source: string
  readonly target: string
  /** 0 when the cast runs no function. */
  readonly functionOid: number
  /** `e` explicit, `a` assignment, `i` implicit. */
  readonly context: string
  readonly extension: string | null
}

/** A type a user made, other than the row types of relations and array types. */
export interface UserType {
  readonly schema: string
  readonly name: string
  readonly kind: string
  /**
   * Functions it runs: input and output of a base type, checks of a domain. Of PostgreSQL itself only those that may read
   * or do anything.
   */
  readonly functionOids: readonly number[]
  readonly extension: string | null
}

/** What the backend role may read, by itself or as any role it is a member of. */
export interface BackendRights {
  readonly role: string
  /** Powers against which no column grant holds, such as `superuser`; empty for a role that grants bind. */
  readonly powers: readonly string[]
  /** Column numbers it may SELECT, by relation OID; `all` for every one, and for whoever owns the relation. */
  readonly readable: ReadonlyMap<number, 'all' | ReadonlySet<number>>
}

/** What the connector reads; {@link makeCatalog} adds the indexes. */
export interface CatalogRows {
  readonly database: string
  /** Changes when anything the planner reads changes (R2: counts and sums over the system catalogs). */
  readonly fingerprint: string
  /** `server_version_num`, such as 150018. */
  readonly serverVersion: number
  /** `current_schemas(true)`: the effective order, implicit `pg_catalog` and `pg_temp_n` included. */
  readonly searchPath: readonly string[]
  readonly relations: readonly Relation[]
  /** All functions, those of `pg_catalog` included. */
  readonly functions: readonly CatalogFunction[]
  readonly operators: readonly UserOperator[]
  readonly casts: readonly UserCast[]
  /** OIDs of functions users made, outside extensions, by which values are sorted, grouped and told apart. */
  readonly comparisons: readonly number[]
  readonly types: readonly UserType[]
  /** OIDs of functions that event triggers run when a statement defines, changes or drops something. */
  readonly eventFunctions?: readonly number[]
  /** Set where {@link searchPath} is not the one of the target: what resolves names by itself, later, is not understood. */
  readonly isPathMoved?: true
  /** What a session has that asks for none. */
  readonly timeZone?: string
  /** Absent where nobody asked, which counts as a role that may read everything. */
  readonly rights?: BackendRights
  /** What the database said of the masks that were tried on it, by their expression: empty, or an SQLSTATE. */
  readonly maskTrials?: ReadonlyMap<string, string>
}

/** The snapshot the planner reads. */
export interface Catalog extends CatalogRows {
  readonly relationsByOid: ReadonlyMap<number, Relation>
  /** Relations by schema, then by name. */
  readonly relationsBySchema: ReadonlyMap<string, ReadonlyMap<string, Relation>>
  /** Every overload in every schema, by name. */
  readonly functionsByName: ReadonlyMap<string, readonly CatalogFunction[]>
  readonly functionsByOid: ReadonlyMap<number, CatalogFunction>
}

/** First OID PostgreSQL gives to what users make (`FirstNormalObjectId` in `access/transam.h`). */
export const FIRST_USER_OID = 16384

/** Indexes what was read. The rows are not copied and must not change afterwards. */
export function makeCatalog(rows: CatalogRows): Catalog {
  const relationsBySchema = new Map<string, Map<string, Relation>>()
  for (const relation of rows.relations) {
    let named = relationsBySchema.get(relation.schema)
    if (named === undefined) relationsBySchema.set(relation.schema, (named = new Map()))
    named.set(relation.name, relation)
  }
  const functionsByName = new Map<string, CatalogFunction[]>()
  for (const fn of rows.functions) {
    const overloads = functionsByName.get(fn.name)
    if (overloads === undefined) functionsByName.set(fn.name, [fn])
    else overloads.push(fn)
  }
  return {
    ...rows,
    relationsBySchema,
    functionsByName,
    relationsByOid: new Map(rows.relations.map((relation) => [relation.oid, relation])),
    functionsByOid: new Map(rows.functions.map((fn) => [fn.oid, fn])),
  }
}

/**
 * Finds a relation as PostgreSQL would: in the named schema, or in the first schema of the search path that has one.
 * Returns undefined when the catalog has none, which the planner treats as not understood.
 */
export function findRelation(catalog: Catalog, schema: string | undefined, name: string): Relation | undefined {
  if (schema !== undefined) return catalog.relationsBySchema.get(schema)?.get(name)
  for (const candidate of catalog.searchPath) {
    const found = catalog.relationsBySchema.get(candidate)?.get(name)
    if (found !== undefined) return found
  }
  return undefined
}
