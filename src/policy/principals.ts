import type { Principal } from '../core/principal.ts'
import type { ProtocolName } from '../core/target.ts'

/** What a principal can be named by: `id:…`, its `kind:…`, each `group:…`, and `*`. */
export type Tokens = ReadonlySet<string>

/** Kept with the principal, which never changes: another login is another one. */
const known = new WeakMap<Principal, Tokens>()

/** Lists the names a principal answers to. */
export function tokensOf(principal: Principal): Tokens {
  const met = known.get(principal)
  if (met !== undefined) return met
  const tokens = new Set(['*', `id:${principal.id}`, `kind:${principal.kind}`])
  for (const group of principal.groups) tokens.add(`group:${group}`)
  known.set(principal, tokens)
  return tokens
}

/** Who a rule, mask or budget is for: any of `principals`, unless any of `unless`. */
export interface Audience {
  /** Absent means everyone; the schema lets only what restricts leave it out. */
  readonly principals: readonly string[] | undefined
  readonly unless: readonly string[]
}

/** Whether one of the selectors names the principal. */
export function names(selectors: readonly string[], tokens: Tokens): boolean {
  for (const selector of selectors) if (tokens.has(selector)) return true
  return false
}

/** Whether the principal belongs to the audience. */
export function belongs(audience: Audience, tokens: Tokens): boolean {
  if (audience.principals !== undefined && !names(audience.principals, tokens)) return false
  return audience.unless.length === 0 || !names(audience.unless, tokens)
}

/** What is known of a target when policies are loaded. */
export interface KnownTarget {
  readonly name: string
  readonly protocol: ProtocolName
  readonly labels: Readonly<Record<string, string>>
}

/** Which targets a rule is for: a name, `*`, or labels that must all be there. */
export type TargetSelector = string | { readonly labels: Readonly<Record<string, string>> }

/** Whether one of the selectors names the target. */
export function selects(selectors: readonly TargetSelector[], target: Omit<KnownTarget, 'protocol'>): boolean {
  return selectors.some((selector) => {
    if (typeof selector === 'string') return selector === '*' || selector === target.name
    return Object.entries(selector.labels).every(
      ([name, value]) => Object.hasOwn(target.labels, name) && target.labels[name] === value,
    )
  })
}
