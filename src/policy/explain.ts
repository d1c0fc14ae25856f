/**
 * Why a decision is what it is: per part, which rules matched, and which came near and why they did not. For operators;
 * it names rules the caller may never hear of, so it must not be shown to callers.
 *
 * @packageDocumentation
 */
import type { Decision, Effect } from '../core/decision.ts'
import { decideWithMatches, effectOf, type Question } from './decide.ts'
import { grantCovers, grantTouches, type Matching, type PartMatch } from './match.ts'
import type { Policy } from './policy.ts'
import { names } from './principals.ts'
import { renderResource } from './resources.ts'
import type { Rule } from './rule.ts'

/** Why a rule that speaks of the same action or resource had no say. */
export type Miss = 'principal' | 'unless' | 'action' | 'resource' | 'columns' | 'condition'

/** How one rule met one part. */
export interface RuleTrace {
  readonly rule: string
  readonly effect: Effect
  /** `path:line` of the rule. */
  readonly source: string
  readonly outcome: 'matched' | 'failed' | Miss
  /** Why its condition failed. */
  readonly why?: string
}

/** How one part was decided. */
export interface PartTrace {
  readonly verb: string
  readonly resource: string
  readonly effect: Effect
  /** Whether it was refused whatever the rules say (C4). */
  readonly isRefused: boolean
  readonly rules: readonly RuleTrace[]
  /** Rules that came near, nearest first; at most {@link NEAR_MAX}. */
  readonly near: readonly RuleTrace[]
}

/** A decision with its reasons taken apart. */
export interface Explanation {
  readonly decision: Decision
  readonly parts: readonly PartTrace[]
}

/** More near misses than this are no longer near. */
const NEAR_MAX = 8

/** Decides and explains. Much dearer than a decision: it looks at every rule of the target. */
export function explain(policy: Policy, question: Question): Explanation {
  const { decision, matches, matching } = decideWithMatches(policy, question)
  return { decision, parts: matches.map((match) => tracePart(match, matching)) }
}

function tracePart(match: PartMatch, matching: Matching): PartTrace {
  const failed = new Map(match.failed.map(({ rule, why }) => [rule, why]))
  const said = [...match.matched, ...failed.keys()]
  const rules = said.map((rule): RuleTrace => {
    const why = failed.get(rule)
    return why === undefined ? trace(rule, 'matched') : { ...trace(rule, 'failed'), why }
  })
  const near = matching.target.rules
    .filter((rule) => !said.includes(rule))
    .flatMap((rule) => {
      const miss = missOf(rule, match, matching)
      return miss === undefined ? [] : [trace(rule, miss)]
    })
    .sort((a, b) => NEARNESS.indexOf(a.outcome) - NEARNESS.indexOf(b.outcome))
  return {
    verb: match.part.verb,
    resource: renderResource(match.part.resource),
    effect: effectOf(match),
    isRefused: match.isRefused,
    rules,
    near: near.slice(0, NEAR_MAX),
  }
}

/** From what was closest to a match to what was furthest from it. */
const NEARNESS: readonly RuleTrace['outcome'][] = ['condition', 'columns', 'unless', 'principal', 'resource', 'action']

/** The first thing that kept a rule from matching, or `undefined` when it is about something else altogether. */
function missOf(rule: Rule, { part, view }: PartMatch, matching: Matching): Miss | undefined {
  const sameVerb = rule.grants.filter(({ verbs }) => verbs.has(part.verb))
  const meets = (grant: Rule['grants'][number]): boolean =>
    rule.effect === 'allow' ? grantCovers(grant, view) : grantTouches(grant, view)
  if (sameVerb.length === 0) return rule.effect !== 'deny' && rule.grants.some(meets) ? 'action' : undefined
  if (!sameVerb.some(meets)) {
    return sameVerb.some((grant) => grantTouches(grant, view)) ? 'columns' : 'resource'
  }
  if (rule.principals !== undefined && !names(rule.principals, matching.tokens)) return 'principal'
  return names(rule.unless, matching.tokens) ? 'unless' : 'condition'
}

function trace(rule: Rule, outcome: RuleTrace['outcome']): RuleTrace {
  return { rule: rule.id, effect: rule.effect, source: `${rule.source.path}:${rule.source.line}`, outcome }
}

const MISSES: Readonly<Record<Miss, string>> = {
  principal: 'is for other callers',
  unless: 'excepts this caller',
  action: 'speaks of other actions on this resource',
  resource: 'speaks of other resources',
  columns: 'does not list all of the columns',
  condition: 'has a condition that is false',
}

/** Writes an explanation for a terminal, without colours. */
export function renderExplanation({ decision, parts }: Explanation): string {
  const lines = [`${decision.effect}: ${decision.reason}`]
  if (decision.hint !== undefined) lines.push(`  ${decision.hint}`)
  for (const part of parts) {
    lines.push(`${part.verb} on ${part.resource}: ${part.effect}`)
    if (part.isRefused) lines.push('  not understood, and the target has masks')
    for (const { rule, effect, source, why } of part.rules) {
      const text = why === undefined ? `${effect}s` : `could not be decided, which denies: ${why}`
      lines.push(`  ${rule} (${source}) ${text.replace('require_approvals', 'asks for an approval')}`)
    }
    if (part.rules.length === 0 && !part.isRefused) lines.push('  no rule matches')
    for (const { rule, source, outcome } of part.near) {
      lines.push(`  near: ${rule} (${source}) ${MISSES[outcome as Miss]}`)
    }
  }
  lines.push(...obligationLines(decision), `policy ${decision.policyVersion}`)
  return lines.map(printable).join('\n')
}

function obligationLines({ obligations, approvals }: Decision): readonly string[] {
  const lines = approvals.map(
    ({ rule, anyOf, count, reasonRequired, inTransaction, selfConfirm }) =>
      `approval: ${count} of ${anyOf.join(', ')} (${rule})${reasonRequired ? ', with a reason' : ''}${inTransaction === true ? ', inside a transaction too' : ''}${selfConfirm === true ? ', or the caller at its own client' : ''}`,
  )
  for (const { schema, table, column, transform } of obligations.columns) {
    lines.push(`mask: ${schema}.${table}.${column} ${transform}`)
  }
  for (const { detector, transform } of obligations.detect) lines.push(`detect: ${detector} ${transform}`)
  for (const { id, max, windowMs } of [...obligations.rates, ...obligations.budgets]) {
    lines.push(`limit: ${id} ${max} per ${windowMs} ms`)
  }
  for (const { id } of obligations.loops ?? []) lines.push(`loop breaker: ${id}`)
  for (const key of ['rowsMax', 'bytesMax', 'timeoutMs', 'concurrencyMax'] as const) {
    if (obligations[key] !== undefined) lines.push(`limit: ${key} ${obligations[key]}`)
  }
  return lines
}

/** Names come from catalogs and callers; none of them may move a terminal's cursor. */
function printable(line: string): string {
  return line.replaceAll(/[\p{Cc}\p{Cf}]/gu, (char) => `\\u{${(char.codePointAt(0) ?? 0).toString(16)}}`)
}
