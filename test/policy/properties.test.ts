import * as fc from 'fast-check'
import { describe, expect, it } from 'vitest'
import type { Part } from '../../src/core/action.ts'
import { decide } from '../../src/policy/decide.ts'
import { compileGlob } from '../../src/policy/glob.ts'
import { loadPolicy } from '../../src/policy/load.ts'
import { splitSqlName } from '../../src/policy/sql-name.ts'
import { readYaml } from '../../src/policy/yaml.ts'
import { KNOWN, load, question, rules, sql } from './kit.ts'

const verbs = ['select', 'insert', 'update', 'delete', 'drop', 'unknown']
const resources = ['public.orders', 'public.customers(id,name)', 'public.*', 'ref.*', '*.*', '-', '**']

const ruleLine = fc
  .record({
    effect: fc.constantFrom('allow', 'deny', 'require_approval'),
    principals: fc.constantFrom('["*"]', '[group:agents]', '[group:dba]', '["kind:agent", "id:x"]'),
    unless: fc.constantFrom(undefined, '[group:dba]', '[group:agents]'),
    actions: fc.constantFrom('["sql.*"]', '[sql.select]', '[class:write]', '[sql.update, sql.delete]', '[sql.unknown]'),
    resources: fc.subarray(resources, { minLength: 1 }),
    when: fc.constantFrom(undefined, 'part.has_where', "!('price' in part.columns_written)", '1 / part.estimate > 0'),
  })
  .map(
    (spec) => (id: string) =>
      `{id: ${id}, effect: ${spec.effect}, principals: ${spec.principals}, actions: ${spec.actions}, resources: ${JSON.stringify(spec.resources)}` +
      (spec.unless === undefined ? '' : `, unless: ${spec.unless}`) +
      (spec.when === undefined || spec.actions.includes('unknown') ? '' : `, when: ${JSON.stringify(spec.when)}`) +
      (spec.effect === 'require_approval' ? ', approvers: {any_of: [group:dba]}' : '') +
      '}',
  )

const ruleLines = fc
  .array(ruleLine, { maxLength: 8 })
  .map((makers) => makers.map((make, index) => make(`rule-${String.fromCodePoint(97 + ((index * 5) % 26))}${index}`)))

const part: fc.Arbitrary<Part> = fc
  .record({
    verb: fc.constantFrom(...verbs),
    resource: fc.constantFrom(
      'public.orders(id)',
      'public.customers(id,ssn)',
      'public.customers(id)',
      'ref.x',
      'public.orders',
      '-',
    ),
    attributes: fc.record(
      { has_where: fc.boolean(), columns_written: fc.constant(['price']), estimate: fc.constantFrom(0, 5) },
      { requiredKeys: [] },
    ),
  })
  .map((spec) => sql(spec.verb, spec.resource, spec.attributes))

const parts = fc.array(part, { maxLength: 4 })

describe('decisions', () => {
  it('C5: an allow never turns a deny by a rule into anything else', () => {
    fc.assert(
      fc.property(ruleLines, ruleLine, parts, (lines, maker, actionParts) => {
        const before = decide(load(rules(...lines)), question(actionParts))
        fc.pre(before.effect === 'deny' && before.rules.length > 0)
        const allow = maker('zz-added')
          .replace(/effect: \w+/, 'effect: allow')
          .replace(/, approvers: .*\}\}$/, '}')
        const after = decide(load(rules(...lines, allow)), question(actionParts))
        expect(after.effect).toBe('deny')
      }),
      { numRuns: 150 },
    )
  })

  it('C5: a deny never makes a decision weaker', () => {
    const rank = { allow: 0, require_approval: 1, deny: 2 }
    fc.assert(
      fc.property(ruleLines, ruleLine, parts, (lines, maker, actionParts) => {
        const before = decide(load(rules(...lines)), question(actionParts))
        const deny = maker('zz-added')
          .replace(/effect: \w+/, 'effect: deny')
          .replace(/, approvers: .*\}\}$/, '}')
        const after = decide(load(rules(...lines, deny)), question(actionParts))
        expect(rank[after.effect]).toBeGreaterThanOrEqual(rank[before.effect])
      }),
      { numRuns: 150 },
    )
  })

  it('C5: do not depend on the order of rules or on how they are spread over files', () => {
    fc.assert(
      fc.property(ruleLines, parts, fc.nat(8), (lines, actionParts, cut) => {
        const one = decide(load(rules(...lines)), question(actionParts))
        const split = [lines.slice(cut).toReversed(), lines.slice(0, cut)].filter((list) => list.length > 0)
        const files = split.map((list, index) => ({ path: `${index}.yaml`, text: rules(...list) }))
        const { policy } = loadPolicy(files, KNOWN)
        if (policy === undefined) throw new Error('does not load')
        expect(decide(policy, question(actionParts))).toEqual(one)
      }),
      { numRuns: 150 },
    )
  })

  it('C3: no rules, no allow', () => {
    fc.assert(
      fc.property(parts, (actionParts) => {
        expect(decide(load(rules()), question(actionParts)).effect).toBe('deny')
      }),
    )
  })

  it('C3: an action is never judged milder than the strictest of its parts alone', () => {
    const rank = { allow: 0, require_approval: 1, deny: 2 }
    fc.assert(
      fc.property(ruleLines, fc.array(part, { minLength: 1, maxLength: 4 }), (lines, actionParts) => {
        const policy = load(rules(...lines))
        const alone = actionParts.map((single) => rank[decide(policy, question([single])).effect])
        expect(rank[decide(policy, question(actionParts)).effect]).toBe(Math.max(...alone))
      }),
      { numRuns: 150 },
    )
  })
})

describe('parsers of names, globs and files', () => {
  it('never throw, whatever the text', () => {
    fc.assert(
      fc.property(fc.string({ unit: 'binary', maxLength: 200 }), (text) => {
        splitSqlName(text)
        readYaml({ path: 'x', text })
        const { policy, problems } = loadPolicy([{ path: 'x', text }], KNOWN)
        expect(policy === undefined).toBe(problems !== undefined && problems.length > 0)
      }),
    )
  })

  it('globs match as a backtracking regular expression would', () => {
    const word = fc.string({ unit: fc.constantFrom('a', 'b'), maxLength: 8 })
    const pattern = fc.string({ unit: fc.constantFrom('a', 'b', '*'), maxLength: 6 })
    fc.assert(
      fc.property(pattern, word, (glob, text) => {
        expect(compileGlob(glob)(text)).toBe(new RegExp(`^${glob.replaceAll('*', '.*')}$`).test(text))
      }),
      { numRuns: 2000 },
    )
  })

  it('quoting protects what is inside: a name never has more segments than it should', () => {
    fc.assert(
      fc.property(fc.string({ unit: 'binary', maxLength: 20 }), (inner) => {
        const quoted = `"${inner.replaceAll('"', '""')}"`
        expect(splitSqlName(`public.${quoted}`)?.segments).toEqual(['public', inner])
      }),
    )
  })
})
