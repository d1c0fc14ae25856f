/**
 * From files to a policy: parse, validate, compile. Pure; `load-files.ts` reads the files.
 *
 * All problems are reported at once, each at its line and column. There is no partial policy: one problem in one file
 * and nothing is loaded, because leaving out the file with the problem might leave out a deny.
 *
 * @packageDocumentation
 */
import { createHash } from 'node:crypto'
import type { z } from 'zod'
import type { Taxonomy } from '../core/action.ts'
import { compileBudget, compileLoop, compileMask, type MaskChecks } from './compile-masks.ts'
import { checkTargets, compileRule, type Site } from './compile.ts'
import { createPolicy, type Policy } from './policy.ts'
import type { KnownTarget } from './principals.ts'
import { compare, sortProblems, type Position, type Problem } from './problem.ts'
import type { BudgetRule, LoopRule, MaskRule, Rule } from './rule.ts'
import { policyFileSchema, type PolicyFile } from './schema.ts'
import { vocabularyOf } from './verbs.ts'
import { readYaml, type SourceFile, type YamlFile } from './yaml.ts'

/** What the gateway has, which policies may name. */
export interface Known extends MaskChecks {
  readonly targets: readonly KnownTarget[]
  readonly taxonomies: readonly Taxonomy[]
}

/** A policy, or everything that keeps it from being one. Warnings come with either. */
export type LoadResult =
  | { readonly policy: Policy; readonly problems?: undefined; readonly warnings: readonly Problem[] }
  | { readonly policy?: undefined; readonly problems: readonly Problem[]; readonly warnings: readonly Problem[] }

/** Loads a set of files as one policy. The order of the files has no meaning. */
export function loadPolicy(files: readonly SourceFile[], known: Known): LoadResult {
  const vocabulary = vocabularyOf(known.taxonomies)
  const problems: Problem[] = []
  const warnings: Problem[] = []
  const rules: Rule[] = []
  const masks: MaskRule[] = []
  const budgets: BudgetRule[] = []
  const loops: LoopRule[] = []
  const canonical: string[] = []
  for (const file of files) {
    const { yaml, problems: unreadable } = readYaml(file)
    problems.push(...unreadable)
    if (yaml === undefined) continue
    const parsed = policyFileSchema.safeParse(yaml.value)
    if (!parsed.success) {
      problems.push(...parsed.error.issues.flatMap((issue) => issueProblems(issue, yaml)))
      continue
    }
    const content = parsed.data
    const site = siteOf(yaml, content, { vocabulary, targets: known.targets }, problems, warnings)
    if (content.targets !== undefined) checkTargets(content.targets, ['targets'], site)
    rules.push(...present(content.rules, (spec, index) => compileRule(spec, ['rules', index], site)))
    masks.push(...present(content.masks, (spec, index) => compileMask(spec, ['masks', index], site, known)))
    budgets.push(...present(content.budgets, (spec, index) => compileBudget(spec, ['budgets', index], site)))
    loops.push(...present(content.loops, (spec, index) => compileLoop(spec, ['loops', index], site)))
    canonical.push(...canonicalEntries(content))
  }
  problems.push(...duplicates(rules.map(({ id, source }) => ({ id, source, what: 'rule' }))))
  problems.push(
    ...duplicates(
      budgets.map(({ budget, source }) => ({ id: budget.id.slice('budget:'.length), source, what: 'budget' })),
    ),
  )
  problems.push(...duplicates(loops.map(({ loop, source }) => ({ id: loop.id, source, what: 'loop' }))))
  problems.push(...sessionBudgetsWithoutCeiling(budgets))
  if (problems.length > 0) return { problems: sortProblems(problems), warnings: sortProblems(warnings) }
  const version = versionOf(canonical)
  return {
    policy: createPolicy({ version, rules, masks, budgets, loops, vocabulary }),
    warnings: sortProblems(warnings),
  }
}

function present<S, T>(specs: readonly S[] | undefined, compile: (spec: S, index: number) => T | undefined): T[] {
  return (specs ?? []).flatMap((spec, index) => compile(spec, index) ?? [])
}

function siteOf(
  yaml: YamlFile,
  content: PolicyFile,
  shared: Pick<Site, 'vocabulary' | 'targets'>,
  problems: Problem[],
  warnings: Problem[],
): Site {
  const push = (list: Problem[], position: Position, message: string): void => {
    list.push({ path: yaml.path, ...position, message })
  }
  return {
    ...shared,
    fileTargets: content.targets,
    error: (path, message, key) => push(problems, yaml.at(path, key), message),
    warn: (path, message, key) => push(warnings, yaml.at(path, key), message),
    errorInText: (path, offset, message) => push(problems, yaml.inText(path, offset), message),
    sourceOf: (path) => ({ path: yaml.path, ...yaml.at(path) }),
  }
}

function issueProblems(issue: z.core.$ZodIssue, yaml: YamlFile): readonly Problem[] {
  const custom = issue.code === 'custom' ? (issue.params?.['keys'] as readonly string[] | undefined) : undefined
  const keys = issue.code === 'unrecognized_keys' ? issue.keys : custom
  if (keys === undefined) return [{ path: yaml.path, ...yaml.at(issue.path), message: plain(issue) }]
  return keys.map((key) => ({
    path: yaml.path,
    ...yaml.at(issue.path, key),
    message: `There is no key "${key}" here.`,
  }))
}

/** The schema library's words where they are clear, ours where they are not. */
function plain(issue: z.core.$ZodIssue): string {
  const key = issue.path.at(-1)
  const name = typeof key === 'string' ? `\`${key}\`` : 'This'
  if (issue.code === 'invalid_type') {
    if (issue.input === undefined && issue.message.endsWith('undefined')) return `${name} is missing.`
    return `${name} must be ${issue.expected === 'array' ? 'a list' : `of type ${issue.expected}`}.`
  }
  return issue.code === 'invalid_value' && !issue.message.startsWith('A ')
    ? `${name} must be one of ${issue.values.map(String).join(', ')}.`
    : issue.message
}

function duplicates(
  entries: readonly { readonly id: string; readonly source: Rule['source']; readonly what: string }[],
): readonly Problem[] {
  const first = new Map<string, Rule['source']>()
  return entries.flatMap(({ id, source, what }) => {
    const other = first.get(id)
    if (other === undefined) {
      first.set(id, source)
      return []
    }
    return [{ ...source, message: `There is another ${what} "${id}" at ${other.path}:${other.line}.` }]
  })
}

/** A caller may open sessions as it likes; a total per session bounds nothing without one per principal above it. */
function sessionBudgetsWithoutCeiling(budgets: readonly BudgetRule[]): readonly Problem[] {
  const scope = (rule: BudgetRule): string =>
    JSON.stringify([[...rule.verbs].sort(compare), rule.targets, rule.principals, rule.unless])
  return budgets.flatMap((rule) => {
    if (!rule.budget.per.includes('session')) return []
    const hasCeiling = budgets.some(
      (other) =>
        other.budget.per.includes('principal') && !other.budget.per.includes('session') && scope(other) === scope(rule),
    )
    if (hasCeiling) return []
    const message = 'A budget per session needs one per principal over the same actions: sessions are easily opened.'
    return [{ ...rule.source, message }]
  })
}

/** Every entry with its file's targets resolved, so that moving it to another file changes nothing. */
function canonicalEntries(content: PolicyFile): string[] {
  const entries: string[] = []
  for (const kind of ['rules', 'masks', 'budgets', 'loops'] as const) {
    for (const entry of content[kind] ?? []) {
      entries.push(canonicalJson({ kind, ...entry, targets: entry.targets ?? content.targets }))
    }
  }
  return entries
}

function canonicalJson(value: unknown): string {
  if (Array.isArray(value)) return `[${value.map(canonicalJson).join(',')}]`
  if (typeof value !== 'object' || value === null) return JSON.stringify(value) ?? 'null'
  const entries = Object.entries(value)
    .filter(([, item]) => item !== undefined)
    .sort(([a], [b]) => compare(a, b))
  return `{${entries.map(([key, item]) => `${JSON.stringify(key)}:${canonicalJson(item)}`).join(',')}}`
}

function versionOf(entries: readonly string[]): string {
  const hash = createHash('sha256')
  for (const entry of [...entries].sort(compare)) hash.update(entry).update('\n')
  return `sha256:${hash.digest('hex').slice(0, 32)}`
}
