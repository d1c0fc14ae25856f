/**
 * From a parsed rule to one that can be matched, reporting everything that does not add up on the way.
 *
 * @packageDocumentation
 */
import type { ApprovalRequirement } from '../core/decision.ts'
import type { Resource } from '../core/action.ts'
import type { ProtocolName } from '../core/target.ts'
import { compileCondition, type Condition } from './condition.ts'
import { isCoverableVerb } from './coverable.ts'
import { variablesFor } from './facts.ts'
import { selects, type KnownTarget, type TargetSelector } from './principals.ts'
import { nearest } from './problem.ts'
import { compileResource, type ResourcePattern, type ResourceSpec } from './resources.ts'
import type { Grant, Rule, Source } from './rule.ts'
import type { PolicyFile, RuleSpec } from './schema.ts'
import { selectVerbs, type Vocabulary } from './verbs.ts'
import type { ValuePath } from './yaml.ts'

/** What compiling may ask for and where it reports. */
export interface Site {
  readonly vocabulary: Vocabulary
  readonly targets: readonly KnownTarget[]
  readonly fileTargets: PolicyFile['targets']
  readonly error: (path: ValuePath, message: string, key?: string) => void
  readonly warn: (path: ValuePath, message: string, key?: string) => void
  /** Reports at a character of a string value. */
  readonly errorInText: (path: ValuePath, offset: number, message: string) => void
  readonly sourceOf: (path: ValuePath) => Source
}

/** Kinds of resource the parts of a protocol have, besides none. */
const RESOURCE_TYPES: Readonly<Record<ProtocolName, readonly Resource['type'][]>> = {
  postgres: ['none', 'sql'],
  ssh: ['none', 'argv', 'file'],
  kubernetes: ['none', 'k8s'],
  http: ['none', 'http'],
}

/** Compiles one rule. Returns `undefined` when something was reported that leaves no rule to speak of. */
export function compileRule(spec: RuleSpec, path: ValuePath, site: Site): Rule | undefined {
  const targets = targetsOf(spec, path, site)
  const grants = grantsOf(spec, path, site)
  checkKeys(spec, path, site)
  const reached = site.targets.filter((target) => targets !== undefined && selects(targets, target))
  if (targets !== undefined && grants !== undefined) checkReach(spec, path, site, reached, grants)
  const condition = grants === undefined ? undefined : conditionOf(spec, path, site, reached, grants)
  if (targets === undefined || grants === undefined) return undefined
  if (spec.when !== undefined && condition === undefined) return undefined
  const { rows, bytes, timeout, concurrency, rate } = spec.limits ?? {}
  return {
    id: spec.id,
    order: 0,
    effect: spec.effect,
    targets,
    principals: spec.principals,
    unless: spec.unless ?? [],
    actions: spec.actions,
    grants,
    condition,
    limits: { rows, bytes, timeout, concurrency },
    rate: rate && { id: `rule:${spec.id}:rate`, rule: spec.id, ...rate, per: ['principal', 'target'] },
    approval: spec.approvers && requirement(spec.id, spec.approvers),
    as: spec.as,
    reason: spec.reason,
    hint: spec.hint,
    source: site.sourceOf(path),
  }
}

/** Targets of an entry or, without any, of its file. */
export function targetsOf(
  spec: { readonly targets?: PolicyFile['targets'] },
  path: ValuePath,
  site: Site,
): readonly TargetSelector[] | undefined {
  const selectors = spec.targets ?? site.fileTargets
  if (selectors === undefined) {
    site.error(path, 'This has no `targets`, and neither has the file. Name them, or write targets: ["*"].')
    return undefined
  }
  // What the file names is checked once, with the file.
  if (spec.targets !== undefined) checkTargets(spec.targets, [...path, 'targets'], site)
  return selectors
}

/** Reports names that are no target, and labels no target has. */
export function checkTargets(selectors: readonly TargetSelector[], path: ValuePath, site: Site): void {
  const known = site.targets.map(({ name }) => name)
  selectors.forEach((selector, index) => {
    if (typeof selector === 'string') {
      if (selector === '*' || known.includes(selector)) return
      site.error([...path, index], `There is no target "${selector}".${nearest(selector, known)}`)
    } else if (!site.targets.some((target) => selects([selector], target))) {
      site.warn([...path, index], 'No target has these labels now, so nothing here matches.')
    }
  })
}

/** Resolves `actions` of a rule or budget into verbs; bundles only where they are allowed. */
export function verbsOf(actions: readonly string[], path: ValuePath, site: Site): Set<string> | undefined {
  const verbs = new Set<string>()
  let isSound = true
  actions.forEach((entry, index) => {
    const selected = selectVerbs(entry, site.vocabulary)
    const message = 'problem' in selected ? selected.problem : 'bundle' in selected ? 'A bundle cannot stand here.' : ''
    if (message !== '') {
      site.error([...path, 'actions', index], message)
      isSound = false
    }
    if ('verbs' in selected) for (const verb of selected.verbs) verbs.add(verb)
  })
  return isSound ? verbs : undefined
}

function grantsOf(spec: RuleSpec, path: ValuePath, site: Site): readonly Grant[] | undefined {
  const bundles = spec.actions.filter((entry) => entry.startsWith('bundle:'))
  if (bundles.length > 0) return bundleGrants(spec, bundles, path, site)
  const verbs = verbsOf(spec.actions, path, site)
  if (spec.resources === undefined) {
    if (spec.effect === 'deny') return verbs && [{ verbs, resources: undefined }]
    site.error(path, `Rule "${spec.id}" names no resources; "**" stands for any.`)
    return undefined
  }
  const resources = patternsOf(spec.resources, [...path, 'resources'], site)
  return verbs === undefined || resources === undefined ? undefined : [{ verbs, resources }]
}

function bundleGrants(
  spec: RuleSpec,
  bundles: readonly string[],
  path: ValuePath,
  site: Site,
): readonly Grant[] | undefined {
  if (bundles.length < spec.actions.length || spec.resources !== undefined) {
    const message = 'A bundle brings its own resources: give it a rule of its own, without `resources`.'
    site.error([...path, 'actions'], message)
    return undefined
  }
  const grants: Grant[] = []
  let isSound = true
  bundles.forEach((entry, index) => {
    const selected = selectVerbs(entry, site.vocabulary)
    if (!('bundle' in selected)) {
      isSound = false
      site.error([...path, 'actions', index], 'problem' in selected ? selected.problem : 'This is no bundle.')
      return
    }
    for (const { verb, resources } of selected.spec.grants) {
      const patterns = patternsOf(resources, [...path, 'actions', index], site, true)
      if (patterns === undefined) isSound = false
      else grants.push({ verbs: new Set([verb]), resources: patterns })
    }
  })
  return isSound ? grants : undefined
}

function patternsOf(
  specs: readonly ResourceSpec[],
  path: ValuePath,
  site: Site,
  isBundle = false,
): readonly ResourcePattern[] | undefined {
  const patterns: ResourcePattern[] = []
  specs.forEach((spec, index) => {
    const pattern = compileResource(spec)
    if (typeof pattern === 'string') site.error(isBundle ? path : [...path, index], pattern)
    else patterns.push(pattern)
  })
  return patterns.length === specs.length ? patterns : undefined
}

/** Keys that go together and keys that exclude each other. What would have no effect is an error: it was meant to. */
function checkKeys(spec: RuleSpec, path: ValuePath, site: Site): void {
  if (spec.principals === undefined && spec.effect !== 'deny') {
    site.error(path, `Rule "${spec.id}" names no principals; write principals: ["*"] to mean everyone.`)
  }
  if (spec.effect === 'require_approval' && spec.approvers === undefined) {
    site.error(path, `Rule "${spec.id}" asks for an approval and names no approvers.`)
  }
  if (spec.effect !== 'require_approval' && spec.approvers !== undefined) {
    site.error(path, '`approvers` belongs to effect: require_approval only.', 'approvers')
  }
  if (spec.approvers?.covers !== undefined) {
    const coverable = spec.actions.some((entry) => {
      const selected = selectVerbs(entry, site.vocabulary)
      return 'verbs' in selected && selected.verbs.some((verb) => isCoverableVerb(verb, site.vocabulary))
    })
    if (!coverable) {
      const message =
        'Only calls that read or write can be covered by the approval of another; none of these actions does.'
      site.error([...path, 'approvers'], message, 'covers')
    }
  }
  if (spec.approvers?.approve_in_tx === true) checkInTransaction(spec, path, site)
  if (spec.approvers?.self_confirm === true) checkSelfConfirm(spec, spec.approvers, path, site)
  for (const key of ['limits', 'as'] as const) {
    if (spec.effect === 'deny' && spec[key] !== undefined) {
      site.error(path, `\`${key}\` has no meaning in a rule that denies.`, key)
    }
  }
}

/** A confirmation is one word from the caller's own client about one call; what asks for more than that cannot have it. */
function checkSelfConfirm(
  { id }: RuleSpec,
  approvers: NonNullable<RuleSpec['approvers']>,
  path: ValuePath,
  site: Site,
): void {
  const beyond = [
    [approvers.count > 1, 'more than one person'],
    [approvers.reason_required, 'a reason'],
    [approvers.covers !== undefined, 'an approval that covers further calls'],
    [approvers.approve_in_tx === true, 'an approval inside a transaction'],
  ] as const
  for (const [isSet, what] of beyond) {
    if (!isSet) continue
    const message = `The confirmation of the caller's own client is never ${what}. Ask for that in a rule of its own.`
    site.error([...path, 'approvers'], message, 'self_confirm')
  }
  site.warn(
    [...path, 'approvers'],
    `Rule "${id}" takes the word of the caller's own client: it proves no person, because whoever holds the caller's token can give it.`,
    'self_confirm',
  )
}

/** Only a session of the PostgreSQL door has transactions that calls are sent in. */
function checkInTransaction(spec: RuleSpec, path: ValuePath, site: Site): void {
  const at = [...path, 'approvers']
  const isOfSql = spec.actions.some((entry) => {
    const selected = selectVerbs(entry, site.vocabulary)
    return 'verbs' in selected && selected.verbs.some((verb) => verb.startsWith('sql.'))
  })
  if (!isOfSql) {
    site.error(at, 'Only SQL statements are sent inside a transaction; none of these actions is one.', 'approve_in_tx')
    return
  }
  site.warn(
    at,
    `Rule "${spec.id}" lets a statement wait inside its client's transaction: what that has locked stays locked while persons think, for up to 60 s.`,
    'approve_in_tx',
  )
}

/** Reports rules that fit none of their targets, and warns of those that can never match. */
function checkReach(
  spec: RuleSpec,
  path: ValuePath,
  site: Site,
  reached: readonly KnownTarget[],
  grants: readonly Grant[],
): void {
  const neverMatches = (why: string): void => site.warn(path, `Rule "${spec.id}" can never match: ${why}`)
  const protocols = new Set(reached.map(({ protocol }) => protocol))
  for (const protocol of protocols) {
    if (!site.vocabulary.taxonomies.some((taxonomy) => taxonomy.protocol === protocol)) {
      site.error(path, `This gateway has no description of what ${protocol} targets do.`)
    }
  }
  const prefixes = new Set(
    site.vocabulary.taxonomies.filter(({ protocol }) => hasProtocol(protocols, protocol)).map(({ prefix }) => prefix),
  )
  const verbs = grants.flatMap((grant) => [...grant.verbs])
  if (reached.length > 0 && !verbs.some((verb) => prefixes.has(verb.split('.')[0] ?? ''))) {
    const names = reached.map(({ name }) => name).join(', ')
    site.error([...path, 'actions'], `None of these actions exists on ${names}.`)
  }
  const types = new Set([...protocols].flatMap((protocol) => RESOURCE_TYPES[protocol]))
  grants[0]?.resources?.forEach((pattern, index) => {
    if (reached.length === 0 || spec.resources === undefined || pattern.types.some((type) => types.has(type))) return
    site.error([...path, 'resources', index], `A resource of this form does not exist on the targets of this rule.`)
  })
  if (verbs.length === 0) neverMatches('no action is of this class.')
  const excluded = new Set(spec.unless)
  if (excluded.has('*') || spec.principals?.every((name) => excluded.has(name)) === true) {
    neverMatches('`unless` excludes everyone it names.')
  }
  if (spec.when?.trim() === 'false') neverMatches('its condition is false.')
  warnOfNames(spec, path, site, verbs, neverMatches)
}

/** SQL names are matched as the catalog writes them; two common ways of writing them another way match nothing. */
function warnOfNames(
  spec: RuleSpec,
  path: ValuePath,
  site: Site,
  verbs: readonly string[],
  neverMatches: (why: string) => void,
): void {
  const names = spec.resources?.map((resource) => (typeof resource === 'string' ? resource : undefined)) ?? []
  names.forEach((name, index) => {
    if (name !== undefined && /[A-Z]/.test(name.replaceAll(/"[^"]*"/g, ''))) {
      const message = `"${name}" has capitals, and names are compared exactly: PostgreSQL folds unquoted names to lower case.`
      site.warn([...path, 'resources', index], message)
    }
  })
  const callsOnly = verbs.length > 0 && verbs.every((verb) => verb === 'sql.call')
  if (callsOnly && spec.effect !== 'deny' && names.every((name) => name !== undefined && /^[^("*]+$/.test(name))) {
    neverMatches('functions are named with their argument types, such as public.total(integer) or public.total(*).')
  }
}

function conditionOf(
  spec: RuleSpec,
  path: ValuePath,
  site: Site,
  reached: readonly KnownTarget[],
  grants: readonly Grant[],
): Condition | undefined {
  if (spec.when === undefined) return undefined
  const verbs = grants.flatMap((grant) => [...grant.verbs])
  const protocols = new Set(reached.map(({ protocol }) => protocol))
  const near = verbs.filter((verb) =>
    site.vocabulary.taxonomies.some(
      ({ prefix, protocol }) => verb.startsWith(`${prefix}.`) && hasProtocol(protocols, protocol),
    ),
  )
  const relevant = near.length > 0 ? near : verbs
  const result = compileCondition(spec.when, variablesFor(relevant, site.vocabulary))
  if ('problem' in result) {
    site.errorInText([...path, 'when'], result.problem.offset, result.problem.message)
    return undefined
  }
  warnOfGaps(spec, path, site, relevant, result.condition)
  return result.condition
}

/** An attribute some of the verbs lack makes the condition fail there, which denies: say so before it happens. */
function warnOfGaps(spec: RuleSpec, path: ValuePath, site: Site, verbs: readonly string[], condition: Condition): void {
  for (const field of condition.reads) {
    const [owner, name = ''] = field.split('.')
    if (owner !== 'part' || ['verb', 'resource', 'columns'].includes(name) || condition.guarded.has(field)) continue
    const lacking = verbs.filter((verb) => {
      const attributes = site.vocabulary.verbs.get(verb)?.attributes
      return attributes === undefined || !Object.hasOwn(attributes, name)
    })
    if (lacking.length === 0) continue
    const shown = lacking.slice(0, 5).join(', ')
    site.warn(
      [...path, 'when'],
      `"${field}" does not exist for ${shown}; there rule "${spec.id}" denies. Ask has(${field}) first.`,
    )
  }
}

/** The consents that a rule, or a budget that is used up, asks for. */
export function requirement(id: string, approvers: NonNullable<RuleSpec['approvers']>): ApprovalRequirement {
  return {
    rule: id,
    anyOf: approvers.any_of,
    count: approvers.count,
    expiresMs: approvers.expires,
    reasonRequired: approvers.reason_required,
    ...(approvers.covers !== undefined && {
      covers: { forMs: approvers.covers.for, uses: approvers.covers.uses },
    }),
    ...(approvers.approve_in_tx === true && { inTransaction: true }),
    ...(approvers.self_confirm === true && { selfConfirm: true }),
  }
}

function hasProtocol(protocols: ReadonlySet<string>, protocol: string): boolean {
  return protocols.has(protocol)
}
