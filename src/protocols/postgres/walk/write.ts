import { asList, text, unwrap, type Ast } from '../ast.ts'
import { spoken } from '../names.ts'
import { derivedItem, hasColumn, readColumn, type Item, type Level, type Output, type Use } from '../scope.ts'
import { hasEffectiveWhere } from '../where.ts'
import { asFields, OPEN, type Context } from './context.ts'
import { withQueries } from './select.ts'
import { assigned, assignments, besideTarget, descend, lostTarget, returningOutput, targetOf } from './target.ts'
import type { Walker } from './walker.ts'

/** INSERT, with ON CONFLICT. */
export function walkInsert(walk: Walker, fields: Ast, context: Context): Output {
  const ctes = withQueries(walk, fields['withClause'], context)
  const own: Context = { ...context, ctes }
  const target = targetOf(walk, fields, 'insert')
  const source = unwrap(fields['selectStmt'])
  if (source !== undefined) walk.statement(source.type, source.fields, own)
  if (target === undefined) {
    descend(walk, fields, own, ['onConflictClause', 'returningClause'])
    return OPEN
  }
  target.use.writes.add('insert')
  const cols = asList(fields['cols'])
  for (const col of cols) assigned(walk, target.use, target.use.inserted, unwrap(col)?.fields)
  for (const col of cols) walk.nodes(unwrap(col)?.fields['indirection'], own)
  // Without a column list the values go to the columns in order; how many there are is not worth knowing.
  if (cols.length === 0 && source !== undefined) {
    for (const column of target.use.relation.columns) if (!column.generated) target.use.inserted.add(column.name)
  }
  const level: Level = { items: [target.item], parent: own.level }
  onConflict(walk, fields['onConflictClause'], target, { ...own, level })
  return returningOutput(walk, fields['returningClause'], target, { ...own, level })
}

function onConflict(
  walk: Walker,
  clause: unknown,
  target: { readonly use: Use; readonly item: Item },
  context: Context,
): void {
  if (typeof clause !== 'object' || clause === null) return
  const fields = clause as Ast
  const infer = asFields(fields['infer'])
  const predicate: Context = { ...context, isPredicate: true }
  for (const element of asList(infer['indexElems'])) {
    const index = asFields(unwrap(element)?.fields)
    const name = text(index['name'])
    if (name !== '' && hasColumn(target.item, name)) readColumn(target.item, name, predicate)
    else if (name !== '') walk.unknown(`column ${spoken(name)} was not found`)
    walk.node(index['expr'], predicate)
  }
  walk.node(infer['whereClause'], predicate)
  if (fields['action'] !== 'ONCONFLICT_UPDATE') return
  target.use.writes.add('update')
  target.use.hasWhere = hasEffectiveWhere(fields['whereClause'])
  // `excluded` is the row that was proposed: what it holds came with the statement.
  const excluded = derivedItem('excluded', { names: [...target.item.columns.keys()], isOpen: false }, [])
  const items = [target.item, excluded]
  const inner: Context = { ...context, level: { items, parent: context.level?.parent } }
  assignments(walk, target.use, target.use.updated, fields['targetList'], inner)
  walk.node(fields['whereClause'], { ...inner, isPredicate: true })
}

/** UPDATE. */
export function walkUpdate(walk: Walker, fields: Ast, context: Context): Output {
  const own: Context = { ...context, ctes: withQueries(walk, fields['withClause'], context) }
  const target = targetOf(walk, fields, 'update')
  if (target === undefined) return lostTarget(walk, fields, own, 'fromClause')
  target.use.writes.add('update')
  const inner = besideTarget(walk, target, fields['fromClause'], own)
  target.use.hasWhere = hasEffectiveWhere(fields['whereClause'])
  assignments(walk, target.use, target.use.updated, fields['targetList'], inner)
  walk.node(fields['whereClause'], { ...inner, isPredicate: true })
  return returningOutput(walk, fields['returningClause'], target, inner)
}

/** DELETE. */
export function walkDelete(walk: Walker, fields: Ast, context: Context): Output {
  const own: Context = { ...context, ctes: withQueries(walk, fields['withClause'], context) }
  const target = targetOf(walk, fields, 'delete')
  if (target === undefined) return lostTarget(walk, fields, own, 'usingClause')
  target.use.writes.add('delete')
  const inner = besideTarget(walk, target, fields['usingClause'], own)
  target.use.hasWhere = hasEffectiveWhere(fields['whereClause'])
  walk.node(fields['whereClause'], { ...inner, isPredicate: true })
  return returningOutput(walk, fields['returningClause'], target, inner)
}

/** MERGE. */
export function walkMerge(walk: Walker, fields: Ast, context: Context): Output {
  const own: Context = { ...context, ctes: withQueries(walk, fields['withClause'], context) }
  const target = targetOf(walk, fields, 'merge')
  if (target === undefined) return lostTarget(walk, fields, own, 'sourceRelation')
  const inner = besideTarget(walk, target, [fields['sourceRelation']], own)
  target.use.hasWhere = hasEffectiveWhere(fields['joinCondition'])
  walk.node(fields['joinCondition'], { ...inner, isPredicate: true })
  for (const entry of asList(fields['mergeWhenClauses'])) {
    const clause = asFields(unwrap(entry)?.fields)
    walk.node(clause['condition'], { ...inner, isPredicate: true })
    mergeAction(walk, clause, target.use, inner)
  }
  return returningOutput(walk, fields['returningClause'], target, inner)
}

function mergeAction(walk: Walker, clause: Ast, use: Use, context: Context): void {
  switch (clause['commandType']) {
    case 'CMD_UPDATE':
      use.writes.add('update')
      assignments(walk, use, use.updated, clause['targetList'], context)
      return
    case 'CMD_DELETE':
      use.writes.add('delete')
      return
    case 'CMD_INSERT': {
      use.writes.add('insert')
      const cols = asList(clause['targetList'])
      assignments(walk, use, use.inserted, cols, context)
      if (cols.length === 0)
        for (const column of use.relation.columns) if (!column.generated) use.inserted.add(column.name)
      walk.nodes(clause['values'], context)
      return
    }
    case 'CMD_NOTHING':
      return
    default:
      walk.unknown('a MERGE action is not understood')
  }
}
