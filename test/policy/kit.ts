import type { AttributeSpec, AttributeValue, Part, Resource, Taxonomy, VerbSpec } from '../../src/core/action.ts'
import type { Principal } from '../../src/core/principal.ts'
import type { Target } from '../../src/core/target.ts'
import { decide, type Question } from '../../src/policy/decide.ts'
import { loadPolicy, type Known } from '../../src/policy/load.ts'
import type { Policy } from '../../src/policy/policy.ts'
import { formatProblems } from '../../src/policy/problem.ts'

const list = (summary: string): AttributeSpec => ({ type: 'list(string)', summary })
const DML: VerbSpec['attributes'] = {
  columns_read: list('Columns read.'),
  columns_written: list('Columns written.'),
  has_where: { type: 'bool', summary: 'Whether there is a WHERE.' },
  estimate: { type: 'int', summary: 'Rows the planner expects.' },
  body: { type: 'map', summary: 'Anything.' },
}

function verb(name: string, kind: VerbSpec['class'], attributes: VerbSpec['attributes'] = {}): VerbSpec {
  return { verb: name, class: kind, summary: `What ${name} does.`, attributes }
}

/** A taxonomy as small as the tests need; the real one belongs to the protocol. */
export const SQL: Taxonomy = {
  protocol: 'postgres',
  prefix: 'sql',
  verbs: [
    verb('sql.select', 'read', DML),
    verb('sql.insert', 'write', DML),
    verb('sql.update', 'write', DML),
    verb('sql.delete', 'write', DML),
    verb('sql.call', 'exec'),
    verb('sql.show', 'session'),
    verb('sql.drop', 'admin'),
    verb('sql.copy.in', 'write'),
    verb('sql.unknown', 'unknown'),
  ],
  actionAttributes: { statement_count: { type: 'int', summary: 'Statements in the call.' } },
  bundles: {
    'sql.client': {
      summary: 'What clients need.',
      grants: [
        { verb: 'sql.show', resources: ['*'] },
        { verb: 'sql.select', resources: ['-', 'pg_catalog.pg_type'] },
      ],
    },
  },
}

export const SSH: Taxonomy = {
  protocol: 'ssh',
  prefix: 'ssh',
  verbs: [verb('ssh.exec', 'exec'), verb('ssh.unknown', 'unknown')],
  actionAttributes: {},
  bundles: {},
}

export const K8S: Taxonomy = {
  protocol: 'kubernetes',
  prefix: 'k8s',
  verbs: [verb('k8s.get', 'read'), verb('k8s.delete', 'write')],
  actionAttributes: {},
  bundles: {},
}

export const HTTP: Taxonomy = {
  protocol: 'http',
  prefix: 'http',
  verbs: [verb('http.get', 'read'), verb('http.post', 'write', { body: { type: 'map', summary: 'The JSON body.' } })],
  actionAttributes: {},
  bundles: {},
}

export function target(name: string, protocol: Target['protocol'] = 'postgres', more: Partial<Target> = {}): Target {
  return {
    name,
    protocol,
    labels: { env: 'prod' },
    mode: 'enforce',
    record: 'full',
    endpoint: `${name}:1`,
    options: {},
    ...more,
  }
}

export const DB = target('db')
export const WEB = target('web', 'ssh')
export const CLUSTER = target('cluster', 'kubernetes')
export const API = target('api', 'http')

export const KNOWN: Known = {
  targets: [DB, WEB, CLUSTER, API, target('shop-db')],
  taxonomies: [SQL, SSH, K8S, HTTP],
  detectors: ['email', 'credit_card', 'us_ssn'],
  checkPattern: (pattern) => (pattern.includes('(?=') ? 'look-ahead' : undefined),
}

export function principal(more: Partial<Principal> = {}): Principal {
  return { id: 'bot', kind: 'agent', groups: ['agents'], roles: ['caller'], owner: 'maria', ...more }
}

export const AGENT = principal()
export const PERSON = principal({ id: 'olga', kind: 'person', groups: ['dba'], owner: 'olga' })

export function load(text: string, known: Known = KNOWN): Policy {
  const result = loadPolicy([{ path: 'p.yaml', text }], known)
  if (result.policy === undefined) throw new Error(formatProblems(result.problems))
  return result.policy
}

/** `rules:` with one flow-style rule per line; every rule is about all targets. */
export function rules(...lines: readonly string[]): string {
  return `targets: ["*"]\nrules:\n${lines.map((line) => `  - ${line}`).join('\n') || '  []'}\n`
}

export function problemsOf(text: string, known: Known = KNOWN): string {
  const result = loadPolicy([{ path: 'p.yaml', text }], known)
  return result.policy === undefined ? formatProblems(result.problems) : ''
}

export function warningsOf(text: string, known: Known = KNOWN): string {
  return formatProblems(loadPolicy([{ path: 'p.yaml', text }], known).warnings)
}

/** A SQL part: `public.orders(id,total)` is a relation with its columns, `-` none, `fn(...)` with `call` a function. */
export function sql(verbName: string, resource: string, attributes: Record<string, AttributeValue> = {}): Part {
  return { verb: `sql.${verbName}`, resource: sqlResource(verbName, resource), attributes }
}

function sqlResource(verbName: string, text: string): Resource {
  if (text === '-') return { type: 'none' }
  const open = text.indexOf('(')
  if (verbName === 'call' || open < 0) return { type: 'sql', name: text }
  const columns = text.slice(open + 1, -1)
  return { type: 'sql', name: text.slice(0, open), columns: columns === '' ? [] : columns.split(',') }
}

export function question(parts: readonly Part[], more: Partial<Question> = {}): Question {
  return {
    principal: AGENT,
    target: DB,
    session: { id: 's1', door: 'mcp' },
    action: { parts, attributes: { statement_count: parts.length } },
    now: Date.UTC(2026, 0, 5, 10, 30),
    ...more,
  }
}

/** Decides `parts` under a policy of `lines`; the short way through most tests. */
export function decided(lines: readonly string[], parts: readonly Part[], more: Partial<Question> = {}) {
  return decide(load(rules(...lines)), question(parts, more))
}
