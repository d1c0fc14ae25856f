import { describe, expect, it } from 'vitest'
import type { Part } from '../../src/core/action.ts'
import { isCoverable } from '../../src/policy/coverable.ts'
import { vocabularyOf } from '../../src/policy/verbs.ts'
import { taxonomy as HTTP } from '../../src/protocols/http/taxonomy.ts'
import { taxonomy as K8S } from '../../src/protocols/kubernetes/taxonomy.ts'
import { taxonomy as SQL } from '../../src/protocols/postgres/taxonomy.ts'
import { taxonomy as SSH } from '../../src/protocols/ssh/taxonomy.ts'
import { decided, load, problemsOf, rules, sql } from './kit.ts'

const COVERS = 'covers: {same_statement: true, for: 30m, uses: 20}'
const ask = (actions: string, more = COVERS): string =>
  `{id: ask, effect: require_approval, principals: [group:agents], actions: [${actions}], resources: ["**"],
      approvers: {any_of: [group:dba], ${more}}}`

describe('covers: what the approval of a call may reach', () => {
  it('is part of the requirement, as the rule says it', () => {
    const decision = decided([ask('sql.update')], [sql('update', 'public.orders(price)', { has_where: true })])
    expect(decision.approvals[0]?.covers).toEqual({ forMs: 1_800_000, uses: 20 })
  })

  it('is this call only where the rule says nothing', () => {
    const decision = decided(
      [ask('sql.update', 'count: 1')],
      [sql('update', 'public.orders(price)', { has_where: true })],
    )
    expect(decision.approvals[0]).not.toHaveProperty('covers')
  })

  it('is this call only for a write that nothing narrows down, though the rule says more', () => {
    for (const attributes of [{ has_where: false }, {}]) {
      const decision = decided([ask('sql.update')], [sql('update', 'public.orders(price)', attributes)])
      expect(decision.effect).toBe('require_approval')
      expect(decision.approvals[0]).not.toHaveProperty('covers')
    }
  })

  const attacks: readonly (readonly [string, string])[] = [
    ['covers nothing else than statements', 'covers: {same_statement: false, for: 30m, uses: 20}'],
    ['covers without same_statement', 'covers: {for: 30m, uses: 20}'],
    ['covers without a time', 'covers: {same_statement: true, uses: 20}'],
    ['covers without uses', 'covers: {same_statement: true, for: 30m}'],
    ['more than a day', 'covers: {same_statement: true, for: 2d, uses: 20}'],
    ['more than a thousand', 'covers: {same_statement: true, for: 30m, uses: 1001}'],
    ['one use', 'covers: {same_statement: true, for: 30m, uses: 1}'],
    ['words it does not know', 'covers: {same_statement: true, for: 30m, uses: 20, without_where: true}'],
  ]
  it.each(attacks)('refuses at load: %s', (_what, more) => {
    expect(problemsOf(rules(ask('sql.update', more)))).not.toBe('')
  })

  it('refuses at load a rule none of whose actions can be covered', () => {
    expect(problemsOf(rules(ask('sql.drop')))).toContain('covered')
    expect(problemsOf(rules(ask('class:exec, sql.unknown')))).toContain('covered')
    expect(load(rules(ask('sql.drop, sql.update'))).rules).toHaveLength(1)
  })

  it('refuses at load covers of a budget', () => {
    const budget = `budgets:
  - {id: b, per: [principal], actions: [sql.update], targets: ["*"], max: 5, window: 1h, on_exceed: require_approval,
     approvers: {any_of: [group:dba], ${COVERS}}}
`
    expect(problemsOf(`${rules()}${budget}`)).toContain('beyond a limit')
  })
})

describe('covers: what no rule can widen', () => {
  const vocabulary = vocabularyOf([SQL, SSH, K8S, HTTP])
  const part = (verb: string, attributes: Part['attributes'] = {}): Part => {
    return { verb, resource: { type: 'none' }, attributes: { has_where: true, ...attributes } }
  }
  const one = { statement_count: 1 }

  it('DDL, DCL, administration, programs, sessions and what is not understood, of every protocol', () => {
    for (const { verb, class: kind } of vocabulary.verbs.values()) {
      const isCovered = isCoverable({ parts: [part(verb)], attributes: one }, vocabulary)
      const mayBe = (kind === 'read' || kind === 'write') && verb !== 'sql.lock_table'
      expect([verb, isCovered]).toEqual([verb, mayBe])
      // Beside a part that may be covered, too.
      const beside = isCoverable({ parts: [part('sql.update'), part(verb)], attributes: one }, vocabulary)
      expect([verb, beside]).toEqual([verb, mayBe])
    }
  })

  it.each([
    'sql.create',
    'sql.alter',
    'sql.drop',
    'sql.truncate',
    'sql.grant',
    'sql.server',
    'sql.set',
    'sql.set_role',
    'sql.call',
    'sql.do',
    'sql.copy',
    'sql.prepare',
    'sql.unknown',
    'ssh.exec',
    'ssh.shell',
    'ssh.forward',
    'k8s.exec',
    'k8s.attach',
    'k8s.portforward',
    'k8s.deletecollection',
    'k8s.token',
    'http.upgrade',
    'no.such.verb',
  ])('%s is asked about each time', (verb) => {
    expect(isCoverable({ parts: [part(verb)], attributes: one }, vocabulary)).toBe(false)
  })

  it('several statements, and none', () => {
    expect(isCoverable({ parts: [part('sql.update')], attributes: { statement_count: 2 } }, vocabulary)).toBe(false)
    expect(isCoverable({ parts: [], attributes: one }, vocabulary)).toBe(false)
  })

  it('a write without WHERE; what the catalog adds to one with a WHERE is as narrow as that', () => {
    for (const verb of ['sql.update', 'sql.delete', 'sql.merge']) {
      const wide = part(verb, { has_where: false, via: '' })
      expect(isCoverable({ parts: [wide], attributes: one }, vocabulary)).toBe(false)
    }
    const cascade = part('sql.delete', { has_where: false, via: 'cascade' })
    expect(isCoverable({ parts: [part('sql.delete'), cascade], attributes: one }, vocabulary)).toBe(true)
  })
})
