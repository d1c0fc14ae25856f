import type { Condition } from './condition.ts'
import type { ResourceView } from './resources.ts'
import type { Grant, Rule } from './rule.ts'

/** A rule with the grant through which it was found, and at hand what its match asks for. */
interface Candidate {
  readonly rule: Rule
  readonly grant: Grant
  readonly isAllow: boolean
  readonly condition: Condition | undefined
}

interface Shelf {
  /** Grants all of whose patterns are about exactly one SQL name each, by that name. */
  readonly exact: Map<string, Candidate[]>
  readonly rest: Candidate[]
  readonly all: Candidate[]
}

/** The rules of one target by verb and, where a rule names its tables, by table. */
export interface RuleIndex {
  /** Rules that may match; everything it leaves out cannot. */
  candidates(verb: string, view: ResourceView): Iterable<readonly Candidate[]>
}

/** Builds the index of one target. */
export function indexRules(rules: readonly Rule[]): RuleIndex {
  const shelves = new Map<string, Shelf>()
  for (const rule of rules) {
    for (const grant of rule.grants) {
      for (const verb of grant.verbs) {
        let shelf = shelves.get(verb)
        if (shelf === undefined) {
          shelf = { exact: new Map(), rest: [], all: [] }
          shelves.set(verb, shelf)
        }
        place(shelf, { rule, grant, isAllow: rule.effect === 'allow', condition: rule.condition })
      }
    }
  }
  return {
    candidates(verb, { resource, sql }) {
      const shelf = shelves.get(verb)
      if (shelf === undefined) return []
      // Fail closed: a name that cannot be taken apart may be any; patterns decide for themselves.
      if (resource.type === 'sql' && sql === undefined) return [shelf.all]
      const exact = sql === undefined ? undefined : shelf.exact.get(sql.key)
      return exact === undefined ? [shelf.rest] : [exact, shelf.rest]
    },
  }
}

function place(shelf: Shelf, candidate: Candidate): void {
  shelf.all.push(candidate)
  const names = new Set<string>()
  for (const { exact } of candidate.grant.resources ?? []) {
    if (exact === undefined) {
      names.clear()
      break
    }
    names.add(exact)
  }
  if (names.size === 0) shelf.rest.push(candidate)
  for (const name of names) {
    const list = shelf.exact.get(name)
    if (list === undefined) shelf.exact.set(name, [candidate])
    else list.push(candidate)
  }
}
