import * as fc from 'fast-check'
import { describe, expect, it } from 'vitest'
import { decide, type Question } from '../../src/policy/decide.ts'
import { decideAgain } from '../../src/policy/remembered.ts'
import { AGENT, DB, load, PERSON, principal, question, rules, sql, target } from './kit.ts'

const READ = '{id: read, effect: allow, principals: [group:agents], actions: [sql.select], resources: ["public.*"]}'
const NO_READ = '{id: stop, effect: deny, actions: [sql.select]}'
const BEFORE_NOON = `{id: morning, effect: deny, actions: [sql.select], when: "context.now >= timestamp('2026-01-01T12:00:00Z')"}`
const OVER_MCP = `{id: door, effect: deny, actions: [sql.select], when: "session.door == 'mcp'"}`
const WITH_WHERE = '{id: where, effect: deny, actions: [sql.update], when: "!part.has_where"}'
const ASKED = `{id: ask, effect: require_approval, principals: ["*"], actions: [sql.update], resources: ["**"], approvers: {any_of: [group:dba]}}`
const LIMITED = `{id: few, effect: allow, principals: [group:agents], actions: [sql.update], resources: ["**"], limits: {rows: 5, rate: 3/min}}`
const MASK = 'masks:\n  - {columns: [public.customers.ssn], transform: redact, unless: [group:dba]}\n'

describe('C8: a remembered decision', () => {
  it('C8: is the one that would be made, whoever asks, whatever, when, and under which policy', () => {
    const policies = fc
      .tuple(fc.subarray([READ, NO_READ, BEFORE_NOON, OVER_MCP, WITH_WHERE, ASKED, LIMITED]), fc.boolean())
      .map(([lines, isMasked]) => load(`${rules(...lines)}${isMasked ? MASK : ''}`))
    const actions = fc
      .array(
        fc
          .tuple(
            fc.constantFrom('select', 'update', 'unknown'),
            fc.constantFrom('public.orders(id)', 'public.customers(id,ssn)', '-'),
            fc.boolean(),
          )
          .map(([verb, resource, hasWhere]) => sql(verb, resource, verb === 'update' ? { has_where: hasWhere } : {})),
        { maxLength: 3 },
      )
      .map((parts) => question(parts).action)
    const asks = fc.record({
      principal: fc.constantFrom(AGENT, PERSON, principal({ groups: ['agents', 'dba'] })),
      target: fc.constantFrom(DB, target('db', 'postgres', { mode: 'observe' })),
      now: fc.constantFrom(Date.parse('2026-01-01T11:00:00Z'), Date.parse('2026-01-01T13:00:00Z')),
      door: fc.constantFrom('mcp', 'postgres'),
      isRefused: fc.boolean(),
      at: fc.nat(1),
      under: fc.nat(1),
    })
    fc.assert(
      fc.property(
        fc.array(policies, { minLength: 2, maxLength: 2 }),
        fc.array(actions, { minLength: 2, maxLength: 2 }),
        fc.array(asks, { minLength: 1, maxLength: 30 }),
        (both, kinds, series) => {
          for (const { at, under, door, isRefused, ...more } of series) {
            const policy = both[under]
            const action = kinds[at]
            if (policy === undefined || action === undefined) throw new Error('There are two of each.')
            const asked: Question = {
              ...question([]),
              ...more,
              action,
              session: { id: 's', door },
              ...(isRefused && { refused: { construct: 'sql.x', message: 'No.' } }),
            }
            expect(decideAgain(policy, asked)).toEqual(decide(policy, asked))
          }
        },
      ),
      { numRuns: 60 },
    )
  })

  it('C8: is not made a second time for the very same question', () => {
    const policy = load(rules(READ))
    const asked = question([sql('select', 'public.orders(id)')])
    expect(decideAgain(policy, asked)).toBe(decideAgain(policy, { ...asked, now: asked.now + 60_000 }))
  })

  it('C2: is forgotten with the policy: the next one decides anew', () => {
    const asked = question([sql('select', 'public.orders(id)')])
    expect(decideAgain(load(rules(READ)), asked).effect).toBe('allow')
    expect(decideAgain(load(rules(READ, NO_READ)), asked).effect).toBe('deny')
  })

  it('C6: is not kept where a condition was asked: it may say otherwise the next time', () => {
    const policy = load(rules(READ, BEFORE_NOON))
    const asked = question([sql('select', 'public.orders(id)')])
    const at = (time: string): string => decideAgain(policy, { ...asked, now: Date.parse(time) }).effect
    expect([at('2026-01-01T11:59:00Z'), at('2026-01-01T12:00:00Z'), at('2026-01-01T11:59:00Z')]).toEqual([
      'allow',
      'deny',
      'allow',
    ])
  })

  it('C8: is the one of who asks: a login with other groups is another principal', () => {
    const policy = load(rules(READ))
    const asked = question([sql('select', 'public.orders(id)')])
    expect(decideAgain(policy, asked).effect).toBe('allow')
    expect(decideAgain(policy, { ...asked, principal: principal({ groups: [] }) }).effect).toBe('deny')
    expect(decideAgain(policy, asked).effect).toBe('allow')
  })
})
