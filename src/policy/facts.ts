/**
 * What a condition may read, as CEL values. Built once per decision and part, not once per rule.
 *
 * @packageDocumentation
 */
import { celError, celList, celMap, type CelInput, type CelMap } from '@bufbuild/cel'
import { timestampFromMs } from '@bufbuild/protobuf/wkt'
import type { AttributeSpec, AttributeType, AttributeValue, Part, Resource } from '../core/action.ts'
import { BOOL, DYN, kindOf, STRING, STRINGS, TIMESTAMP, type CelKind } from './condition-types.ts'
import type { Question } from './decide.ts'
import { renderResource } from './resources.ts'
import type { Vocabulary } from './verbs.ts'

/** Longer lists make a condition fail closed: what walks them would block the calls of everyone else. */
const LIST_LENGTH_MAX = 2000

/**
 * The variables of a condition, ready for evaluation: each as a map (`part`) and each of its fields under its qualified
 * name (`part.has_where`), which is what CEL's name resolution asks for first. The second makes a field one look-up.
 */
export type Facts = Readonly<Record<string, CelInput>>

/** Where the plain array of a list of texts stands; no condition can spell this name. */
export function rawList(name: string): string {
  return `@${name}`
}

/** What the variables other than `part` have, for the type check and for the docs. */
export const VARIABLES: Readonly<Record<string, Readonly<Record<string, readonly [CelKind, string]>>>> = {
  principal: {
    id: [STRING, 'Who calls.'],
    kind: [STRING, '`agent`, `person` or `service`.'],
    groups: [STRINGS, 'Groups of the caller.'],
    roles: [STRINGS, 'What the caller may do at the gateway itself.'],
    owner: [STRING, 'The person who answers for the caller.'],
    acts_for: [STRING, 'The person an agent acts for; empty when it acts for nobody.'],
  },
  target: {
    name: [STRING, 'Name of the target.'],
    protocol: [STRING, '`postgres`, `ssh`, `kubernetes` or `http`.'],
    labels: [{ kind: 'map', value: STRING }, 'Labels of the target; test with `has(target.labels.env)`.'],
    observed: [BOOL, 'Whether the target is in observe mode.'],
  },
  session: {
    id: [STRING, 'The session.'],
    door: [STRING, 'The door it came through: `mcp`, `postgres`, `ssh` …'],
    run: [STRING, 'The caller’s own name for a piece of work; empty when it named none. Not verified.'],
  },
  context: { now: [TIMESTAMP, 'When the call is decided, as a timestamp.'] },
}

/** What every part has whatever its verb. */
export const PART_FIELDS: Readonly<Record<string, readonly [CelKind, string]>> = {
  verb: [STRING, 'The action, such as `sql.select`.'],
  resource: [STRING, 'What is touched, as policies write it; `-` for nothing.'],
  columns: [STRINGS, 'Columns touched, when they are known; empty otherwise.'],
}

/** The variables a condition on these verbs can use. */
export function variablesFor(verbs: Iterable<string>, vocabulary: Vocabulary): ReadonlyMap<string, CelKind> {
  const part = new Map<string, CelKind>(Object.entries(PART_FIELDS).map(([name, [kind]]) => [name, kind]))
  for (const verb of verbs) {
    for (const [name, spec] of Object.entries(vocabulary.verbs.get(verb)?.attributes ?? {})) {
      const kind = kindOf(spec.type)
      const other = part.get(name)
      part.set(name, other === undefined || other.kind === kind.kind ? kind : DYN)
    }
  }
  const action = new Map<string, CelKind>([['verbs', STRINGS]])
  for (const [name, spec] of Object.entries(vocabulary.actionAttributes)) action.set(name, kindOf(spec.type))
  const variables = new Map<string, CelKind>([
    ['part', { kind: 'object', name: 'part', fields: part }],
    ['action', { kind: 'object', name: 'action', fields: action }],
  ])
  for (const [name, fields] of Object.entries(VARIABLES)) {
    const kinds = new Map(Object.entries(fields).map(([field, [kind]]) => [field, kind]))
    variables.set(name, { kind: 'object', name, fields: kinds })
  }
  return variables
}

/** The facts that are the same for every part of a question; a text says what of the plan is malformed. */
export function sharedFacts(question: Question, vocabulary: Vocabulary): Facts | string {
  const { principal, target, session } = question
  const action = attributes(question.action.attributes, vocabulary.actionAttributes)
  if (typeof action === 'string') return `The action's ${action}.`
  action.set('verbs', celList([...new Set(question.action.parts.map(({ verb }) => verb))]))
  const facts = emptyFacts(null)
  bind(facts, 'action', action)
  bind(facts, 'principal', {
    id: principal.id,
    kind: principal.kind,
    groups: celList(principal.groups),
    roles: celList(principal.roles),
    owner: principal.owner,
    acts_for: principal.actsFor ?? '',
  })
  bind(facts, 'target', {
    name: target.name,
    protocol: target.protocol,
    labels: mapOf(new Map(Object.entries(target.labels))),
    observed: target.mode === 'observe',
  })
  bindRaw(facts, 'principal.groups', principal.groups)
  bind(facts, 'session', { id: session.id, door: session.door, run: session.run ?? '' })
  bind(facts, 'context', { now: timestampFromMs(question.now) })
  return facts
}

/** Facts without any, over those of `base`; with no prototype of JavaScript's own behind them. */
function emptyFacts(base: Facts | null): Record<string, CelInput> {
  return Object.create(base) as Record<string, CelInput>
}

function bind(
  facts: Record<string, CelInput>,
  name: string,
  fields: ReadonlyMap<string, CelInput> | Readonly<Record<string, CelInput>>,
): void {
  const map = fields instanceof Map ? (fields as ReadonlyMap<string, CelInput>) : new Map(Object.entries(fields))
  facts[name] = mapOf(map)
  for (const [field, value] of map) facts[`${name}.${field}`] = value
}

/** Binds a list of texts a second time, as the array it is. */
function bindRaw(facts: Record<string, CelInput>, name: string, list: readonly string[]): void {
  facts[rawList(name)] = list
}

/** The facts of one part over the shared ones; a text says what of the plan is malformed. */
export function partFacts(part: Part, shared: Facts, vocabulary: Vocabulary): Facts | string {
  const specs = vocabulary.verbs.get(part.verb)?.attributes ?? {}
  const own = attributes(part.attributes, specs)
  if (typeof own === 'string') return `${own} of ${part.verb}`
  const columns = part.resource.type === 'sql' ? (part.resource.columns ?? []) : []
  if (columns.length > LIST_LENGTH_MAX) return `columns of ${part.verb} are more than ${LIST_LENGTH_MAX}`
  own.set('verb', part.verb)
  own.set('resource', resourceText(part.resource))
  own.set('columns', celList(columns))
  const facts = emptyFacts(shared)
  bind(facts, 'part', own)
  // The evaluator says of null that it has no field, and a deny that hangs on `has(part.x.y)` would not deny.
  for (const name of unreadable(part.attributes, specs)) facts[`part.${name}`] = UNREADABLE
  for (const [name, value] of Object.entries(part.attributes)) {
    if (own.has(name) && isStrings(value)) bindRaw(facts, `part.${name}`, value)
  }
  // Last, as above: no attribute may pass for the part's own columns.
  bindRaw(facts, 'part.columns', columns)
  return facts
}

/** Why a condition on what is unreadable fails. */
export const UNREADABLE_WHY = 'it reads what cannot be read in exactly one way'

/** The evaluator passes an error on as it does any value, though its types do not say so. */
const UNREADABLE = celError(UNREADABLE_WHY) as unknown as CelInput

/** Names of attributes that stand for what nobody can read. */
function unreadable(
  values: Readonly<Record<string, AttributeValue>>,
  specs: Readonly<Record<string, AttributeSpec>>,
): readonly string[] {
  return Object.entries(specs).flatMap(([name, { unreadableIf }]) => {
    const value = unreadableIf && values[unreadableIf.attribute]
    return typeof value === 'string' && unreadableIf?.is.includes(value) === true ? [name] : []
  })
}

function resourceText(resource: Resource): string {
  if (resource.type === 'sql') return resource.name
  if (resource.type === 'http') return `${resource.host ?? ''}${resource.path}`
  return resource.type === 'argv' ? resource.argv.join(' ') : renderResource(resource)
}

/**
 * Fail closed: an attribute that is not what the taxonomy says spoils all conditions on its part. Leaving it out
 * instead would make `has(part.x) && …` false, and a deny that hangs on it would not deny.
 */
function attributes(
  values: Readonly<Record<string, AttributeValue>>,
  specs: Readonly<Record<string, AttributeSpec>>,
): Map<string, CelInput> | string {
  const facts = new Map<string, CelInput>()
  for (const [name, spec] of Object.entries(specs)) {
    if (!Object.hasOwn(values, name)) continue
    const value = toCel(values[name], spec.type)
    if (value === undefined) return `attribute ${name} is not a ${spec.type} of bearable size`
    facts.set(name, value)
  }
  return facts
}

function toCel(value: AttributeValue | undefined, type: AttributeType): CelInput | undefined {
  switch (type) {
    case 'string':
      return typeof value === 'string' ? value : undefined
    case 'bool':
      return typeof value === 'boolean' ? value : undefined
    case 'int':
      return typeof value === 'number' && Number.isSafeInteger(value) ? BigInt(value) : undefined
    case 'double':
      return typeof value === 'number' && Number.isFinite(value) ? value : undefined
    case 'list(string)':
      return isStrings(value) ? celList(value) : undefined
    case 'map':
      return isRecord(value) ? dynamic(value, 0) : undefined
    default:
      return dynamic(value, 0)
  }
}

const DYNAMIC_DEPTH_MAX = 32

/** JSON as CEL: numbers are doubles, which compare with integers by value. */
function dynamic(value: AttributeValue | undefined, depth: number): CelInput | undefined {
  if (value === undefined || depth > DYNAMIC_DEPTH_MAX) return undefined
  if (typeof value === 'number') return Number.isFinite(value) ? value : undefined
  if (value === null || typeof value !== 'object') return value
  const isList = Array.isArray(value)
  const entries = Object.entries(value)
  if (entries.length > LIST_LENGTH_MAX) return undefined
  const items = new Map<string, CelInput>()
  for (const [key, item] of entries) {
    const converted = dynamic(item, depth + 1)
    if (converted === undefined) return undefined
    items.set(key, converted)
  }
  return isList ? celList([...items.values()]) : mapOf(items)
}

/** A map in which a key with the value null is there; the library's own says it is not. */
function mapOf(map: ReadonlyMap<string, CelInput>): CelMap {
  const result = celMap(map)
  for (const value of map.values()) {
    if (value !== null) continue
    Object.defineProperty(result, 'has', { value: (key: unknown) => typeof key === 'string' && map.has(key) })
    break
  }
  return result
}

function isStrings(value: AttributeValue | undefined): value is readonly string[] {
  return (
    Array.isArray(value) && value.length <= LIST_LENGTH_MAX && value.every((element) => typeof element === 'string')
  )
}

function isRecord(value: AttributeValue | undefined): value is Readonly<Record<string, AttributeValue>> {
  return typeof value === 'object' && value !== null && !Array.isArray(value)
}
