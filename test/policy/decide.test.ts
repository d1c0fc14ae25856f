import { describe, expect, it } from 'vitest'
import type { Part } from '../../src/core/action.ts'
import type { Effect } from '../../src/core/decision.ts'
import { decide } from '../../src/policy/decide.ts'
import { AGENT, API, CLUSTER, DB, decided, load, PERSON, principal, question, rules, sql, target, WEB } from './kit.ts'

const ALLOW = '{id: read, effect: allow, principals: [group:agents], actions: [sql.select], resources: [public.orders]}'
const WRITE = `{id: write, effect: require_approval, principals: [group:agents], actions: [sql.update],
      resources: [public.orders], approvers: {any_of: [group:dba]}}`
const DENY = '{id: no-drop, effect: deny, actions: [sql.drop], reason: Schema changes go through migrations.}'

describe('C3: default deny; no part, no allow', () => {
  it('C3: denies everything when there are no rules', () => {
    const decision = decided([], [sql('select', 'public.orders(id)')])
    expect(decision).toMatchObject({ effect: 'deny', rules: [], approvals: [] })
    expect(decision.reason).toBe('No rule allows sql.select on public.orders(id).')
  })

  it('C3: denies an action without parts, also where a rule allows anything', () => {
    const anything = '{id: all, effect: allow, principals: ["*"], actions: ["sql.*"], resources: ["**"]}'
    expect(decided([anything], [])).toMatchObject({ effect: 'deny', rules: [] })
  })

  it('C3: denies the whole action when one part of many is not covered', () => {
    const decision = decided([ALLOW], [sql('select', 'public.orders(id)'), sql('select', 'public.customers(id)')])
    expect(decision.effect).toBe('deny')
    expect(decision.reason).toContain('public.customers')
    expect(decision.parts.map(({ effect }) => effect)).toEqual(['allow', 'deny'])
  })

  it('C3: needs a rule for a statement without a relation', () => {
    expect(decided([ALLOW], [sql('select', '-')]).effect).toBe('deny')
    const dash = '{id: d, effect: allow, principals: ["*"], actions: [sql.select], resources: ["-"]}'
    expect(decided([dash], [sql('select', '-')]).effect).toBe('allow')
  })
})

describe('C4: unknown is its own verb', () => {
  const everything = [
    '{id: wild, effect: allow, principals: ["*"], actions: ["sql.*"], resources: ["**"]}',
    '{id: classes, effect: allow, principals: ["*"], actions: [class:read, class:write, class:admin, class:exec, class:session], resources: ["**"]}',
  ]
  const named = '{id: scratch, effect: allow, principals: ["*"], actions: [sql.unknown], resources: ["**"]}'

  it('C4: is matched by no wildcard and no class', () => {
    expect(decided(everything, [sql('unknown', '-')])).toMatchObject({ effect: 'deny', rules: [] })
  })

  it('C4: is matched by its own name', () => {
    expect(decided([named], [sql('unknown', '-')]).effect).toBe('allow')
  })

  it('C4: treats a verb no taxonomy lists as not understood', () => {
    expect(decided([...everything, named], [sql('teleport', 'public.orders')]).effect).toBe('deny')
  })

  for (const mask of [
    '{columns: [public.customers.ssn], transform: redact, unless: ["*"]}',
    '{detect: [email], transform: partial}',
  ]) {
    it(`C4: is refused on a target with ${mask}, in observe mode too`, () => {
      const policy = load(`${rules(named)}masks:\n  - ${mask}\n`)
      const parts = [sql('unknown', '-')]
      expect(decide(policy, question(parts))).toMatchObject({ effect: 'deny', rules: [] })
      const observed = target('db', 'postgres', { mode: 'observe' })
      expect(decide(policy, question(parts, { target: observed })).effect).toBe('deny')
    })
  }
})

describe('C5: the strictest rule wins', () => {
  const cases: readonly (readonly [string, readonly string[], Effect, readonly string[]])[] = [
    ['allow alone', [ALLOW], 'allow', ['read']],
    ['allow and deny', [ALLOW, '{id: stop, effect: deny, actions: [sql.select]}'], 'deny', ['stop']],
    [
      'allow and approval',
      [
        ALLOW,
        '{id: ask, effect: require_approval, principals: ["*"], actions: [sql.select], resources: ["**"], approvers: {any_of: [group:dba]}}',
      ],
      'require_approval',
      ['ask'],
    ],
    [
      'deny and approval',
      [
        '{id: ask, effect: require_approval, principals: ["*"], actions: [sql.select], resources: ["**"], approvers: {any_of: [group:dba]}}',
        '{id: stop, effect: deny, actions: [class:read]}',
      ],
      'deny',
      ['stop'],
    ],
  ]
  for (const [name, lines, effect, ids] of cases) {
    it(`C5: ${name} is ${effect}, whatever the order of the rules`, () => {
      const part = sql('select', 'public.orders(id)')
      expect(decided(lines, [part])).toMatchObject({ effect, rules: ids })
      expect(decided(lines.toReversed(), [part])).toEqual(decided(lines, [part]))
    })
  }

  it('C5: decides part by part: one part that needs approval holds the whole call', () => {
    const decision = decided(
      [ALLOW, WRITE],
      [sql('select', 'public.orders(id)'), sql('update', 'public.orders(total)')],
    )
    expect(decision).toMatchObject({ effect: 'require_approval', rules: ['write'] })
    expect(decision.approvals).toEqual([
      { rule: 'write', anyOf: ['group:dba'], count: 1, expiresMs: 900_000, reasonRequired: false },
    ])
  })

  it('C5: keeps the approvers of several rules apart', () => {
    const second = `{id: also, effect: require_approval, principals: ["*"], actions: [class:write], resources: ["*.*"],
      approvers: {any_of: [id:maria], count: 2, expires: 1h, reason_required: true}}`
    const decision = decided([WRITE, second], [sql('update', 'public.orders(total)')])
    expect(decision.approvals.map(({ rule, count, expiresMs }) => [rule, count, expiresMs])).toEqual([
      ['also', 2, 3_600_000],
      ['write', 1, 900_000],
    ])
  })

  it('C5: takes the minimum of numbers and all of the rates and budgets', () => {
    const limited = (id: string, limits: string): string =>
      `{id: ${id}, effect: allow, principals: ["*"], actions: [sql.select], resources: ["**"], limits: ${limits}}`
    const text = `${rules(
      limited('a', '{rows: 500, bytes: 1MiB, timeout: 10s, rate: 60/min}'),
      limited('b', '{rows: 50, bytes: 2MiB, timeout: 20s, rate: 5/s, concurrency: 3}'),
    )}budgets:
  - {id: day, per: [principal, target], actions: [class:read], max: 20, window: 1h}
  - {id: other, per: [principal], actions: [class:write], max: 1, window: 1h}
  - {id: people, per: [principal], principals: [kind:person], actions: [class:read], max: 1, window: 1h}
`
    expect(decide(load(text), question([sql('select', 'public.orders(id)')])).obligations).toMatchObject({
      rowsMax: 50,
      bytesMax: 1024 * 1024,
      timeoutMs: 10_000,
      concurrencyMax: 3,
      rates: [
        { id: 'rule:a:rate', rule: 'a', max: 60, windowMs: 60_000, per: ['principal', 'target'] },
        { id: 'rule:b:rate', rule: 'b', max: 5, windowMs: 1000, per: ['principal', 'target'] },
      ],
      budgets: [{ id: 'budget:day', max: 20, windowMs: 3_600_000, per: ['principal', 'target'], onExceed: 'deny' }],
    })
  })

  it('C5: redacts where two masks of one column disagree, and keeps to the exceptions of each', () => {
    const policy = load(`${rules(ALLOW)}masks:
  - {columns: [public.customers.card, public.customers.ssn], transform: partial, unless: [group:privacy]}
  - {columns: [public.customers.ssn], transform: "null"}
  - {detect: [email], transform: partial}
  - {detect: [email, credit_card], transform: hash}
`)
    expect(policy.masksFor(AGENT, DB)).toEqual([
      { schema: 'public', table: 'customers', column: 'card', transform: 'partial' },
      { schema: 'public', table: 'customers', column: 'ssn', transform: 'redact' },
    ])
    expect(policy.masksFor(principal({ groups: ['privacy'] }), DB)).toEqual([
      { schema: 'public', table: 'customers', column: 'ssn', transform: 'null' },
    ])
    expect(policy.detectorsFor(AGENT, DB)).toEqual([
      { detector: 'credit_card', transform: 'hash' },
      { detector: 'email', transform: 'redact' },
    ])
  })

  it('lets a part run as another account only by a rule that names that account', () => {
    const as = (id: string, accounts?: string): string =>
      `{id: ${id}, effect: allow, principals: ["*"], actions: [ssh.exec], resources: ["**"]${accounts === undefined ? '' : `, as: ${accounts}`}}`
    const part = (name: string, isLogin: boolean): Part => ({
      verb: 'ssh.exec',
      resource: { type: 'argv', argv: ['uptime'] },
      attributes: {},
      account: { name, isLogin },
    })
    const run = (accounts: string | undefined, ...on: Part[]) =>
      decided([as('a', accounts)], on, { target: WEB }).effect
    expect(run(undefined, part('deploy', true))).toBe('allow')
    expect(run(undefined, part('root', false))).toBe('deny')
    expect(run('[root]', part('root', false))).toBe('allow')
    expect(run('[root]', part('deploy', true))).toBe('deny')
    expect(run('[deploy, root]', part('deploy', true), part('root', false))).toBe('allow')
  })
})

describe('C6: fail closed', () => {
  const when = (effect: string, condition: string): string =>
    `{id: cond, effect: ${effect}, principals: ["*"], actions: [sql.update], resources: ["**"], when: ${JSON.stringify(condition)}}`
  const open = '{id: open, effect: allow, principals: ["*"], actions: [sql.update], resources: ["**"]}'
  const update = (attributes = {}): Part => sql('update', 'public.orders(total)', attributes)

  it('C6: a condition that is true lets its rule match, one that is false does not', () => {
    expect(decided([when('allow', 'part.has_where')], [update({ has_where: true })]).effect).toBe('allow')
    expect(decided([when('allow', 'part.has_where')], [update({ has_where: false })]).effect).toBe('deny')
    expect(decided([open, when('deny', '!part.has_where')], [update({ has_where: true })]).effect).toBe('allow')
  })

  for (const [name, condition, attributes] of [
    ['reads an attribute that is missing', 'part.has_where', {}],
    ['is no boolean', 'dyn(part.verb)', {}],
    ['divides by zero', '1 / (part.estimate - part.estimate) > 0', { estimate: 3 }],
    ['overflows', 'part.estimate * 9223372036854775807 > 0', { estimate: 3 }],
    ['converts what cannot be converted', 'int(part.columns_read[0]) > 0', { columns_read: ['x'] }],
    ['indexes past the end', "part.columns_read[5] == 'x'", { columns_read: ['x'] }],
    ['meets an attribute of the wrong type', 'has(part.estimate) && part.estimate > 5', { estimate: '900' }],
    ['meets a number that is none', 'has(part.estimate) && part.estimate > 5', { estimate: Number.NaN }],
  ] as const) {
    it(`C6: a deny whose condition ${name} denies, in the name of its rule`, () => {
      const decision = decided([open, when('deny', condition)], [update(attributes)])
      expect(decision).toMatchObject({ effect: 'deny', rules: ['cond'] })
    })

    it(`C6: an allow whose condition ${name} denies beside another allow`, () => {
      expect(decided([open, when('allow', condition)], [update(attributes)])).toMatchObject({
        effect: 'deny',
        rules: ['cond'],
      })
    })
  }

  it('C6: quotes no value in the reason of a condition that failed', () => {
    const decision = decided(
      [when('allow', 'int(part.columns_read[0]) > 0')],
      [update({ columns_read: ['123-45-6789'] })],
    )
    expect(JSON.stringify(decision)).not.toContain('123-45')
  })

  it('C6: does not evaluate the condition of a rule that does not match otherwise', () => {
    const broken = (rest: string): string =>
      `{id: b, effect: deny, when: "1 / (part.estimate - part.estimate) > 0", ${rest}}`
    const part = update({ estimate: 1 })
    for (const rest of [
      'actions: [sql.delete]',
      'actions: [sql.update], principals: [group:dba]',
      'actions: [sql.update], unless: [group:agents]',
      'actions: [sql.update], resources: [public.other]',
    ]) {
      expect(decided([open, broken(rest)], [part]).effect).toBe('allow')
    }
  })
})

describe('resources', () => {
  const grid: readonly (readonly [pattern: string, part: Part, allow: boolean, deny: boolean])[] = [
    ['public.orders', sql('select', 'public.orders(id)'), true, true],
    ['public.orders', sql('select', 'public.order_items(id)'), false, false],
    ['public.orders', sql('select', 'Public.Orders(id)'), false, false],
    ['public.*', sql('select', 'public.orders(id)'), true, true],
    ['*', sql('select', 'public.orders(id)'), false, false],
    ['public.*', sql('select', 'public.a.b(id)'), false, false],
    ['public.*', sql('select', 'public."a.b"'), true, true],
    ['ref_*.*', sql('select', 'ref_geo.cities(id)'), true, true],
    ['ref_*.*', sql('select', 'xref_geo.cities(id)'), false, false],
    ['-', sql('select', 'public.orders'), false, false],
    ['**', sql('select', '-'), true, true],
    ['public.c(id,name)', sql('select', 'public.c(id)'), true, true],
    ['public.c(id,name)', sql('select', 'public.c(id,ssn)'), false, true],
    ['public.c(id,name)', sql('select', 'public.c(ssn)'), false, false],
    ['public.c(id,name)', sql('select', 'public.c'), false, true],
    ['public.c(id,name)', sql('select', 'public.c()'), true, false],
    ['public.c(na*)', sql('select', 'public.c(name)'), true, true],
    ['public.f', sql('call', 'public.f(integer)'), false, true],
    ['public.f(integer)', sql('call', 'public.f(integer)'), true, true],
    ['public.f(integer)', sql('call', 'public.f(integer, text)'), false, false],
    ['public.f(integer,text)', sql('call', 'public.f(integer, text)'), true, true],
    ['public.f(*)', sql('call', 'public.f(integer, text)'), true, true],
    ['public.f()', sql('call', 'public.f()'), true, true],
    ['public.f(*)', sql('call', 'public.f()'), true, true],
    ['public.x', sql('select', 'public."x'), false, true],
  ]
  for (const [pattern, part, allow, deny] of grid) {
    const resource =
      part.resource.type === 'sql' ? `${part.resource.name} ${part.resource.columns?.join() ?? '?'}` : '-'
    it(`${pattern} ${allow ? 'allows' : 'does not allow'} and ${deny ? 'denies' : 'does not deny'} ${part.verb} ${resource}`, () => {
      const rule = (effect: string): string =>
        `{id: r, effect: ${effect}, principals: ["*"], actions: [${part.verb}], resources: [${JSON.stringify(pattern)}]}`
      const open = `{id: open, effect: allow, principals: ["*"], actions: [${part.verb}], resources: ["**"]}`
      expect(decided([rule('allow')], [part]).effect).toBe(allow ? 'allow' : 'deny')
      expect(decided([open, rule('deny')], [part]).effect).toBe(deny ? 'deny' : 'allow')
    })
  }

  it('does not let an approval of some columns cover the others', () => {
    const ask = `{id: ask, effect: require_approval, principals: ["*"], actions: [sql.select], resources: ["public.c(ssn)"], approvers: {any_of: [group:dba]}}`
    expect(decided([ask], [sql('select', 'public.c(ssn,card)')]).effect).toBe('deny')
    expect(decided([ask], [sql('select', 'public.c(ssn)')]).effect).toBe('require_approval')
    const rest = '{id: rest, effect: allow, principals: ["*"], actions: [sql.select], resources: [public.c]}'
    expect(decided([ask, rest], [sql('select', 'public.c(ssn,card)')]).effect).toBe('require_approval')
  })

  const dynamic = (dynamicFrom: number, ...words: string[]): Part => ({
    verb: 'ssh.exec',
    resource: { type: 'argv', argv: words, dynamicFrom },
    attributes: {},
  })
  const argv = (...words: string[]): Part => ({
    verb: 'ssh.exec',
    resource: { type: 'argv', argv: words },
    attributes: {},
  })
  const commands: readonly (readonly [string, Part, boolean])[] = [
    ['[systemctl, {in: [status, restart]}, {match: "web-*"}]', argv('systemctl', 'status', 'web-1'), true],
    ['[systemctl, {in: [status, restart]}, {match: "web-*"}]', argv('systemctl', 'stop', 'web-1'), false],
    ['[systemctl, {in: [status, restart]}, {match: "web-*"}]', argv('systemctl', 'status', 'web-1', 'db-1'), false],
    ['[systemctl, {in: [status, restart]}]', argv('systemctl'), false],
    ['[journalctl, -u, "*", {rest: flags, in: [--since, -n]}]', argv('journalctl', '-u', 'web', '-n', '--since'), true],
    [
      '[journalctl, -u, "*", {rest: flags, in: [--since, -n]}]',
      argv('journalctl', '-u', 'web', '--vacuum-size'),
      false,
    ],
    ['[journalctl, {rest: flags}]', argv('journalctl', '-n', 'x'), false],
    ['[ls, {rest: any}]', argv('ls', '-l', '/tmp'), true],
    ['[ls]', argv('/tmp/ls'), false],
    ['[{match: "l*"}]', argv('ls', 'x'), false],
    ['[cat, {match: "/var/log/*"}]', argv('cat', '/var/log/web'), true],
    ['[cat, {match: "/var/log/*"}]', argv('cat', '/var/log/web/../../../etc/shadow'), false],
    ['[cat, {match: "/var/log/*"}]', argv('cat', '/var/log/web/x'), false],
    ['[cat, {match: "/var/log/*"}]', argv('cat', '/var/log/..'), false],
    ['[cat, {match: "/var/log/*"}]', argv('cat', '/var/log/'), false],
    ['[cat, {match: "*"}]', argv('cat', '/etc/shadow'), false],
    ['[cat, {match: "*"}]', argv('cat', '..'), false],
    ['[ls, "*"]', dynamic(1, 'ls', '$x'), false],
    ['[ls, {rest: flags}]', dynamic(1, 'ls', '-$x'), false],
    ['[ls, {rest: any, in: ["-*"]}]', dynamic(1, 'ls', '-$x'), false],
    ['[ls, {rest: any}]', dynamic(1, 'ls', '$x'), true],
    ['[ls, /x, {rest: any}]', dynamic(1, 'ls', '$x'), false],
    ['[ls, /x, {rest: any}]', dynamic(2, 'ls', '/x', '*'), true],
    ['[ls, /x]', dynamic(2, 'ls', '/x', '*'), false],
  ]
  for (const [pattern, part, allow] of commands) {
    const words = part.resource.type === 'argv' ? part.resource.argv.join(' ') : ''
    it(`argv ${pattern} ${allow ? 'covers' : 'does not cover'} ${words}`, () => {
      const rule = `{id: r, effect: allow, principals: ["*"], targets: [web], actions: [ssh.exec], resources: [{argv: ${pattern}}]}`
      expect(decided([rule], [part], { target: WEB }).effect).toBe(allow ? 'allow' : 'deny')
    })
  }

  it('covers Kubernetes kinds in the namespaces named, and no list over all of them', () => {
    const get = (kind: string, namespace?: string): Part => ({
      verb: 'k8s.get',
      resource: { type: 'k8s', kind, ...(namespace !== undefined && { namespace }) },
      attributes: {},
    })
    const rule = (effect: string): string =>
      `{id: r, effect: ${effect}, principals: ["*"], targets: [cluster], actions: [k8s.get], resources: [{kind: core/pods, namespaces: ["web-*"]}]}`
    const open = '{id: o, effect: allow, principals: ["*"], targets: [cluster], actions: [k8s.get], resources: ["**"]}'
    const run = (part: Part, ...lines: string[]) => decided(lines, [part], { target: CLUSTER }).effect
    expect(run(get('core/pods', 'web-1'), rule('allow'))).toBe('allow')
    expect(run(get('core/pods', 'db'), rule('allow'))).toBe('deny')
    expect(run(get('core/secrets', 'web-1'), rule('allow'))).toBe('deny')
    expect(run(get('core/pods'), rule('allow'))).toBe('deny')
    expect(run(get('core/pods'), open, rule('deny'))).toBe('deny')
    expect(run(get('core/pods', 'db'), open, rule('deny'))).toBe('allow')
  })

  const paths: readonly (readonly [string, boolean])[] = [
    ['/v1/refunds/12', true],
    ['/v1/refunds/x', false],
    ['/v1/refunds/12/extra', false],
    ['/v1/refunds/', false],
    ['/v1/refunds/12/', false],
    ['//v1/refunds/12', false],
  ]
  for (const [path, allow] of paths) {
    it(`the path /v1/refunds/{id:int} ${allow ? 'covers' : 'does not cover'} ${path}`, () => {
      const rule =
        '{id: r, effect: allow, principals: ["*"], targets: [api], actions: [http.post], resources: [{path: "/v1/refunds/{id:int}"}], when: "part.body.amount <= 100"}'
      const part: Part = { verb: 'http.post', resource: { type: 'http', path }, attributes: { body: { amount: 99.5 } } }
      expect(decided([rule], [part], { target: API }).effect).toBe(allow ? 'allow' : 'deny')
    })
  }
})

describe('what only announces calls', () => {
  const rule = (id: string, effect: Effect, more = ''): string =>
    `{id: ${id}, effect: ${effect}, principals: ["*"], targets: [api], actions: [http.post], resources: [{path: "/x"}]${more}}`
  const LATER = ', when: "part.body.port == 80"'
  const announced: Part = { verb: 'http.post', resource: { type: 'http', path: '/x' }, attributes: {}, announces: true }
  const cases: readonly (readonly [string, readonly string[], Effect])[] = [
    ['nothing covers it', [], 'deny'],
    ['a condition that only the calls can answer', [rule('a', 'allow', LATER)], 'allow'],
    ['a denial that only the calls can meet', [rule('a', 'allow'), rule('d', 'deny', LATER)], 'allow'],
    ['such a denial and nothing else', [rule('d', 'deny', LATER)], 'deny'],
    ['a denial', [rule('a', 'allow', LATER), rule('d', 'deny')], 'deny'],
    ['persons the calls ask', [rule('q', 'require_approval', ', approvers: {any_of: [group:dba]}')], 'allow'],
    ['a condition that is false', [rule('a', 'allow', ', when: "principal.id == \\"nobody\\""')], 'deny'],
  ]
  it.each(cases)('is let begin where one of them could be: %s', (_what, rulesHere, effect) => {
    expect(decided(rulesHere, [announced], { target: API })).toMatchObject({ effect, approvals: [] })
  })

  it('is not let begin by the same conditions when it does something itself', () => {
    const { announces: _, ...part } = announced
    expect(decided([rule('a', 'allow', LATER)], [part], { target: API }).effect).toBe('deny')
  })
})

describe('principals and targets', () => {
  it('matches by group, id and kind, and keeps to the exceptions', () => {
    const rule = (who: string, unless = '[]'): string =>
      `{id: r, effect: allow, principals: [${who}], ${unless === '[]' ? '' : `unless: ${unless}, `}actions: [sql.select], resources: ["**"]}`
    const part = [sql('select', 'public.orders(id)')]
    const run = (line: string, who = AGENT) => decided([line], part, { principal: who }).effect
    expect(run(rule('group:agents'))).toBe('allow')
    expect(run(rule('id:bot'))).toBe('allow')
    expect(run(rule('kind:agent'))).toBe('allow')
    expect(run(rule('kind:agent'), PERSON)).toBe('deny')
    expect(run(rule('group:agents', '["id:bot"]'))).toBe('deny')
    expect(run(rule('group:agents', '[group:contractors]'), principal({ groups: ['agents', 'contractors'] }))).toBe(
      'deny',
    )
  })

  it('is not fooled by a principal whose id or group looks like a selector', () => {
    const rule = '{id: r, effect: allow, principals: [group:dba], actions: [sql.select], resources: ["**"]}'
    const part = [sql('select', 'public.orders(id)')]
    expect(decided([rule], part, { principal: principal({ id: 'group:dba', groups: ['*'] }) }).effect).toBe('deny')
  })

  it('applies rules to the targets they name or whose labels fit, and to no others', () => {
    const rule = (targets: string): string =>
      `{id: r, effect: allow, principals: ["*"], targets: ${targets}, actions: [sql.select], resources: ["**"]}`
    const part = [sql('select', 'public.orders(id)')]
    expect(decided([rule('[db]')], part).effect).toBe('allow')
    expect(decided([rule('[shop-db]')], part).effect).toBe('deny')
    expect(decided([rule('[{labels: {env: prod}}]')], part).effect).toBe('allow')
    expect(decided([rule('[{labels: {env: prod, tier: "1"}}]')], part).effect).toBe('deny')
    expect(
      decided([rule('[{labels: {env: prod}}]')], part, { target: target('db', 'postgres', { labels: {} }) }).effect,
    ).toBe('deny')
  })
})

describe('reasons and hints', () => {
  it('names the rule and its reason', () => {
    const decision = decided([ALLOW, DENY], [sql('drop', 'public.orders')])
    expect(decision.reason).toBe('Rule no-drop denies sql.drop on public.orders: Schema changes go through migrations.')
  })

  it('tells which columns would be allowed', () => {
    const some =
      '{id: some, effect: allow, principals: [group:agents], actions: [sql.select], resources: ["public.customers(id,name)"]}'
    const decision = decided([some], [sql('select', 'public.customers(id,ssn)')])
    expect(decision.hint).toBe('Allowed to you: sql.select on public.customers with the columns id, name (not ssn).')
  })

  it('tells what else is allowed on the same table, or else on the target', () => {
    expect(decided([ALLOW, WRITE], [sql('delete', 'public.orders')]).hint).toBe(
      'Allowed to you: sql.select on public.orders; sql.update on public.orders, after approval by group:dba.',
    )
    expect(decided([ALLOW], [sql('select', 'public.secrets')]).hint).toBe(
      'Allowed to you: sql.select on public.orders.',
    )
  })

  it('reveals nothing of rules for other callers', () => {
    const other =
      '{id: dba-only, effect: allow, principals: [group:dba], actions: ["sql.*"], resources: [public.payroll], reason: Payroll audit}'
    const text = JSON.stringify(decided([ALLOW, other], [sql('select', 'public.secrets')]))
    expect(text).not.toMatch(/payroll|dba/i)
    const policy = load(rules(ALLOW, other))
    expect(policy.effectiveFor(AGENT, DB).map((grant) => grant.text)).toEqual(['sql.select on public.orders'])
  })
})

describe('observe mode', () => {
  const observed = target('db', 'postgres', { mode: 'observe' })

  it('lets through what would be denied or held, says so, and keeps the masks', () => {
    const limited =
      '{id: r, effect: allow, principals: ["*"], actions: [sql.select], resources: ["**"], limits: {rows: 1, rate: 1/min}}'
    const policy = load(`${rules(WRITE, limited)}masks:\n  - {columns: [public.customers.ssn], transform: redact}\n`)
    const run = (part: Part) => decide(policy, question([part], { target: observed }))
    expect(run(sql('drop', 'public.orders'))).toMatchObject({ effect: 'allow', observed: 'deny' })
    expect(run(sql('update', 'public.orders(total)'))).toMatchObject({
      effect: 'allow',
      observed: 'require_approval',
      approvals: [],
    })
    const select = run(sql('select', 'public.orders(id)'))
    expect(select.observed).toBeUndefined()
    expect(select.obligations).toMatchObject({ rates: [], columns: [{ column: 'ssn' }] })
    expect(select.obligations.rowsMax).toBeUndefined()
  })
})

describe('bundles', () => {
  it('bring their own resources and nothing more', () => {
    const rule = '{id: client, effect: allow, principals: ["*"], actions: ["bundle:sql.client"]}'
    expect(decided([rule], [sql('show', 'search_path')]).effect).toBe('allow')
    expect(decided([rule], [sql('select', 'pg_catalog.pg_type(oid)')]).effect).toBe('allow')
    expect(decided([rule], [sql('select', 'search_path')]).effect).toBe('deny')
    expect(decided([rule], [sql('show', '-')]).effect).toBe('deny')
  })

  it('are told to callers by name, not setting by setting', () => {
    const rule = '{id: client, effect: allow, principals: ["*"], actions: ["bundle:sql.client"], limits: {rows: 5}}'
    const texts = load(rules(rule))
      .effectiveFor(AGENT, DB)
      .map(({ text }) => text)
    expect(texts).toEqual(['bundle:sql.client; at most 5 rows'])
  })
})

describe('wildcards over actions', () => {
  it('do not cross dots', () => {
    const wild = '{id: w, effect: allow, principals: ["*"], actions: ["sql.*"], resources: ["**"]}'
    expect(decided([wild], [sql('copy.in', 'public.orders')]).effect).toBe('deny')
    const both = '{id: w, effect: allow, principals: ["*"], actions: ["sql.*.*"], resources: ["**"]}'
    expect(decided([both], [sql('copy.in', 'public.orders')]).effect).toBe('allow')
  })
})
