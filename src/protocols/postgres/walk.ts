/**
 * Walks one statement and writes down what it touches: relations with the columns read and written, functions, user
 * operators and casts, locks, and everything that was not understood.
 *
 * It decides nothing. Unknown node types and fields are found first, over the whole tree (`ast.ts`); what is walked here
 * has a known shape, and whatever this file has no special word for is descended into, so nothing is skipped.
 *
 * @packageDocumentation
 */
import { asList, eachChild, text, unknownShapes, unwrap, words, type Ast } from './ast.ts'
import type { Catalog, CatalogFunction, Relation } from './catalog.ts'
import { findRelation } from './catalog.ts'
import { functionsOf, isBuiltin, judgeFunction, makesJson, makesRows } from './functions.ts'
import { groupings, type Grouping } from './group-by.ts'
import { indexOf, TRUSTED_OPERATOR_EXTENSIONS } from './indexes.ts'
import { spoken } from './names.ts'
import { outputName } from './output-name.ts'
import {
  derivedItem,
  findCte,
  hasColumn,
  isOpen,
  itemsNamed,
  itemsOfRelation,
  outputOf,
  readAll,
  readColumn,
  readUnqualified,
  relationItem,
  step,
  type Cte,
  type CteScope,
  type Item,
  type Level,
  type Output,
  type Reading,
  type Role,
  type Use,
} from './scope.ts'
import { isReadableSetting } from './settings.ts'
import { hasEffectiveWhere } from './where.ts'

/** A function a statement runs and that needs a rule of its own. */
export interface FunctionUse {
  readonly fn: CatalogFunction
  /** Empty when the statement calls it; otherwise what does: `operator`, `cast`, `type`, `trigger`, `view` … */
  readonly via: string
  /** Whether a database with masks must refuse it. */
  readonly refusedUnderMasks: boolean
}

/** A `schema.relation.column` reference, which a rewritten relation no longer answers to. */
export interface QualifiedRef {
  readonly ref: Ast
  readonly use: Use
  readonly name: string
  readonly level: Level | undefined
}

/** Everything one statement does, as far as its text and the catalog say. */
export interface Findings {
  readonly uses: readonly Use[]
  readonly functions: readonly FunctionUse[]
  readonly qualifiedRefs: readonly QualifiedRef[]
  readonly groupings: readonly Grouping[]
  /** One sentence each; not empty means not understood. */
  readonly unknowns: readonly string[]
  /** Highest `$n`. */
  readonly paramsMax: number
  /** EXPLAIN around it, with what it says of ANALYZE. */
  readonly explain?: { readonly analyze: boolean }
  readonly mayWrite: boolean
  readonly output: Output
  /** For each result column the column it shows unchanged, where that is certain; absent when positions are not. */
  readonly origins?: readonly (Origin | undefined)[]
}

/** A column of one mention of a relation. */
export interface Origin {
  readonly use: Use
  readonly column: string
}

interface Context extends Reading {
  readonly level: Level | undefined
  readonly ctes: CteScope | undefined
}

const TOP: Context = { level: undefined, ctes: undefined, isPredicate: false, isReturning: false }

const CLOSED: Output = { names: [], isOpen: false }
const OPEN: Output = { names: [], isOpen: true }

/** Walks a SELECT, INSERT, UPDATE, DELETE, MERGE or EXPLAIN of one. Anything else is not understood. */
export function walk(catalog: Catalog, type: string, fields: Ast): Findings {
  return new Walk(catalog).run(type, fields)
}

class Walk {
  readonly #catalog: Catalog
  readonly #uses: Use[] = []
  readonly #functions = new Map<string, FunctionUse>()
  readonly #qualifiedRefs: QualifiedRef[] = []
  readonly #groupings: Grouping[] = []
  readonly #unknowns = new Set<string>()
  #paramsMax = 0
  #mayWrite = false
  #explain: { readonly analyze: boolean } | undefined
  #origins: readonly (Origin | undefined)[] | undefined
  readonly #known = new Set<Ast>()

  constructor(catalog: Catalog) {
    this.#catalog = catalog
  }

  run(type: string, fields: Ast): Findings {
    for (const shape of unknownShapes(type, fields)) this.#unknown(`${shape} is not understood`)
    // Implicit and assignment casts need no syntax: while a user made one, any statement may run it.
    for (const fn of indexOf(this.#catalog).implicitCasts) this.#call(fn, 'cast')
    // So do comparisons: which types are sorted or grouped is only known to the backend.
    for (const fn of indexOf(this.#catalog).comparisons) this.#call(fn, 'operator')
    const output = type === 'ExplainStmt' ? this.#explainStatement(fields) : this.#statement(type, fields, TOP)
    // INVARIANT: every relation in the tree was met. One that was not would be sent as it is, unmasked.
    for (const ref of relationRefs(fields)) if (!this.#known.has(ref)) this.#unknown('a relation was not met')
    return {
      uses: this.#uses,
      functions: [...this.#functions.values()],
      qualifiedRefs: this.#qualifiedRefs,
      groupings: this.#groupings,
      unknowns: [...this.#unknowns],
      paramsMax: this.#paramsMax,
      ...(this.#explain !== undefined && { explain: this.#explain }),
      mayWrite: this.#mayWrite,
      output,
      ...(this.#origins !== undefined && { origins: this.#origins }),
    }
  }

  // Statements

  #statement(type: string, fields: Ast, context: Context, recursive?: Cte): Output {
    switch (type) {
      case 'SelectStmt':
        return this.#select(fields, context, recursive)
      case 'InsertStmt':
        return this.#insert(fields, context)
      case 'UpdateStmt':
        return this.#update(fields, context)
      case 'DeleteStmt':
        return this.#delete(fields, context)
      case 'MergeStmt':
        return this.#merge(fields, context)
      default:
        this.#unknown(`${type} is not understood`)
        return OPEN
    }
  }

  #explainStatement(fields: Ast): Output {
    let analyze = false
    for (const option of asList(fields['options'])) {
      const one = unwrap(option)
      const name = text(one?.fields['defname'])
      // Any mention counts, also `analyze off`: the last of several wins, and spellings are many.
      if (name === 'analyze') analyze = true
      else if (!EXPLAIN_OPTIONS.has(name)) this.#unknown(`an option of EXPLAIN, ${spoken(name)}, is not understood`)
    }
    this.#explain = { analyze }
    const query = unwrap(fields['query'])
    if (query === undefined) this.#unknown('EXPLAIN without a statement')
    else this.#statement(query.type, query.fields, { ...TOP })
    return OPEN
  }

  #select(fields: Ast, context: Context, recursive?: Cte): Output {
    const ctes = this.#with(fields['withClause'], context)
    const outer: Context = { ...context, ctes }
    if (text(fields['op']) !== '' && fields['op'] !== 'SETOP_NONE') return this.#setOperation(fields, outer, recursive)
    if (fields['valuesLists'] !== undefined) {
      this.#nodes(fields['valuesLists'], outer)
      this.#tail(fields, outer, CLOSED)
      return OPEN
    }
    const before = this.#uses.length
    const direct: Use[] = []
    const items = this.#from(fields['fromClause'], outer, direct)
    const inner: Context = { ...outer, level: { items, parent: outer.level } }
    const hasWhere = hasEffectiveWhere(fields['whereClause'])
    for (const use of direct) use.hasWhere = hasWhere
    this.#nodes(fields['targetList'], inner)
    const predicate: Context = { ...inner, isPredicate: true }
    this.#node(fields['whereClause'], predicate)
    this.#node(fields['havingClause'], predicate)
    this.#nodes(fields['windowClause'], inner)
    const output = this.#outputs(fields['targetList'], items)
    this.#named(fields['distinctClause'], inner, output)
    this.#named(fields['groupClause'], inner, output)
    this.#groupings.push(...groupings(fields, items))
    this.#tail(fields, inner, output)
    for (const clause of asList(fields['lockingClause'])) this.#lock(clause, items, this.#uses.slice(before))
    if (context === TOP) this.#origins = originsOf(fields, items)
    return output
  }

  #setOperation(fields: Ast, context: Context, recursive: Cte | undefined): Output {
    const left = this.#select(asFields(fields['larg']), context, recursive)
    // The recursive arm reads the query itself, which yields what its first arm yields.
    if (recursive !== undefined) recursive.output ??= left
    this.#select(asFields(fields['rarg']), context)
    const item = derivedItem(undefined, left, [])
    this.#tail(fields, { ...context, level: { items: [item], parent: context.level } }, left)
    if (asList(fields['lockingClause']).length > 0) this.#unknown('locking a set operation')
    return left
  }

  /** ORDER BY, LIMIT and OFFSET. */
  #tail(fields: Ast, context: Context, output: Output): void {
    this.#named(fields['sortClause'], context, output)
    this.#node(fields['limitCount'], context)
    this.#node(fields['limitOffset'], context)
  }

  /** Clauses whose bare names may also mean an output column: those are no unknown columns. */
  #named(list: unknown, context: Context, output: Output): void {
    for (const entry of asList(list)) {
      const sort = unwrap(entry)
      const inner = sort?.type === 'SortBy' ? sort.fields['node'] : entry
      if (sort?.type === 'SortBy') this.#operator(sort.fields['useOp'])
      const ref = unwrap(inner)
      const name = ref?.type === 'ColumnRef' ? words(ref.fields['fields']) : undefined
      const [word = ''] = name ?? []
      step(output.names.length)
      if (name?.length === 1 && (output.isOpen || output.names.includes(word))) {
        // An input column of that name is read as well, in case it is the one meant.
        const found = readUnqualified(context.level, word, context)
        // Without an output column that is certain to have the name, it may also be a whole row.
        if (found !== 'found' && !output.names.includes(word))
          for (const item of itemsNamed(context.level, word)) readAll(item, context)
        continue
      }
      this.#node(inner, context)
    }
  }

  #with(clause: unknown, context: Context): CteScope | undefined {
    if (typeof clause !== 'object' || clause === null) return context.ctes
    const list = asList((clause as Ast)['ctes']).map((cte) => asFields(unwrap(cte)?.fields))
    const ctes = list.map((fields): Cte => ({ name: text(fields['ctename']), output: undefined }))
    const isRecursive = (clause as Ast)['recursive'] === true
    let scope = context.ctes
    // RECURSIVE: every query sees all of them, itself included. Otherwise each sees those before it only.
    if (isRecursive) for (const cte of ctes) scope = { cte, parent: scope }
    for (const [i, cte] of ctes.entries()) {
      const fields = list[i] ?? {}
      const query = unwrap(fields['ctequery'])
      const own: Context = { ...context, ctes: scope, isReturning: false }
      const renamed = words(fields['aliascolnames']) ?? []
      const isOpenEnded = fields['search_clause'] !== undefined || fields['cycle_clause'] !== undefined
      // The values of a CYCLE mark are written like constants, yet may name a type.
      eachChild('CommonTableExpr', { cycle_clause: fields['cycle_clause'] }, (type, child) =>
        this.#expression(type, child, own),
      )
      const yields =
        query === undefined ? OPEN : this.#statement(query.type, query.fields, own, isRecursive ? cte : undefined)
      cte.output =
        renamed.length > 0 || isOpenEnded
          ? { names: renamed.length > 0 ? renamed : yields.names, isOpen: true }
          : yields
      if (!isRecursive) scope = { cte, parent: scope }
    }
    return scope
  }

  // FROM

  #from(list: unknown, context: Context, direct: Use[]): readonly Item[] {
    const items: Item[] = []
    for (const entry of asList(list)) items.push(...this.#fromItem(entry, context, items, direct))
    return items
  }

  /** `left` is what LATERAL may speak of: everything to the left, and nothing else at this level. */
  #fromItem(entry: unknown, context: Context, left: readonly Item[], direct: Use[]): readonly Item[] {
    const one = unwrap(entry)
    if (one === undefined) return []
    const { type, fields } = one
    const lateral: Context = { ...context, level: { items: left, parent: context.level } }
    switch (type) {
      case 'RangeVar':
        return [this.#rangeVar(fields, context, direct)]
      case 'RangeTableSample':
        return this.#tableSample(fields, lateral, context, left, direct)
      case 'RangeSubselect': {
        const query = unwrap(fields['subquery'])
        const own = fields['lateral'] === true ? lateral : context
        const output = query === undefined ? OPEN : this.#statement(query.type, query.fields, own)
        return [derivedItem(aliasOf(fields).name, output, aliasOf(fields).columns)]
      }
      case 'JoinExpr':
        return this.#join(fields, context, left, direct)
      case 'RangeFunction':
      case 'RangeTableFunc':
      case 'JsonTable': {
        eachChild(type, fields, (childType, child) => this.#expression(childType, child, lateral))
        const alias = aliasOf(fields)
        return [derivedItem(alias.name ?? functionAlias(fields), undefined, alias.columns)]
      }
      default:
        this.#unknown(`${type} in FROM is not understood`)
        return [derivedItem(undefined, undefined, [])]
    }
  }

  #rangeVar(fields: Ast, context: Context, direct: Use[]): Item {
    const alias = aliasOf(fields)
    const relname = text(fields['relname'])
    this.#known.add(fields)
    const isBare = fields['schemaname'] === undefined && fields['catalogname'] === undefined
    const cte = isBare ? findCte(context.ctes, relname) : undefined
    if (cte !== undefined) return derivedItem(alias.name ?? relname, cte.output, alias.columns)
    const relation = this.#relation(fields)
    if (relation === undefined) return derivedItem(alias.name ?? relname, undefined, alias.columns)
    if (relation.kind === 'composite_type') this.#unknown(`${spoken(relname)} is a type`)
    const use = this.#use(relation, 'read', fields)
    direct.push(use)
    return relationItem(use, alias.name ?? relname, alias.name !== undefined, alias.columns)
  }

  #tableSample(fields: Ast, lateral: Context, context: Context, left: readonly Item[], direct: Use[]): readonly Item[] {
    const method = words(fields['method']) ?? []
    const name = method.at(-1) ?? ''
    const isKnown = (name === 'system' || name === 'bernoulli') && (method.length === 1 || method[0] === 'pg_catalog')
    if (!isKnown || this.#hasUserFunction(name)) this.#unknown('TABLESAMPLE with a method of its own')
    this.#nodes(fields['args'], lateral)
    this.#node(fields['repeatable'], lateral)
    const before = direct.length
    const items = this.#fromItem(fields['relation'], context, left, direct)
    for (const use of direct.slice(before)) use.sampled = true
    return items
  }

  #join(fields: Ast, context: Context, left: readonly Item[], direct: Use[]): readonly Item[] {
    const larg = this.#fromItem(fields['larg'], context, left, direct)
    const rarg = this.#fromItem(fields['rarg'], context, [...left, ...larg], direct)
    const both = [...larg, ...rarg]
    step(left.length + both.length)
    const predicate: Reading = { isPredicate: true, isReturning: false }
    const using = words(fields['usingClause']) ?? []
    if (using.length > 0 || fields['isNatural'] === true) this.#operatorNamed(undefined, '=')
    for (const name of using) for (const item of both) if (hasColumn(item, name)) readColumn(item, name, predicate)
    if (fields['isNatural'] === true) this.#natural(larg, rarg, predicate)
    // The ON condition speaks of the two sides only; a neighbour in FROM is not visible in it.
    const on: Context = { ...context, level: { items: both, parent: context.level }, isPredicate: true }
    this.#node(fields['quals'], on)
    const alias = aliasOf(fields)
    if (alias.name !== undefined) {
      return [
        {
          name: alias.name,
          columns: new Map(alias.columns.map((column) => [column, ''])),
          isOpen: alias.columns.length > 0,
          parts: both,
          isOpaque: alias.columns.length > 0,
        },
      ]
    }
    const usingAlias = asFields(fields['join_using_alias'])
    if (usingAlias['aliasname'] === undefined) return both
    // It has the merged columns and no others, and those were marked as read above.
    return [...both, derivedItem(text(usingAlias['aliasname']), { names: using, isOpen: false }, [])]
  }

  #natural(left: readonly Item[], right: readonly Item[], reading: Reading): void {
    const a = outputOf(left)
    const b = outputOf(right)
    const [named, others] = [new Set(a.names), new Set(b.names)]
    for (const item of left)
      for (const name of named)
        if ((b.isOpen || others.has(name)) && hasColumn(item, name)) readColumn(item, name, reading)
    for (const item of right)
      for (const name of others)
        if ((a.isOpen || named.has(name)) && hasColumn(item, name)) readColumn(item, name, reading)
    for (const item of [...left, ...right]) if (item.isOpaque === true) readAll(item, reading)
  }

  #lock(clause: unknown, items: readonly Item[], within: readonly Use[]): void {
    const named = asList(unwrap(clause)?.fields['lockedRels']).map((rel) => {
      // These are names of FROM items, never of relations.
      this.#known.add(asFields(unwrap(rel)?.fields))
      return text(asFields(unwrap(rel)?.fields)['relname'])
    })
    const meant =
      named.length === 0 ? [undefined] : items.filter((item) => item.name !== undefined && named.includes(item.name))
    this.#mayWrite = true
    // A lock on a sub-select reaches every table in it; without a plain relation to point at, all of them count.
    const isPlain = named.length > 0 && meant.length === named.length && meant.every((item) => item?.use !== undefined)
    for (const use of isPlain ? meant.flatMap((item) => item?.use ?? []) : within)
      if (use.role === 'read') use.locked = true
  }

  // Writes

  #target(fields: Ast, role: Role): { readonly use: Use; readonly item: Item } | undefined {
    const ref = asFields(fields['relation'])
    this.#known.add(ref)
    // A WITH query never captures the target of a write, so it is looked up in the catalog at once.
    const relation = this.#relation(ref)
    if (relation === undefined) return undefined
    if (relation.kind !== 'table' && relation.kind !== 'partitioned_table' && relation.kind !== 'foreign_table') {
      this.#unknown(`writing through ${relation.name}, which is no table`)
    }
    if (relation.hasRules) this.#unknown(`writing ${relation.name}, which has rewrite rules`)
    const use = this.#use(relation, role, ref)
    const alias = aliasOf(ref)
    this.#mayWrite = true
    return { use, item: relationItem(use, alias.name ?? relation.name, alias.name !== undefined, []) }
  }

  #insert(fields: Ast, context: Context): Output {
    const ctes = this.#with(fields['withClause'], context)
    const own: Context = { ...context, ctes }
    const target = this.#target(fields, 'insert')
    const source = unwrap(fields['selectStmt'])
    if (source !== undefined) this.#statement(source.type, source.fields, own)
    if (target === undefined) {
      this.#descend(fields, own, ['onConflictClause', 'returningClause'])
      return OPEN
    }
    target.use.writes.add('insert')
    const cols = asList(fields['cols'])
    for (const col of cols) this.#assigned(target.use, target.use.inserted, unwrap(col)?.fields)
    for (const col of cols) this.#nodes(unwrap(col)?.fields['indirection'], own)
    // Without a column list the values go to the columns in order; how many there are is not worth knowing.
    if (cols.length === 0 && source !== undefined) {
      for (const column of target.use.relation.columns) if (!column.generated) target.use.inserted.add(column.name)
    }
    const level: Level = { items: [target.item], parent: own.level }
    this.#onConflict(fields['onConflictClause'], target, { ...own, level })
    return this.#returning(fields['returningClause'], target, { ...own, level })
  }

  #onConflict(clause: unknown, target: { readonly use: Use; readonly item: Item }, context: Context): void {
    if (typeof clause !== 'object' || clause === null) return
    const fields = clause as Ast
    const infer = asFields(fields['infer'])
    const predicate: Context = { ...context, isPredicate: true }
    for (const element of asList(infer['indexElems'])) {
      const index = asFields(unwrap(element)?.fields)
      const name = text(index['name'])
      if (name !== '' && hasColumn(target.item, name)) readColumn(target.item, name, predicate)
      else if (name !== '') this.#unknown(`column ${spoken(name)} was not found`)
      this.#node(index['expr'], predicate)
    }
    this.#node(infer['whereClause'], predicate)
    if (fields['action'] !== 'ONCONFLICT_UPDATE') return
    target.use.writes.add('update')
    target.use.hasWhere = hasEffectiveWhere(fields['whereClause'])
    // `excluded` is the row that was proposed: what it holds came with the statement.
    const excluded = derivedItem('excluded', { names: [...target.item.columns.keys()], isOpen: false }, [])
    const items = [target.item, excluded]
    const inner: Context = { ...context, level: { items, parent: context.level?.parent } }
    this.#assignments(target.use, target.use.updated, fields['targetList'], inner)
    this.#node(fields['whereClause'], { ...inner, isPredicate: true })
  }

  #update(fields: Ast, context: Context): Output {
    const own: Context = { ...context, ctes: this.#with(fields['withClause'], context) }
    const target = this.#target(fields, 'update')
    if (target === undefined) return this.#lost(fields, own, 'fromClause')
    target.use.writes.add('update')
    const inner = this.#beside(target, fields['fromClause'], own)
    target.use.hasWhere = hasEffectiveWhere(fields['whereClause'])
    this.#assignments(target.use, target.use.updated, fields['targetList'], inner)
    this.#node(fields['whereClause'], { ...inner, isPredicate: true })
    return this.#returning(fields['returningClause'], target, inner)
  }

  #delete(fields: Ast, context: Context): Output {
    const own: Context = { ...context, ctes: this.#with(fields['withClause'], context) }
    const target = this.#target(fields, 'delete')
    if (target === undefined) return this.#lost(fields, own, 'usingClause')
    target.use.writes.add('delete')
    const inner = this.#beside(target, fields['usingClause'], own)
    target.use.hasWhere = hasEffectiveWhere(fields['whereClause'])
    this.#node(fields['whereClause'], { ...inner, isPredicate: true })
    return this.#returning(fields['returningClause'], target, inner)
  }

  #merge(fields: Ast, context: Context): Output {
    const own: Context = { ...context, ctes: this.#with(fields['withClause'], context) }
    const target = this.#target(fields, 'merge')
    if (target === undefined) return this.#lost(fields, own, 'sourceRelation')
    const inner = this.#beside(target, [fields['sourceRelation']], own)
    target.use.hasWhere = hasEffectiveWhere(fields['joinCondition'])
    this.#node(fields['joinCondition'], { ...inner, isPredicate: true })
    for (const entry of asList(fields['mergeWhenClauses'])) {
      const clause = asFields(unwrap(entry)?.fields)
      this.#node(clause['condition'], { ...inner, isPredicate: true })
      this.#mergeAction(clause, target.use, inner)
    }
    return this.#returning(fields['returningClause'], target, inner)
  }

  #mergeAction(clause: Ast, use: Use, context: Context): void {
    switch (clause['commandType']) {
      case 'CMD_UPDATE':
        use.writes.add('update')
        this.#assignments(use, use.updated, clause['targetList'], context)
        return
      case 'CMD_DELETE':
        use.writes.add('delete')
        return
      case 'CMD_INSERT': {
        use.writes.add('insert')
        const cols = asList(clause['targetList'])
        this.#assignments(use, use.inserted, cols, context)
        if (cols.length === 0)
          for (const column of use.relation.columns) if (!column.generated) use.inserted.add(column.name)
        this.#nodes(clause['values'], context)
        return
      }
      case 'CMD_NOTHING':
        return
      default:
        this.#unknown('a MERGE action is not understood')
    }
  }

  /** The level of a write: its target and what stands beside it. Sub-selects beside it cannot see the target. */
  #beside(target: { readonly item: Item }, list: unknown, context: Context): Context {
    const direct: Use[] = []
    const items = this.#from(list, context, direct)
    for (const use of direct) use.hasWhere = true
    return { ...context, level: { items: [target.item, ...items], parent: context.level } }
  }

  #assignments(use: Use, into: Set<string>, list: unknown, context: Context): void {
    for (const entry of asList(list)) {
      const fields = asFields(unwrap(entry)?.fields)
      this.#assigned(use, into, fields)
      this.#nodes(fields['indirection'], context)
      // Part of a value is replaced, so the rest of it is read.
      if (asList(fields['indirection']).length > 0) use.read.add(text(fields['name']))
      this.#node(fields['val'], context)
    }
  }

  #assigned(use: Use, into: Set<string>, fields: Ast | undefined): void {
    const name = text(fields?.['name'])
    if (use.relation.columns.some((column) => column.name === name)) into.add(name)
    else this.#unknown(`column ${spoken(name)} was not found`)
  }

  #returning(clause: unknown, target: { readonly use: Use; readonly item: Item }, context: Context): Output {
    if (typeof clause !== 'object' || clause === null) return CLOSED
    const fields = clause as Ast
    target.use.returning = true
    const aliases = asList(fields['options']).map((option) => text(asFields(unwrap(option)?.fields)['value']))
    const rows = ['old', 'new', ...aliases].map((name): Item => ({ ...relationItem(target.use, name, true, []) }))
    // Old and new rows answer to their own names only; unqualified columns are the target's.
    const items = context.level?.items ?? []
    const inner: Context = {
      ...context,
      level: { items: [...items, ...rows], parent: context.level?.parent },
      isReturning: true,
    }
    this.#nodes(fields['exprs'], inner)
    return this.#outputs(fields['exprs'], items)
  }

  /** A write whose target was not found: the rest is walked all the same, so that it shows up in the parts. */
  #lost(fields: Ast, context: Context, beside: string): Output {
    const list = Array.isArray(fields[beside]) ? fields[beside] : [fields[beside]]
    const items = [derivedItem(undefined, undefined, []), ...this.#from(list, context, [])]
    const inner: Context = { ...context, level: { items, parent: context.level } }
    this.#descend(fields, inner, ['targetList', 'whereClause', 'joinCondition', 'mergeWhenClauses', 'returningClause'])
    return OPEN
  }

  #descend(fields: Ast, context: Context, names: readonly string[]): void {
    for (const name of names) {
      if (Array.isArray(fields[name])) this.#nodes(fields[name], context)
      else if (unwrap(fields[name])?.type !== undefined) this.#loose(fields[name], context)
    }
  }

  /** A field that may be wrapped or bare: everything in it is walked as far as its keys are node types. */
  #loose(value: unknown, context: Context): void {
    if (Array.isArray(value)) for (const item of value) this.#loose(item, context)
    else if (typeof value === 'object' && value !== null) {
      for (const [key, child] of Object.entries(value)) {
        if (/^[A-Z]/.test(key) && typeof child === 'object' && child !== null)
          this.#expression(key, child as Ast, context)
        else this.#loose(child, context)
      }
    }
  }

  // Expressions

  #nodes(list: unknown, context: Context): void {
    for (const item of asList(list)) this.#node(item, context)
  }

  #node(wrapped: unknown, context: Context): void {
    const one = unwrap(wrapped)
    if (one !== undefined) this.#expression(one.type, one.fields, context)
  }

  #expression(type: string, fields: Ast, context: Context): void {
    let inner = context
    switch (type) {
      case 'ColumnRef':
        this.#columnRef(fields, context)
        return
      case 'SelectStmt':
        this.#select(fields, context)
        return
      case 'InsertStmt':
      case 'UpdateStmt':
      case 'DeleteStmt':
      case 'MergeStmt':
        this.#statement(type, fields, context)
        return
      case 'RangeVar':
        this.#unknown('a relation where an expression was expected')
        return
      case 'ParamRef':
        this.#paramsMax = Math.max(this.#paramsMax, typeof fields['number'] === 'number' ? fields['number'] : 0)
        return
      case 'FuncCall':
        this.#functionCall(fields)
        break
      case 'JsonArrayConstructor':
      case 'JsonArrayQueryConstructor':
      case 'JsonArrayAgg':
      case 'JsonFuncExpr':
      case 'JsonParseExpr':
      case 'JsonObjectAgg':
      case 'JsonObjectConstructor':
      case 'JsonScalarExpr':
      case 'JsonSerializeExpr':
      case 'JsonTable':
        this.#json(OLDER_NAMES.get(type) ?? [])
        break
      case 'MergeSupportFunc':
        this.#olderNames(['merge_action'])
        break
      case 'A_Expr':
        this.#operatorOf(fields)
        break
      case 'SubLink':
        if (fields['operName'] !== undefined) this.#operator(fields['operName'])
        else if (fields['subLinkType'] === 'ANY_SUBLINK') this.#operatorNamed(undefined, '=')
        // EXISTS compares nothing of what its query shows.
        if (fields['subLinkType'] === 'EXISTS_SUBLINK') inner = { ...context, isPredicate: false }
        break
      case 'SortBy':
        this.#operator(fields['useOp'])
        break
      case 'CaseExpr':
        if (fields['arg'] !== undefined) this.#operatorNamed(undefined, '=')
        break
      case 'TypeCast':
        for (const fn of indexOf(this.#catalog).explicitCasts) this.#call(fn, 'cast')
        break
      case 'TypeName':
        this.#typeName(fields)
        break
      case 'A_Indirection':
        for (const step of asList(fields['indirection'])) {
          const field = unwrap(step)
          if (field?.type === 'String') this.#attribute(text(field.fields['sval']))
        }
        break
      default:
        break
    }
    eachChild(type, fields, (childType, child) => this.#expression(childType, child, inner))
  }

  #columnRef(fields: Ast, context: Context): void {
    const list = asList(fields['fields']).map((field) => unwrap(field))
    const isStar = list.at(-1)?.type === 'A_Star'
    const path = list.filter((field) => field?.type === 'String').map((field) => text(field?.fields['sval']))
    if (path.length + (isStar ? 1 : 0) !== list.length || list.length > 4) {
      this.#unknown('a column reference is not understood')
      return
    }
    if (isStar && path.length === 0) {
      for (const item of context.level?.items ?? []) readAll(item, context)
      return
    }
    const column = isStar ? undefined : path.at(-1)
    const qualifier = isStar ? path : path.slice(0, -1)
    if (qualifier.length === 0) this.#unqualified(column ?? '', context)
    else this.#qualified(fields, qualifier, column, context)
  }

  #unqualified(name: string, context: Context): void {
    const found = readUnqualified(context.level, name, context)
    if (found === 'found') return
    const rows = itemsNamed(context.level, name)
    for (const item of rows) readAll(item, context)
    if (rows.length === 0 && found === 'none') this.#unknown(`column ${spoken(name)} was not found`)
  }

  #qualified(ref: Ast, qualifier: readonly string[], column: string | undefined, context: Context): void {
    const [first = '', second = '', third = ''] = qualifier
    let items: readonly Item[] = []
    if (qualifier.length === 1) items = itemsNamed(context.level, first)
    else if (qualifier.length === 2) items = itemsOfRelation(context.level, first, second)
    else if (first === this.#catalog.database) items = itemsOfRelation(context.level, second, third)
    if (items.length === 0) {
      this.#unknown(`${spoken(...qualifier)} is not in the FROM clause here`)
      return
    }
    for (const item of items) {
      if (qualifier.length > 1 && item.use !== undefined) {
        this.#qualifiedRefs.push({ ref, use: item.use, name: item.name ?? '', level: context.level })
      }
      if (column === undefined) readAll(item, context)
      else if (hasColumn(item, column)) readColumn(item, column, context)
      else this.#computed(item, column, context)
    }
  }

  /** `row.name` where `name` is no column calls the function `name(row)`. */
  #computed(item: Item, name: string, context: Context): void {
    readAll(item, context)
    if (!this.#attribute(name) && !isOpen(item)) this.#unknown(`column ${spoken(name)} was not found`)
  }

  #attribute(name: string): boolean {
    if ((this.#catalog.functionsByName.get(name) ?? []).length === 0) return false
    const verdict = judgeFunction(this.#catalog, undefined, name, 1)
    if (verdict.unknown !== undefined && this.#hasUserFunction(name)) this.#unknown(verdict.unknown)
    for (const fn of verdict.calls) this.#call(fn, 'attribute')
    return verdict.unknown === undefined
  }

  /** What makes JSON of a value looks for a cast of its type by itself. */
  #json(names: readonly string[]): void {
    for (const fn of indexOf(this.#catalog).jsonCasts) this.#call(fn, 'cast')
    this.#olderNames(names)
  }

  /** Grammar of newer servers; to an older one the same text is a call of a function that a user may have made. */
  #olderNames(names: readonly string[]): void {
    for (const name of names) if (this.#hasUserFunction(name)) this.#unknown(`${name} may be a function of a user`)
  }

  #functionCall(fields: Ast): void {
    const name = words(fields['funcname'])
    const last = name?.at(-1)
    if (name === undefined || last === undefined || name.length > 2) {
      this.#unknown('a function name is not understood')
      return
    }
    const isFlexible = fields['func_variadic'] === true || fields['agg_within_group'] === true
    const args = asList(fields['args'])
    const verdict = judgeFunction(
      this.#catalog,
      name.length === 2 ? name[0] : undefined,
      last,
      isFlexible ? undefined : args.length,
    )
    if (verdict.unknown !== undefined) this.#unknown(verdict.unknown)
    if (makesJson(last)) this.#json([])
    if (makesRows(last)) for (const fn of indexOf(this.#catalog).typeFunctions) this.#call(fn, 'type')
    for (const fn of verdict.calls) {
      if (isBuiltin(fn) && last === 'current_setting' && readsPlainSetting(args)) continue
      this.#call(fn, '', verdict.refusedUnderMasks)
    }
  }

  #operatorOf(fields: Ast): void {
    switch (fields['kind']) {
      case 'AEXPR_BETWEEN':
      case 'AEXPR_NOT_BETWEEN':
      case 'AEXPR_BETWEEN_SYM':
      case 'AEXPR_NOT_BETWEEN_SYM':
        for (const name of ['<', '<=', '>', '>=']) this.#operatorNamed(undefined, name)
        return
      default:
        this.#operator(fields['name'])
    }
  }

  #operator(list: unknown): void {
    if (asList(list).length === 0) return
    const name = words(list)
    const last = name?.at(-1)
    if (name === undefined || last === undefined || name.length > 2) this.#unknown('an operator is not understood')
    else this.#operatorNamed(name.length === 2 ? name[0] : undefined, last)
  }

  #operatorNamed(schema: string | undefined, name: string): void {
    for (const operator of indexOf(this.#catalog).operators.get(name) ?? []) {
      if (schema !== undefined && operator.schema !== schema) continue
      const [fn] = functionsOf(this.#catalog, [operator.functionOid])
      if (fn === undefined) this.#unknown(`operator ${name} was made by a user`)
      else if (!isBuiltin(fn)) this.#call(fn, 'operator')
      else this.#builtin(fn)
    }
  }

  /** A built-in function reached through something a user made: judged like a call of it by name. */
  #builtin(fn: CatalogFunction): void {
    const verdict = judgeFunction(this.#catalog, fn.schema, fn.name, undefined)
    if (verdict.unknown !== undefined) this.#unknown(verdict.unknown)
    for (const call of verdict.calls) this.#call(call, 'operator', verdict.refusedUnderMasks)
  }

  #typeName(fields: Ast): void {
    const name = words(fields['names'])
    const last = name?.at(-1)
    if (name === undefined || last === undefined || name.length > 2) {
      this.#unknown('a type name is not understood')
      return
    }
    const schema = name.length === 2 ? name[0] : undefined
    // A row type holds values of its columns' types, so that making one may run any of their checks.
    if (findRelation(this.#catalog, schema, last.replace(/^_+/, ''))?.builtin === false) {
      for (const fn of indexOf(this.#catalog).typeFunctions) this.#call(fn, 'type')
    }
    // `_x` is what PostgreSQL calls the array type of `x`.
    for (const type of indexOf(this.#catalog).typesByName.get(last.replace(/^_+/, '')) ?? []) {
      if (schema !== undefined && type.schema !== schema) continue
      if (type.extension !== null && TRUSTED_OPERATOR_EXTENSIONS.has(type.extension)) continue
      // A range or multirange holds values of another type, whatever that one checks.
      if (type.kind === 'r' || type.kind === 'm') {
        for (const fn of indexOf(this.#catalog).typeFunctions) this.#call(fn, 'type')
      }
      for (const fn of functionsOf(this.#catalog, type.functionOids)) if (!isBuiltin(fn)) this.#call(fn, 'type')
    }
  }

  // Findings

  #relation(ref: Ast): Relation | undefined {
    const name = text(ref['relname'])
    if (ref['catalogname'] !== undefined && ref['catalogname'] !== this.#catalog.database) {
      this.#unknown('a relation of another database')
      return undefined
    }
    const schema = ref['schemaname'] === undefined ? undefined : text(ref['schemaname'])
    const found = findRelation(this.#catalog, schema, name)
    if (found === undefined)
      this.#unknown(`relation ${schema === undefined ? spoken(name) : spoken(schema, name)} was not found`)
    return found
  }

  #use(relation: Relation, role: Role, ref: Ast): Use {
    const use: Use = {
      relation,
      role,
      ref,
      read: new Set(),
      tested: new Set(),
      returned: new Set(),
      inserted: new Set(),
      updated: new Set(),
      system: new Set(),
      writes: new Set(),
      hasWhere: false,
      locked: false,
      sampled: false,
      returning: false,
    }
    this.#uses.push(use)
    return use
  }

  #call(fn: CatalogFunction, via: string, refusedUnderMasks = true): void {
    const key = `${fn.oid} ${via}`
    if (fn.volatility === 'volatile') this.#mayWrite = true
    const before = this.#functions.get(key)
    if (before === undefined || refusedUnderMasks) this.#functions.set(key, { fn, via, refusedUnderMasks })
  }

  #hasUserFunction(name: string): boolean {
    return (this.#catalog.functionsByName.get(name) ?? []).some((fn) => !isBuiltin(fn))
  }

  #unknown(reason: string): void {
    this.#unknowns.add(reason)
    this.#mayWrite = true
  }

  #outputs(list: unknown, items: readonly Item[]): Output {
    const names: string[] = []
    let open = false
    for (const entry of asList(list)) {
      const fields = asFields(unwrap(entry)?.fields)
      const star = starOf(fields['val'])
      if (star !== undefined && fields['name'] === undefined) {
        const all = outputOf(star === '' ? items : items.filter((item) => item.name === star))
        step(all.names.length)
        for (const one of all.names) names.push(one)
        open ||= all.isOpen || (star !== '' && all.names.length === 0)
        continue
      }
      const name = typeof fields['name'] === 'string' ? fields['name'] : outputName(fields['val'])
      if (name === undefined) open = true
      else names.push(name)
    }
    return { names, isOpen: open }
  }
}

/** Function names that became grammar in PostgreSQL 16 and 17. */
const OLDER_NAMES: ReadonlyMap<string, readonly string[]> = new Map([
  ['JsonArrayConstructor', ['json_array']],
  ['JsonArrayQueryConstructor', ['json_array']],
  ['JsonArrayAgg', ['json_arrayagg']],
  ['JsonFuncExpr', ['json_exists', 'json_query', 'json_value']],
  ['JsonObjectAgg', ['json_objectagg']],
  ['JsonParseExpr', ['json']],
  ['JsonObjectConstructor', ['json_object']],
  ['JsonScalarExpr', ['json_scalar']],
  ['JsonSerializeExpr', ['json_serialize']],
  ['JsonTable', ['json_table']],
])

const EXPLAIN_OPTIONS = new Set([
  'verbose',
  'costs',
  'settings',
  'generic_plan',
  'buffers',
  'wal',
  'timing',
  'summary',
  'memory',
  'format',
])

function asFields(value: unknown): Ast {
  return typeof value === 'object' && value !== null ? (value as Ast) : {}
}

function aliasOf(fields: Ast): { readonly name: string | undefined; readonly columns: readonly string[] } {
  const alias = fields['alias']
  if (typeof alias !== 'object' || alias === null) return { name: undefined, columns: [] }
  return { name: text((alias as Ast)['aliasname']), columns: words((alias as Ast)['colnames']) ?? [] }
}

/** The name a function in FROM goes by when it has no alias. */
function functionAlias(fields: Ast): string | undefined {
  const first = unwrap(asList(fields['functions'])[0])
  const call = unwrap(asList(first?.fields['items'])[0])
  return call?.type === 'FuncCall' ? words(call.fields['funcname'])?.at(-1) : undefined
}

/** The qualifier of `q.*`, empty for `*`, undefined for anything else. */
function starOf(value: unknown): string | undefined {
  const ref = unwrap(value)
  if (ref?.type !== 'ColumnRef') return undefined
  const list = asList(ref.fields['fields'])
  if (unwrap(list.at(-1))?.type !== 'A_Star') return undefined
  return list.length === 1 ? '' : text(asFields(unwrap(list[list.length - 2])?.fields)['sval'])
}

function readsPlainSetting(args: readonly unknown[]): boolean {
  const constant = unwrap(args[0])
  const value = asFields(constant?.fields['sval'])['sval']
  return constant?.type === 'A_Const' && typeof value === 'string' && isReadableSetting(value)
}

/** Every `RangeVar` in a tree, wrapped or bare, found by its shape alone. */
function relationRefs(value: unknown): readonly Ast[] {
  if (typeof value !== 'object' || value === null) return []
  const found: Ast[] = Object.hasOwn(value, 'relname') ? [value as Ast] : []
  for (const child of Object.values(value)) if (typeof child === 'object') found.push(...relationRefs(child))
  return found
}

/** Columns a plain target list shows unchanged. Joins that merge columns move positions, so `*` over them is not told. */
function originsOf(fields: Ast, items: readonly Item[]): readonly (Origin | undefined)[] | undefined {
  const origins: (Origin | undefined)[] = []
  for (const entry of asList(fields['targetList'])) {
    const value = asFields(unwrap(entry)?.fields)['val']
    const star = starOf(value)
    if (star !== undefined) {
      const meant = star === '' ? items : items.filter((item) => item.name === star)
      const isPlain = meant.length > 0 && meant.every((item) => item.use !== undefined)
      if (!isPlain || (star === '' && hasMergingJoin(fields['fromClause']))) return undefined
      for (const item of meant) for (const column of item.columns.values()) origins.push(originOf(item, column))
      continue
    }
    const ref = unwrap(value)
    const path = ref?.type === 'ColumnRef' ? words(ref.fields['fields']) : undefined
    const name = path?.at(-1)
    const named = items.filter((item) => path?.length === 1 || (path?.length === 2 && item.name === path[0]))
    const holders = name === undefined ? [] : named.filter((item) => hasColumn(item, name))
    const [only] = holders
    origins.push(
      only !== undefined && holders.length === 1 ? originOf(only, only.columns.get(name ?? '') ?? '') : undefined,
    )
  }
  return origins
}

function originOf(item: Item, column: string): Origin | undefined {
  return item.use === undefined || column === '' ? undefined : { use: item.use, column }
}

function hasMergingJoin(list: unknown): boolean {
  return asList(list).some((entry) => {
    const one = unwrap(entry)
    if (one?.type !== 'JoinExpr') return false
    const { fields } = one
    return (
      fields['isNatural'] === true ||
      fields['usingClause'] !== undefined ||
      hasMergingJoin([fields['larg'], fields['rarg']])
    )
  })
}
