/** R6: what is sent is parsed again, and nothing is sent that is not what the edits should have made of it. */
import { beforeAll, describe, expect, it } from 'vitest'
import { unwrap } from '../../src/protocols/postgres/ast.ts'
import { bindMasks } from '../../src/protocols/postgres/masks.ts'
import { loadParser, parse } from '../../src/protocols/postgres/parse.ts'
import { assertRewritten } from '../../src/protocols/postgres/rewrite-check.ts'
import { edited, type Edited } from '../../src/protocols/postgres/rewrite.ts'
import { walk } from '../../src/protocols/postgres/walk/walk.ts'
import { mask, shopCatalog } from './plan-fixture.ts'

const SQL = 'SELECT ssn FROM customers WHERE id = 1'

function made(): Edited & { readonly node: unknown } {
  const catalog = shopCatalog()
  const parsed = parse(SQL)
  const node = parsed.ok ? parsed.statements[0]?.['stmt'] : undefined
  const fields = unwrap(node)?.fields ?? {}
  return { ...edited(SQL, SQL, walk(catalog, 'SelectStmt', fields), bindMasks(catalog, [mask('ssn')])), node }
}

describe('the assertion on what is sent', () => {
  beforeAll(loadParser)

  it('R6: takes what the edits made', () => {
    const { rewritten, node, expected } = made()
    expect(rewritten).toContain('(SELECT ')
    expect(() => assertRewritten(rewritten, node, expected)).not.toThrow()
  })

  it.each([
    ['another table in the sub-select', (text: string) => text.replace('"public"."customers"', '"public"."orders"')],
    ['the column instead of its mask', (text: string) => text.replace(/\(('[^']*'|NULL)\)::[^ ]+ AS "ssn"/u, '"ssn"')],
    ['a condition that is gone', (text: string) => text.replace(' WHERE id = 1', '')],
    ['a statement more', (text: string) => `${text}; SELECT 1`],
    ['a text nobody can read', (text: string) => `${text} )`],
  ])('R6: refuses %s', (_, changed) => {
    const { rewritten, node, expected } = made()
    const text = changed(rewritten)
    expect(text).not.toBe(rewritten)
    expect(() => assertRewritten(text, node, expected)).toThrow('cannot be rewritten without doubt')
  })

  it('R6: refuses when an edit was met nowhere', () => {
    const { rewritten, node, expected } = made()
    const more = new Map([...expected, [{}, { kind: 'unqualified', name: 'customers' } as const] as const])
    expect(() => assertRewritten(rewritten, node, more)).toThrow('cannot be rewritten without doubt')
  })
})
