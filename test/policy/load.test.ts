import { describe, expect, it } from 'vitest'
import { loadPolicy } from '../../src/policy/load.ts'
import { formatProblems } from '../../src/policy/problem.ts'
import { KNOWN, problemsOf, rules, warningsOf } from './kit.ts'

const READ = '{id: read, effect: allow, principals: ["*"], actions: [sql.select], resources: ["**"]}'

/** One rule in block style, so that every key has a line of its own. */
function rule(...lines: readonly string[]): string {
  return `targets: [db]\nrules:\n  - id: r\n${lines.map((line) => `    ${line}\n`).join('')}`
}

const BASE = ['effect: allow', 'principals: ["*"]', 'actions: [sql.select]', 'resources: ["**"]']

describe('what is refused, and where', () => {
  const cases: readonly (readonly [name: string, text: string, expected: string])[] = [
    ['an unknown key', rule(...BASE, 'unles: [group:x]'), 'p.yaml:8:5: There is no key "unles" here.'],
    ['an unknown key at the top', 'rule: []', 'p.yaml:1:1: There is no key "rule" here.'],
    ['an unknown key in limits', rule(...BASE, 'limits: {row: 5}'), '8:14: There is no key "row" here.'],
    [
      'an unknown action',
      rule('effect: deny', 'actions: [sql.selct]'),
      '5:15: There is no action "sql.selct". Did you mean "sql.select"?',
    ],
    ['an unknown class', rule('effect: deny', 'actions: ["class:writ"]'), 'There is no class "writ"'],
    ['the class of what is not understood', rule('effect: deny', 'actions: ["class:unknown"]'), 'name its verb'],
    ['a wildcard over protocols', rule('effect: deny', 'actions: ["*"]'), 'names no protocol'],
    ['an unknown target', 'targets: [dbb]\nrules: []', '1:11: There is no target "dbb". Did you mean "db"?'],
    ['a rule without targets', `rules:\n  - ${READ}`, '2:5: This has no `targets`'],
    ['an action no target has', rule('effect: deny', 'actions: [ssh.exec]'), 'None of these actions exists on db.'],
    [
      'a resource no target has',
      rule('effect: deny', 'actions: [sql.select]', 'resources: [{argv: [ls]}]'),
      '6:17: A resource of this form does not exist',
    ],
    ['an allow for nobody', rule('effect: allow', 'actions: [sql.select]', 'resources: ["**"]'), 'names no principals'],
    [
      'an allow without resources',
      rule('effect: allow', 'principals: ["*"]', 'actions: [sql.select]'),
      'names no resources',
    ],
    ['an approval without approvers', rule('effect: require_approval', ...BASE.slice(1)), 'names no approvers'],
    ['approvers of an allow', rule(...BASE, 'approvers: {any_of: [group:dba]}'), '8:5: `approvers` belongs to'],
    ['an approver that is a kind', rule(...BASE, 'approvers: {any_of: ["kind:person"]}'), 'An approver is group:'],
    ['limits of a deny', rule('effect: deny', 'actions: [sql.drop]', 'limits: {rows: 1}'), '`limits` has no meaning'],
    [
      'a principal without its kind',
      rule('effect: allow', 'principals: [agents]', ...BASE.slice(2)),
      '5:18: A principal is group:',
    ],
    ['a duration without unit', rule(...BASE, 'limits: {timeout: 10}'), 'Write this as 500ms'],
    ['a rate of nothing', rule(...BASE, 'limits: {rate: 0/min}'), 'Write a rate as'],
    ['negative rows', rule(...BASE, 'limits: {rows: -1}'), '8:20'],
    [
      'a boolean written on',
      rule('effect: require_approval', ...BASE.slice(1), 'approvers: {any_of: [id:x], reason_required: on}'),
      '`reason_required` must be of type boolean',
    ],
    ['an id given twice', rules(READ, READ), 'There is another rule "read" at p.yaml:3.'],
    ['a duplicate key', rule(...BASE, 'effect: deny'), '8:5: This is not valid YAML: Map keys must be unique'],
    ['an alias', 'targets: &t [db]\nrules: []\nmasks: *t', 'Aliases (*t) are not allowed'],
    ['a tag', rule(...BASE, 'reason: !!str x'), 'Tags ('],
    ['an own tag', rule(...BASE, 'reason: !env X'), 'Unresolved tag'],
    ['a second document', 'rules: []\n---\nrules: []', '2:1: A policy file holds one YAML document'],
    ['a directive', '%YAML 1.1\n---\nrules: []', 'Directives'],
    ['an empty file', '# nothing\n', 'The file is empty'],
    ['__proto__ as a key', rule(...BASE, '__proto__: {effect: allow}'), '8:5: The key "__proto__" is not allowed.'],
    [
      'constructor as a label',
      'targets: [{labels: {constructor: x}}]\nrules: []',
      'The key "constructor" is not allowed.',
    ],
    ['a key that is no word', '1: []', 'Keys must be plain words.'],
    ['YAML nested without end', `rules: ${'['.repeat(3000)}`, 'p.yaml:'],
    [
      'a bundle with resources',
      rule(...BASE.slice(0, 2), 'actions: ["bundle:sql.client"]', 'resources: ["**"]'),
      'A bundle brings its own resources',
    ],
    ['an unknown bundle', rule(...BASE.slice(0, 2), 'actions: ["bundle:sql.clients"]'), 'Did you mean "sql.client"?'],
    [
      'an invisible character in a name',
      rule(...BASE.slice(0, 3), 'resources: ["public.ord\u200Bers"]'),
      'control or invisible',
    ],
    ['a name that does not balance', rule(...BASE.slice(0, 3), 'resources: ["public.f(int"]'), 'do not balance'],
    [
      'rest in the middle of argv',
      `targets: [web]\nrules:\n  - {id: r, effect: deny, actions: [ssh.exec], resources: [{argv: [a, {rest: any}, b]}]}`,
      '`rest` stands only at the end',
    ],
    [
      'a wrong key deep in argv',
      `targets: [web]\nrules:\n  - {id: r, effect: deny, actions: [ssh.exec], resources: [{argv: [a, {rest: any, on: 1}]}]}`,
      'There is no key "on" here.',
    ],
    [
      'a hash of columns',
      'targets: [db]\nmasks:\n  - {columns: [public.c.ssn], transform: hash}',
      'transform: hash is not available for columns yet',
    ],
    [
      'a transform left empty',
      'targets: [db]\nmasks:\n  - columns: [public.c.ssn]\n    transform:\n',
      'A transform is redact, null, partial or hash.',
    ],
    [
      'a column pattern',
      'targets: [db]\nmasks:\n  - {columns: [public.*.ssn], transform: redact}',
      'write schema.table.column',
    ],
    [
      'a detector nobody declared',
      'targets: [db]\nmasks:\n  - {detect: [emial], transform: redact}',
      'Did you mean "email"?',
    ],
    [
      'a pattern that is not RE2',
      'targets: [db]\nmasks:\n  - {detect: [{name: x, pattern: "(?=a)"}], transform: redact}',
      'not a pattern in RE2 syntax',
    ],
    ['a mask of nothing', 'targets: [db]\nmasks:\n  - {transform: redact}', 'names `columns`, `fields` or `detect`'],
    [
      'a budget that asks',
      'targets: [db]\nbudgets:\n  - {id: b, per: [principal], actions: [class:write], max: 1, window: 1h, on_exceed: require_approval}',
      'asks for an approval when it is used up and names no approvers',
    ],
    [
      'a budget per session alone',
      'targets: [db]\nbudgets:\n  - {id: b, per: [session], actions: [class:write], max: 1, window: 1h}',
      'sessions are easily opened',
    ],
    ['a condition that is not CEL', rule(...BASE, 'when: "part.has_where &&& true"'), '8:27: This is not CEL'],
    [
      'an attribute no such action has',
      rule(...BASE, 'when: "true && part.has_were"'),
      '8:24: "part" has no "has_were" for these actions',
    ],
    [
      'an attribute in a literal block',
      rule(...BASE, 'when: |', '  true &&', '  part.has_were'),
      '10:11: "part" has no "has_were"',
    ],
    [
      'a condition that is no truth value',
      rule(...BASE, 'when: part.verb'),
      'A condition is true or false; this is a string.',
    ],
    [
      'a comparison that is never true',
      rule(...BASE, `when: "part.has_where == 'true'"`),
      '== cannot be used on (bool, string).',
    ],
    ['an unknown variable', rule(...BASE, 'when: "parts.has_where"'), 'Did you mean "part"?'],
    ['an unknown function', rule(...BASE, `when: "part.verb.startWith('x')"`), 'Did you mean "startsWith"?'],
    ['a pattern made at run time', rule(...BASE, 'when: "part.verb.matches(session.run)"'), 'must be written out'],
    [
      'a pattern that does not compile',
      rule(...BASE, `when: "part.verb.matches('(?=a)')"`),
      'not a pattern in RE2 syntax',
    ],
  ]
  for (const [name, text, expected] of cases) {
    it(`refuses ${name}`, () => expect(problemsOf(text)).toContain(expected))
  }

  it('reports all problems of all files at once', () => {
    const result = loadPolicy(
      [
        { path: 'b.yaml', text: 'targets: [nowhere]\nrules:\n  - {id: x, effect: alow, actions: []}' },
        { path: 'a.yaml', text: 'rules: [' },
        { path: 'c.yaml', text: rules(READ) },
      ],
      KNOWN,
    )
    expect(result.policy).toBeUndefined()
    const report = formatProblems(result.problems ?? [])
    expect(report.split('\n').map((line) => line.split(':').slice(0, 2).join(':'))).toEqual([
      'a.yaml:1',
      'b.yaml:3',
      'b.yaml:3',
    ])
  })

  it('finds an id used in two files', () => {
    const text = rules(READ)
    const result = loadPolicy(
      [
        { path: 'a.yaml', text },
        { path: 'b.yaml', text },
      ],
      KNOWN,
    )
    expect(formatProblems(result.problems ?? [])).toBe('b.yaml:3:5: There is another rule "read" at a.yaml:3.')
  })
})

describe('what is only warned of', () => {
  for (const [name, text, expected] of [
    ['a rule whose condition is false', rule(...BASE, 'when: "false"'), 'can never match: its condition is false'],
    ['a rule that excepts everyone', rule(...BASE, 'unless: ["*"]'), 'can never match: `unless` excludes'],
    ['labels nothing has', 'targets: [{labels: {env: nope}}]\nrules: []', 'No target has these labels'],
    ['capitals', rule(...BASE.slice(0, 3), 'resources: [public.Orders]'), 'has capitals'],
    [
      'a function without arguments',
      rule('effect: allow', 'principals: ["*"]', 'actions: [sql.call]', 'resources: [public.f]'),
      'public.total(integer)',
    ],
    [
      'an attribute some actions lack',
      rule('effect: deny', 'actions: [sql.select, sql.drop]', 'when: "!part.has_where"'),
      'does not exist for sql.drop; there rule "r" denies',
    ],
  ] as const) {
    it(`warns of ${name}`, () => {
      expect(problemsOf(text)).toBe('')
      expect(warningsOf(text)).toContain(expected)
    })
  }
})

describe('the version', () => {
  const version = (...texts: readonly string[]): string => {
    const result = loadPolicy(
      texts.map((text, index) => ({ path: `${index}.yaml`, text })),
      KNOWN,
    )
    return result.policy?.version ?? formatProblems(result.problems ?? [])
  }
  const other = '{id: other, effect: deny, actions: [sql.drop]}'

  it('does not depend on files, their order, comments or the order of keys', () => {
    const together = version(rules(READ, other))
    expect(together).toMatch(/^sha256:[0-9a-f]{32}$/)
    expect(version(rules(other), rules(READ))).toBe(together)
    expect(
      version(
        `# why\n${rules(other, '{effect: allow, id: read, principals: ["*"], actions: [sql.select], resources: ["**"]}')}`,
      ),
    ).toBe(together)
  })

  it('changes with any change of a rule', () => {
    expect(version(rules(READ, other))).not.toBe(version(rules(READ, other.replace('deny', 'deny, reason: x'))))
    expect(version(rules(READ))).not.toBe(version(rules(READ).replace('"*"]\nrules', 'db]\nrules')))
  })
})
