import { describe, expect, it } from 'vitest'
import { SallyportError } from '../../src/core/errors.ts'
import { decide } from '../../src/policy/decide.ts'
import { explainJsonl, LINE_BYTES_MAX, type ExplainDeps } from '../../src/policy/explain-jsonl.ts'
import { explain, renderExplanation } from '../../src/policy/explain.ts'
import { runFixtures } from '../../src/policy/fixtures.ts'
import { formatProblems } from '../../src/policy/problem.ts'
import { AGENT, DB, load, principal, question, rules, sql } from './kit.ts'

const POLICY = load(
  rules(
    '{id: read, effect: allow, principals: [group:agents], unless: [group:out], actions: [sql.select], resources: ["public.c(id)"], when: "part.has_where"}',
    '{id: dba, effect: allow, principals: [group:dba], actions: ["sql.*"], resources: ["**"]}',
    '{id: no-drop, effect: deny, actions: [sql.drop]}',
    '{id: other, effect: allow, principals: ["*"], actions: [sql.insert], resources: [public.log]}',
  ),
)

describe('explain', () => {
  const misses = (attributes: { has_where?: boolean }, resource: string, groups = ['agents']) =>
    explain(
      POLICY,
      question([sql('select', resource, attributes)], { principal: principal({ groups }) }),
    ).parts[0]?.near.map(({ rule, outcome }) => `${rule} ${outcome}`)

  it('says which rules came near and what kept them away', () => {
    expect(misses({ has_where: false }, 'public.c(id)')).toEqual(['read condition', 'dba principal'])
    expect(misses({ has_where: true }, 'public.c(id,ssn)')).toEqual(['read columns', 'dba principal'])
    expect(misses({ has_where: true }, 'public.c(id)', ['agents', 'out'])).toEqual(['read unless', 'dba principal'])
    expect(misses({}, 'public.log')).toEqual(['dba principal', 'read resource', 'other action'])
  })

  it('decides exactly as decide does', () => {
    const asked = question([sql('select', 'public.c(id)', { has_where: true }), sql('drop', '-')])
    expect(explain(POLICY, asked).decision).toEqual(decide(POLICY, asked))
  })

  it('is written for people, and cannot move their cursor', () => {
    const part = { verb: 'sql.select', resource: { type: 'sql', name: 'public."\u001b[2J"' }, attributes: {} } as const
    const text = renderExplanation(explain(POLICY, question([part])))
    expect(text).not.toContain('\u001b')
    expect(text).toContain('deny: No rule allows')
    expect(text).toContain('near: dba (p.yaml:4) is for other callers')
  })
})

describe('explain --jsonl', () => {
  const deps: ExplainDeps = {
    principalOf: ({ id, kind, groups }) => principal({ id, kind, groups }),
    judge: async (line, who) => {
      if (line.target !== 'db') throw new SallyportError('ERR_UNKNOWN_TARGET', `There is no target "${line.target}".`)
      if (line.arguments['crash'] === true) throw new TypeError('secret inside')
      const action = { parts: [sql('select', 'public.c(id)', { has_where: true })], attributes: {} }
      return { action, decision: decide(POLICY, { ...question([]), principal: who, target: DB, action }) }
    },
  }
  const call = (id: string, more: Record<string, unknown> = {}): string =>
    JSON.stringify({
      id,
      principal: { id: 'bot', kind: 'agent', groups: ['agents'] },
      target: 'db',
      tool: 'query_database',
      arguments: {},
      ...more,
    })

  async function run(chunks: readonly (string | Uint8Array)[]): Promise<Record<string, unknown>[]> {
    async function* input(): AsyncGenerator<Uint8Array> {
      for (const chunk of chunks) yield typeof chunk === 'string' ? Buffer.from(chunk) : chunk
    }
    const lines: Record<string, unknown>[] = []
    for await (const line of explainJsonl(input(), deps)) lines.push(JSON.parse(line) as Record<string, unknown>)
    return lines
  }

  it('answers a call with its decision and action', async () => {
    const [answer] = await run([`${call('1')}\n`])
    expect(Object.keys(answer ?? {})).toEqual(['id', 'effect', 'rules', 'reason', 'obligations', 'action'])
    expect(answer).toMatchObject({
      id: '1',
      effect: 'allow',
      rules: ['read'],
      action: { parts: [{ verb: 'sql.select' }] },
    })
  })

  it('answers every line, in order, and denies with a reason what it cannot read', async () => {
    const answers = await run([
      `${call('1')}\n`,
      'not json\n',
      Uint8Array.from([0x22, 0xff, 0x22, 0x0a]),
      '[]\nnull\n42\n',
      `${call('1')}\n`,
      `${call('2', { principal: { id: 'x', kind: 'robot' } })}\n`,
      `${call('3', { target: 'nowhere' })}\n`,
      `${call('4', { arguments: { crash: true } })}\n`,
      `${call('5', { extra: 1 })}\n`,
      '\n   \r\n',
      `{"__proto__": {"id": "6"}}\n`,
      call('7'),
    ])
    expect(answers.map(({ id, effect }) => `${String(id)} ${String(effect)}`)).toEqual([
      '1 allow',
      'null deny',
      'null deny',
      'null deny',
      'null deny',
      'null deny',
      '1 deny',
      '2 deny',
      '3 deny',
      '4 deny',
      '5 deny',
      'null deny',
      '7 allow',
    ])
    const reasons = answers.map(({ reason }) => String(reason))
    expect(reasons[1]).toBe('Line 2: it is not JSON.')
    expect(reasons[2]).toBe('Line 3: it is not UTF-8.')
    expect(reasons[6]).toContain('was used on an earlier line')
    expect(reasons[8]).toContain('There is no target "nowhere".')
    expect(reasons.join()).not.toContain('secret inside')
  })

  it('drops a line that is too long as it comes, and goes on with the next', async () => {
    const piece = 'x'.repeat(64 * 1024)
    const answers = await run([
      ...Array.from({ length: LINE_BYTES_MAX / piece.length + 2 }, () => piece),
      '\n',
      call('2'),
      '\n',
    ])
    expect(answers.map(({ id, effect }) => [id, effect])).toEqual([
      [null, 'deny'],
      ['2', 'allow'],
    ])
  })

  it('puts lines together however they are cut', async () => {
    const bytes = Buffer.from(`${call('é1')}\n${call('2')}\n`)
    const answers = await run([...bytes].map((byte) => Uint8Array.of(byte)))
    expect(answers.map(({ id }) => id)).toEqual(['é1', '2'])
  })
})

describe('fixtures', () => {
  const deps = { policy: POLICY, target: (name: string) => (name === 'db' ? DB : undefined) }
  const fixture = (expectation: string, more = ''): string =>
    `cases:\n  - name: one\n    principal: {groups: [agents]}\n    target: db\n    action: [{verb: sql.select, resource: public.c, columns: [id], attributes: {has_where: true}}]\n    expect: ${expectation}\n${more}`
  const run = async (text: string) => {
    const report = await runFixtures([{ path: 'x.test.yaml', text }], deps)
    return { ...report, text: formatProblems(report.failures) }
  }

  it('pass when everything expected holds', async () => {
    expect(await run(fixture('{effect: allow, rules: [read], reason: read, masks: []}'))).toMatchObject({
      passed: 1,
      text: '',
    })
  })

  for (const [expectation, message] of [
    ['{effect: deny}', 'x.test.yaml:2:5: one: expected deny, got allow'],
    ['{effect: allow, rules: [dba]}', 'expected the rules dba, got read.'],
    ['{effect: allow, reason: because}', 'expected a reason with "because"'],
    ['{effect: allow, masks: [public.c.ssn redact]}', 'expected the masks public.c.ssn redact, got (none).'],
    ['{effect: allow, hint: x}', 'expected a hint with "x"'],
    ['{effect: allow, rows: 5}', 'expected at most 5 rows, got no limit.'],
    ['{effect: allow, ruels: []}', 'x.test.yaml:6:13: Unrecognized key: "ruels"'],
  ] as const) {
    it(`fail at their line on ${expectation}`, async () =>
      expect((await run(fixture(expectation))).text).toContain(message))
  }

  it('fail when the target is unknown or a call cannot be planned here', async () => {
    expect((await run(fixture('{effect: allow}').replace('target: db', 'target: x'))).text).toContain('no target "x"')
    const call = fixture('{effect: allow}').replace(/action: .*/, 'call: {tool: query_database, arguments: {}}')
    expect((await run(call)).text).toContain('there is no catalog here')
  })

  it('plan calls with what is handed in', async () => {
    const call = fixture('{effect: allow, rules: [read]}').replace(
      /action: .*/,
      'call: {tool: query_database, arguments: {sql: x}}',
    )
    const plan = async () => ({
      action: { parts: [sql('select', 'public.c(id)', { has_where: true })], attributes: {} },
    })
    const report = await runFixtures([{ path: 'x.test.yaml', text: call }], { ...deps, plan })
    expect(report).toMatchObject({ passed: 1, failures: [] })
  })

  it('report the arms nobody exercised', async () => {
    const { uncovered } = await run(fixture('{effect: allow}'))
    expect(formatProblems(uncovered)).toBe(
      [
        'p.yaml:4:5: No fixture matches rule "dba".',
        'p.yaml:5:5: No fixture matches rule "no-drop".',
        'p.yaml:6:5: No fixture matches rule "other".',
        'p.yaml:3:5: No fixture shows the condition of rule "read" false.',
        'p.yaml:3:5: No fixture shows a caller whom rule "read" excepts.',
      ].join('\n'),
    )
  })
})

describe('what a caller may do', () => {
  it('is told in words, from the rules that name the caller', () => {
    expect(POLICY.effectiveFor(AGENT, DB).map(({ text }) => text)).toEqual([
      'sql.insert on public.log',
      'sql.select on public.c(id), under a condition',
    ])
  })
})
