/**
 * The words of a decision. They reach the caller, so they hold only what rules that name this caller say, and what the
 * caller itself asked for.
 *
 * @packageDocumentation
 */
import type { Part } from '../core/action.ts'
import type { Effect } from '../core/decision.ts'
import { effectiveGrants } from './effective.ts'
import type { Matching, PartMatch } from './match.ts'
import { belongs } from './principals.ts'
import { compare } from './problem.ts'
import { columnListed, nameMatches } from './sql-name.ts'
import { renderResource } from './resources.ts'
import type { Rule } from './rule.ts'

/** One sentence for the caller and, after a denial, what would be allowed instead. */
export interface Reason {
  readonly reason: string
  readonly hint?: string
}

/** Longer hints would drown the reason; a cut says so. */
const HINT_ENTRIES_MAX = 6
/** Callers correct one mistake after the other; hundreds at once would help nobody. */
const UNKNOWN_REASONS_MAX = 3
const REASON_CHARS_MAX = 120

export function reasonFor(
  effect: Effect,
  rules: readonly Rule[],
  matches: readonly PartMatch[],
  matching: Matching,
): Reason {
  switch (effect) {
    case 'allow':
      return { reason: `Allowed by ${ruleNames(rules)}.` }
    case 'require_approval':
      return approvalReason(rules.filter((rule) => rule.effect === effect))
    default:
      return denialReason(rules, matches, matching)
  }
}

function approvalReason(rules: readonly Rule[]): Reason {
  const who = rules.map((rule) => {
    const { anyOf, count } = rule.approval ?? { anyOf: [], count: 1 }
    return `${count > 1 ? `${count} of ` : ''}${anyOf.join(' or ')}`
  })
  const why = rules.find(({ reason }) => reason !== undefined)?.reason
  const reason = `${ruleNames(rules)} asks for an approval by ${[...new Set(who)].join(' and by ')}`
  return { reason: upperFirst(`${reason}${why === undefined ? '.' : `: ${why}`}`) }
}

function denialReason(rules: readonly Rule[], matches: readonly PartMatch[], matching: Matching): Reason {
  const refused = matches.find(({ isRefused }) => isRefused)
  if (matches.length === 0) {
    return { reason: 'Nothing in the call could be decided on, and a call without parts is denied.' }
  }
  const rule = rules.find(({ effect }) => effect === 'deny')
  if (rule !== undefined) {
    const match = matches.find(({ matched }) => matched.includes(rule))
    const reason = `Rule ${rule.id} denies ${match === undefined ? 'this' : describe(match)}${after(rule)}`
    return rule.hint === undefined ? { reason } : { reason, hint: rule.hint }
  }
  const failed = matches.flatMap((match) => match.failed.map((entry) => ({ match, ...entry })))
  const [first] = failed.sort((a, b) => compare(a.rule.id, b.rule.id))
  if (first !== undefined) {
    const { match, rule: broken, why } = first
    return { reason: `The condition of rule ${broken.id} could not be decided on ${describe(match)}: ${why}.` }
  }
  if (refused !== undefined) {
    const reason = `${describe(refused)} was not understood, which is refused on a target with masks.`
    return withHint(reason, matches, matching)
  }
  const uncovered = matches.filter(({ isCovered }) => !isCovered)
  const shown = [...new Set(uncovered.map(describe))]
  const more = shown.length > 3 ? ` and ${shown.length - 3} more` : ''
  return withHint(`No rule allows ${shown.slice(0, 3).join(', ')}${more}.`, uncovered, matching)
}

/** `sql.select on public.orders(id,total)`; for what was not understood, what of it: `sql.unknown (the reasons)`. */
function describe({ part }: PartMatch): string {
  const what = part.resource.type === 'none' ? part.verb : `${part.verb} on ${renderResource(part.resource)}`
  const why = whyOf(part)
  return why === '' ? what : `${what} (${why})`
}

/** What the plan says it did not understand; plans write it for callers, without their data. */
function whyOf({ attributes }: Part): string {
  const { reasons } = attributes
  if (!Array.isArray(reasons)) return ''
  const words = reasons.filter((reason) => typeof reason === 'string').map((reason) => reason.replace(/\.$/, ''))
  const more = words.length - UNKNOWN_REASONS_MAX
  const shown = words.slice(0, UNKNOWN_REASONS_MAX).map((reason) => reason.slice(0, REASON_CHARS_MAX))
  return `${shown.join('; ')}${more > 0 ? `; and ${more} more` : ''}`
}

function withHint(reason: string, matches: readonly PartMatch[], matching: Matching): Reason {
  const own = matching.target.rules.filter((rule) => rule.effect !== 'deny' && belongs(rule, matching.tokens))
  const columns = matches.flatMap((match) => columnHint(match, own))
  const related = columns.length > 0 ? [] : matches.flatMap((match) => sameResource(match, own))
  const entries = [...new Set(columns.length > 0 ? columns : related.length > 0 ? related : anything(own, matching))]
  if (entries.length === 0) return { reason, hint: `Nothing is allowed to you on ${matching.question.target.name}.` }
  const more = entries.length - HINT_ENTRIES_MAX
  const shown = entries.slice(0, HINT_ENTRIES_MAX).join('; ')
  return { reason, hint: `Allowed to you: ${shown}${more > 0 ? `; and ${more} more` : ''}.` }
}

/** When only some columns were too many: which ones a rule with the same action and table lists. */
function columnHint({ part, view }: PartMatch, own: readonly Rule[]): readonly string[] {
  const { resource } = part
  const { sql } = view
  if (resource.type !== 'sql' || sql === undefined || sql.args !== undefined) return []
  return own.flatMap((rule) =>
    rule.grants.flatMap((grant) => {
      if (!grant.verbs.has(part.verb)) return []
      return (grant.resources ?? []).flatMap(({ sql: pattern }) => {
        if (pattern?.list === undefined || !nameMatches(pattern, sql)) return []
        const missing = resource.columns?.filter((column) => !columnListed(pattern, column)) ?? []
        const except = missing.length > 0 && missing.length <= 12 ? ` (not ${missing.join(', ')})` : ''
        return [`${part.verb} on ${sql.base} with the columns ${pattern.list.join(', ')}${except}`]
      })
    }),
  )
}

/** What else the caller may do with the same resource. */
function sameResource({ view }: PartMatch, own: readonly Rule[]): readonly string[] {
  if (view.resource.type === 'none') return []
  const about = own.filter((rule) =>
    rule.grants.some(({ resources }) => resources?.some((pattern) => pattern.text !== '**' && pattern.covers(view))),
  )
  return about.map((rule) => {
    const approval = rule.effect === 'allow' ? '' : `, after approval by ${rule.approval?.anyOf.join(' or ') ?? ''}`
    const condition = rule.condition === undefined ? '' : ', under a condition'
    return `${rule.actions.join(', ')} on ${view.sql?.base ?? renderResource(view.resource)}${condition}${approval}`
  })
}

function anything(own: readonly Rule[], matching: Matching): readonly string[] {
  return effectiveGrants(own, matching.tokens).map(({ text }) => text)
}

function ruleNames(rules: readonly Rule[]): string {
  const ids = rules.slice(0, 5).map(({ id }) => id)
  const more = rules.length > 5 ? ` and ${rules.length - 5} more` : ''
  return `rule${rules.length > 1 ? 's' : ''} ${ids.join(', ')}${more}`
}

function after({ reason }: Rule): string {
  return reason === undefined ? '.' : `: ${reason}`
}

function upperFirst(text: string): string {
  return text.slice(0, 1).toUpperCase() + text.slice(1)
}
