import { assert, jsonValue, property, string } from 'fast-check'
import { describe, expect, it } from 'vitest'
import { canonicalJson } from '../../src/approval/canonical.ts'
import { digestOf } from '../../src/approval/digest.ts'
import { mayMove, moved, type Ticket, type TicketState } from '../../src/approval/ticket.ts'

const KEY = new Uint8Array(32).fill(9)
const json = jsonValue({ maxDepth: 4, noUnicodeString: false })

describe('canonical JSON', () => {
  // RFC 8785 §3.2.2 and §3.2.3: numbers, strings and the order of members.
  it.each([
    [{ b: 1, a: 2 }, '{"a":2,"b":1}'],
    [
      { '\u20ac': 1, '\r': 2, '\ufb33': 3, '1': 4, '\ud83d\ude00': 5, '\u0080': 6, '\u00f6': 7 },
      '{"\\r":2,"1":4,"\u0080":6,"\u00f6":7,"\u20ac":1,"\ud83d\ude00":5,"\ufb33":3}',
    ],
    [[333333333.3333333, 1e30, 4.5, 2e-3, 1e-27, -0], '[333333333.3333333,1e+30,4.5,0.002,1e-27,0]'],
    ['\u20ac$\u000f\nA\'B"\\"/', '"\u20ac$\\u000f\\nA\'B\\"\\\\\\"/"'],
    [{ a: [null, true, false] }, '{"a":[null,true,false]}'],
  ])('writes %j', (value, text) => {
    expect(canonicalJson(value)).toBe(text)
  })

  it('has one text per value, whatever the order of members', () => {
    assert(
      property(json, (value) => {
        const text = canonicalJson(value)
        expect(canonicalJson(reversed(JSON.parse(text)))).toBe(text)
        expect(canonicalJson(JSON.parse(text))).toBe(text)
      }),
    )
  })

  it('has another text for another value', () => {
    assert(
      property(json, json, (a, b) => {
        const same = JSON.stringify(JSON.parse(canonicalJson(a))) === JSON.stringify(JSON.parse(canonicalJson(b)))
        expect(canonicalJson(a) === canonicalJson(b)).toBe(same)
      }),
    )
  })

  it.each([
    ['undefined', { a: undefined }],
    ['a function', { a: () => 1 }],
    ['a bigint', [1n]],
    ['NaN', NaN],
    ['Infinity', [Infinity]],
    ['half a surrogate pair', 'a\ud800'],
    ['half a surrogate pair in a name', { '\udc00': 1 }],
    ['a date', new Date(0)],
    ['bytes', Uint8Array.of(1)],
    ['a map', new Map([[1, 2]])],
    ['a hole in an array', [1, , 2]], // oxlint-disable-line no-sparse-arrays
    ['a symbol', Symbol('x')],
  ])('refuses %s', (_, value) => {
    expect(() => canonicalJson(value)).toThrow(expect.objectContaining({ code: 'ERR_INVALID_INPUT' }))
  })

  it('refuses what nests too deep, without exhausting the stack', () => {
    let deep: unknown = 1
    for (let n = 0; n < 100_000; n++) deep = [deep]
    expect(() => canonicalJson(deep)).toThrow(expect.objectContaining({ code: 'ERR_INVALID_INPUT' }))
  })
})

describe('the digest', () => {
  const bound = {
    principal: { id: 'agent', actsFor: 'ana' },
    target: { name: 'db', endpoint: 'h:5432/x', protocol: 'postgres' as const },
    exact: { text: 'DELETE FROM t WHERE id = $1', params: ['1'], types: [23] },
  }

  it('C11: changes with everything the approval is bound to', () => {
    const digests = [
      bound,
      { ...bound, principal: { id: 'agent' } },
      { ...bound, principal: { id: 'agent2', actsFor: 'ana' } },
      { ...bound, principal: { id: 'agent', actsFor: 'eve' } },
      { ...bound, target: { ...bound.target, name: 'db2' } },
      { ...bound, target: { ...bound.target, endpoint: 'h:5433/x' } },
      { ...bound, target: { ...bound.target, protocol: 'http' as const } },
      { ...bound, exact: { ...bound.exact, params: ['2'] } },
      { ...bound, exact: { ...bound.exact, params: [1] } },
      { ...bound, exact: { ...bound.exact, types: [25] } },
      { ...bound, exact: { ...bound.exact, text: 'DELETE FROM t WHERE id = $1 ' } },
      { ...bound, exact: { ...bound.exact, params: ['1', '1'] } },
    ].map((one) => digestOf(one, KEY))
    expect(new Set(digests).size).toBe(digests.length)
    expect(digestOf(bound, new Uint8Array(32))).not.toBe(digests[0])
    expect(digests[0]).toMatch(/^[0-9a-f]{64}$/)
  })

  it('C11: does not move a character from one field into the next', () => {
    assert(
      property(string(), string(), string(), (id, name, endpoint) => {
        const one = digestOf(
          { ...bound, principal: { id: `${id}a` }, target: { ...bound.target, name, endpoint } },
          KEY,
        )
        const two = digestOf(
          { ...bound, principal: { id }, target: { ...bound.target, name: `a${name}`, endpoint } },
          KEY,
        )
        expect(one).not.toBe(two)
      }),
    )
  })

  it('C11: is blind to what is not in it', () => {
    const more = { ...bound, principal: { ...bound.principal, groups: ['x'], credentialId: 'y' } }
    expect(digestOf(more, KEY)).toBe(digestOf(bound, KEY))
  })
})

describe('the states of a ticket', () => {
  const states: TicketState[] = [
    'pending',
    'approved',
    'executing',
    'done',
    'failed',
    'outcome_unknown',
    'denied',
    'expired',
    'cancelled',
  ]

  it('C12: nothing leads from a claim back to something that can be claimed', () => {
    const reached = new Set<TicketState>(['executing'])
    for (const from of reached) for (const to of states) if (mayMove(from, to)) reached.add(to)
    expect([...reached].sort()).toEqual(['done', 'executing', 'failed', 'outcome_unknown'])
  })

  it('C12: only an approval leads to a claim', () => {
    expect(states.filter((from) => mayMove(from, 'executing'))).toEqual(['approved'])
    expect(states.filter((from) => mayMove(from, 'approved'))).toEqual(['pending'])
  })

  it('refuses a move that does not exist', () => {
    const ticket = { state: 'denied', history: [] } as unknown as Ticket
    expect(() => moved(ticket, 'approved', { at: 0, by: 'eve' })).toThrow(TypeError)
  })
})

/** The same value with the members of every object in the opposite order. */
function reversed(value: unknown): unknown {
  if (Array.isArray(value)) return value.map(reversed)
  if (typeof value !== 'object' || value === null) return value
  return Object.fromEntries(
    Object.entries(value)
      .reverse()
      .map(([name, inner]) => [name, reversed(inner)]),
  )
}
