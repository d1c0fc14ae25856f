/**
 * Findings → parts: what policies decide about.
 *
 * @packageDocumentation
 */
import type { AttributeValue, Part } from '../../core/action.ts'
import type { Relation } from './catalog.ts'
import type { Effects } from './effects.ts'
import { functionName, resourceName } from './names.ts'
import type { Use } from './scope.ts'
import { isSensitiveRead } from './sensitive-catalogs.ts'
import type { Findings, FunctionUse } from './walk/findings.ts'

/** One relation under one verb, over all its mentions in a statement. */
interface Draft {
  readonly verb: string
  readonly relation: Relation
  readonly via: string
  readonly read: Set<string>
  readonly written: Set<string>
  hasWhere: boolean
  locking: boolean
  returning: boolean
}

/**
 * Parts of an understood statement and of what it sets off. `sql.unknown` is added by the caller.
 *
 * @param isQuery whether the statement is a query, so that without a relation it still reads: nothing.
 */
export function partsOf(findings: Findings, effects: Effects, isQuery = true): readonly Part[] {
  const drafts = new Map<string, Draft>()
  for (const use of findings.uses) {
    if (use.role === 'read') readPart(drafts, use)
    else writeParts(drafts, use)
  }
  for (const cascade of effects.cascades) {
    const draft = draftOf(drafts, `sql.${cascade.verb}`, cascade.relation, 'cascade')
    for (const column of cascade.columns) (cascade.verb === 'update' ? draft.written : draft.read).add(column)
  }
  for (const { relation, verb, columns, hasWhere } of effects.through) {
    const draft = draftOf(drafts, `sql.${verb}`, relation, 'view')
    for (const column of columns) draft.written.add(column)
    draft.hasWhere &&= hasWhere
  }
  const parts = [...drafts.values()].map(toPart)
  const hasRelation = parts.length > 0
  if (findings.explain !== undefined) {
    parts.push({ verb: 'sql.explain', resource: { type: 'none' }, attributes: { analyze: findings.explain.analyze } })
  }
  // A statement without a relation still is something: C3 denies what has no part.
  if (!hasRelation && isQuery) parts.push(NOTHING_READ)
  return [...parts, ...callParts([...findings.functions, ...effects.functions])]
}

/** Reasons told of one statement; a long text can hold thousands of mistakes. */
const REASONS_MAX = 20

/** The part of whatever was not understood. Only its own name allows it (C4). */
export function unknownPart(reasons: readonly string[]): Part {
  return { verb: 'sql.unknown', resource: { type: 'none' }, attributes: { reasons: reasons.slice(0, REASONS_MAX) } }
}

const NOTHING_READ: Part = {
  verb: 'sql.select',
  resource: { type: 'none' },
  attributes: { columns_read: [], has_where: false, locking: false, returning: false, via: '' },
}

function readPart(drafts: Map<string, Draft>, use: Use): void {
  const verb = isSensitiveRead(use.relation, use.read) ? 'sql.monitor' : 'sql.select'
  const draft = draftOf(drafts, verb, use.relation, '')
  for (const column of [...use.read, ...use.system]) draft.read.add(column)
  draft.hasWhere &&= use.hasWhere
  draft.locking ||= use.locked
  if (use.locked) draftOf(drafts, 'sql.lock', use.relation, '')
}

function writeParts(drafts: Map<string, Draft>, use: Use): void {
  const verbs = [...use.writes].map((write) => `sql.${write}`)
  if (use.role === 'merge') verbs.push('sql.merge')
  const isSensitive = isSensitiveRead(use.relation, use.read)
  for (const verb of verbs) {
    const draft = draftOf(drafts, verb, use.relation, '')
    for (const column of writtenBy(use, verb)) draft.written.add(column)
    for (const column of [...use.read, ...use.system]) draft.read.add(column)
    draft.hasWhere &&= use.hasWhere
    draft.returning ||= use.returning
  }
  if (use.read.size === 0 && use.system.size === 0) return
  const draft = draftOf(drafts, isSensitive ? 'sql.monitor' : 'sql.select', use.relation, '')
  for (const column of [...use.read, ...use.system]) draft.read.add(column)
  draft.hasWhere &&= use.hasWhere
  draft.returning ||= use.returning
}

function writtenBy(use: Use, verb: string): Iterable<string> {
  if (verb === 'sql.insert') return use.inserted
  return verb === 'sql.update' ? use.updated : [...use.inserted, ...use.updated]
}

function draftOf(drafts: Map<string, Draft>, verb: string, relation: Relation, via: string): Draft {
  const key = `${verb} ${relation.oid} ${via}`
  const known = drafts.get(key)
  if (known !== undefined) return known
  const made: Draft = {
    verb,
    relation,
    via,
    read: new Set(),
    written: new Set(),
    hasWhere: true,
    locking: false,
    returning: false,
  }
  drafts.set(key, made)
  return made
}

function toPart(draft: Draft): Part {
  const read = [...draft.read].sort()
  const written = [...draft.written].sort()
  return {
    verb: draft.verb,
    resource: { type: 'sql', name: resourceName(draft.relation), columns: columnsOf(draft, read, written) },
    attributes: attributesOf(draft, read, written),
  }
}

/** The columns a rule's column list must cover: those read or those written; a removed row loses all of them. */
function columnsOf(draft: Draft, read: readonly string[], written: readonly string[]): readonly string[] {
  switch (draft.verb) {
    case 'sql.insert':
    case 'sql.update':
    case 'sql.merge':
      return written
    case 'sql.delete':
      return draft.relation.columns.map((column) => column.name).sort()
    case 'sql.lock':
      return []
    default:
      return read
  }
}

function attributesOf(
  draft: Draft,
  read: readonly string[],
  written: readonly string[],
): Readonly<Record<string, AttributeValue>> {
  const { via, returning } = draft
  // Nobody wrote a WHERE for what a foreign key passes on.
  const where = via !== 'cascade' && draft.hasWhere
  switch (draft.verb) {
    case 'sql.insert':
      return { columns_written: written, returning, via }
    case 'sql.update':
      return { columns_read: read, columns_written: written, has_where: where, returning, via }
    case 'sql.delete':
      return { columns_read: read, has_where: where, returning, via }
    case 'sql.merge':
      return { has_where: where, returning }
    case 'sql.lock':
      return {}
    default:
      return { columns_read: read, has_where: where, locking: draft.locking, returning, via }
  }
}

function callParts(functions: readonly FunctionUse[]): readonly Part[] {
  const seen = new Map<string, Part>()
  for (const { fn, via } of functions) {
    const name = functionName(fn)
    seen.set(`${name} ${via}`, {
      verb: 'sql.call',
      resource: { type: 'sql', name },
      attributes: {
        via,
        volatility: fn.volatility,
        language: fn.language,
        security_definer: fn.securityDefiner,
        extension: fn.extension ?? '',
      },
    })
  }
  return [...seen.values()]
}
