import { describe, expect, it } from 'vitest'
import { decided, problemsOf, rules, sql, warningsOf } from './kit.ts'

const ask = (id: string, more: string): string =>
  `{id: ${id}, effect: require_approval, principals: [group:agents], actions: [sql.update], resources: ["**"],
      approvers: {any_of: [group:dba]${more}}}`
const PART = sql('update', 'public.orders(price)')

describe('self_confirm', () => {
  it.each([
    ['says so', ', self_confirm: true', true],
    ['says that it is not', ', self_confirm: false', undefined],
    ['says nothing', '', undefined],
  ])('is part of the requirement where the rule %s', (_, more, expected) => {
    const [approval] = decided([ask('one', more)], [PART]).approvals
    expect(approval?.selfConfirm).toBe(expected)
  })

  it('C5: is asked of each rule by itself', () => {
    const { approvals } = decided([ask('one', ', self_confirm: true'), ask('two', '')], [PART])
    expect(approvals.map(({ selfConfirm }) => selfConfirm)).toEqual([true, undefined])
  })

  it('warns that it proves no person, at its place', () => {
    expect(warningsOf(rules(ask('one', ', self_confirm: true')))).toMatch(/p\.yaml:\d+:\d+.*proves no person/su)
  })

  it.each([
    ['more than one person', ', count: 2'],
    ['a reason', ', reason_required: true'],
    ['an approval that covers further calls', ', covers: {same_statement: true, for: 30m, uses: 20}'],
    ['an approval inside a transaction', ', approve_in_tx: true'],
  ])('refuses at load that it is %s', (what, more) => {
    expect(problemsOf(rules(ask('one', `, self_confirm: true${more}`)))).toContain(`is never ${what}`)
  })

  it('refuses at load other words than true and false', () => {
    expect(problemsOf(rules(ask('one', ', self_confirm: always')))).toContain('boolean')
  })

  it('refuses at load that a caller lifts its own budget or loop breaker', () => {
    const approvers = 'approvers: {any_of: [group:dba], self_confirm: true}'
    const budget = `budgets: [{id: b, per: [principal], actions: [sql.update], targets: ["*"], max: 5, window: 1h, on_exceed: require_approval, ${approvers}}]\n`
    const loop = `loops: [{id: l, actions: [sql.update], targets: ["*"], window: 1m, repeats: {warn: 2, stop: 3}, on_stop: require_approval, ${approvers}}]\n`
    for (const limit of [budget, loop]) expect(problemsOf(`${rules()}${limit}`)).toContain('lift its own limit')
  })
})
