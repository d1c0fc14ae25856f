/**
 * DROP and TRUNCATE, with what they take along.
 *
 * @packageDocumentation
 */
import { asList, text, unwrap } from '../ast.ts'
import type { Relation } from '../catalog.ts'
import { indexOf } from '../indexes.ts'
import { resourceName } from '../names.ts'
import { objectName } from './change.ts'
import type { Draft, Handler } from './draft.ts'
import { code, grants, kindOf, server } from './effects.ts'
import { relationName, roleNames } from './objects.ts'

/** Kinds whose removal changes what code runs, or what it is stopped by. */
const CODE_KINDS = new Set(['trigger', 'rule', 'event trigger', 'function', 'procedure', 'routine', 'aggregate'])
const SERVER_KINDS = new Set(['server', 'foreign data wrapper', 'event trigger', 'extension', 'publication'])
/** Kinds of which it is known what they could take along: nothing that masks rest on. */
const HARMLESS_KINDS = new Set([
  'table',
  'view',
  'materialized view',
  'foreign table',
  'sequence',
  'index',
  'statistics',
])

export const drop: Handler = (draft, fields) => {
  const kind = kindOf(fields['removeType'])
  const cascade = fields['behavior'] === 'DROP_CASCADE'
  draft.changesCatalog = true
  draft.outsideTransaction = fields['concurrent'] === true
  if (!HARMLESS_KINDS.has(kind)) draft.underMasks = 'refused'
  for (const object of asList(fields['objects'])) {
    const before = draft.named.length
    const name = objectName(draft, kind, object)
    draft.part('sql.drop', name, { object: kind, cascade, via: '' })
    if (CODE_KINDS.has(kind)) code(draft, name, '', false)
    if (kind === 'policy') grants(draft, name, 'policy')
    if (SERVER_KINDS.has(kind)) server(draft, kind)
    if (!cascade) continue
    const schema = kind === 'schema' ? text(unwrap(object)?.fields['sval']) : undefined
    const taken =
      schema === undefined
        ? draft.named.slice(before)
        : [...(draft.catalog.relationsBySchema.get(schema)?.values() ?? [])]
    for (const relation of takenAlong(draft, taken, schema === undefined)) {
      draft.named.push(relation)
      draft.part('sql.drop', resourceName(relation), {
        object: relation.kind.replaceAll('_', ' '),
        cascade,
        via: 'cascade',
      })
    }
  }
}

/** Relations that go with others: children, and whatever reads them in its rule. */
function takenAlong({ catalog }: Draft, relations: readonly Relation[], besides: boolean): readonly Relation[] {
  const seen = new Map(relations.map((relation) => [relation.oid, relation]))
  for (const relation of seen.values()) {
    for (const child of relation.children) {
      const found = catalog.relationsByOid.get(child)
      if (found !== undefined) seen.set(child, found)
    }
    for (const reader of indexOf(catalog).readers.get(relation.oid) ?? []) seen.set(reader.oid, reader)
  }
  return [...seen.values()].filter((relation) => !besides || !relations.includes(relation))
}

/** DROP OWNED takes everything a role owns, and its privileges. */
export const dropOwned: Handler = (draft, fields) => {
  draft.changesCatalog = true
  for (const role of roleNames(fields['roles'])) {
    draft.part('sql.drop', role, { object: 'owned', cascade: fields['behavior'] === 'DROP_CASCADE', via: '' })
    grants(draft, role, 'owner', { grantees: [role] })
  }
}

/** TRUNCATE empties tables, their children, and with CASCADE whatever points at them. */
export const truncate: Handler = (draft, fields) => {
  const cascade = fields['behavior'] === 'DROP_CASCADE'
  const restarts = fields['restart_seqs'] === true
  for (const ref of asList(fields['relations'])) {
    const before = draft.named.length
    draft.part('sql.truncate', relationName(draft, unwrap(ref)?.fields), { cascade, restarts, via: '' })
    const direct = draft.named.slice(before)
    for (const relation of emptied(draft, direct, cascade)) {
      if (!direct.includes(relation)) {
        draft.part('sql.truncate', resourceName(relation), { cascade, restarts, via: 'cascade' })
      }
      for (const trigger of relation.triggers) {
        const fn = trigger.truncate ? draft.catalog.functionsByOid.get(trigger.functionOid) : undefined
        if (fn !== undefined) draft.functions.push({ fn, via: 'trigger' })
      }
    }
  }
}

function emptied({ catalog }: Draft, relations: readonly Relation[], cascade: boolean): readonly Relation[] {
  const seen = new Map(relations.map((relation) => [relation.oid, relation]))
  for (const relation of seen.values()) {
    for (const child of relation.children) {
      const found = catalog.relationsByOid.get(child)
      if (found !== undefined) seen.set(child, found)
    }
    if (!cascade) continue
    for (const { relation: owner } of indexOf(catalog).referencedBy.get(relation.oid) ?? []) seen.set(owner.oid, owner)
  }
  return [...seen.values()]
}
