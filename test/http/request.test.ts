import { createHash } from 'node:crypto'
import * as fc from 'fast-check'
import { describe, expect, it } from 'vitest'
import { SallyportError } from '../../src/core/errors.ts'
import { isForwarded } from '../../src/protocols/http/headers.ts'
import { endpointOf, httpOptions, httpSchema } from '../../src/protocols/http/options.ts'
import { planRequest } from '../../src/protocols/http/plan.ts'
import { buildRequest } from '../../src/protocols/http/request.ts'

const service = httpOptions(httpSchema.parse({ base_url: 'https://api.example.com/base/', auth: 'bearer' }))
const open = httpOptions(httpSchema.parse({ open: true }))
const under = { masks: [], streams: false }

function refusal(payload: unknown, options = service): string {
  try {
    buildRequest(payload, options)
  } catch (error) {
    if (error instanceof SallyportError) return error.code
    throw error
  }
  return 'taken'
}

describe('paths beneath a base URL', () => {
  it('are sent as they are written', () => {
    const { url, path } = buildRequest({ method: 'GET', path: '/v1/orders/7?x=1&y=%20' }, service)
    expect(url.href).toBe('https://api.example.com/base/v1/orders/7?x=1&y=%20')
    expect(path).toBe('/v1/orders/7')
  })

  for (const path of [
    '/../admin',
    '/v1/../../admin',
    '/v1/%2e%2e/%2e%2e/admin',
    '/v1/%2E./admin',
    '/.%2e/x',
    '/./x',
    '/v1/.',
    '\\\\evil.example/x',
    '/v1\\..\\..\\admin',
    '/v1/\t../x',
    '/v1/\nx',
    '/v1 x',
    '/v1/ä',
    '/v1#x',
    'v1',
    '//evil.example/../x',
    '/x?a=ä',
    '/x?a=\\b',
    '/x?a#b',
    '',
  ]) {
    it(`refuses ${JSON.stringify(path)}`, () => expect(refusal({ method: 'GET', path })).toBe('ERR_INVALID_INPUT'))
  }

  it('never leave the base URL, whatever is written', () => {
    const piece = fc.constantFrom(
      '/',
      '..',
      '.',
      '%2e',
      '%2f',
      '%5c',
      '\\',
      '//',
      ';',
      '@',
      ':',
      '?',
      'a',
      '%00',
      '%25',
    )
    fc.assert(
      fc.property(fc.array(piece, { maxLength: 12 }), (pieces) => {
        const path = `/${pieces.join('')}`
        if (refusal({ method: 'GET', path }) !== 'taken') return
        const { url } = buildRequest({ method: 'GET', path }, service)
        expect(url.origin).toBe('https://api.example.com')
        expect(url.pathname.startsWith('/base/')).toBe(true)
      }),
      { numRuns: 5000 },
    )
  })

  it('are given as a path or as a URL, not as both and not as neither', () => {
    const url = 'https://api.example.com/base/x'
    expect(refusal({ method: 'GET', path: '/x', url })).toBe('ERR_INVALID_INPUT')
    expect(refusal({ method: 'GET' })).toBe('ERR_INVALID_INPUT')
    expect(refusal({ method: 'POST', path: '/x', upgrade: { protocols: [] } })).toBe('ERR_INVALID_INPUT')
  })

  it('may be given as a whole URL that is beneath', () => {
    expect(buildRequest({ method: 'GET', url: 'https://api.example.com/base/x' }, service).path).toBe('/x')
    for (const url of [
      'https://api.example.com/basement/x',
      'https://api.example.com/x',
      'https://api.example.com.evil.example/base/x',
      'https://api.example.com@evil.example/base/x',
      'http://api.example.com/base/x',
      'https://API.example.com/base/x',
    ]) {
      expect([url, refusal({ method: 'GET', url })]).toEqual([url, 'ERR_INVALID_INPUT'])
    }
  })
})

describe('open egress', () => {
  for (const url of [
    'ftp://example.com/',
    'file:///etc/passwd',
    'http://user:pw@example.com/',
    'http://example.com:22/',
    'http://example.com:7401/',
    'http://exa mple.com/',
    '/x',
    'gopher://x',
    // One reader's host is another's path, user or fragment.
    'http://example.com\\@evil.example/',
    'http://example.com\\x',
    'http://example.com/#@evil.example/',
    'http://example.com/x#y',
    'http://example.com/ä',
    'http://ex\tample.com/',
    'http://example.com/\n',
    'http://example.com/\u0000',
    'http://example.com/a/../b',
    'http://example.com/a/%2e%2e/b',
    'http://example.com../',
  ]) {
    it(`refuses ${url}`, () => expect(refusal({ method: 'GET', url }, open)).toBe('ERR_INVALID_INPUT'))
  }

  for (const url of [
    'http://127.0.0.1/',
    'http://2130706433/',
    'http://0x7f.1/',
    'http://0177.0.0.1/',
    'http://127.1/',
    'http://[::1]/',
    'http://[::ffff:169.254.169.254]/latest',
    'http://169.254.169.254/latest/meta-data/',
    'http://metadata.google.internal/computeMetadata/v1/',
    'http://metadata.google.internal./computeMetadata/v1/',
    'http://%31%32%37.0.0.1/',
    'http://①②⑦.0.0.1/',
    'http://10.0.0.8/',
    'http://0.0.0.0/',
    'http://[64:ff9b::a9fe:a9fe]/',
  ]) {
    it(`C6: plans ${url} as refused, whatever the rules say`, () => {
      let construct: string | undefined
      try {
        construct = planRequest({ method: 'GET', url }, open, under).refused?.construct
      } catch (error) {
        construct = (error as SallyportError).code
      }
      expect(['http.address', 'ERR_INVALID_INPUT']).toContain(construct)
    })
  }

  it('judges the addresses it is told instead of DNS', () => {
    const payload = { method: 'GET', url: 'https://rebind.example/x' }
    const resolve = { 'rebind.example': ['1.1.1.1', '10.0.0.1'] }
    expect(planRequest(payload, open, under).refused).toBeUndefined()
    expect(planRequest(payload, open, { ...under, resolve }).refused?.construct).toBe('http.address')
    const spelled = { 'Rebind.Example.': ['10.0.0.1'] }
    expect(planRequest(payload, open, { ...under, resolve: spelled }).refused?.construct).toBe('http.address')
  })

  it('names the host without its final dot, in lower case', () => {
    const { host, url } = buildRequest({ method: 'GET', url: 'https://API.Example.COM./x' }, open)
    expect([host, url.href]).toEqual(['api.example.com', 'https://api.example.com/x'])
  })
})

describe('queries', () => {
  const queryOf = (query: string): unknown =>
    planRequest({ method: 'GET', path: `/x${query}` }, service, under).action.parts[0]?.attributes['query']

  it('are values for conditions when they can be read in one way', () => {
    expect(queryOf('')).toEqual({})
    expect(queryOf('?a=1&b=2&b=3&c=%C3%A9%3B')).toEqual({ a: '1', b: ['2', '3'], c: 'é;' })
  })

  for (const query of ['?a=1;admin=1', '?a=1&;=2', '?a=%zz', '?a=1%', '?a=%ff', '?%c0%80=1']) {
    it(`C6: are opaque as ${query}, so that conditions on them deny`, () => expect(queryOf(query)).toBeNull())
  }
})

describe('methods', () => {
  for (const method of ['get', 'GET ', 'G3T', '', 'CONNECT', 'TRACE', 'TRACK']) {
    it(`refuses ${JSON.stringify(method)}`, () => expect(refusal({ method, path: '/x' })).toBe('ERR_INVALID_INPUT'))
  }

  it('are of no known meaning when nobody agreed on one', () => {
    const { parts } = planRequest({ method: 'PROPFIND', path: '/x' }, service, under).action
    expect(parts.map(({ verb }) => verb)).toEqual(['http.unknown'])
  })
})

describe('headers', () => {
  for (const name of [
    'Host',
    'Authorization',
    'cookie',
    'Proxy-Authorization',
    'X-Forwarded-For',
    'X-Forwarded-Host',
    'Forwarded',
    'X-HTTP-Method-Override',
    'X-Method-Override',
    'X-Original-URL',
    'X-Rewrite-URL',
    'Connection',
    'Transfer-Encoding',
    'Content-Length',
    'Content-Encoding',
    'Accept-Encoding',
    'Expect',
    'Upgrade',
    'TE',
    'Range',
    'x_forwarded_for',
    'x-api-key',
    'Accept\r\nX-Evil',
    'Accept:',
    '',
  ]) {
    it(`refuses ${JSON.stringify(name)}`, () => {
      expect(refusal({ method: 'GET', path: '/x', headers: [[name, 'v']] })).toBe('ERR_INVALID_INPUT')
    })
  }

  it('are never the caller’s to set, whatever an operator allows', () => {
    for (const name of ['host', 'x-forwarded-foo', 'x-original-path', 'sec-websocket-key', 'x_user']) {
      expect([name, isForwarded(name, new Set([name]))]).toEqual([name, false])
      expect(httpSchema.safeParse({ base_url: 'https://a.example/', allow_headers: [name] }).success).toBe(false)
    }
    expect(isForwarded('x-team', new Set(['x-team']))).toBe(true)
  })

  it('of the operator give way to those a caller may set, and stand once', () => {
    const own = httpOptions(
      httpSchema.parse({ base_url: 'https://a.example/', headers: { Prefer: 'own', 'X-A': 'b' } }),
    )
    const { headers } = buildRequest({ method: 'GET', path: '/x', headers: [['prefer', 'mine']] }, own)
    expect(headers).toEqual([
      ['prefer', 'mine'],
      ['x-a', 'b'],
    ])
  })

  it('refuses values that could end a line, and a header given twice', () => {
    for (const value of ['a\r\nb', 'a\nb', 'a\0b', 'č', 'a\u010db']) {
      expect(refusal({ method: 'GET', path: '/x', headers: [['accept', value]] })).toBe('ERR_INVALID_INPUT')
    }
    expect(
      refusal({
        method: 'GET',
        path: '/x',
        headers: [
          ['accept', 'a'],
          ['Accept', 'b'],
        ],
      }),
    ).toBe('ERR_INVALID_INPUT')
  })
})

describe('bodies', () => {
  const body = (text: string): string => Buffer.from(text).toString('base64')
  const factsOf = (text: string, type = 'application/json'): unknown => {
    const payload = { method: 'POST', path: '/x', headers: [['content-type', type]], body: body(text) }
    const attributes = planRequest(payload, service, under).action.parts[0]?.attributes
    return [attributes?.['body_kind'], attributes?.['body']]
  }

  it('are values for conditions when they can be read in one way', () => {
    expect(factsOf('{"amount": 5, "to": ["a"]}')).toEqual(['json', { amount: 5, to: ['a'] }])
    expect(factsOf('a=1&b=2&b=3', 'application/x-www-form-urlencoded')).toEqual(['form', { a: '1', b: ['2', '3'] }])
    expect(factsOf('hello', 'text/plain')).toEqual(['text', null])
  })

  for (const [what, text, type] of [
    ['equal keys', '{"amount": 5, "amount": 500}', undefined],
    ['equal keys by escape', '{"amount": 5, "am\\u006funt": 500}', undefined],
    ['a number no double holds', '{"amount": 9007199254740993}', undefined],
    ['a number beyond all doubles', '{"amount": 1e400}', undefined],
    ['a number with too many digits', '{"amount": 0.12345678901234567}', undefined],
    ['broken JSON', '{"amount": 5', undefined],
    ['two values', '{"amount": 5}{"amount": 500}', undefined],
    ['a comment', '{"amount": 5 /* */}', undefined],
    ['a byte order mark', '\ufeff{"amount": 5}', undefined],
    ['JSON in another charset', '{"amount": 5}', 'application/json; charset=utf-7'],
    ['JSON in another charset behind a blank', '{"amount": 5}', 'application/json; charset = utf-7'],
    ['JSON in two charsets', '{"amount": 5}', 'application/json; charset=utf-8; charset=utf-7'],
    ['JSON in a charset behind quotes', '{"amount": 5}', 'application/json; x=";charset=utf-8"; charset=utf-7'],
    ['JSON in an extended charset', '{"amount": 5}', "application/json; charset*=utf-8''utf-7"],
    ['JSON under two names', '{"amount": 5}', 'application/json, text/plain'],
    ['a form some cut at semicolons', 'amount=5;amount=500', 'application/x-www-form-urlencoded'],
    ['a form with an escape that is none', 'amount=5&%zz=1', 'application/x-www-form-urlencoded'],
    ['a form with an escape that is no UTF-8', 'amount=5&a=%ff', 'application/x-www-form-urlencoded'],
    ['JSON under another name', '{"amount": 5}', 'application/octet-stream'],
    ['deep nesting', `${'['.repeat(300)}${']'.repeat(300)}`, undefined],
  ] as const) {
    it(`C6: are opaque with ${what}, so that conditions on them deny`, () => {
      expect(factsOf(text, type)).toEqual(['opaque', null])
    })
  }

  it('C11: are part of what an approval is for, as method, URL, headers, credential and subprotocols are', () => {
    const asked = { method: 'POST', path: '/x?y=1', headers: [['accept', 'text/plain']], body: body('x') }
    expect(planRequest(asked, service, under).exact).toEqual({
      method: 'POST',
      url: 'https://api.example.com/base/x?y=1',
      headers: [['accept', 'text/plain']],
      body: createHash('sha256').update('x').digest('hex'),
      auth: 'bearer',
    })
    const socket = { method: 'GET', path: '/x', upgrade: { protocols: ['a', 'b'] } }
    expect(planRequest(socket, service, under).exact).toMatchObject({ body: null, upgrade: ['a', 'b'] })
  })

  it('are opaque while they stream, and longer than can be read', () => {
    const json = [['content-type', 'application/json']]
    const attributesOf = (payload: object, streams: boolean): unknown =>
      planRequest({ method: 'POST', path: '/x', headers: json, ...payload }, large, { ...under, streams }).action
        .parts[0]?.attributes
    const large = httpOptions(httpSchema.parse({ base_url: 'https://a.example/', request_bytes: '2MiB' }))
    const opaque = { body_kind: 'opaque', body: null }
    expect(attributesOf({}, true)).toMatchObject({ ...opaque, body_bytes: -1 })
    const long = `"${'x'.repeat(1024 * 1024)}"`
    expect(attributesOf({ body: body(long) }, false)).toMatchObject({ ...opaque, body_bytes: long.length })
    expect(attributesOf({}, false)).toMatchObject({ body_kind: 'none', body_bytes: 0 })
  })

  it('are no text when they are no UTF-8, or begin with a byte order mark', () => {
    for (const bytes of [Buffer.from([0xff, 0x41]), Buffer.from('\ufeffhello')]) {
      const payload = { method: 'POST', path: '/x', headers: [['content-type', 'text/plain']] }
      const { parts } = planRequest({ ...payload, body: bytes.toString('base64') }, service, under).action
      expect(parts[0]?.attributes['body_kind']).toBe('opaque')
    }
  })

  it('are refused where a method has none, and beyond the limit', () => {
    expect(refusal({ method: 'GET', path: '/x', body: body('x') })).toBe('ERR_INVALID_INPUT')
    const small = httpOptions(httpSchema.parse({ base_url: 'https://a.example/', request_bytes: '10B' }))
    expect(refusal({ method: 'POST', path: '/x', body: body('x'.repeat(11)) }, small)).toBe('ERR_TOO_LARGE')
  })
})

describe('settings of a target', () => {
  for (const [what, settings] of [
    ['neither service nor open egress', {}],
    ['both', { base_url: 'https://a.example/', open: true }],
    ['a loopback service without its address', { base_url: 'http://127.0.0.1:9000/' }],
    ['a metadata service inside a range', { base_url: 'http://169.254.169.254/', allow_addresses: ['169.254.0.0/16'] }],
    ['another spelling of an address', { base_url: 'http://2130706433/', allow_addresses: ['127.0.0.1'] }],
    ['a password', { base_url: 'https://u:p@a.example/' }],
    ['dot segments', { base_url: 'https://a.example/x/../y' }],
    ['a header no caller may set', { base_url: 'https://a.example/', allow_headers: ['Host'] }],
    ['a credential for everybody', { open: true, auth: 'bearer' }],
    ['addresses for everybody', { open: true, allow_addresses: ['10.0.0.0/8'] }],
    ['headers for everybody', { open: true, headers: { 'x-a': 'b' } }],
    ['ports of one service', { base_url: 'https://a.example/', ports: [443] }],
    ['another scheme', { base_url: 'ftp://a.example/' }],
    ['a query', { base_url: 'https://a.example/?a=b' }],
    ['a fragment', { base_url: 'https://a.example/#a' }],
    ['an escape in its path', { base_url: 'https://a.example/%41' }],
    ['an empty segment in its path', { base_url: 'https://a.example/a//b' }],
    ['an unknown key', { base_url: 'https://a.example/', follow: true }],
  ] as const) {
    it(`are refused with ${what}`, () => expect(httpSchema.safeParse(settings).success).toBe(false))
  }

  it('C11: name what an approval is for: the service, where it may be and how it is called; or the ports of all', () => {
    const endpoint = (settings: object): string => endpointOf(httpOptions(httpSchema.parse(settings)))
    const base = { base_url: 'https://a.example/v1' }
    const endpoints = [
      base,
      { base_url: 'https://a.example/v2' },
      { base_url: 'https://b.example/v1' },
      { ...base, allow_addresses: ['10.0.0.1'] },
      { ...base, allow_addresses: ['10.0.0.2'] },
      { ...base, tls: { server_name: 'b.example' } },
      { open: true },
      { open: true, ports: [8443] },
    ].map(endpoint)
    expect(new Set(endpoints).size).toBe(endpoints.length)
    expect(endpoint({ ...base, allow_headers: ['x-a'] })).toBe(endpoint(base))
  })
})
