import type { AttributeValue } from '../../../core/action.ts'
import { asList, eachChild, text, words, type Ast } from '../ast.ts'
import type { Draft } from './draft.ts'
import { fieldsOf, functionsNamed, relationName, roleName } from './objects.ts'

/** Something is made. */
export function create(
  draft: Draft,
  object: string,
  name: string | undefined,
  more: Readonly<Record<string, AttributeValue>> = {},
): void {
  draft.changesCatalog = true
  draft.part('sql.create', name, { object, temporary: false, ...more })
}

/** Something is changed. */
export function alterOf(draft: Draft, object: string, name: string | undefined, changes: readonly string[]): void {
  draft.changesCatalog = true
  draft.part('sql.alter', name, { object, changes })
}

/** Who may do what is decided anew. */
export function grants(
  draft: Draft,
  name: string | undefined,
  kind: string,
  more: {
    readonly grantees?: readonly string[]
    readonly privileges?: readonly string[]
    readonly option?: boolean
  } = {},
): void {
  const { grantees = [], privileges = [], option = false } = more
  draft.part('sql.grant', name, { kind, grantees, privileges, grant_option: option })
}

/** Somebody else owns something. */
export function ownerOf(draft: Draft, name: string | undefined, role: unknown): void {
  grants(draft, name, 'owner', { grantees: [roleName(role)] })
}

/** A foreign key puts triggers on the table it points at. */
export function referenced(draft: Draft, type: string, fields: Ast): void {
  if (type === 'Constraint' && fields['pktable'] !== undefined) {
    alterOf(draft, 'table', relationName(draft, fields['pktable']), ['referenced'])
  }
  eachChild(type, fields, (childType, child) => referenced(draft, childType, child))
}

/** Functions and operators of an operator class. */
export function operatorItems(draft: Draft, name: string | undefined, items: unknown): void {
  if (asList(items).length === 0) return
  code(draft, name, '', false)
  for (const item of asList(items)) {
    const { itemtype, name: object } = fieldsOf(item)
    if (itemtype === OPERATOR_CLASS_FUNCTION) runsFunction(draft, words(fieldsOf(object)['objname']), 'operator class')
  }
}

/** `OPCLASS_ITEM_FUNCTION` (`parsenodes.h`). */
const OPERATOR_CLASS_FUNCTION = 2

/** Code is stored that the server will run later, perhaps for others and with their rights. */
export function code(draft: Draft, name: string | undefined, language: string, securityDefiner: boolean): void {
  draft.underMasks = 'refused'
  draft.part('sql.code', name, { language, security_definer: securityDefiner })
}

/** Something that concerns the whole server, or what it exchanges with others. */
export function server(draft: Draft, operation: string): void {
  draft.underMasks = 'refused'
  draft.part('sql.server', undefined, { operation })
}

/** A function is named that the server will run on its own account: every overload it can be. */
export function runsFunction(draft: Draft, path: readonly string[] | undefined, via: string): void {
  const found = path === undefined ? [] : functionsNamed(draft, path)
  if (found.length === 0) draft.unknown('a function it names was not found')
  for (const fn of found) draft.functions.push({ fn, via })
}

/** What PostgreSQL's grammar calls a kind of object, in words: `OBJECT_TABLE` → `table`. */
export function kindOf(objectType: unknown): string {
  // The parser leaves out a field that holds the first value of its enumeration.
  const name = text(objectType) || 'OBJECT_ACCESS_METHOD'
  return (
    KIND_WORDS.get(name) ??
    name
      .replace(/^OBJECT_/, '')
      .toLowerCase()
      .replaceAll('_', ' ')
  )
}

const KIND_WORDS: ReadonlyMap<string, string> = new Map([
  ['OBJECT_MATVIEW', 'materialized view'],
  ['OBJECT_FDW', 'foreign data wrapper'],
  ['OBJECT_FOREIGN_SERVER', 'server'],
  ['OBJECT_OPCLASS', 'operator class'],
  ['OBJECT_OPFAMILY', 'operator family'],
  ['OBJECT_STATISTIC_EXT', 'statistics'],
  ['OBJECT_TABCONSTRAINT', 'constraint'],
  ['OBJECT_DOMCONSTRAINT', 'constraint'],
  ['OBJECT_TSCONFIGURATION', 'text search configuration'],
  ['OBJECT_TSDICTIONARY', 'text search dictionary'],
  ['OBJECT_TSPARSER', 'text search parser'],
  ['OBJECT_TSTEMPLATE', 'text search template'],
  ['OBJECT_LARGEOBJECT', 'large object'],
  ['OBJECT_PARAMETER_ACL', 'parameter'],
])
