/**
 * What a statement sets off that its text does not say: triggers, cascades, defaults, policies, functions in views (C3).
 *
 * @packageDocumentation
 */
import type { Catalog, CatalogFunction, CatalogTrigger, ForeignKeyAction, Relation } from './catalog.ts'
import { functionsOf, isBuiltin, mayReadAnything } from './functions.ts'
import { indexOf, rowFunctions } from './indexes.ts'
import type { Use } from './scope.ts'
import { baseOf } from './view-base.ts'
import type { FunctionUse } from './walk/findings.ts'

/** A write that a foreign key passes on to another table. */
export interface Cascade {
  readonly relation: Relation
  readonly verb: 'update' | 'delete'
  readonly columns: ReadonlySet<string>
}

/** A write of a view, as the write of the relation it shows that it becomes. */
export interface Through extends Change {
  readonly hasWhere: boolean
}

/** A relation whose rows are written: the one that was meant, its partitions and children, and where keys pass it on. */
export interface Change {
  readonly relation: Relation
  readonly verb: Verb
  /** Columns that are given values, by the statement or by a foreign key. */
  readonly columns: ReadonlySet<string>
  /** What an UPDATE assigns to them; absent where that is not in the statement. */
  readonly values?: Use['values']
}

/** Code that runs because a relation is read or written, by whoever made the relation what it is. */
export interface SideEffect {
  readonly fn: CatalogFunction
  /** What runs it: `trigger`, `default` (checks and indexes too), `type` or `policy`. */
  readonly via: string
  /** The relation whose rows it works on. */
  readonly relation: Relation
}

/** Everything reached through the catalog. */
export interface Effects {
  readonly functions: readonly FunctionUse[]
  /** Of those functions the ones that may do anything, and the relations they belong to; without those of views. */
  readonly sideEffects: readonly SideEffect[]
  readonly cascades: readonly Cascade[]
  readonly changes: readonly Change[]
  /** Where writes of views end. */
  readonly through: readonly Through[]
  /** Relations whose foreign key columns decide whether the write fails: an oracle when those are masked. */
  readonly consulted: readonly { readonly relation: Relation; readonly columns: readonly string[] }[]
}

type Verb = 'insert' | 'update' | 'delete'

/** Follows every use of a statement through the catalog, as far as it goes. */
export function effectsOf(catalog: Catalog, uses: readonly Use[]): Effects {
  const reach = new Reach(catalog)
  for (const use of uses) {
    reach.read(use.relation)
    for (const verb of use.writes) {
      const columns = verb === 'insert' ? use.inserted : use.updated
      reach.write(use.relation, verb, columns, use.values)
      if (use.relation.kind === 'view') reach.through({ relation: use.relation, verb, columns, hasWhere: use.hasWhere })
    }
  }
  return reach.effects()
}

class Reach {
  readonly #catalog: Catalog
  readonly #functions = new Map<string, FunctionUse>()
  readonly #cascades = new Map<
    string,
    { readonly relation: Relation; readonly verb: Verb; readonly columns: Set<string> }
  >()
  readonly #sideEffects = new Map<string, SideEffect>()
  readonly #changes: Change[] = []
  readonly #through: Through[] = []
  readonly #consulted: { readonly relation: Relation; readonly columns: readonly string[] }[] = []

  constructor(catalog: Catalog) {
    this.#catalog = catalog
  }

  effects(): Effects {
    const cascades = [...this.#cascades.values()].flatMap((cascade): readonly Cascade[] =>
      cascade.verb === 'insert' ? [] : [{ relation: cascade.relation, verb: cascade.verb, columns: cascade.columns }],
    )
    return {
      functions: [...this.#functions.values()],
      sideEffects: [...this.#sideEffects.values()],
      cascades,
      changes: this.#changes,
      through: this.#through,
      consulted: this.#consulted,
    }
  }

  sideEffects(relation: Relation, oids: readonly number[], via: string): void {
    for (const fn of functionsOf(this.#catalog, oids)) {
      this.#sideEffects.set(`${fn.oid} ${via} ${relation.oid}`, { fn, via, relation })
    }
  }

  /** What reading a relation runs: its policies, the rule of a view, and those of everything below that one. */
  read(relation: Relation): void {
    const via = isView(relation) ? 'view' : 'policy'
    for (const below of this.#below(relation)) {
      this.functions(below.readFunctions, via)
      if (via === 'policy' && below.hasRls) this.sideEffects(below, below.readFunctions, via)
    }
  }

  #below(relation: Relation): ReadonlySet<Relation> {
    const seen = new Set<Relation>()
    const queue = [relation]
    for (let at = queue.pop(); at !== undefined; at = queue.pop()) {
      if (seen.has(at)) continue
      seen.add(at)
      // The rules of a table run when it is written.
      for (const oid of isView(at) ? [...at.dependsOn, ...at.policyDependsOn] : at.policyDependsOn) {
        const next = this.#catalog.relationsByOid.get(oid)
        if (next !== undefined) queue.push(next)
      }
    }
    return seen
  }

  functions(oids: readonly number[], via: string): void {
    for (const fn of functionsOf(this.#catalog, oids)) {
      const refusedUnderMasks = via === 'view' && (!isBuiltin(fn) || mayReadAnything(fn))
      this.#functions.set(`${fn.oid} ${via}`, { fn, via, refusedUnderMasks })
    }
  }

  write(relation: Relation, verb: Verb, columns: ReadonlySet<string>, values?: Use['values']): void {
    // A row of a parent lives in a child, so the children's triggers and keys count; a key may point at the parent too.
    const down = this.#family(relation, 'children')
    for (const member of down) {
      this.#changes.push({ relation: member, verb, columns, ...(values !== undefined && { values }) })
      this.functions(member.writeFunctions, 'default')
      this.functions(member.readFunctions, 'policy')
      if (member.hasRls) this.sideEffects(member, member.readFunctions, 'policy')
      if (verb !== 'delete') this.#store(member)
      const fired = member.triggers.filter((trigger) => trigger[verb])
      this.functions(
        fired.map((trigger) => trigger.functionOid),
        'trigger',
      )
      this.sideEffects(
        member,
        fired.filter((trigger) => !this.#isHarmless(trigger)).map((trigger) => trigger.functionOid),
        'trigger',
      )
    }
    if (verb === 'insert') return
    for (const member of new Set([...down, ...this.#family(relation, 'parents')])) this.#pass(member, verb, columns)
  }

  /** A view is written where its rows are: in the relation it shows, and where that is a view, in turn. */
  through({ relation: view, verb, columns, hasWhere }: Through): void {
    const base = baseOf(this.#catalog, view)
    if (base === undefined) return
    const named = new Set([...columns].flatMap((column) => base.columns.get(column) ?? []))
    const next = { relation: base.relation, verb, columns: named, hasWhere }
    this.#through.push(next)
    this.read(base.relation)
    this.write(base.relation, verb, named)
    if (base.relation.kind === 'view') this.through(next)
  }

  /** What runs when a row is made or made anew. */
  #store(relation: Relation): void {
    this.sideEffects(relation, relation.writeFunctions, 'default')
    // A value of a domain is checked where it is stored, at whatever depth it lies in a row or an array.
    const oids = rowFunctions(this.#catalog, relation).map((fn) => fn.oid)
    this.functions(oids, 'type')
    this.sideEffects(relation, oids, 'type')
  }

  /**
   * Whether a trigger only puts the time into columns. Those of PostgreSQL itself copy columns into others
   * (`tsvector_update_trigger`) or drop updates that change nothing, which tells what a row holds.
   */
  #isHarmless({ functionOid, isConditional }: CatalogTrigger): boolean {
    const fn = this.#catalog.functionsByOid.get(functionOid)
    return fn !== undefined && !isBuiltin(fn) && fn.onlyStamps === true && isConditional !== true
  }

  #pass(relation: Relation, verb: 'update' | 'delete', columns: ReadonlySet<string>): void {
    for (const { relation: owner, key } of indexOf(this.#catalog).referencedBy.get(relation.oid) ?? []) {
      if (verb === 'update' && !key.referencedColumns.some((column) => columns.has(column))) continue
      this.#consulted.push({ relation: owner, columns: key.columns })
      const next = consequence(verb === 'delete' ? key.onDelete : key.onUpdate, verb)
      if (next !== undefined) this.#cascade(owner, next, new Set(key.columns))
    }
  }

  #cascade(relation: Relation, verb: 'update' | 'delete', columns: ReadonlySet<string>): void {
    const key = `${relation.oid} ${verb}`
    const before = this.#cascades.get(key)
    // Keys may form a circle; a table is followed again only while new columns of it are written.
    const fresh =
      verb === 'delete' ? before === undefined : [...columns].some((column) => before?.columns.has(column) !== true)
    if (!fresh) return
    const all = new Set([...(before?.columns ?? []), ...columns])
    this.#cascades.set(key, { relation, verb, columns: all })
    this.write(relation, verb, all)
  }

  #family(relation: Relation, direction: 'children' | 'parents'): readonly Relation[] {
    const seen = new Map<number, Relation>()
    const queue = [relation]
    for (let at = queue.pop(); at !== undefined; at = queue.pop()) {
      if (seen.has(at.oid)) continue
      seen.set(at.oid, at)
      for (const oid of at[direction]) {
        const next = this.#catalog.relationsByOid.get(oid)
        if (next !== undefined) queue.push(next)
      }
    }
    return [...seen.values()]
  }
}

function isView({ kind }: Relation): boolean {
  return kind === 'view' || kind === 'materialized_view'
}

function consequence(action: ForeignKeyAction, verb: 'update' | 'delete'): 'update' | 'delete' | undefined {
  if (action === 'cascade') return verb
  return action === 'set_null' || action === 'set_default' ? 'update' : undefined
}
