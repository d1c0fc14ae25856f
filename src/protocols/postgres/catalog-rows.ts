/**
 * Puts together what the catalog queries answered. Pure.
 *
 * @packageDocumentation
 */
import type {
  CatalogColumn,
  CatalogFunction,
  CatalogRows,
  CatalogTrigger,
  ForeignKey,
  ForeignKeyAction,
  Relation,
  RelationKind,
  Tie,
  UserCast,
  UserOperator,
  UserType,
} from './catalog.ts'
import { FIRST_USER_OID } from './catalog.ts'
import { countsWhereStored, hasEffect, makesJson, mayReadAnything } from './functions.ts'
import { isJsonCast, isTrusted } from './indexes.ts'
import { isCountersName, isSensitiveName } from './sensitive-catalogs.ts'

/** The answers, one array per query, as their JSON says. */
export interface CatalogAnswers {
  readonly searchPath: readonly (readonly string[])[]
  readonly types: readonly TypeRow[]
  readonly relations: readonly RelationRow[]
  readonly columns: readonly ColumnRow[]
  readonly generated: readonly { readonly relation: number; readonly attnum: number; readonly source: string }[]
  readonly triggers: readonly TriggerRow[]
  readonly rules: readonly { readonly relation: number }[]
  readonly inherits: readonly { readonly child: number; readonly parent: number }[]
  readonly keys: readonly KeyRow[]
  readonly unique: readonly { readonly relation: number; readonly name: string }[]
  readonly uses: readonly UseRow[]
  readonly ties: readonly (Tie & { readonly relation: number })[]
  readonly ruleReads: readonly { readonly relation: number; readonly uses: number; readonly column: string }[]
  readonly wholeRows: readonly { readonly relation: number }[]
  readonly clustered: readonly { readonly relation: number; readonly column: string }[]
  readonly policyReads: readonly { readonly relation: number; readonly uses: number; readonly column: string }[]
  readonly viewBuiltins: readonly { readonly relation: number; readonly isRelation: boolean; readonly oid: number }[]
  readonly updatable: readonly { readonly relation: number; readonly definition: string }[]
  readonly storedBuiltins: readonly {
    readonly via: 'policy' | 'write'
    readonly relation: number
    readonly function: number
  }[]
  readonly functions: readonly FunctionRow[]
  readonly operators: readonly UserOperator[]
  readonly casts: readonly UserCast[]
  readonly comparisons: readonly { readonly function: number }[]
}

interface TypeRow {
  readonly oid: number
  readonly schema: string
  readonly name: string
  readonly display: string
  readonly kind: string
  readonly base: number
  /** For a domain the type it is over, with its modifier. */
  readonly baseDisplay: string | null
  readonly notNull: boolean
  readonly relation: number
  readonly element: number
  readonly rowKind: string | null
  readonly extension: string | null
  readonly functions: readonly number[]
  /** Functions of PostgreSQL itself in the checks of a domain. */
  readonly builtins: readonly number[]
}

interface RelationRow {
  readonly oid: number
  readonly schema: string
  readonly name: string
  readonly kind: string
  readonly hasRls: boolean
  readonly comment: string | null
}

interface ColumnRow {
  readonly relation: number
  readonly name: string
  readonly attnum: number
  readonly type: string
  readonly typeOid: number
  readonly typmod: number
  readonly collation: CatalogColumn['collation']
  readonly notNull: boolean
  readonly generated: boolean
  readonly hasDefault: boolean
}

interface TriggerRow {
  readonly relation: number
  readonly name: string
  readonly functionOid: number
  readonly bits: number
  readonly isConditional: boolean
}

interface KeyRow {
  readonly relation: number
  readonly kind: 'p' | 'f'
  readonly columns: readonly number[]
  readonly references: number
  readonly referencedColumns: readonly number[] | null
  readonly onDelete: string
  readonly onUpdate: string
}

interface UseRow {
  readonly via: 'rule' | 'policy' | 'write'
  readonly relation: number
  readonly uses: number | null
  readonly function: number | null
}

interface FunctionRow {
  readonly oid: number
  readonly schema: string
  readonly name: string
  readonly arguments: readonly number[]
  readonly kind: string
  readonly volatility: string
  readonly returnsSet: boolean
  readonly variadic: boolean
  readonly defaults: number
  readonly language: string
  readonly securityDefiner: boolean
  readonly extension: string | null
}

const RELATION_KINDS: Readonly<Record<string, RelationKind>> = {
  r: 'table',
  p: 'partitioned_table',
  v: 'view',
  m: 'materialized_view',
  f: 'foreign_table',
  S: 'sequence',
  c: 'composite_type',
}
const FUNCTION_KINDS: Readonly<Record<string, CatalogFunction['kind']>> = {
  f: 'function',
  p: 'procedure',
  a: 'aggregate',
  w: 'window',
}
const VOLATILITIES: Readonly<Record<string, CatalogFunction['volatility']>> = {
  i: 'immutable',
  s: 'stable',
  v: 'volatile',
}
const ACTIONS: Readonly<Record<string, ForeignKeyAction>> = {
  a: 'no_action',
  r: 'restrict',
  c: 'cascade',
  n: 'set_null',
  d: 'set_default',
}
/** Bits of `pg_trigger.tgtype` (`catalog/pg_trigger.h`). */
const TRIGGER_BITS = { insert: 4, delete: 8, update: 16, truncate: 32 } as const
/** Pseudo-types a row can be passed as, by name: `row.name` calls functions of these as well. */
const ROW_TAKERS = new Set(['record', 'anyelement', 'anycompatible', 'anynonarray', 'anycompatiblenonarray', '"any"'])

/**
 * What was made of the rows PostgreSQL itself brings: its thousands of columns and functions have types of its own only,
 * so that they are the same in every snapshot those rows are part of.
 */
const BUILTIN_COLUMNS = new WeakMap<ColumnRow, CatalogColumn>()
const BUILTIN_FUNCTIONS = new WeakMap<FunctionRow, CatalogFunction>()

/** What stands in no query: facts about the server. */
export type CatalogHead = Pick<CatalogRows, 'database' | 'serverVersion' | 'fingerprint'>

/** Joins the answers. What no plan depends on comes beside: comments of relations, and names of types by OID. */
export function catalogRows(
  answers: CatalogAnswers,
  head: CatalogHead,
): {
  readonly rows: CatalogRows
  readonly comments: ReadonlyMap<number, string>
  readonly typeNames: ReadonlyMap<number, string>
} {
  const types = new Map(answers.types.map((type) => [type.oid, type]))
  const comments = new Map<number, string>()
  const counted = countedBuiltins(answers)
  for (const { oid, comment } of answers.relations) if (comment !== null) comments.set(oid, comment)
  return {
    comments,
    typeNames: new Map(answers.types.map(({ oid, display }) => [oid, display])),
    rows: {
      ...head,
      searchPath: answers.searchPath[0] ?? [],
      relations: relations(answers, types, counted),
      functions: answers.functions.map((row) =>
        row.oid < FIRST_USER_OID
          ? once(BUILTIN_FUNCTIONS, row, (own) => functionOf(own, types))
          : functionOf(row, types),
      ),
      operators: answers.operators,
      casts: answers.casts,
      comparisons: answers.comparisons.map((row) => row.function),
      types: answers.types.filter(isMadeByUser).map((type) => userType(type, types, counted)),
    },
  }
}

function relations(answers: CatalogAnswers, types: ReadonlyMap<number, TypeRow>, counted: Counted): Relation[] {
  const by = groups(answers)
  const columns = columnsOf(answers, types, counted)
  const opaque = opaqueViews(answers)
  const ownCalls = builtinCalls(answers)
  const stored = groupBy(answers.storedBuiltins, ({ relation, via }) => `${relation} ${via}`)
  const builtinsOf = (oid: number, via: 'policy' | 'write'): readonly number[] =>
    (stored.get(`${oid} ${via}`) ?? []).flatMap((row) => counted(row.function))
  const updatable = new Map(answers.updatable.map(({ relation, definition }) => [relation, definition]))
  const wholeRows = new Set(answers.wholeRows.map(({ relation }) => relation))
  const hasRules = new Set(answers.rules.map(({ relation }) => relation))
  return answers.relations.map((row): Relation => {
    const own = columns.get(row.oid) ?? []
    const named = (attnums: readonly number[], of: readonly CatalogColumn[] = own): string[] =>
      attnums.map((attnum) => of.find((column) => column.attnum === attnum)?.name ?? '')
    const keys = by.keys.get(row.oid) ?? []
    const uses = by.uses.get(row.oid) ?? []
    return {
      oid: row.oid,
      schema: row.schema,
      name: row.name,
      kind: RELATION_KINDS[row.kind] ?? 'table',
      builtin: row.oid < FIRST_USER_OID,
      columns: own,
      hasRules: hasRules.has(row.oid),
      triggers: (by.triggers.get(row.oid) ?? []).map(triggerOf),
      hasRls: row.hasRls,
      parents: (by.parents.get(row.oid) ?? []).map(({ parent }) => parent),
      children: (by.children.get(row.oid) ?? []).map(({ child }) => child),
      primaryKey: named(keys.find(({ kind }) => kind === 'p')?.columns ?? []),
      foreignKeys: keys
        .filter(({ kind }) => kind === 'f')
        .map((key): ForeignKey => ({
          columns: named(key.columns),
          references: key.references,
          referencedColumns: named(key.referencedColumns ?? [], columns.get(key.references) ?? []),
          onDelete: ACTIONS[key.onDelete] ?? 'cascade',
          onUpdate: ACTIONS[key.onUpdate] ?? 'cascade',
        })),
      uniqueColumns: (by.unique.get(row.oid) ?? []).map(({ name }) => name),
      ties: (by.ties.get(row.oid) ?? []).map(({ kind, columns, evaluates, countsNull }) => ({
        kind,
        columns,
        evaluates,
        countsNull,
      })),
      policyReads: (by.policyReads.get(row.oid) ?? []).map(({ uses: relation, column }) => ({ relation, column })),
      readsOpaquely: opaque.has(row.oid),
      dependsOn: used(uses, ['rule'], 'uses'),
      ...definitionOf(updatable.get(row.oid)),
      ruleReads: (by.ruleReads.get(row.oid) ?? []).map(({ uses: relation, column }) => ({ relation, column })),
      readsWholeRows: wholeRows.has(row.oid),
      clusteredBy: (by.clustered.get(row.oid) ?? []).map(({ column }) => column),
      policyDependsOn: used(uses, ['policy'], 'uses'),
      readFunctions: [
        ...used(uses, ['rule', 'policy'], 'function'),
        ...(ownCalls.get(row.oid) ?? []),
        ...builtinsOf(row.oid, 'policy'),
      ],
      writeFunctions: [
        ...used(uses, ['write', 'policy'], 'function'),
        ...builtinsOf(row.oid, 'write'),
        ...builtinsOf(row.oid, 'policy'),
      ],
    }
  })
}

function definitionOf(definition: string | undefined): Pick<Relation, 'updatableAs'> {
  return definition === undefined ? {} : { updatableAs: definition }
}

function groups(answers: CatalogAnswers) {
  return {
    keys: groupBy(answers.keys, ({ relation }) => relation),
    uses: groupBy(answers.uses, ({ relation }) => relation),
    triggers: groupBy(answers.triggers, ({ relation }) => relation),
    unique: groupBy(answers.unique, ({ relation }) => relation),
    ties: groupBy(answers.ties, ({ relation }) => relation),
    ruleReads: groupBy(answers.ruleReads, ({ relation }) => relation),
    clustered: groupBy(answers.clustered, ({ relation }) => relation),
    policyReads: groupBy(answers.policyReads, ({ relation }) => relation),
    parents: groupBy(answers.inherits, ({ child }) => child),
    children: groupBy(answers.inherits, ({ parent }) => parent),
  }
}

/** Users' views that reach data through something of PostgreSQL itself that says nothing of what it reads. */
function opaqueViews(answers: CatalogAnswers): ReadonlySet<number> {
  const hasJsonCasts = answers.casts.some(isJsonCast)
  const stored = new Set(answers.viewBuiltins.map(({ oid }) => oid))
  const functions = new Set(
    answers.functions
      .filter(({ oid, name, volatility }) => {
        if (!stored.has(oid)) return false
        const fn = { oid, name, volatility: VOLATILITIES[volatility] ?? 'volatile' }
        return mayReadAnything(fn) || (hasJsonCasts && oid < FIRST_USER_OID && makesJson(name))
      })
      .map(({ oid }) => oid),
  )
  const relations = new Set(
    answers.relations
      .filter(({ oid, name }) => oid < FIRST_USER_OID && (isSensitiveName(name) || isCountersName(name)))
      .map(({ oid }) => oid),
  )
  const found = new Set<number>()
  for (const { relation, isRelation, oid } of answers.viewBuiltins) {
    if ((isRelation ? relations : functions).has(oid)) found.add(relation)
  }
  return found
}

/** Functions of PostgreSQL itself that do something when a user's view is read, by view. */
function builtinCalls(answers: CatalogAnswers): ReadonlyMap<number, readonly number[]> {
  const stored = new Set(answers.viewBuiltins.map(({ oid }) => oid))
  const functions = new Set(
    answers.functions
      .filter(
        ({ oid, name, volatility }) =>
          stored.has(oid) && hasEffect({ oid, name, volatility: VOLATILITIES[volatility] ?? 'volatile' }),
      )
      .map(({ oid }) => oid),
  )
  const called = answers.viewBuiltins.filter(({ isRelation, oid }) => !isRelation && functions.has(oid))
  return new Map(
    [...groupBy(called, ({ relation }) => relation)].map(([relation, rows]) => [relation, rows.map(({ oid }) => oid)]),
  )
}

/** By OID, what a function of PostgreSQL itself comes to where it is stored. */
type Counted = (oid: number) => readonly number[]

/**
 * What a function of PostgreSQL itself comes to where it is stored with a table or a domain: itself where it counts, and
 * the casts of users it looks for.
 */
function countedBuiltins(answers: CatalogAnswers): Counted {
  const jsonCasts = answers.casts.filter(isJsonCast).map(({ functionOid }) => functionOid)
  const known = new Map(
    answers.functions
      .filter(({ oid }) => oid < FIRST_USER_OID)
      .map(({ oid, name, volatility }) => {
        const fn = { oid, name, volatility: VOLATILITIES[volatility] ?? 'volatile' }
        return [oid, [...(countsWhereStored(fn) ? [oid] : []), ...(makesJson(name) ? jsonCasts : [])]]
      }),
  )
  return (oid) => known.get(oid) ?? []
}

function used(rows: readonly UseRow[], via: readonly UseRow['via'][], what: 'uses' | 'function'): number[] {
  const found = new Set<number>()
  for (const row of rows) {
    const oid = row[what]
    // A function of PostgreSQL itself is judged by its volatility where it is called, not here.
    if (via.includes(row.via) && oid !== null && (what === 'uses' || oid >= FIRST_USER_OID)) found.add(oid)
  }
  return [...found]
}

function columnsOf(
  answers: CatalogAnswers,
  types: ReadonlyMap<number, TypeRow>,
  counted: Counted,
): Map<number, CatalogColumn[]> {
  const sources = groupBy(answers.generated, ({ relation, attnum }) => `${relation}.${attnum}`)
  const columns = new Map<number, CatalogColumn[]>()
  const functionsIn = typeFunctions(answers, types, counted)
  const made = ({ relation, ...row }: ColumnRow): CatalogColumn => {
    const layers = domainLayers(row.typeOid, types)
    return {
      ...row,
      typeKind: types.get(row.typeOid)?.kind ?? 'p',
      baseType: layers.findLast(({ kind }) => kind === 'd')?.baseDisplay ?? layers.at(-1)?.display ?? row.type,
      rowTypeOf: rowTypeOf(row.typeOid, types),
      typeFunctions: functionsIn(row.typeOid),
      notNull: row.notNull || layers.some((layer) => layer.kind === 'd' && layer.notNull),
      generatedFrom: (sources.get(`${relation}.${row.attnum}`) ?? []).map(({ source }) => source),
    }
  }
  for (const row of answers.columns) {
    const { relation } = row
    const column = relation < FIRST_USER_OID ? once(BUILTIN_COLUMNS, row, made) : made(row)
    const list = columns.get(relation)
    if (list === undefined) columns.set(relation, [column])
    else list.push(column)
  }
  return columns
}

/** Tells the functions that making a value of a type runs: its own, and those of all it holds. */
function typeFunctions(
  answers: CatalogAnswers,
  types: ReadonlyMap<number, TypeRow>,
  counted: Counted,
): (oid: number) => readonly number[] {
  const rows = groupBy(
    answers.columns.filter(({ relation }) => relation >= FIRST_USER_OID),
    ({ relation }) => relation,
  )
  const own = (type: TypeRow): readonly number[] => (isTrusted(type.extension) ? [] : codeOf(type, counted))
  const all = [...new Set(answers.types.flatMap(own))]
  const known = new Map<number, readonly number[]>()

  function collect(oid: number, into: Set<number>, seen: Set<number>): void {
    // Types of PostgreSQL itself hold none of users.
    if (oid < FIRST_USER_OID || seen.has(oid)) return
    seen.add(oid)
    const type = types.get(oid)
    // What a range is over is not known here, nor is a type that nobody read.
    for (const fn of type === undefined || type.kind === 'r' || type.kind === 'm' ? all : own(type)) into.add(fn)
    if (type === undefined) return
    collect(type.base, into, seen)
    collect(type.element, into, seen)
    for (const column of rows.get(type.relation) ?? []) collect(column.typeOid, into, seen)
  }

  return (oid) => {
    if (oid < FIRST_USER_OID || all.length === 0) return []
    let found = known.get(oid)
    if (found === undefined) {
      const into = new Set<number>()
      collect(oid, into, new Set())
      known.set(oid, (found = [...into]))
    }
    return found
  }
}

/** The type itself and, for a domain, the types under it, down to the one that is no domain. */
function domainLayers(oid: number, types: ReadonlyMap<number, TypeRow>): TypeRow[] {
  const layers: TypeRow[] = []
  for (let type = types.get(oid); type !== undefined; type = types.get(type.base)) {
    layers.push(type)
    if (type.kind !== 'd') break
  }
  return layers
}

/** The relation whose rows a type holds, through arrays and domains. */
function rowTypeOf(oid: number, types: ReadonlyMap<number, TypeRow>): number {
  const base = domainLayers(oid, types).at(-1)
  if (base === undefined) return 0
  if (base.element !== 0) return rowTypeOf(base.element, types)
  return base.relation
}

function triggerOf({ name, functionOid, bits, isConditional }: TriggerRow): CatalogTrigger {
  return {
    name,
    functionOid,
    insert: (bits & TRIGGER_BITS.insert) !== 0,
    update: (bits & TRIGGER_BITS.update) !== 0,
    delete: (bits & TRIGGER_BITS.delete) !== 0,
    truncate: (bits & TRIGGER_BITS.truncate) !== 0,
    isConditional,
  }
}

function functionOf({ arguments: args, ...row }: FunctionRow, types: ReadonlyMap<number, TypeRow>): CatalogFunction {
  const required = args.length - row.defaults
  const [first] = args
  const firstType = first === undefined ? undefined : domainLayers(first, types).at(-1)
  return {
    ...row,
    argTypes: args.map((oid) => types.get(oid)?.display ?? `pg_catalog."${oid}"`),
    kind: FUNCTION_KINDS[row.kind] ?? 'procedure',
    volatility: VOLATILITIES[row.volatility] ?? 'volatile',
    takesRow: firstType !== undefined && required <= 1 && (firstType.kind === 'c' || ROW_TAKERS.has(firstType.display)),
  }
}

function isMadeByUser(type: TypeRow): boolean {
  if (type.oid < FIRST_USER_OID || type.element !== 0) return false
  return type.kind !== 'c' || type.rowKind === 'c'
}

/** Functions a type runs that count: those of users, and of PostgreSQL itself what may read or do anything. */
function codeOf({ functions, builtins }: TypeRow, counted: (oid: number) => readonly number[]): readonly number[] {
  return [...functions.filter((oid) => oid >= FIRST_USER_OID), ...builtins.flatMap(counted)]
}

function userType(
  type: TypeRow,
  types: ReadonlyMap<number, TypeRow>,
  counted: (oid: number) => readonly number[],
): UserType {
  const { schema, name, kind, extension } = type
  // A domain over a domain is checked by both.
  const functionOids = domainLayers(type.oid, types).flatMap((layer) => codeOf(layer, counted))
  return { schema, name, kind, functionOids: [...new Set(functionOids)], extension }
}

function once<K extends object, V>(known: WeakMap<K, V>, key: K, make: (key: K) => V): V {
  let value = known.get(key)
  if (value === undefined) known.set(key, (value = make(key)))
  return value
}

function groupBy<T, K>(rows: readonly T[], key: (row: T) => K): Map<K, T[]> {
  const groups = new Map<K, T[]>()
  for (const row of rows) {
    const at = key(row)
    const group = groups.get(at)
    if (group === undefined) groups.set(at, [row])
    else group.push(row)
  }
  return groups
}
