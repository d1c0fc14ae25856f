import { asList, text, unwrap, type Ast } from '../ast.ts'
import { readColumn, relationItem } from '../scope.ts'
import { spoken } from '../names.ts'
import { asFields, TOP } from './context.ts'
import { targetOf } from './target.ts'
import type { Walker } from './walker.ts'

/** COPY of a relation: TO reads it like a SELECT of its columns, FROM fills it like an INSERT. */
export function walkCopy(walk: Walker, fields: Ast): void {
  const named = asList(fields['attlist']).map((column) => text(unwrap(column)?.fields['sval']))
  walk.nodes(fields['options'], TOP)
  if (fields['is_from'] === true) copyIn(walk, fields, named)
  else copyOut(walk, fields, named)
}

function copyIn(walk: Walker, fields: Ast, named: readonly string[]): void {
  const target = targetOf(walk, fields, 'insert')
  if (target === undefined) {
    walk.node(fields['whereClause'], TOP)
    return
  }
  const { use, item } = target
  use.writes.add('insert')
  const all = use.relation.columns.filter((column) => !column.generated).map((column) => column.name)
  for (const name of named.length > 0 ? named : all) {
    if (use.relation.columns.some((column) => column.name === name)) use.inserted.add(name)
    else walk.unknown(`column ${spoken(name)} was not found`)
  }
  // It is asked of the rows that come in, not of those that are there.
  walk.node(fields['whereClause'], { ...TOP, level: { items: [item], parent: undefined } })
}

function copyOut(walk: Walker, fields: Ast, named: readonly string[]): void {
  const ref = asFields(fields['relation'])
  walk.known.add(ref)
  const relation = walk.relation(ref)
  if (relation === undefined) return
  const use = walk.use(relation, 'read', ref)
  walk.copies.push({ stmt: fields, use, columns: named })
  const item = relationItem(use, relation.name, false, [])
  for (const name of named.length > 0 ? named : relation.columns.map((column) => column.name)) {
    if (relation.columns.some((column) => column.name === name)) readColumn(item, name, TOP)
    else walk.unknown(`column ${spoken(name)} was not found`)
  }
}
