/**
 * R6: a text whose names were pinned and nothing else is sent without a second parse. Whatever is sent so must be what the
 * second parse would have found it to be.
 */
import { array, assert, boolean, constantFrom, property } from 'fast-check'
import { beforeAll, describe, expect, it } from 'vitest'
import { unwrap } from '../../src/protocols/postgres/ast.ts'
import type { Catalog } from '../../src/protocols/postgres/catalog.ts'
import { bindMasks } from '../../src/protocols/postgres/masks.ts'
import { loadParser, parse } from '../../src/protocols/postgres/parse.ts'
import { assertRewritten } from '../../src/protocols/postgres/rewrite-check.ts'
import { edited } from '../../src/protocols/postgres/rewrite.ts'
import { walk } from '../../src/protocols/postgres/walk/walk.ts'
import { mask, relation, shopCatalog } from './plan-fixture.ts'

const QUERIES = new Set(['SelectStmt', 'InsertStmt', 'UpdateStmt', 'DeleteStmt', 'MergeStmt', 'ExplainStmt'])
const MASKS = [mask('ssn')]

/** Ways to write a name, of which some are plain and some only look so. */
const NAMES = [
  'orders',
  'ORDERS',
  'Orders',
  '"orders"',
  'public.orders',
  'public.ORDERS',
  '"public"."orders"',
  'public . orders',
  'public./* c */orders',
  'shop.public.orders',
  'U&"orders"',
  'u&"\\006frders"',
  'logged',
  'private.secret',
  '"Mixed Case"',
  'public."Mixed Case"',
  'n',
  'e',
  'u',
  'x1',
  'x$1',
  'größe',
  '"a""b"',
  'name',
  'values_',
  'pg_class',
]
const GAPS = [' ', '\n', '\t', '  ', '/**/', ' -- c\n', '']
/** `@` is a name, `~` a gap. */
const FORMS = [
  'select * from~@~',
  'select * from~@~o',
  'select * from~@~as o where 1 = 1',
  'select 1 from(@)',
  'select 1 from~@~,~@~b',
  'select 1 from~@~a join~@~b on true',
  'select 1 from only~@~',
  'select 1 from only~(@)',
  'select 1 from~@~*',
  'table~@~',
  'table only~@~',
  'select (select count(*) from~@~) from~@~o for update of o',
  'with orders as (select 1) select * from~@~',
  'insert into~@~(id)~values(1)',
  'insert into~@~default values',
  'insert into~@~as o values (1)',
  'update~@~set id = 1',
  'update~@~o set id = 1 from~@~p',
  'delete from~@~where id = 1',
  'delete from only~@~using~@~b',
  'explain select 1 from~@~',
  'select 1 from~@~tablesample system (10)',
  'select e.id from~@~e where u&"id" is null',
  "select n'x' from~@~n",
  'select 1 from~@~;',
  'merge into~@~t using~@~s on false when matched then delete',
]

describe('names that are pinned', () => {
  let catalog: Catalog

  beforeAll(async () => {
    await loadParser()
    catalog = shopCatalog({
      relations: ['n', 'e', 'u', 'x1', 'x$1', 'größe', 'a"b', 'name', 'values_'].map((name) =>
        relation(name, ['id:integer']),
      ),
    })
  })

  /** Whether the text was sent without a second parse; throws where that would have refused it. */
  function pinned(sql: string, masks: typeof MASKS): boolean | undefined {
    const parsed = parse(sql)
    const node = parsed.ok && parsed.statements.length === 1 ? parsed.statements[0]?.['stmt'] : undefined
    const statement = unwrap(node)
    if (!parsed.ok || statement === undefined || !QUERIES.has(statement.type)) return undefined
    const findings = walk(catalog, statement.type, statement.fields)
    if (findings.unknowns.length > 0) return undefined
    const { rewritten, expected, isPinnedOnly } = edited(sql, parsed.bytes, findings, bindMasks(catalog, masks))
    if (isPinnedOnly && rewritten !== sql) assertRewritten(rewritten, node, expected)
    return isPinnedOnly
  }

  it('R6: are sent as the second parse would have found them, however they are written', () => {
    const counts = { plain: 0, parsed: 0, unread: 0 }
    const pick = <T>(from: readonly T[]) => constantFrom(...from)
    assert(
      property(
        pick(FORMS),
        array(pick(NAMES), { minLength: 3, maxLength: 3 }),
        array(pick(GAPS), { minLength: 8, maxLength: 8 }),
        boolean(),
        (form, names, gaps, isMasked) => {
          let name = 0
          let gap = 0
          const sql = form.replace(/@/g, () => names[name++] ?? 'orders').replace(/~/g, () => gaps[gap++] ?? ' ')
          const isPlain = pinned(sql, isMasked ? MASKS : [])
          counts[isPlain === undefined ? 'unread' : isPlain ? 'plain' : 'parsed'] += 1
        },
      ),
      { numRuns: 4000 },
    )
    // The test must see both kinds, or it shows nothing.
    expect(counts.plain).toBeGreaterThan(400)
    expect(counts.parsed).toBeGreaterThan(200)
  })

  it.each([
    ['select id from orders', true],
    ['select id from Public.ORDERS o', true],
    ['select id from "public"."orders"', true],
    ['select id from public . orders', false],
    ['select id from U&"orders"', false],
    ['select id from only orders *', undefined],
    ['select id from x$1', false],
    ['select id from "orders"o', false],
    ['select id from "a""b"', false],
    ['select id from größe', false],
    ['select id from orders/**/', false],
    ['select id from/**/orders', false],
    ['select ssn from customers', false],
  ] as const)('R6: %s is pinned without a second parse: %s', (sql, expected) => {
    expect(pinned(sql, MASKS)).toBe(expected)
  })
})
