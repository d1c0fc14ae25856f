import { describe, expect, it } from 'vitest'
import { isOpenTo } from '../../src/policy/open.ts'
import { AGENT, DB, load, PERSON, rules, WEB } from './kit.ts'

const ALL =
  '{id: scratch, effect: allow, principals: [group:agents], actions: ["sql.*", "sql.copy.*", sql.unknown], resources: ["**"]}'
const OTHERS = '{id: read, effect: allow, principals: ["*"], actions: [sql.select], resources: [public.orders]}'

const open = (text: string, principal = AGENT): boolean => isOpenTo(load(text), principal, DB)

describe('a target is open to a caller', () => {
  it('whom one rule allows everything, what is not understood included', () => {
    expect(open(rules(ALL))).toBe(true)
    expect(open(rules(ALL, OTHERS))).toBe(true)
  })

  it('whatever rules say that are about somebody else', () => {
    expect(open(rules(ALL, '{id: no, effect: deny, principals: [group:dba], actions: [sql.drop]}'))).toBe(true)
    expect(open(rules(ALL), PERSON)).toBe(false)
  })

  it.each([
    ['without sql.unknown', [ALL.replace(', sql.unknown', '')]],
    ['without one verb', [ALL.replace('"sql.*", ', '')]],
    ['on named resources', [ALL.replace('"**"', '"public.*", "-"')]],
    ['with a condition', [ALL.replace('{id', '{when: "true", id')]],
    ['with a limit', [ALL.replace('{id', '{limits: {rows: 5}, id')]],
    ['with a rate', [ALL.replace('{id', '{limits: {rate: 5/min}, id')]],
    ['beside a rule that denies', [ALL, '{id: no, effect: deny, actions: [sql.drop]}']],
    ['beside a rule that limits', [ALL, OTHERS.replace('{id', '{limits: {timeout: 5s}, id')]],
    [
      'beside a rule that asks',
      [ALL, OTHERS.replace('effect: allow', 'effect: require_approval, approvers: {any_of: [group:dba]}')],
    ],
    ['unless it is this caller', [ALL.replace('{id', '{unless: [id:bot], id')]],
  ])('never %s', (_, lines) => {
    expect(open(rules(...lines))).toBe(false)
  })

  it.each([
    ['masks, even for others', 'masks: [{columns: [public.a.b], transform: redact, unless: [group:agents]}]'],
    ['detectors', 'masks: [{detect: [email], transform: redact}]'],
    ['budgets', 'budgets: [{id: b, per: [principal], actions: [sql.drop], max: 5, window: 1h, on_exceed: deny}]'],
  ])('never with %s', (_, more) => {
    expect(open(`${rules(ALL)}${more}\n`)).toBe(false)
  })

  it('never because of what is allowed on targets of another kind', () => {
    const ssh =
      '{id: all, effect: allow, principals: ["*"], actions: [ssh.exec, ssh.unknown], resources: ["**"], targets: [web]}'
    expect(isOpenTo(load(rules(ALL, ssh)), AGENT, WEB)).toBe(true)
    expect(isOpenTo(load(rules(ALL, ssh)), PERSON, DB)).toBe(false)
  })
})
