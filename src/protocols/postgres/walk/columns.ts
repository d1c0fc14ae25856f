import { asList, text, unwrap, type Ast } from '../ast.ts'
import { spoken } from '../names.ts'
import {
  hasColumn,
  isOpen,
  itemsNamed,
  itemsOfRelation,
  readAll,
  readColumn,
  readUnqualified,
  type Item,
} from '../scope.ts'
import { callAttribute } from './code.ts'
import type { Context } from './context.ts'
import type { Walker } from './walker.ts'

/** `column`, `row`, `item.column`, `schema.relation.column`, `*` and their like. */
export function walkColumnRef(walk: Walker, fields: Ast, context: Context): void {
  const list = asList(fields['fields']).map((field) => unwrap(field))
  const isStar = list.at(-1)?.type === 'A_Star'
  const path = list.filter((field) => field?.type === 'String').map((field) => text(field?.fields['sval']))
  if (path.length + (isStar ? 1 : 0) !== list.length || list.length > 4) {
    walk.unknown('a column reference is not understood')
    return
  }
  if (isStar && path.length === 0) {
    for (const item of context.level?.items ?? []) readAll(item, context)
    return
  }
  const column = isStar ? undefined : path.at(-1)
  const qualifier = isStar ? path : path.slice(0, -1)
  if (qualifier.length === 0) unqualified(walk, column ?? '', context)
  else qualified(walk, fields, qualifier, column, context)
}

function unqualified(walk: Walker, name: string, context: Context): void {
  const found = readUnqualified(context.level, name, context)
  if (found === 'found') return
  const rows = itemsNamed(context.level, name)
  for (const item of rows) readAll(item, context)
  if (rows.length === 0 && found === 'none') walk.unknown(`column ${spoken(name)} was not found`)
}

function qualified(
  walk: Walker,
  ref: Ast,
  qualifier: readonly string[],
  column: string | undefined,
  context: Context,
): void {
  const [first = '', second = '', third = ''] = qualifier
  let items: readonly Item[] = []
  if (qualifier.length === 1) items = itemsNamed(context.level, first)
  else if (qualifier.length === 2) items = itemsOfRelation(context.level, first, second)
  else if (first === walk.catalog.database) items = itemsOfRelation(context.level, second, third)
  if (items.length === 0) {
    walk.unknown(`${spoken(...qualifier)} is not in the FROM clause here`)
    return
  }
  for (const item of items) {
    if (qualifier.length > 1 && item.use !== undefined) {
      walk.qualifiedRefs.push({ ref, use: item.use, name: item.name ?? '', level: context.level })
    }
    if (column === undefined) readAll(item, context)
    else if (hasColumn(item, column)) readColumn(item, column, context)
    else computed(walk, item, column, context)
  }
}

/** `row.name` where `name` is no column calls the function `name(row)`. */
function computed(walk: Walker, item: Item, name: string, context: Context): void {
  readAll(item, context)
  if (!callAttribute(walk, name) && !isOpen(item)) walk.unknown(`column ${spoken(name)} was not found`)
}
