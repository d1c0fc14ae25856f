import { describe, expect, it } from 'vitest'
import { decided, problemsOf, rules, sql, warningsOf } from './kit.ts'

const ask = (id: string, more: string, actions = 'sql.update'): string =>
  `{id: ${id}, effect: require_approval, principals: [group:agents], actions: [${actions}], resources: ["**"],
      approvers: {any_of: [group:dba]${more}}}`
const PART = sql('update', 'public.orders(price)')

describe('C14: approve_in_tx', () => {
  it.each([
    ['says so', ', approve_in_tx: true', true],
    ['says that it is not', ', approve_in_tx: false', undefined],
    ['says nothing', '', undefined],
    [
      'says so of calls that it covers no others with',
      ', approve_in_tx: true, covers: {same_statement: true, for: 30m, uses: 20}',
      true,
    ],
  ])('is part of the requirement where the rule %s', (_, more, expected) => {
    const [approval] = decided([ask('one', more)], [PART]).approvals
    expect(approval?.inTransaction).toBe(expected)
    expect(approval).not.toHaveProperty('covers')
  })

  it('C5: is asked of each rule by itself', () => {
    const { approvals } = decided([ask('one', ', approve_in_tx: true'), ask('two', '')], [PART])
    expect(approvals.map(({ inTransaction }) => inTransaction)).toEqual([true, undefined])
  })

  it('warns that locks are held, at its place', () => {
    expect(warningsOf(rules(ask('one', ', approve_in_tx: true')))).toMatch(
      /p\.yaml:\d+:\d+.*stays locked while persons/s,
    )
  })

  it.each([
    ['other words than true and false', ask('one', ', approve_in_tx: 60s'), 'boolean'],
    ['a rule none of whose actions is SQL', ask('one', ', approve_in_tx: true', 'ssh.exec'), 'SQL'],
  ])('refuses at load %s', (_, rule, words) => {
    expect(problemsOf(rules(rule))).toContain(words)
  })

  it('refuses at load approve_in_tx of a budget and of a loop breaker', () => {
    const approvers = 'approvers: {any_of: [group:dba], approve_in_tx: true}'
    const budget = `budgets: [{id: b, per: [principal], actions: [sql.update], targets: ["*"], max: 5, window: 1h, on_exceed: require_approval, ${approvers}}]\n`
    const loop = `loops: [{id: l, actions: [sql.update], targets: ["*"], window: 1m, repeats: {warn: 2, stop: 3}, on_stop: require_approval, ${approvers}}]\n`
    for (const limit of [budget, loop]) expect(problemsOf(`${rules()}${limit}`)).toContain('inside a transaction')
  })
})
