import type { Part } from '../../core/action.ts'
import { asList, text, unwrap, words, type Ast } from './ast.ts'
import { findRelation, type Catalog } from './catalog.ts'
import { resourceName } from './names.ts'
import { recognisedVerb, transactionVerb } from './taxonomy.ts'

/**
 * Parts by which a rule can deny, in its own words, a statement that is not understood: `sql.drop` on the tables named,
 * `sql.copy`, `sql.do` … They never stand alone: the caller adds `sql.unknown`.
 */
export function recognise(catalog: Catalog, type: string, fields: Ast): readonly Part[] {
  const verb = type === 'TransactionStmt' ? transactionVerb(text(fields['kind'])) : recognisedVerb(type)
  if (verb === undefined) return []
  const names = objectNames(type, fields)
  if (names.length === 0) return [named(verb, undefined)]
  return names.map((name) => named(verb, resolved(catalog, name)))
}

/** What a SELECT … INTO creates. */
export function recogniseInto(catalog: Catalog, fields: Ast): readonly Part[] {
  const into = fields['intoClause']
  if (typeof into !== 'object' || into === null) return []
  const name = rangeVarName((into as Ast)['rel'])
  return [named('sql.create', name === undefined ? undefined : resolved(catalog, name))]
}

function objectNames(type: string, fields: Ast): readonly (readonly string[])[] {
  if (type === 'DropStmt') {
    return asList(fields['objects']).flatMap((object) => {
      const one = unwrap(object)
      const name = one?.type === 'List' ? words(one.fields['items']) : undefined
      return name === undefined || name.length === 0 ? [] : [name]
    })
  }
  const listed = [...asList(fields['relations']), ...asList(fields['rels'])].map((entry) => unwrap(entry)?.fields)
  const single = [fields['relation'], fields['view'], asInto(fields['into'])]
  return [...listed, ...single].map(rangeVarName).filter((name) => name !== undefined)
}

function asInto(into: unknown): unknown {
  return typeof into === 'object' && into !== null ? (into as Ast)['rel'] : undefined
}

/** Schema (empty when there is none) and name of a bare `RangeVar`. */
function rangeVarName(ref: unknown): readonly string[] | undefined {
  if (typeof ref !== 'object' || ref === null || (ref as Ast)['relname'] === undefined) return undefined
  return [text((ref as Ast)['schemaname']), text((ref as Ast)['relname'])]
}

function resolved(catalog: Catalog, name: readonly string[]): string {
  const last = name.at(-1) ?? ''
  const schema = name.length > 1 ? name.at(-2) : undefined
  const found = findRelation(catalog, schema === '' ? undefined : schema, last)
  if (found !== undefined) return resourceName(found)
  const place =
    schema === undefined || schema === '' ? catalog.searchPath.find((one) => !one.startsWith('pg_')) : schema
  return resourceName({ schema: place ?? '', name: last })
}

function named(verb: string, name: string | undefined): Part {
  const attributes =
    verb === 'sql.call' ? { via: '', volatility: 'volatile', language: '', security_definer: false, extension: '' } : {}
  return { verb, resource: name === undefined ? { type: 'none' } : { type: 'sql', name }, attributes }
}
