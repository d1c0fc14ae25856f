import type { Principal } from '../core/principal.ts'
import type { Target } from '../core/target.ts'
import { decide } from '../policy/decide.ts'
import type { Policy } from '../policy/policy.ts'
import type { Problem } from '../policy/problem.ts'
import type { Rule } from '../policy/rule.ts'
import { selects } from '../policy/principals.ts'
import type { SshOptions } from '../protocols/ssh/options.ts'
import { planSsh } from '../protocols/ssh/plan.ts'
import { exampleOperands, waysAround } from '../protocols/ssh/ways-around.ts'

/** Ways that are shown of one rule. */
const SHOWN = 3
/** Verbs a deny-list of programs speaks of. */
const COMMANDS = ['ssh.exec', 'ssh.code', 'ssh.wrap']

/**
 * Finds rules that deny commands by name beside rules that allow so much that the same can be had otherwise, and says
 * how. Each way that is named was planned as a call would be and decided under this very policy, for a caller who is
 * denied the command itself: nothing is named that would not be allowed.
 *
 * @param now milliseconds since 1970.
 */
export function denyLists(policy: Policy, targets: readonly Target[], now: number): readonly Problem[] {
  const hosts = targets.filter(({ protocol }) => protocol === 'ssh')
  return policy.rules.flatMap((rule) => {
    if (rule.effect !== 'deny') return []
    for (const target of hosts) {
      if (!selects(rule.targets, target)) continue
      for (const argv of examplesOf(rule)) {
        const found = aroundOf(argv, rule, target, policy, now)
        if (found !== undefined) return [{ ...rule.source, message: messageOf(rule, target, argv, found) }]
      }
    }
    return []
  })
}

function messageOf(rule: Rule, target: Target, argv: readonly string[], ways: readonly string[]): string {
  const shown = ways.map((way, index) => `(${index + 1}) ${way}`).join('  ')
  return `Rule "${rule.id}" denies commands by name, which stops nobody who may run so much else. On ${target.name}, "${argv.join(' ')}" is denied and this policy allows: ${shown}. List what may run instead.`
}

/** One command for each pattern of words the rule denies. */
function examplesOf(rule: Rule): readonly (readonly string[])[] {
  return rule.grants.flatMap(({ verbs, resources }) =>
    COMMANDS.some((verb) => verbs.has(verb))
      ? (resources ?? []).flatMap(({ types, text }) => (types.join() === 'argv' ? [exampleOf(text)] : []))
      : [],
  )
}

type PatternWord = string | { readonly in?: readonly string[]; readonly match?: string; readonly rest?: string }

/** A command an argv pattern matches. The pattern's text is its words as JSON. */
function exampleOf(text: string): readonly string[] {
  const words = (JSON.parse(text) as readonly PatternWord[]).flatMap((word, index, all): readonly string[] => {
    if (typeof word === 'string') return [word === '*' ? 'x' : word]
    if (word.match !== undefined) return [word.match.replaceAll('*', 'x')]
    if (word.rest === undefined) return word.in?.slice(0, 1) ?? []
    const [first] = all
    return word.rest === 'any' && index === 1 && typeof first === 'string' ? exampleOperands(first) : []
  })
  return words
}

function aroundOf(
  argv: readonly string[],
  rule: Rule,
  target: Target,
  policy: Policy,
  now: number,
): readonly string[] | undefined {
  const { user, shell } = target.options as SshOptions
  for (const principal of callersOf(rule, target, policy)) {
    const decided = (payload: object) => {
      const input = { options: { user, shell }, masks: policy.masksFor(principal, target), hasInput: false }
      const { action } = planSsh({ kind: 'exec', ...payload }, input)
      return decide(policy, {
        principal,
        // What is only observed is allowed anyway; what is asked is what the rules say.
        target: { ...target, mode: 'enforce' },
        session: { id: 'check', door: 'mcp' },
        action,
        now,
      })
    }
    const own = decided({ argv })
    if (own.effect !== 'deny' || !own.rules.includes(rule.id)) continue
    const ways = waysAround(argv).filter((command) => decided({ command }).effect === 'allow')
    if (ways.length > 0) return ways.slice(0, SHOWN)
  }
  return undefined
}

/** Callers whom this rule and one that allows something both name. */
function callersOf(rule: Rule, target: Target, policy: Policy): readonly Principal[] {
  const denied = rule.principals ?? ['*']
  const allowed = policy
    .forTarget(target)
    .rules.flatMap(({ effect, principals }) => (effect === 'allow' ? (principals ?? ['*']) : []))
  const pairs = denied.flatMap((one) => [...new Set(allowed)].map((other) => [one, other]))
  return pairs.slice(0, CALLERS_MAX).map(callerOf)
}

/** Pairs of names that are tried for one rule. */
const CALLERS_MAX = 64

function callerOf(names: readonly string[]): Principal {
  const values = (prefix: string): readonly string[] =>
    names.flatMap((name) => (name.startsWith(prefix) ? [name.slice(prefix.length)] : []))
  const kind = values('kind:')[0]
  return {
    id: values('id:')[0] ?? 'somebody',
    kind: kind === 'person' || kind === 'service' ? kind : 'agent',
    groups: values('group:'),
    roles: ['caller'],
    owner: 'somebody',
  }
}
