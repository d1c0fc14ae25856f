/**
 * ALTER, RENAME, COMMENT and their like.
 *
 * @packageDocumentation
 */
import { asList, text, unwrap, words, type Ast } from '../ast.ts'
import { functionsOf } from '../functions.ts'
import { word } from '../names.ts'
import type { Draft, Handler } from './draft.ts'
import { alterOf, code, create, grants, kindOf, operatorItems, ownerOf, referenced, server } from './effects.ts'
import {
  fieldsOf,
  integerText,
  options,
  qualified,
  relationName,
  roleNames,
  routine,
  schemaName,
  typeName,
} from './objects.ts'

export const alterTable: Handler = (draft, fields) => {
  const name = relationName(draft, fields['relation'])
  const commands = asList(fields['cmds']).map((command) => fieldsOf(command))
  const changes = commands.map((command) => changeWord(text(command['subtype'])))
  alterOf(draft, kindOf(fields['objtype']), name, [...new Set(changes)].sort())
  if (commands.some((command) => REWRITES.has(text(command['subtype'])))) runsExpressions(draft)
  for (const command of commands) {
    const subtype = text(command['subtype'])
    if (subtype === 'AT_ChangeOwner') ownerOf(draft, name, command['newowner'])
    if (subtype.endsWith('RowSecurity')) grants(draft, name, 'row security')
    // What no longer fires may have guarded something.
    if (/^AT_(Enable|Disable).*(Trig|Rule)/.test(subtype)) code(draft, name, '', false)
    const partition = unwrap(command['def'])
    if (partition?.type === 'PartitionCmd' && partition.fields['name'] !== undefined) {
      alterOf(draft, 'table', relationName(draft, partition.fields['name']), ['parent'])
      draft.outsideTransaction ||= partition.fields['concurrent'] === true
    }
    if (subtype === 'AT_AddInherit' || subtype === 'AT_DropInherit') {
      alterOf(draft, 'table', relationName(draft, command['def']), ['child'])
    }
  }
  referenced(draft, 'AlterTableStmt', fields)
}

/** Changes that may write or check every row again, and with it run what its indexes and constraints compute. */
const REWRITES = new Set([
  '',
  'AT_AddColumn',
  'AT_AddConstraint',
  'AT_AlterColumnType',
  'AT_AttachPartition',
  'AT_SetAccessMethod',
  'AT_SetExpression',
  'AT_SetLogged',
  'AT_SetUnLogged',
  'AT_ValidateConstraint',
])

function runsExpressions(draft: Draft): void {
  for (const relation of draft.named) {
    for (const fn of functionsOf(draft.catalog, relation.writeFunctions)) draft.functions.push({ fn, via: 'index' })
  }
}

/** `AT_AddColumn` → `add column`; the first value of the enumeration is left out by the parser. */
function changeWord(subtype: string): string {
  const name = subtype === '' ? 'AT_AddColumn' : subtype
  return name
    .replace(/^AT_/, '')
    .replace(/(?<=[a-z])(?=[A-Z])/g, ' ')
    .toLowerCase()
}

export const alterTableSpaceAll: Handler = (draft, fields) => {
  alterOf(draft, kindOf(fields['objtype']), undefined, ['tablespace'])
  server(draft, 'tablespace')
}

export const rename: Handler = (draft, fields) => {
  const kind = kindOf(fields['renameType'])
  const name = target(draft, kind, fields) ?? word(text(fields['subname']))
  alterOf(draft, kind, name, ['rename'])
  if (kind === 'role') grants(draft, name, 'role', { grantees: [name] })
  if (kind === 'policy') grants(draft, name, 'policy')
  if (!PARTS_OF_RELATIONS.has(kind) && kind !== 'attribute') renamed(draft, kind, name, text(fields['newname']))
  masksRestOn(draft, kind)
  // A view's columns, a function's name: what calls it by name calls something else afterwards.
  if (kind === 'function' || kind === 'procedure' || kind === 'routine') code(draft, name, '', false)
}

export const changeOwner: Handler = (draft, fields) => {
  const kind = kindOf(fields['objectType'])
  const name = target(draft, kind, fields)
  alterOf(draft, kind, name, ['owner'])
  ownerOf(draft, name, fields['newowner'])
  draft.underMasks = 'refused'
}

export const changeSchema: Handler = (draft, fields) => {
  const kind = kindOf(fields['objectType'])
  const name = target(draft, kind, fields)
  alterOf(draft, kind, name, ['schema'])
  // The object is made, as far as names go, where it was not before.
  const last = name === undefined ? undefined : /(?:"(?:[^"]|"")*"|[^."]+)(?:\(.*\))?$/u.exec(name)?.[0]
  const schema = word(text(fields['newschema']))
  create(draft, kind, last === undefined ? schema : `${schema}.${last}`)
  masksRestOn(draft, kind)
  if (kind === 'function' || kind === 'procedure' || kind === 'routine') code(draft, name, '', false)
}

export const dependsOn: Handler = (draft, fields) => {
  const kind = kindOf(fields['objectType'])
  alterOf(draft, kind, target(draft, kind, fields), ['extension'])
  draft.underMasks = 'refused'
}

/** A new name is as good as a new object: rules know objects by their names. */
function renamed(draft: Draft, kind: string, before: string | undefined, name: string): void {
  const schema = before === undefined ? undefined : /^((?:"(?:[^"]|"")*"|[^."]+))\./u.exec(before)?.[1]
  const types = /\(.*\)$/u.exec(before ?? '')?.[0] ?? ''
  create(draft, kind, schema === undefined ? word(name) : `${schema}.${word(name)}${types}`)
}

/** Masks are bound to names: moving whole schemas under them closes the database. */
function masksRestOn(draft: Draft, kind: string): void {
  if (!RELATION_KINDS.has(kind) && kind !== 'column' && kind !== 'constraint') draft.underMasks = 'refused'
}

const RELATION_KINDS = new Set(['table', 'view', 'materialized view', 'foreign table', 'sequence', 'index'])
/** Kinds whose objects are words of a relation and one word more. */
const PARTS_OF_RELATIONS = new Set(['trigger', 'rule', 'policy', 'constraint', 'column'])
const ROUTINE_KINDS = new Set(['function', 'procedure', 'routine', 'aggregate', 'operator'])

/** The name of what a statement is about, in whatever form its grammar has it. */
export function target(draft: Draft, kind: string, fields: Ast): string | undefined {
  if (fields['relation'] !== undefined) return relationName(draft, fields['relation'])
  return objectName(draft, kind, fields['object'])
}

/** The name of one object of a list. */
export function objectName(draft: Draft, kind: string, object: unknown): string | undefined {
  const one = unwrap(object)
  if (one === undefined) return undefined
  const { type, fields } = one
  if (type === 'RangeVar') return relationName(draft, fields)
  if (type === 'String') return word(text(fields['sval']))
  if (type === 'Integer') return integerText(fields['ival'])
  if (type === 'ObjectWithArgs') return ROUTINE_KINDS.has(kind) ? routine(draft, fields).name : undefined
  if (type === 'TypeName') return schemaName(draft, words(fields['names']))
  if (type !== 'List') return undefined
  const path = words(fields['items'])
  if (path === undefined) {
    const [first] = asList(fields['items'])
    const made = unwrap(first)
    return made?.type === 'TypeName' ? typeName(draft, first) : undefined
  }
  if (PARTS_OF_RELATIONS.has(kind)) return path.length > 1 ? qualified(draft, path.slice(0, -1)) : undefined
  // Operator classes are named behind their access method.
  if (kind === 'operator class' || kind === 'operator family') return schemaName(draft, path.slice(1))
  return RELATION_KINDS.has(kind) ? qualified(draft, path) : schemaName(draft, path)
}

export const alterSequence: Handler = (draft, fields) =>
  alterOf(
    draft,
    'sequence',
    relationName(draft, fields['sequence']),
    options(fields['options'])
      .map(({ name }) => name)
      .sort(),
  )

export const alterFunction: Handler = (draft, fields) => {
  const { name } = routine(draft, fields['func'])
  const given = options(fields['actions'])
  alterOf(draft, kindOf(fields['objtype']), name, given.map((option) => option.name).sort())
  code(
    draft,
    name,
    '',
    given.some((option) => option.name === 'security' && option.value === 'true'),
  )
}

/** Types, domains, enumerations, collations, operators, statistics and text search objects. */
export function alterNamed(object: string, key: string): Handler {
  return (draft, fields) => {
    const name = Array.isArray(fields[key]) ? schemaName(draft, words(fields[key])) : routine(draft, fields[key]).name
    alterOf(draft, object, name, ['definition'])
    if (object === 'operator') code(draft, name, '', false)
    else if (object !== 'statistics') draft.underMasks = 'refused'
  }
}

export const alterOperatorFamily: Handler = (draft, fields) => {
  const name = schemaName(draft, words(fields['opfamilyname']))
  alterOf(draft, 'operator family', name, ['definition'])
  code(draft, name, '', false)
  operatorItems(draft, name, fields['items'])
}

export const alterExtension: Handler = (draft, fields) => {
  const name = word(text(fields['extname']))
  alterOf(draft, 'extension', name, ['definition'])
  if (fields['object'] !== undefined) {
    const kind = kindOf(fields['objtype'])
    alterOf(draft, kind, objectName(draft, kind, fields['object']), ['extension'])
  }
  code(draft, undefined, '', false)
  server(draft, 'extension')
}

export const alterPolicy: Handler = (draft, fields) => {
  const table = relationName(draft, fields['table'])
  alterOf(draft, 'policy', table, ['definition'])
  grants(draft, table, 'policy', { grantees: roleNames(fields['roles']) })
  draft.underMasks = 'refused'
}

export const comment: Handler = (draft, fields) => {
  const kind = kindOf(fields['objtype'])
  const name = target(draft, kind, fields)
  draft.part('sql.comment', name, { object: kind })
}

/** Labels decide access where a provider such as SELinux, or an anonymizer, reads them. */
export const securityLabel: Handler = (draft, fields) => {
  const kind = kindOf(fields['objtype'])
  const name = target(draft, kind, fields)
  draft.part('sql.comment', name, { object: kind })
  grants(draft, name, 'label')
  draft.changesCatalog = true
}
