/** One text can stand for different values: what is bound, and as what, is part of what an approval is for (C11). */
import { beforeAll, expect, it } from 'vitest'
import { loadParser } from '../../src/protocols/postgres/parse.ts'
import { EMPTY_SESSION } from '../../src/protocols/postgres/session.ts'
import type { WireBackend } from '../../src/protocols/postgres/wire/backend.ts'
import { WireCall, type PortalRequest } from '../../src/protocols/postgres/wire/payload.ts'
import { planWire } from '../../src/protocols/postgres/wire/plan-wire.ts'
import { shopCatalog } from './plan-fixture.ts'

beforeAll(async () => loadParser())

interface Bound {
  readonly type: number
  readonly format: 0 | 1
  readonly value: Buffer
}

/** What is digested, and what approvers see, of one statement with this value. */
function plannedWith({ type, format, value }: Bound): { readonly exact: string; readonly shown: string } {
  const sql = 'select $1'
  const portal: PortalRequest = {
    statement: { sql, paramTypes: [type], upstreamName: '', wanted: sql, sent: undefined, isAnswered: true },
    bind: { type: 'Bind', portal: '', statement: '', paramFormats: [format], params: [value], resultFormats: [] },
    upstreamName: '',
    commands: [],
    withSync: false,
    state: 'open',
    isOpened: false,
    tag: '',
  }
  // Planning looks at no connection but for how it reads times.
  const parameters = new Map([
    ['DateStyle', 'ISO, MDY'],
    ['IntervalStyle', 'postgres'],
  ])
  const wire = new WireCall({ parameters } as unknown as WireBackend, sql, EMPTY_SESSION, { portal })
  const plan = planWire(wire, shopCatalog(), { masks: [] })
  return { exact: JSON.stringify(plan.exact), shown: JSON.stringify(plan.shown) }
}

it.each<[string, Bound, Bound]>([
  [
    'as another type',
    { type: 23, format: 0, value: Buffer.from('1') },
    { type: 1042, format: 0, value: Buffer.from('1') },
  ],
  [
    'as digits of bytes and as the bytes themselves',
    { type: 17, format: 0, value: Buffer.from(String.raw`\x41`) },
    { type: 17, format: 1, value: Buffer.from([0x41]) },
  ],
  [
    'in binary form that reads the same',
    { type: 23, format: 1, value: Buffer.from([0, 0, 0, 7]) },
    { type: 20, format: 1, value: Buffer.from([0, 0, 0, 0, 0, 0, 0, 7]) },
  ],
])('C11: what looks the same %s is another call', (_, one, other) => {
  const [first, second] = [plannedWith(one), plannedWith(other)]
  expect(second.shown).toBe(first.shown)
  expect(second.exact).not.toBe(first.exact)
  expect(plannedWith(one).exact).toBe(first.exact)
})
