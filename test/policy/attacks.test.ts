import { describe, expect, it } from 'vitest'
import { decide } from '../../src/policy/decide.ts'
import { compileGlob } from '../../src/policy/glob.ts'
import { decided, load, problemsOf, question, rules, sql } from './kit.ts'

const OPEN = '{id: open, effect: allow, principals: ["*"], actions: ["sql.*"], resources: ["**"]}'
const conditional = (effect: string, when: string): string =>
  `{id: cond, effect: ${effect}, principals: ["*"], actions: [sql.update], resources: ["**"], when: ${JSON.stringify(when)}}`

describe('names that look like others', () => {
  const deny = '{id: no, effect: deny, actions: ["sql.*"], resources: [public.secrets]}'
  const allow = '{id: yes, effect: allow, principals: ["*"], actions: ["sql.*"], resources: [public.orders]}'

  for (const name of [
    'PUBLIC.ORDERS',
    'public.orders ',
    ' public.orders',
    'public.orders\u0000',
    'public.ordérs',
    'publiс.orders',
    'public.orders\u200B',
    'public..orders',
    'public.orders.x',
    'x.public.orders',
    'public/orders',
    'public.orders(',
    'public.orders)',
    'public.orders()',
    'public."orders',
    'public.*',
    '*.*',
    '**',
    '-',
    '',
    '__proto__',
    'constructor',
  ]) {
    it(`allows public.orders and not ${JSON.stringify(name)}`, () => {
      const part = { verb: 'sql.select', resource: { type: 'sql', name, columns: [] }, attributes: {} } as const
      expect(decided([allow], [part]).effect).toBe('deny')
    })
  }

  it('denies a table also when the plan or the policy quotes what needs no quotes', () => {
    expect(decided([OPEN, deny], [sql('select', 'public."secrets"')]).effect).toBe('deny')
    const quoted = `{id: no, effect: deny, actions: ["sql.*"], resources: ['public."secrets"']}`
    expect(decided([OPEN, quoted], [sql('select', 'public.secrets')]).effect).toBe('deny')
  })

  it('denies by a pattern also when a name cannot be taken apart', () => {
    expect(decided([OPEN, deny], [sql('select', 'public."secrets')]).effect).toBe('deny')
  })

  it('matches a quoted star as a star and a quoted dot as a dot', () => {
    const starred = `{id: yes, effect: allow, principals: ["*"], actions: [sql.select], resources: ['public."*"']}`
    expect(decided([starred], [sql('select', 'public.orders')]).effect).toBe('deny')
    expect(decided([starred], [sql('select', 'public."*"')]).effect).toBe('allow')
    const dotted = `{id: yes, effect: allow, principals: ["*"], actions: [sql.select], resources: ['"public.orders".x']}`
    expect(decided([dotted], [sql('select', 'public.orders.x')]).effect).toBe('deny')
  })
})

describe('objects that are not what they seem', () => {
  it('reads attributes of the part only, never what JavaScript inherits', () => {
    for (const name of ['constructor', 'toString', '__proto__', 'hasOwnProperty']) {
      expect(problemsOf(rules(conditional('allow', `has(part.${name})`)))).toContain('has no')
      expect(problemsOf(rules(conditional('allow', `has(${name}.x)`)))).toContain('There is no')
    }
    const body = conditional(
      'allow',
      "has(part.body.constructor) || '__proto__' in part.body || has(part.body.toString)",
    )
    expect(decided([body], [sql('update', 'public.orders', { body: {} })]).effect).toBe('deny')
  })

  it('does not take attributes from a polluted prototype', () => {
    const attributes = Object.create({ has_where: true }) as Record<string, never>
    expect(decided([conditional('allow', 'part.has_where')], [sql('update', 'public.orders', attributes)]).effect).toBe(
      'deny',
    )
  })

  it('sees a key whose value is null: a deny on it holds', () => {
    for (const when of ['has(part.body.force)', "'force' in part.body"]) {
      const part = sql('update', 'public.orders', { body: { force: null } })
      expect(decided([OPEN, conditional('deny', when)], [part]).effect).toBe('deny')
    }
  })

  it('labels of a target cannot be inherited', () => {
    const rule =
      '{id: r, effect: allow, principals: ["*"], targets: [{labels: {toString: x}}], actions: [sql.select], resources: ["**"]}'
    expect(decide(load(rules(rule)), question([sql('select', 'public.orders')])).effect).toBe('deny')
  })
})

describe('costs', () => {
  const spent = (run: () => unknown): number => {
    const before = process.cpuUsage()
    run()
    const { user, system } = process.cpuUsage(before)
    return (user + system) / 1000
  }

  it('globs are not made to backtrack', () => {
    const glob = compileGlob(`${'a*'.repeat(200)}b`)
    expect(spent(() => glob('a'.repeat(20_000)))).toBeLessThan(500)
  })

  it('patterns of conditions are linear', () => {
    const rule = conditional('allow', "part.columns_read[0].matches('^(a+)+$')")
    const part = sql('update', 'public.orders', { columns_read: [`${'a'.repeat(5000)}!`] })
    expect(spent(() => decided([rule], [part]))).toBeLessThan(3000)
    expect(decided([rule], [part]).effect).toBe('deny')
  })

  for (const [name, when, expected] of [
    ['loops inside loops', 'part.columns_read.all(a, part.columns_read.all(b, a == b))', 'cannot be nested'],
    ['more text than a condition needs', `part.has_where ${'|| part.has_where '.repeat(300)}`, 'longer than 4000'],
    ['more nodes than a condition needs', `[${'1,'.repeat(1500)}1].size() > 0`, 'more than 400 nodes'],
    ['parentheses without end', `${'('.repeat(1900)}true${')'.repeat(1900)}`, 'nested'],
    ['nots without end', `${'!'.repeat(3000)}part.has_where`, ''],
    ['a shadowed variable', '[true].all(part, part)', '"part" is taken'],
  ] as const) {
    it(`refuses ${name}, quickly`, () => {
      let problems = ''
      expect(spent(() => (problems = problemsOf(rules(conditional('allow', when)))))).toBeLessThan(3000)
      expect(problems).toContain(expected)
    })
  }

  it('fails closed on lists too long to walk', () => {
    const rule = conditional('deny', "part.columns_read.exists(c, c == 'ssn')")
    const columns = Array.from({ length: 2001 }, (_, index) => `c${index}`)
    expect(decided([OPEN, rule], [sql('update', 'public.orders', { columns_read: columns })])).toMatchObject({
      effect: 'deny',
      rules: ['cond'],
    })
  })

  it('walks the longest lists it takes within bounds', () => {
    const rule = conditional('allow', 'part.columns_read.all(c, c in part.columns_written)')
    const columns = Array.from({ length: 1999 }, (_, index) => `c${index}`)
    const part = sql('update', 'public.orders', { columns_read: columns, columns_written: columns })
    let effect = ''
    expect(spent(() => (effect = decided([rule], [part]).effect))).toBeLessThan(5000)
    expect(effect).toBe('allow')
  })
})
