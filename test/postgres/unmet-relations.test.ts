/** The belts under the walk: a relation it did not come by would be sent as it is, and so would what it does not know. */
import { beforeAll, describe, expect, it } from 'vitest'
import type { Ast } from '../../src/protocols/postgres/ast.ts'
import { loadParser, parse } from '../../src/protocols/postgres/parse.ts'
import { walk, walkUtility } from '../../src/protocols/postgres/walk/walk.ts'
import { shopCatalog } from './plan-fixture.ts'

const HIDDEN: Ast = { relname: 'customers', inh: true, relpersistence: 'p' }

function fieldsOf(sql: string, type: string): Ast {
  const parsed = parse(sql)
  const node = parsed.ok ? parsed.statements[0]?.['stmt'] : undefined
  return (node as Record<string, Ast>)[type] ?? {}
}

describe('what the walk does not come by', () => {
  beforeAll(loadParser)

  // A scalar of the grammar is not looked into, so a tree that holds one there stands for a hole in the walk.
  it.each([
    ['in a query', (fields: Ast) => walk(shopCatalog(), 'SelectStmt', { ...fields, limitOption: HIDDEN })],
    ['deep in one', (fields: Ast) => walk(shopCatalog(), 'SelectStmt', { ...fields, op: [{ x: [HIDDEN] }] })],
  ])('R6: makes the statement not understood: %s', (_, walked) => {
    const fields = fieldsOf('SELECT id FROM orders', 'SelectStmt')
    expect(walk(shopCatalog(), 'SelectStmt', fields).unknowns).toEqual([])
    expect(walked(fields).unknowns).toContain('a relation was not met')
  })

  it.each([
    ['a node of a newer grammar', { targetList: [{ NewNode: { arg: {} } }] }, 'NewNode is not understood'],
    ['a field of a newer grammar', { newClause: [] }, 'SelectStmt.newClause is not understood'],
    [
      'one deep in an expression',
      { whereClause: { BoolExpr: { args: [{ A_Const: { newval: {} } }] } } },
      'A_Const.newval is not understood',
    ],
  ])('C4: neither does %s pass', (_, more, reason) => {
    const fields = fieldsOf('SELECT id FROM orders', 'SelectStmt')
    expect(walk(shopCatalog(), 'SelectStmt', { ...fields, ...more }).unknowns).toContain(reason)
  })

  it('R6: makes any other statement not understood', () => {
    const fields = fieldsOf('LOCK TABLE orders', 'LockStmt')
    expect(walkUtility(shopCatalog(), 'LockStmt', fields).unknowns).toEqual([])
    expect(walkUtility(shopCatalog(), 'LockStmt', { ...fields, nowait: HIDDEN }).unknowns).toContain(
      'a relation was not met',
    )
  })
})
