/** What recordings and approvers see of a request: all of it, but no value a mask names (C10). */
import { createHash } from 'node:crypto'
import { afterEach, describe, expect, it } from 'vitest'
import { withoutValues } from '../../src/protocols/http/shown.ts'
import { httpKit, type HttpKit } from './kit.ts'

const closers: (() => unknown)[] = []
afterEach(async () => {
  for (const close of closers.splice(0).reverse()) await close()
})

const POLICY = `rules: [{id: all, effect: allow, principals: ["*"], actions: ["http.*"], resources: ["**"]}]
masks:
  - {fields: ["**.ssn", customer.card], transform: redact}
  - {detect: [email], transform: redact}`

function gateway(policy = POLICY): HttpKit {
  const kit = httpKit({ settings: { base_url: 'https://api.example.com', auth: 'bearer' }, policy })
  closers.push(() => kit.close())
  return kit
}

const json = { 'content-type': 'application/json' }
const form = { 'content-type': 'application/x-www-form-urlencoded' }

describe('C10: the shown request', () => {
  for (const [what, args, secret] of [
    ['a field of the body', { body: { ssn: '123-45-6789', x: 1 } }, '123-45-6789'],
    ['a field deep in the body', { body: { a: [{ b: { SSN: 123456789 } }] } }, '123456789'],
    ['a field written with escapes', { headers: json, body: '{"s\\u0073n":"777-11"}' }, '777-11'],
    ['an object a mask names', { body: { customer: { card: { number: 'n-4111', '9999': 1 } } } }, 'n-4111'],
    ['keys of an object a mask names', { body: { customer: { card: { '9999-1': 1 } } } }, '9999-1'],
    ['a field of a form', { headers: form, body: 'a=1&ssn=777-11' }, '777-11'],
    ['a nested field of a form', { headers: form, body: 'customer%5Bcard%5D=777-11' }, '777-11'],
    ['a dotted field of a form', { headers: form, body: 'customer.card=777-11' }, '777-11'],
    ['an escaped field of a form', { headers: form, body: 's%73n=777-11' }, '777-11'],
    ['a field of the query', { path: '/x?ssn=777-11&y=2' }, '777-11'],
    ['an escaped field of the query', { path: '/x?a=1&%73sn=777%2D11' }, '777%2D11'],
    ['the first of two equal keys', { headers: json, body: '{"ssn":"777-11","ssn":"2"}' }, '777-11'],
    ['a body that breaks off', { headers: json, body: '{"ssn":"777-11"' }, '777-11'],
    ['a body behind a byte order mark', { headers: json, body: '\ufeff{"ssn":"777-11"}' }, '777-11'],
    ['a body of another type', { headers: { 'content-type': 'text/plain' }, body: '{"ssn":"777-11"}' }, '777-11'],
    ['a body of no type', { headers: { 'content-type': '' }, body: '{"ssn":"777-11"}' }, '777-11'],
    ['a value a detector knows, in a header', { headers: { 'x-request-id': 'ada@example.com' }, body: {} }, 'ada@'],
    ['a value a detector knows, in the query', { path: '/x?to=ada%40example.com' }, 'ada%40'],
    ['a value a detector knows, in the path', { path: '/to/ada@example.com' }, 'ada@'],
    ['a value a detector knows, in the body', { body: { to: 'ada@example.com' } }, 'ada@'],
  ] as const) {
    it(`holds no ${what}`, async () => {
      const request = { method: 'body' in args ? 'POST' : 'GET', path: '/x', ...args }
      const { shown } = await gateway().judged(request)
      expect(shown.text).not.toContain(secret)
      expect(JSON.stringify(shown)).not.toContain(secret)
    })
  }

  it('is letter by letter what will be sent where nothing is masked, with its hash', async () => {
    const body = '{ "a" : [1.0, 2],\n "b":"x" }'
    const { shown, isReduced } = await gateway().judged({ method: 'POST', path: '/x?y=%20', headers: json, body })
    const hash = createHash('sha256').update(body).digest('hex')
    expect(shown.text).toContain(`\n\n${body}\n\n[body: ${body.length} bytes, SHA-256 ${hash}]`)
    expect(shown.text).toContain('POST https://api.example.com/x?y=%20\n')
    expect(isReduced).toBeUndefined()
  })

  it('keeps the hash of a body to itself when something in it is masked, for it would confirm a guess', async () => {
    for (const body of [{ ssn: '1' }, { to: 'ada@example.com' }]) {
      const { shown } = await gateway().judged({ method: 'POST', path: '/x', body })
      expect(shown.text).not.toMatch(/[0-9a-f]{64}/u)
      expect(shown.text).toContain('SHA-256 withheld')
    }
  })

  it('can be approved with a field masked, and not when its body could not be read', async () => {
    const ask = async (args: object) => (await gateway().judged({ method: 'POST', path: '/x', ...args })).isReduced
    expect(await ask({ body: { ssn: '1', x: 1 } })).toBeUndefined()
    expect(await ask({ headers: json, body: '{"ssn":"1","ssn":"2"}' })).toBe(true)
    expect(await ask({ headers: { 'content-type': 'text/plain' }, body: 'free text' })).toBe(true)
  })

  it('says nothing of what a denied request held, nor does the reason', async () => {
    for (const policy of [POLICY.replace('effect: allow', 'effect: deny'), POLICY.replace('http.*', 'http.get')]) {
      const kit = gateway(policy)
      await kit.failure({ method: 'POST', path: '/to/ada@example.com?ssn=777-11', body: { ssn: '888-22' } })
      for (const secret of ['ada@', '777-11', '888-22']) expect(kit.recorded()).not.toContain(secret)
    }
  })
})

describe('a request with values masked', () => {
  const text = (change: { place?: string; query?: string; header?: string; body?: string; digest?: string } = {}) => {
    const {
      place = '/refunds',
      query = 'a=1&b=2',
      header = 'x-note: it',
      body = '{"to":"x","n":[1]}',
      digest = 'aa',
    } = change
    return `POST http://a.example${place}?${query}\ncontent-type: application/json\n${header}\n\n${body}\n\n[body: 5 bytes, SHA-256 ${digest}]`
  }

  it.each([
    ['values of its query', { query: 'a=•&b=•' }],
    ['the value of a header', { header: 'x-note: •' }],
    ['values of its body', { body: '{"to":"•","n":["•"]}' }],
  ])('says what it said before without %s', (_, change) => {
    expect(withoutValues(text(), text(change))).toBeUndefined()
  })

  it.each([
    ['its path', { place: '/•' }],
    ['a name of its query', { query: 'a=1&•=2' }],
    ['a name of a header', { header: '•: it' }],
    ['a name of its body', { body: '{"•":"x","n":[1]}' }],
    ['a part of its body', { body: '{"to":"•","n":"•"}' }],
    ['a body that is no JSON any more', { body: '{•}' }],
    ['its digest', { digest: '•' }],
  ])('cannot be approved without %s', (_, change) => {
    expect(withoutValues(text(), text(change))).toBeDefined()
  })
})
