import { asList, text, unwrap, type Ast } from '../ast.ts'
import { findRelation, type Catalog, type CatalogFunction, type Relation } from '../catalog.ts'
import { isBuiltin } from '../functions.ts'
import type { Grouping } from '../group-by.ts'
import { spoken } from '../names.ts'
import { step, type Cte, type Output, type Role, type Use } from '../scope.ts'
import type { Context } from './context.ts'
import type {
  Explained,
  CopyOut,
  Findings,
  FunctionUse,
  Origin,
  QualifiedRef,
  Returning,
  Sample,
  SettingChange,
  Star,
} from './findings.ts'

/** How the two kinds of nodes are walked that may hold each other at any depth. */
export interface Visitors {
  readonly statement: (walk: Walker, type: string, fields: Ast, context: Context, recursive?: Cte) => Output
  readonly expression: (walk: Walker, type: string, fields: Ast, context: Context) => void
}

/** What a mention of a relation costs, in steps of a look-up. */
const MENTION_STEPS = 50

/** What a mistake costs, in steps: it is looked for everywhere and told in a sentence. */
const UNKNOWN_STEPS = 20

/** One walk: the catalog it looks into and everything it has found so far. */
export class Walker {
  readonly catalog: Catalog
  readonly uses: Use[] = []
  readonly qualifiedRefs: QualifiedRef[] = []
  readonly groupings: Grouping[] = []
  readonly stars: Star[] = []
  readonly returnings: Returning[] = []
  readonly samples: Sample[] = []
  readonly copies: CopyOut[] = []
  readonly twins: Use[] = []
  /** Every `RangeVar` that was met. */
  readonly known = new Set<Ast>()
  readonly cursors = new Set<string>()
  readonly settings: SettingChange[] = []
  /** Calls that the statement around them has explained. */
  readonly explained = new Set<Ast>()
  /** Told of a `RangeVar` outside of every query: the name of an object. Without it there is none. */
  onObject: ((ref: Ast) => void) | undefined
  paramsMax = 0
  mayWrite = false
  readsCounters = false
  explain: Explained | undefined
  origins: readonly (Origin | undefined)[] | undefined
  readonly #visitors: Visitors
  readonly #functions = new Map<string, FunctionUse>()
  readonly #unknowns = new Set<string>()

  constructor(catalog: Catalog, visitors: Visitors) {
    this.catalog = catalog
    this.#visitors = visitors
  }

  findings(output: Output): Findings {
    return {
      uses: this.uses,
      functions: [...this.#functions.values()],
      qualifiedRefs: this.qualifiedRefs,
      groupings: this.groupings,
      stars: this.stars,
      returnings: this.returnings,
      samples: this.samples,
      copies: this.copies,
      twins: this.twins,
      unknowns: [...this.#unknowns],
      paramsMax: this.paramsMax,
      ...(this.explain !== undefined && { explain: this.explain }),
      mayWrite: this.mayWrite,
      readsCounters: this.readsCounters,
      settings: this.settings,
      cursors: [...this.cursors],
      output,
      ...(this.origins !== undefined && { origins: this.origins }),
    }
  }

  /** Walks a statement, at the top or inside another one. */
  statement(type: string, fields: Ast, context: Context, recursive?: Cte): Output {
    return this.#visitors.statement(this, type, fields, context, recursive)
  }

  expression(type: string, fields: Ast, context: Context): void {
    this.#visitors.expression(this, type, fields, context)
  }

  /** Walks one wrapped node. */
  node(wrapped: unknown, context: Context): void {
    const one = unwrap(wrapped)
    if (one !== undefined) this.expression(one.type, one.fields, context)
  }

  /** Walks a list of wrapped nodes. */
  nodes(list: unknown, context: Context): void {
    for (const item of asList(list)) this.node(item, context)
  }

  /** The relation a `RangeVar` names. */
  relation(ref: Ast): Relation | undefined {
    const name = text(ref['relname'])
    if (ref['catalogname'] !== undefined && ref['catalogname'] !== this.catalog.database) {
      this.unknown('a relation of another database')
      return undefined
    }
    const schema = ref['schemaname'] === undefined ? undefined : text(ref['schemaname'])
    const found = findRelation(this.catalog, schema, name)
    if (found === undefined)
      this.unknown(`relation ${schema === undefined ? spoken(name) : spoken(schema, name)} was not found`)
    return found
  }

  /** Writes down a mention of a relation. */
  use(relation: Relation, role: Role, ref: Ast): Use {
    const use: Use = {
      relation,
      role,
      ref,
      read: new Set(),
      tested: new Set(),
      returned: new Set(),
      consulted: new Set(),
      inserted: new Set(),
      updated: new Set(),
      values: new Map(),
      system: new Set(),
      writes: new Set(),
      hasWhere: false,
      locked: false,
      sampled: false,
      returning: false,
      wholeReads: 0,
      natural: false,
    }
    // Each mention is pinned, parsed again and compared: some ten microseconds.
    step(MENTION_STEPS)
    this.uses.push(use)
    return use
  }

  /** Writes down that a function is run. */
  call(fn: CatalogFunction, via: string, refusedUnderMasks = true): void {
    const key = `${fn.oid} ${via}`
    if (fn.volatility === 'volatile') this.mayWrite = true
    const before = this.#functions.get(key)
    if (before === undefined || refusedUnderMasks) this.#functions.set(key, { fn, via, refusedUnderMasks })
  }

  /** Whether a user made a function of that name, in any schema. */
  hasUserFunction(name: string): boolean {
    return (this.catalog.functionsByName.get(name) ?? []).some((fn) => !isBuiltin(fn))
  }

  /** Writes down that something was not understood. */
  unknown(reason: string): void {
    step(UNKNOWN_STEPS)
    this.#unknowns.add(reason)
    this.mayWrite = true
  }
}
