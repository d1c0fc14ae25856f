import { belongs, type Tokens } from './principals.ts'
import { formatBytes, formatDuration } from './units.ts'
import type { Rule } from './rule.ts'

/** Something a caller may do, in words. Holds nothing of rules that do not name the caller. */
export interface EffectiveGrant {
  readonly effect: 'allow' | 'require_approval'
  /** As the policy writes them: `sql.select`, `class:read`. */
  readonly actions: readonly string[]
  readonly resources: readonly string[]
  /** Whether a condition narrows it further. */
  readonly conditional: boolean
  /** Who may approve, when somebody must. */
  readonly approvers: readonly string[]
  /** `50 rows`, `20 calls per 1m` … */
  readonly limits: readonly string[]
  /** All of it in one sentence. */
  readonly text: string
}

/** What the rules let this caller do. A deny may still narrow it; which ones there are is not told. */
export function effectiveGrants(rules: readonly Rule[], tokens: Tokens): readonly EffectiveGrant[] {
  return rules.flatMap((rule) => {
    if (rule.effect === 'deny' || !belongs(rule, tokens)) return []
    const grant = {
      effect: rule.effect,
      actions: rule.actions,
      resources: resourcesOf(rule),
      conditional: rule.condition !== undefined,
      approvers: rule.approval?.anyOf ?? [],
      limits: limitsOf(rule),
    }
    return [{ ...grant, text: sentence(grant) }]
  })
}

/** Resources of a rule as the policy writes them; those of a bundle are its own affair, and listed in the reference. */
function resourcesOf(rule: Rule): readonly string[] {
  if (rule.actions.every((action) => action.startsWith('bundle:'))) return []
  const texts = rule.grants.flatMap(({ resources }) => resources?.map(({ text }) => text) ?? ['**'])
  return [...new Set(texts)]
}

function limitsOf({ limits, rate }: Rule): readonly string[] {
  return [
    ...(limits.rows === undefined ? [] : [`${limits.rows} rows`]),
    ...(limits.bytes === undefined ? [] : [formatBytes(limits.bytes)]),
    ...(limits.timeout === undefined ? [] : [`${formatDuration(limits.timeout)} per call`]),
    ...(limits.concurrency === undefined ? [] : [`${limits.concurrency} at a time`]),
    ...(rate === undefined ? [] : [`${rate.max} calls per ${formatDuration(rate.windowMs)}`]),
  ]
}

function sentence(grant: Omit<EffectiveGrant, 'text'>): string {
  const resources = grant.resources.map((text) => (text === '**' ? 'anything' : text === '-' ? 'no resource' : text))
  const approval = grant.effect === 'allow' ? '' : `, after approval by ${grant.approvers.join(' or ')}`
  const condition = grant.conditional ? ', under a condition' : ''
  const limits = grant.limits.length === 0 ? '' : `; at most ${grant.limits.join(', ')}`
  const on = resources.length === 0 ? '' : ` on ${resources.join(', ')}`
  return `${grant.actions.join(', ')}${on}${condition}${approval}${limits}`
}
