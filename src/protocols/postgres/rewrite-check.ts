/**
 * The text that is sent, parsed again and compared, node by node, with what the edits should have made of the first parse
 * tree (R6).
 *
 * @packageDocumentation
 */
import { asList, text, unwrap, type Ast } from './ast.ts'
import { parse } from './parse.ts'
import { doubt } from './rewrite-source.ts'
import type { Use } from './scope.ts'

/** What a node of the first tree must have become in the second one. */
export type Expected =
  | { readonly kind: 'pinned'; readonly use: Use }
  /** A `RangeVar`, or the `RangeTableSample` around it, became a sub-select. */
  | { readonly kind: 'masked'; readonly ref: Ast; readonly source: string }
  | { readonly kind: 'unqualified'; readonly name: string }
  | { readonly kind: 'copied'; readonly source: string }
  /** A SELECT or RETURNING clause: entries of its list were replaced, and columns were added to its GROUP BY. */
  | {
      readonly kind: 'clause'
      readonly replaced: Map<number, string>
      readonly grouped: readonly (readonly [table: string, column: string])[]
    }

/**
 * Parses the result and compares it with what it should be.
 *
 * @throws SallyportError `ERR_DENIED` (`sql.rewrite`)
 */
export function assertRewritten(rewritten: string, statement: unknown, expected: ReadonlyMap<Ast, Expected>): void {
  const again = parse(rewritten)
  const only = again.ok && again.statements.length === 1 ? again.statements[0] : undefined
  if (only === undefined) throw doubt('the result cannot be parsed')
  const check = new Check(expected)
  if (!check.isAsExpected(statement, only['stmt'])) throw doubt('the result means something else')
  // Every edit must have been met where it was made.
  if (check.seen.size !== expected.size) throw doubt('an edit was lost')
}

const POSITIONS = new Set(['location', 'name_location', 'list_start', 'list_end', 'rexpr_list_start', 'rexpr_list_end'])

class Check {
  readonly seen = new Set<Ast>()
  readonly #expected: ReadonlyMap<Ast, Expected>

  constructor(expected: ReadonlyMap<Ast, Expected>) {
    this.#expected = expected
  }

  isAsExpected(before: unknown, after: unknown): boolean {
    if (typeof before !== 'object' || before === null) return before === after
    if (typeof after !== 'object' || after === null || Array.isArray(before) !== Array.isArray(after)) return false
    const change = this.#expected.get(before as Ast)
    if (change !== undefined) {
      this.seen.add(before as Ast)
      return this.#isChanged(before as Ast, after as Ast, change)
    }
    const wrapped = unwrap(before)
    const inner = wrapped === undefined ? undefined : this.#expected.get(wrapped.fields)
    if (wrapped !== undefined && inner?.kind === 'masked') {
      this.seen.add(wrapped.fields)
      return isMasked(wrapped.type, wrapped.fields, after as Ast, inner)
    }
    return this.#sameFields(before as Ast, after as Ast)
  }

  #isChanged(before: Ast, after: Ast, change: Expected): boolean {
    switch (change.kind) {
      case 'pinned': {
        const { catalogname: _, ...rest } = before
        const { schema, name } = change.use.relation
        return this.#sameFields({ ...rest, schemaname: schema, relname: name }, after)
      }
      case 'unqualified': {
        const fields = [{ String: { sval: change.name } }, asList(before['fields']).at(-1)]
        return this.#sameFields({ fields }, after)
      }
      case 'clause':
        return this.#sameFields(changedClause(before, change.replaced, change.grouped), after)
      case 'copied': {
        const { relation: _relation, attlist: _attlist, ...rest } = before
        return this.#sameFields({ ...rest, query: treeOf(change.source) }, after)
      }
      default:
        // A sub-select is only ever met in the wrapper of what it replaces.
        return false
    }
  }

  #sameFields(before: Ast, after: Ast): boolean {
    let missing = 0
    for (const key in before) {
      if (POSITIONS.has(key)) continue
      missing += 1
      if (!Object.hasOwn(after, key) || !this.isAsExpected(before[key], after[key])) return false
    }
    // All of them are there; what is more than that was not to be.
    for (const key in after) if (!POSITIONS.has(key)) missing -= 1
    return missing === 0
  }
}

/** Whether two trees are the same but for where they stand, without any change. */
function isSame(before: unknown, after: unknown): boolean {
  if (typeof before !== 'object' || before === null) return before === after
  if (typeof after !== 'object' || after === null) return false
  if (Array.isArray(before)) {
    if (!Array.isArray(after) || before.length !== after.length) return false
    for (let i = 0; i < before.length; i++) if (!isSame(before[i], after[i])) return false
    return true
  }
  if (Array.isArray(after)) return false
  let missing = 0
  for (const key in before) {
    if (POSITIONS.has(key)) continue
    missing += 1
    if (!Object.hasOwn(after, key) || !isSame((before as Ast)[key], (after as Ast)[key])) return false
  }
  for (const key in after) if (!POSITIONS.has(key)) missing -= 1
  return missing === 0
}

function isMasked(type: string, before: Ast, after: Ast, { ref, source }: { ref: Ast; source: string }): boolean {
  const subquery = treeOf(source)
  if (type === 'RangeTableSample' && !isSampledAlike(before, subquery)) return false
  if (type !== 'RangeTableSample' && type !== 'RangeVar') return false
  const alias = ref['alias'] ?? { aliasname: text(ref['relname']) }
  return isSame({ RangeSubselect: { subquery, alias } }, after)
}

/** Whether the sub-select samples as the mention did. */
function isSampledAlike(before: Ast, subquery: unknown): boolean {
  const [from] = asList(unwrap(subquery)?.fields['fromClause'])
  const sample = unwrap(from)
  if (sample?.type !== 'RangeTableSample') return false
  const { relation: _before, ...meant } = before
  const { relation: _after, ...made } = sample.fields
  return isSame(meant, made)
}

function changedClause(
  before: Ast,
  replaced: ReadonlyMap<number, string>,
  grouped: readonly (readonly [string, string])[],
): Ast {
  const list = before['exprs'] === undefined ? 'targetList' : 'exprs'
  const entries = asList(before[list]).flatMap((entry, index): readonly unknown[] => {
    const made = replaced.get(index)
    if (made === undefined) return [entry]
    const targets = asList(unwrap(treeOf(`SELECT ${made}`))?.fields['targetList'])
    const name = unwrap(entry)?.fields['name']
    return name === undefined ? targets : targets.map((target) => ({ ResTarget: { ...unwrap(target)?.fields, name } }))
  })
  const added = grouped.map((column) => ({ ColumnRef: { fields: column.map((sval) => ({ String: { sval } })) } }))
  return {
    ...before,
    ...(before[list] !== undefined && { [list]: entries }),
    ...(added.length > 0 && { groupClause: [...added, ...asList(before['groupClause'])] }),
  }
}

const trees = new Map<string, unknown>()

/** Trees of generated texts kept; they repeat from statement to statement. */
const TREES_MAX = 256

function treeOf(source: string): unknown {
  const known = trees.get(source)
  if (known !== undefined) return known
  const parsed = parse(source)
  const tree = parsed.ok && parsed.statements.length === 1 ? parsed.statements[0]?.['stmt'] : undefined
  if (trees.size >= TREES_MAX) trees.clear()
  if (tree !== undefined) trees.set(source, tree)
  return tree
}
