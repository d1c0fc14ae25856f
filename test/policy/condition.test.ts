import { celEnv, parse, plan } from '@bufbuild/cel'
import * as fc from 'fast-check'
import { describe, expect, it } from 'vitest'
import type { AttributeValue, Part } from '../../src/core/action.ts'
import { compileDirect } from '../../src/policy/condition-direct.ts'
import { compileCondition } from '../../src/policy/condition.ts'
import { partFacts, sharedFacts, variablesFor, type Facts } from '../../src/policy/facts.ts'
import { vocabularyOf } from '../../src/policy/verbs.ts'
import { KNOWN, principal, question, sql } from './kit.ts'

const vocabulary = vocabularyOf(KNOWN.taxonomies)
const variables = variablesFor(['sql.update'], vocabulary)

function factsOf(part: Part): Facts {
  const asked = question([part], { principal: principal({ groups: ['agents', 'x'] }) })
  const shared = sharedFacts(asked, vocabulary)
  const facts = typeof shared === 'string' ? shared : partFacts(part, shared, vocabulary)
  if (typeof facts === 'string') throw new Error(facts)
  return facts
}

function evaluate(text: string, attributes: Record<string, AttributeValue> = {}): unknown {
  const result = compileCondition(text, variables)
  if ('problem' in result) throw new Error(result.problem.message)
  return result.condition.evaluate(factsOf(sql('update', 'public.orders(total)', attributes)))
}

describe('conditions', () => {
  for (const [text, expected] of [
    ["part.verb == 'sql.update' && part.resource == 'public.orders'", true],
    ["part.columns == ['total']", true],
    ["'total' in part.columns", true],
    ["action.verbs.all(v, v == 'sql.update') && action.statement_count == 1", true],
    ["principal.id == 'bot' && principal.kind == 'agent' && 'agents' in principal.groups", true],
    ["principal.owner == 'maria' && principal.acts_for == ''", true],
    ["target.name == 'db' && target.labels.env == 'prod' && !has(target.labels.tier)", true],
    ["session.door == 'mcp' && session.run == ''", true],
    ["context.now > timestamp('2026-01-01T00:00:00Z') && context.now.getDayOfWeek() == 1", true],
    ["context.now.getHours('Asia/Tokyo') == 19", true],
    ["part.verb.matches('upd')", true],
    ["part.verb.matches('^upd')", false],
    ['has(part.has_where)', false],
    ['has(part.has_where) && part.has_where', false],
  ] as const) {
    it(`${text} is ${expected}`, () => expect(evaluate(text)).toBe(expected))
  }

  it('C6: an error on one side does not matter when the other side decides', () => {
    expect(evaluate('part.has_where || true')).toBe(true)
    expect(evaluate('part.has_where && false')).toBe(false)
    expect(evaluate('part.has_where && true')).toEqual({ failed: 'there is no "has_where" to read' })
  })
})

describe('the short way through a condition', () => {
  const leaf = fc.constantFrom(
    'part.has_where',
    'part.estimate < 5',
    '5 >= part.estimate',
    'part.estimate == 3',
    'part.estimate != part.estimate',
    "part.verb == 'sql.update'",
    "principal.id != 'bot'",
    "'price' in part.columns_written",
    'part.verb in part.columns_written',
    "'x' in principal.groups",
    "'total' in part.columns",
    'dyn(part.verb) == 3',
    'part.has_where == true',
    'true',
    'has(part.estimate)',
    'part.estimate < 2.5',
    "part.body.x == 'price'",
    'part.body == {}',
    'target.observed',
  )
  const { expression } = fc.letrec<{ expression: string }>((tie) => ({
    expression: fc.oneof(
      { maxDepth: 4 },
      leaf,
      tie('expression').map((inner) => `!(${inner})`),
      fc
        .tuple(tie('expression'), fc.constantFrom('&&', '||'), tie('expression'))
        .map(([a, op, b]) => `(${a}) ${op} (${b})`),
    ),
  }))
  const attributes = fc.record(
    {
      has_where: fc.boolean(),
      estimate: fc.integer({ min: 0, max: 8 }),
      columns_written: fc.subarray(['price', 'sql.update', 'total']),
      columns: fc.constant(['forged']),
      body: fc.constantFrom<Record<string, string>>({}, { x: 'price' }),
    },
    { requiredKeys: [] },
  )

  it('C6: answers as the CEL evaluator does, or not at all', () => {
    let answered = 0
    fc.assert(
      fc.property(expression, attributes, (text, values) => {
        const facts = factsOf(sql('update', 'public.orders(total)', values))
        const { expr } = parse(text)
        const short = compileDirect(expr)?.(facts)
        if (short === undefined) return
        answered++
        expect(plan(celEnv(), expr)(facts)).toBe(short)
      }),
      { numRuns: 3000 },
    )
    expect(answered).toBeGreaterThan(500)
  })
})
