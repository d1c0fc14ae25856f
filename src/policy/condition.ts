import { celEnv, parse, plan } from '@bufbuild/cel'
import { RE2JS } from 're2js'
import { checkExpression, ConditionError, type Findings } from './condition-check.ts'
import { renderKind, type CelKind } from './condition-types.ts'
import { compileDirect } from './condition-direct.ts'
import { UNREADABLE_WHY, type Facts } from './facts.ts'

/** Longer conditions are refused; the parser's cost grows faster than its input. */
const CONDITION_LENGTH_MAX = 4000

/** A compiled condition. Anything but `true` and `false` means that it did not hold up (C6). */
export interface Condition {
  readonly text: string
  /** Fields it reads, such as `part.has_where`. */
  readonly reads: ReadonlySet<string>
  /** Those it asks for with `has()`. */
  readonly guarded: ReadonlySet<string>
  evaluate(facts: Facts): boolean | { readonly failed: string }
}

/** Why a text is no condition; `offset` counts characters from 0. */
export interface ConditionProblem {
  readonly message: string
  readonly offset: number
}

const environment = celEnv()

/** Parses, type-checks and plans a condition. */
export function compileCondition(
  text: string,
  variables: ReadonlyMap<string, CelKind>,
): { readonly condition: Condition } | { readonly problem: ConditionProblem } {
  if (text.length > CONDITION_LENGTH_MAX) {
    return { problem: { message: `The condition is longer than ${CONDITION_LENGTH_MAX} characters.`, offset: 0 } }
  }
  let parsed
  try {
    parsed = parse(text)
  } catch (error) {
    return { problem: syntaxProblem(error) }
  }
  const findings: Findings = { patterns: new Set(), reads: new Set(), guarded: new Set() }
  const positions = parsed.sourceInfo?.positions ?? {}
  try {
    const kind = checkExpression(parsed.expr, variables, findings)
    if (kind.kind !== 'bool' && kind.kind !== 'dyn') {
      throw new ConditionError(0n, `A condition is true or false; this is a ${renderKind(kind)}.`)
    }
    const evaluate = plan(environmentFor(findings.patterns), parsed.expr)
    const direct = compileDirect(parsed.expr)
    return {
      condition: {
        text,
        reads: findings.reads,
        guarded: findings.guarded,
        evaluate(facts) {
          const short = direct?.(facts)
          if (short !== undefined) return short
          const result = evaluate(facts)
          if (result === true || result === false) return result
          return { failed: whyFailed(result, text) }
        },
      },
    }
  } catch (error) {
    const node = error instanceof ConditionError ? error.node : 0n
    const message = error instanceof Error ? error.message : 'The condition cannot be compiled.'
    return { problem: { message, offset: positions[node.toString()] ?? 0 } }
  }
}

/** Patterns are literals, compiled at load; the evaluator never compiles one while calls wait. */
function environmentFor(patterns: ReadonlySet<string>): typeof environment {
  if (patterns.size === 0) return environment
  const compiled = new Map<string, RE2JS>()
  for (const pattern of patterns) {
    try {
      compiled.set(pattern, RE2JS.compile(pattern))
    } catch {
      throw new ConditionError(0n, `"${pattern}" is not a pattern in RE2 syntax.`)
    }
  }
  return celEnv({
    re2: {
      compile(pattern) {
        const known = compiled.get(pattern)
        if (known === undefined) throw new Error('The pattern was not compiled at load.')
        return { test: (text) => known.test(text) }
      },
    },
  })
}

/** Says why without quoting values: the evaluator puts what it could not convert into its messages. */
function whyFailed(result: unknown, text: string): string {
  if (!(result instanceof Error)) return 'it is neither true nor false'
  if (result.message === UNREADABLE_WHY) return UNREADABLE_WHY
  const field = /^field not found: (\w+)$/.exec(result.message)?.[1]
  if (field !== undefined && text.includes(field)) return `there is no "${field}" to read`
  if (result.message.startsWith('found no matching overload')) return 'a value has an unexpected type'
  return 'its evaluation failed'
}

function syntaxProblem(error: unknown): ConditionProblem {
  if (error instanceof RangeError) return { message: 'The condition is nested too deeply.', offset: 0 }
  const detail = error as {
    readonly rawMessage?: unknown
    readonly location?: { readonly start?: { offset?: unknown } }
  }
  const message = typeof detail.rawMessage === 'string' ? detail.rawMessage : 'it cannot be parsed'
  const offset = detail.location?.start?.offset
  return { message: `This is not CEL: ${message}.`, offset: typeof offset === 'number' ? offset : 0 }
}
