/**
 * Names of objects as policies write them: `schema.name`, `schema.fn(argtype,argtype)`, or one word for what lies in no
 * schema. A name that the catalog does not know is given the schema in which it would be made.
 *
 * @packageDocumentation
 */
import { asList, text, unwrap, words, type Ast } from '../ast.ts'
import { findRelation, type CatalogFunction, type Relation } from '../catalog.ts'
import { functionName, resourceName, word } from '../names.ts'
import type { Draft } from './draft.ts'

/** What names are looked up in, and where the relations they name are noted. */
type Names = Pick<Draft, 'catalog'> & { readonly named: Relation[] }

/** The name of a relation a `RangeVar` mentions, whether it exists or not. */
export function relationName(draft: Names, ref: unknown): string | undefined {
  const fields = fieldsOf(ref)
  const name = text(fields['relname'])
  if (name === '') return undefined
  return qualified(draft, fields['schemaname'] === undefined ? [name] : [text(fields['schemaname']), name])
}

/** The same of words; a relation of that name counts as named. */
export function qualified(draft: Names, path: readonly string[]): string {
  const name = path.at(-1) ?? ''
  const schema = path.length > 1 ? path.at(-2) : undefined
  const found = findRelation(draft.catalog, schema, name)
  if (found === undefined) return resourceName({ schema: schema ?? homeOf(draft), name })
  draft.named.push(found)
  return resourceName(found)
}

/** The same of words that name no relation, such as a type. */
export function schemaName(draft: Names, path: readonly string[] | undefined): string | undefined {
  if (path === undefined || path.length === 0) return undefined
  return resourceName({ schema: path.length > 1 ? (path.at(-2) ?? '') : homeOf(draft), name: path.at(-1) ?? '' })
}

/** Where something without a schema is made. */
function homeOf({ catalog }: Names): string {
  return catalog.searchPath.find((one) => !one.startsWith('pg_')) ?? ''
}

/** Roles as they are written: `public`, `current_user` and their like are words of their own. */
export function roleName(spec: unknown): string {
  const fields = fieldsOf(spec)
  switch (fields['roletype']) {
    case 'ROLESPEC_PUBLIC':
      return 'public'
    case 'ROLESPEC_CURRENT_ROLE':
      return 'current_role'
    case 'ROLESPEC_CURRENT_USER':
      return 'current_user'
    case 'ROLESPEC_SESSION_USER':
      return 'session_user'
    default:
      return word(text(fields['rolename']))
  }
}

/** Roles of a list. */
export function roleNames(list: unknown): readonly string[] {
  return asList(list).map((spec) => roleName(spec))
}

/** A function an `ObjectWithArgs` names, with its argument types, and those of the catalog it may be. */
export function routine(
  draft: Names,
  object: unknown,
): { readonly name: string; readonly candidates: readonly CatalogFunction[] } {
  const fields = fieldsOf(object)
  const path = words(fields['objname']) ?? []
  const named = functionsNamed(draft, path)
  if (fields['args_unspecified'] === true) {
    const [only] = named
    return {
      name: only !== undefined && named.length === 1 ? functionName(only) : (schemaName(draft, path) ?? ''),
      candidates: named,
    }
  }
  const types = asList(fields['objargs']).map((type) => typeName(draft, type))
  return signature(draft, path, types, named)
}

/** A function a statement makes, by its name and parameters. */
export function madeRoutine(draft: Names, path: readonly string[], parameters: unknown): string {
  const inputs = asList(parameters).flatMap((parameter) => {
    const { mode, argType } = fieldsOf(parameter)
    return mode === 'FUNC_PARAM_OUT' || mode === 'FUNC_PARAM_TABLE' ? [] : [typeName(draft, argType)]
  })
  return signature(draft, path, inputs, functionsNamed(draft, path)).name
}

function signature(
  draft: Names,
  path: readonly string[],
  types: readonly string[],
  named: readonly CatalogFunction[],
): { readonly name: string; readonly candidates: readonly CatalogFunction[] } {
  const key = types.join(',')
  const exact = named.filter((fn) => fn.argTypes.join(',') === key)
  const [only] = exact
  if (only !== undefined) return { name: functionName(only), candidates: exact }
  return { name: `${schemaName(draft, path) ?? ''}(${key})`, candidates: [] }
}

/** Every overload a name can mean where a function is named without its arguments. */
export function functionsNamed({ catalog }: Names, path: readonly string[]): readonly CatalogFunction[] {
  const schema = path.length > 1 ? path.at(-2) : undefined
  return (catalog.functionsByName.get(path.at(-1) ?? '') ?? []).filter((fn) =>
    schema === undefined ? catalog.searchPath.includes(fn.schema) : fn.schema === schema,
  )
}

/** What `format_type` calls the types the grammar has words of its own for. */
const TYPE_WORDS: ReadonlyMap<string, string> = new Map([
  ['bool', 'boolean'],
  ['int2', 'smallint'],
  ['int4', 'integer'],
  ['int8', 'bigint'],
  ['float4', 'real'],
  ['float8', 'double precision'],
  ['bpchar', 'character'],
  ['varchar', 'character varying'],
  ['varbit', 'bit varying'],
  ['timestamp', 'timestamp without time zone'],
  ['timestamptz', 'timestamp with time zone'],
  ['time', 'time without time zone'],
  ['timetz', 'time with time zone'],
])

/** A type as `format_type` writes it under `search_path = pg_catalog`. */
export function typeName(draft: Names, type: unknown): string {
  const fields = fieldsOf(type)
  const path = words(fields['names']) ?? []
  const name = path.at(-1) ?? ''
  const suffix = asList(fields['arrayBounds']).length > 0 ? '[]' : ''
  const schema = path.length > 1 ? path.at(-2) : undefined
  if (schema === 'pg_catalog') return `${TYPE_WORDS.get(name) ?? name}${suffix}`
  if (schema !== undefined) return `${resourceName({ schema, name })}${suffix}`
  for (const place of draft.catalog.searchPath) {
    const made = draft.catalog.types.some((one) => one.schema === place && one.name === name)
    const isRow = draft.catalog.relationsBySchema.get(place)?.has(name) === true
    if (place !== 'pg_catalog' && (made || isRow)) return `${resourceName({ schema: place, name })}${suffix}`
  }
  return `${TYPE_WORDS.get(name) ?? name}${suffix}`
}

/** The fields of a node, wrapped or bare. */
export function fieldsOf(value: unknown): Ast {
  if (typeof value !== 'object' || value === null) return {}
  const keys = Object.keys(value)
  const [only = ''] = keys
  // A wrapper has one key, and node types begin with a capital.
  if (keys.length === 1 && /^[A-Z]/.test(only)) return unwrap(value)?.fields ?? {}
  return value as Ast
}

/** Options of a statement: names and what they are set to. */
export function options(list: unknown): readonly { readonly name: string; readonly value: string }[] {
  return asList(list).map((option) => {
    const fields = fieldsOf(option)
    return { name: text(fields['defname']), value: optionValue(fields['arg']) }
  })
}

/** A plain value of an option as a word; empty for anything else. */
export function optionValue(arg: unknown): string {
  const one = unwrap(arg)
  if (one === undefined) return ''
  const { type, fields } = one
  if (type === 'String') return text(fields['sval'])
  if (type === 'Integer') return integerText(fields['ival'])
  if (type === 'Float') return text(fields['fval'])
  if (type === 'Boolean') return fields['boolval'] === true ? 'true' : 'false'
  if (type === 'TypeName') return (words(fields['names']) ?? []).at(-1) ?? ''
  if (type === 'A_Const') return constantText(fields)
  return ''
}

/** The value of a constant in its text form. */
export function constantText(fields: Ast): string {
  for (const key of ['sval', 'bsval', 'fval']) {
    if (fields[key] !== undefined) return text(fieldsOf(fields[key])[key])
  }
  if (fields['ival'] !== undefined) return integerText(fieldsOf(fields['ival'])['ival'])
  if (fields['boolval'] !== undefined) return fieldsOf(fields['boolval'])['boolval'] === true ? 'true' : 'false'
  return ''
}

/** A number in its text form; the parser leaves out zeros. */
export function integerText(value: unknown): string {
  return typeof value === 'number' ? String(value) : '0'
}
