/**
 * Fixtures: calls with the decision they must get, in `*.test.yaml` beside the policies. And their coverage: which arms
 * of which rules no fixture has exercised.
 *
 * @packageDocumentation
 */
import { z } from 'zod'
import type { Action, Part } from '../core/action.ts'
import type { Plan } from '../core/call.ts'
import type { Decision } from '../core/decision.ts'
import { SallyportError } from '../core/errors.ts'
import type { Principal } from '../core/principal.ts'
import type { Target } from '../core/target.ts'
import { createCoverage, type Arm } from './coverage.ts'
import { decideWithMatches } from './decide.ts'
import { resolveSchema } from './explain-jsonl.ts'
import type { Policy } from './policy.ts'
import type { Problem } from './problem.ts'
import { readYaml, type SourceFile, type YamlFile } from './yaml.ts'

/** What running fixtures takes. */
export interface FixtureDeps {
  readonly policy: Policy
  readonly target: (name: string) => Target | undefined
  /**
   * Plans a `call`. Left out where there is no catalog to plan on; fixtures with a `call` fail then, and say so.
   *
   * @throws SallyportError for what cannot be planned.
   */
  readonly plan?: (call: FixtureCall, principal: Principal, target: Target) => Promise<Pick<Plan, 'action' | 'refused'>>
}

/** A call as a fixture spells it. */
export interface FixtureCall {
  readonly tool: string
  readonly arguments: Readonly<Record<string, unknown>>
  /** Addresses of hosts, judged in place of those DNS would give. */
  readonly resolve?: Readonly<Record<string, readonly string[]>>
}

/** What running fixtures came to. */
export interface FixtureReport {
  readonly passed: number
  /** One entry per expectation that does not hold, at the case. */
  readonly failures: readonly Problem[]
  /** Arms no fixture exercised. `--strict` makes them failures. */
  readonly uncovered: readonly Arm[]
}

const principal = z.strictObject({
  id: z.string().default('fixture'),
  kind: z.enum(['agent', 'person', 'service']).default('agent'),
  groups: z.array(z.string()).default([]),
  owner: z.string().default('fixture-owner'),
})

const resource = z.union([
  z.string(),
  z.strictObject({ argv: z.array(z.string()) }),
  z.strictObject({ kind: z.string(), namespace: z.string().optional(), name: z.string().optional() }),
  z.strictObject({ path: z.string(), host: z.string().optional() }),
])

const part = z.strictObject({
  verb: z.string(),
  resource: resource.default('-'),
  columns: z.array(z.string()).optional(),
  attributes: z.record(z.string(), z.json()).default({}),
})

const fixture = z
  .strictObject({
    name: z.string().min(1),
    principal,
    target: z.string(),
    call: z
      .strictObject({
        tool: z.string(),
        arguments: z.record(z.string(), z.unknown()),
        resolve: resolveSchema,
      })
      .optional(),
    action: z.array(part).optional(),
    /** When the call is decided; a fixed moment, so that conditions on the time are decided the same every day. */
    now: z.iso.datetime({ offset: true }).default('2026-01-05T12:00:00Z'),
    expect: z.strictObject({
      effect: z.enum(['allow', 'deny', 'require_approval']),
      rules: z.array(z.string()).optional(),
      reason: z.string().optional(),
      hint: z.string().optional(),
      masks: z.array(z.string()).optional(),
      rows: z.int().optional(),
    }),
  })
  .refine(
    (value) => (value.call === undefined) !== (value.action === undefined),
    'A case has either `call` or `action`.',
  )

const fixtureFile = z.strictObject({ cases: z.array(fixture).min(1).max(10_000) })

type Fixture = z.output<typeof fixture>

/** Runs the cases of all files and reports every expectation that does not hold, at its file and line. */
export async function runFixtures(files: readonly SourceFile[], deps: FixtureDeps): Promise<FixtureReport> {
  const failures: Problem[] = []
  const coverage = createCoverage(deps.policy)
  let passed = 0
  for (const file of files) {
    const { yaml, problems } = readYaml(file)
    failures.push(...problems)
    if (yaml === undefined) continue
    const parsed = fixtureFile.safeParse(yaml.value)
    if (!parsed.success) {
      failures.push(...parsed.error.issues.map((issue) => failure(yaml, issue.path, issue.message)))
      continue
    }
    for (const [index, spec] of parsed.data.cases.entries()) {
      const messages = await runCase(spec, deps, coverage.note)
      failures.push(...messages.map((message) => failure(yaml, ['cases', index], `${spec.name}: ${message}`)))
      if (messages.length === 0) passed++
    }
  }
  return { passed, failures, uncovered: coverage.uncovered() }
}

async function runCase(
  spec: Fixture,
  deps: FixtureDeps,
  note: ReturnType<typeof createCoverage>['note'],
): Promise<readonly string[]> {
  const target = deps.target(spec.target)
  if (target === undefined) return [`there is no target "${spec.target}".`]
  const caller: Principal = { ...spec.principal, roles: ['caller'] }
  let planned: Pick<Plan, 'action' | 'refused'>
  try {
    planned = await plannedOf(spec, caller, target, deps)
  } catch (error) {
    return [`the call cannot be planned: ${SallyportError.from(error).message}`]
  }
  const session = { id: 'fixture', door: 'fixture' }
  const question = { principal: caller, target, session, ...planned, now: Date.parse(spec.now) }
  const result = decideWithMatches(deps.policy, question)
  note(result)
  return differences(spec.expect, result.decision)
}

async function plannedOf(
  spec: Fixture,
  caller: Principal,
  target: Target,
  deps: FixtureDeps,
): Promise<Pick<Plan, 'action' | 'refused'>> {
  if (spec.call !== undefined) {
    if (deps.plan === undefined) {
      throw new SallyportError('ERR_INVALID_INPUT', 'there is no catalog here; run the fixtures where the target is.')
    }
    const { resolve, ...call } = spec.call
    const { action, refused } = await deps.plan({ ...call, ...(resolve !== undefined && { resolve }) }, caller, target)
    return { action, ...(refused !== undefined && { refused }) }
  }
  const action: Action = { parts: (spec.action ?? []).map(partOf), attributes: {} }
  return { action }
}

function partOf({ verb, resource: given, columns, attributes }: z.output<typeof part>): Part {
  if (typeof given !== 'string') {
    if ('argv' in given) return { verb, attributes, resource: { type: 'argv', argv: given.argv } }
    if ('path' in given) {
      const host = given.host === undefined ? {} : { host: given.host }
      return { verb, attributes, resource: { type: 'http', path: given.path, ...host } }
    }
    const { kind, namespace, name } = given
    const named = { ...(namespace !== undefined && { namespace }), ...(name !== undefined && { name }) }
    return { verb, attributes, resource: { type: 'k8s', kind, ...named } }
  }
  if (given === '-') return { verb, attributes, resource: { type: 'none' } }
  return { verb, attributes, resource: { type: 'sql', name: given, ...(columns !== undefined && { columns }) } }
}

function differences(expected: Fixture['expect'], decision: Decision): readonly string[] {
  const { effect, rules, reason, hint, obligations } = decision
  const messages: string[] = []
  if (effect !== expected.effect) messages.push(`expected ${expected.effect}, got ${effect}: ${reason}`)
  if (expected.rules !== undefined && !sameWords(expected.rules, rules)) {
    messages.push(`expected the rules ${list(expected.rules)}, got ${list(rules)}.`)
  }
  if (expected.reason !== undefined && !reason.includes(expected.reason)) {
    messages.push(`expected a reason with "${expected.reason}", got "${reason}"`)
  }
  if (expected.hint !== undefined && hint?.includes(expected.hint) !== true) {
    messages.push(`expected a hint with "${expected.hint}", got "${hint ?? ''}"`)
  }
  const masks = [
    ...obligations.columns.map(({ schema, table, column, transform }) => `${schema}.${table}.${column} ${transform}`),
    ...obligations.detect.map(({ detector, transform }) => `${detector} ${transform}`),
  ]
  if (expected.masks !== undefined && !sameWords(expected.masks, masks)) {
    messages.push(`expected the masks ${list(expected.masks)}, got ${list(masks)}.`)
  }
  if (expected.rows !== undefined && expected.rows !== obligations.rowsMax) {
    messages.push(`expected at most ${expected.rows} rows, got ${obligations.rowsMax ?? 'no limit'}.`)
  }
  return messages
}

function sameWords(a: readonly string[], b: readonly string[]): boolean {
  return JSON.stringify([...a].sort()) === JSON.stringify([...b].sort())
}

function list(words: readonly string[]): string {
  return words.length === 0 ? '(none)' : words.join(', ')
}

function failure(yaml: YamlFile, path: readonly PropertyKey[], message: string): Problem {
  return { path: yaml.path, ...yaml.at(path), message }
}
