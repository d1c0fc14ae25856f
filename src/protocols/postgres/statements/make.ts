/**
 * CREATE in all its forms.
 *
 * Each is `sql.create` on what is made. What the statement does to something that was there before is `sql.alter` on
 * that; storing code the server will run is `sql.code` besides; deciding who may do what is `sql.grant`.
 *
 * @packageDocumentation
 */
import { asList, text, unwrap, words, type Ast } from '../ast.ts'
import { findRelation } from '../catalog.ts'
import { resourceName, word } from '../names.ts'
import type { Draft, Handler } from './draft.ts'
import {
  alterOf,
  code,
  create,
  grants,
  kindOf,
  operatorItems,
  ownerOf,
  referenced,
  runsFunction,
  server,
} from './effects.ts'
import { fieldsOf, functionsNamed, madeRoutine, options, relationName, roleName, schemaName } from './objects.ts'
import { executed } from './prepared.ts'

/** CREATE TABLE, and CREATE FOREIGN TABLE, whose node is one inside another. */
export const createTable: Handler = (draft, fields) => {
  const foreign = fieldsOf(fields['base'])
  const isForeign = fields['base'] !== undefined
  const table = isForeign ? foreign : fields
  const name = relationName(draft, table['relation'])
  refuseHidden(draft, fieldsOf(table['relation']))
  create(draft, isForeign ? 'foreign table' : 'table', name, {
    temporary: fieldsOf(table['relation'])['relpersistence'] === 't',
  })
  // A child shows up in what its parent yields.
  for (const parent of asList(table['inhRelations'])) alterOf(draft, 'table', relationName(draft, parent), ['child'])
  referenced(draft, 'CreateStmt', table)
}

export const createTableAs: Handler = (draft, fields) => {
  const into = fieldsOf(fields['into'])
  const rel = fieldsOf(into['rel'])
  refuseHidden(draft, rel)
  create(draft, kindOf(fields['objtype']), relationName(draft, rel), { temporary: rel['relpersistence'] === 't' })
  const query = unwrap(fields['query'])
  if (query?.type === 'ExecuteStmt') executed(draft, query.fields)
}

export const createView: Handler = (draft, fields) => {
  const rel = fieldsOf(fields['view'])
  refuseHidden(draft, rel)
  create(draft, 'view', relationName(draft, rel), { temporary: rel['relpersistence'] === 't' })
}

/**
 * A session looks into the temporary schema last, so that nothing in it hides what was judged. Statements that follow would
 * read and write the permanent table of that name, which nobody expects who has just made another one.
 */
export function refuseHidden(draft: Draft, rel: Ast): void {
  if (rel['relpersistence'] !== 't' || rel['schemaname'] !== undefined) return
  const permanent = findRelation(draft.catalog, undefined, text(rel['relname']))
  if (permanent === undefined) return
  draft.refused = {
    construct: 'sql.temporary_name',
    message: `${resourceName(permanent)} has that name: behind this gateway a temporary table does not come before it.`,
    hint: 'Give the temporary table another name.',
  }
}

export const createIndex: Handler = (draft, fields) => {
  const rel = fieldsOf(fields['relation'])
  const table = relationName(draft, rel)
  const name = text(fields['idxname'])
  const schema = rel['schemaname'] === undefined ? [] : [text(rel['schemaname'])]
  // Without a name the server chooses one; the table is what can be named.
  create(draft, 'index', name === '' ? table : schemaName(draft, [...schema, name]))
  alterOf(draft, 'table', table, ['index'])
  draft.outsideTransaction = fields['concurrent'] === true
}

export const createSequence: Handler = (draft, fields) =>
  create(draft, 'sequence', relationName(draft, fields['sequence']))

/** Its elements are statements of their own. */
export const createSchema: Handler = (draft, fields) => {
  const schema = text(fields['schemaname']) || roleName(fields['authrole'])
  create(draft, 'schema', word(schema))
  if (fields['authrole'] !== undefined) ownerOf(draft, word(schema), fields['authrole'])
  for (const element of asList(fields['schemaElts'])) {
    const one = unwrap(element)
    if (one === undefined) continue
    draft.inside(draft, one.type, placed(one.fields, schema))
  }
}

/** Unqualified names inside CREATE SCHEMA are of that schema. */
function placed(fields: Ast, schema: string): Ast {
  const moved: Record<string, unknown> = { ...fields }
  for (const key of ['relation', 'view', 'sequence']) {
    const rel = fieldsOf(fields[key])
    if (rel['relname'] !== undefined && rel['schemaname'] === undefined) moved[key] = { ...rel, schemaname: schema }
  }
  return moved
}

export const createFunction: Handler = (draft, fields) => {
  const path = words(fields['funcname']) ?? []
  const given = options(fields['options'])
  const name = madeRoutine(draft, path, fields['parameters'])
  create(draft, fields['is_procedure'] === true ? 'procedure' : 'function', name)
  const language = given.find((option) => option.name === 'language')?.value ?? 'sql'
  code(
    draft,
    name,
    language,
    given.some((option) => option.name === 'security' && option.value === 'true'),
  )
  draft.rowNames.push(path.at(-1) ?? '')
  for (const parameter of asList(fields['parameters'])) draft.rowNames.push(text(fieldsOf(parameter)['name']))
}

export const createTrigger: Handler = (draft, fields) => {
  const table = relationName(draft, fields['relation'])
  create(draft, 'trigger', table)
  alterOf(draft, 'table', table, ['trigger'])
  code(draft, table, '', false)
  if (fields['constrrel'] !== undefined)
    alterOf(draft, 'table', relationName(draft, fields['constrrel']), ['referenced'])
  for (const transition of asList(fields['transitionRels'])) draft.rowNames.push(text(fieldsOf(transition)['name']))
  runsFunction(draft, words(fields['funcname']), 'trigger')
}

export const createEventTrigger: Handler = (draft, fields) => {
  create(draft, 'event trigger', word(text(fields['trigname'])))
  code(draft, undefined, '', false)
  server(draft, 'event trigger')
  runsFunction(draft, words(fields['funcname']), 'trigger')
}

export const createRule: Handler = (draft, fields) => {
  const table = relationName(draft, fields['relation'])
  create(draft, 'rule', table)
  alterOf(draft, 'table', table, ['rule'])
  code(draft, table, '', false)
}

export const createPolicy: Handler = (draft, fields) => {
  const table = relationName(draft, fields['table'])
  create(draft, 'policy', table)
  grants(draft, table, 'policy')
}

/** Aggregates, operators, base types, collations and text search objects. */
export const define: Handler = (draft, fields) => {
  const path = words(fields['defnames']) ?? []
  const kind = kindOf(fields['kind'])
  const name =
    kind === 'aggregate'
      ? madeRoutine(draft, path, fieldsOf(asList(fields['args'])[0])['items'])
      : schemaName(draft, path)
  create(draft, kind, name)
  if (kind === 'collation' || kind.startsWith('text search')) {
    if (kind !== 'text search parser' && kind !== 'text search template') return
  }
  code(draft, name, '', false)
  // The functions it is made of stand in its definition like names of types.
  for (const option of asList(fields['definition'])) {
    const named = unwrap(fieldsOf(option)['arg'])
    const functionPath = named?.type === 'TypeName' ? words(named.fields['names']) : undefined
    if (
      functionPath !== undefined &&
      functionsNamed(draft, functionPath).length > 0 &&
      !TYPE_OPTIONS.has(text(fieldsOf(option)['defname']))
    ) {
      runsFunction(draft, functionPath, kind)
    }
  }
}

/** Options of a definition that name a type, not a function. */
const TYPE_OPTIONS = new Set(['stype', 'mstype', 'basetype', 'leftarg', 'rightarg', 'element', 'like', 'subtype'])

export const createDomain: Handler = (draft, fields) =>
  create(draft, 'domain', schemaName(draft, words(fields['domainname'])))

export const createType: Handler = (draft, fields) =>
  create(
    draft,
    'type',
    fields['typevar'] === undefined
      ? schemaName(draft, words(fields['typeName']))
      : relationName(draft, fields['typevar']),
  )

/** A range may bring functions of its own. */
export const createRange: Handler = (draft, fields) => {
  create(draft, 'type', schemaName(draft, words(fields['typeName'])))
  for (const option of asList(fields['params'])) {
    const { defname, arg } = fieldsOf(option)
    if (defname !== 'canonical' && defname !== 'subtype_diff') continue
    code(draft, schemaName(draft, words(fields['typeName'])), '', false)
    runsFunction(draft, words(fieldsOf(arg)['names']), 'type')
  }
}

export const createStatistics: Handler = (draft, fields) => {
  const tables = asList(fields['relations']).map((rel) => relationName(draft, rel))
  create(draft, 'statistics', schemaName(draft, words(fields['defnames'])) ?? tables[0])
  for (const table of tables) alterOf(draft, 'table', table, ['statistics'])
}

export const createCast: Handler = (draft, fields) => {
  create(draft, 'cast', undefined)
  code(draft, undefined, '', false)
  if (fields['func'] !== undefined) runsFunction(draft, words(fieldsOf(fields['func'])['objname']), 'cast')
}

export const createTransform: Handler = (draft, fields) => {
  create(draft, 'transform', undefined)
  code(draft, undefined, text(fields['lang']), false)
  for (const key of ['fromsql', 'tosql']) {
    if (fields[key] !== undefined) runsFunction(draft, words(fieldsOf(fields[key])['objname']), 'transform')
  }
}

export const createConversion: Handler = (draft, fields) => {
  const name = schemaName(draft, words(fields['conversion_name']))
  create(draft, 'conversion', name)
  code(draft, name, '', false)
  runsFunction(draft, words(fields['func_name']), 'conversion')
}

export const createOperatorClass: Handler = (draft, fields) => {
  const name = schemaName(draft, words(fields['opclassname'] ?? fields['opfamilyname']))
  create(draft, fields['opclassname'] === undefined ? 'operator family' : 'operator class', name)
  operatorItems(draft, name, fields['items'])
}

export const createLanguage: Handler = (draft, fields) => {
  create(draft, 'language', word(text(fields['plname'])))
  code(draft, undefined, text(fields['plname']), false)
  for (const key of ['plhandler', 'plinline', 'plvalidator']) {
    if (fields[key] !== undefined) runsFunction(draft, words(fields[key]), 'language')
  }
}

export const createAccessMethod: Handler = (draft, fields) => {
  create(draft, 'access method', word(text(fields['amname'])))
  code(draft, undefined, '', false)
  runsFunction(draft, words(fields['handler_name']), 'access method')
}

/** Its script may do anything, with the rights of a superuser where the extension is trusted. */
export const createExtension: Handler = (draft, fields) => {
  create(draft, 'extension', word(text(fields['extname'])))
  code(draft, undefined, '', false)
  server(draft, 'extension')
}
