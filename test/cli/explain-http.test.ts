/** `policy explain` of HTTP calls: the attacks that can be told from the request alone, judged as the gateway judges them. */
import { mkdirSync, mkdtempSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import path from 'node:path'
import { afterAll, beforeAll, describe, expect, it } from 'vitest'
import { SallyportError } from '../../src/core/errors.ts'
import { httpKit, type HttpKit } from '../http/kit.ts'
import { sallyport, type Ran } from './kit.ts'

const RULES = `rules:
  - {id: read, effect: allow, principals: ["*"], actions: [http.get], resources: [{path: "/v1/**"}, {host: "*.example.com", path: "/**"}, {host: "*", path: "/**"}, {host: "*.*.*.*", path: "/**"}]}
  - {id: refunds, effect: allow, principals: ["*"], actions: [http.post], resources: [{path: "/v1/refunds/{id:int}"}], when: "part.body.amount <= 100"}
  - {id: ask, effect: require_approval, principals: ["*"], actions: [http.put], resources: [{path: "/v1/**"}], approvers: {any_of: [group:lead]}}
  - {id: no-admin, effect: deny, principals: ["*"], actions: ["http.*"], resources: [{path: "/v1/admin/**"}, {path: "/v1/admin"}, {path: "/v1/sealed/{id:int}"}, {path: "/v1/sealed/{id:uuid}"}, {path: "/v1/words/{id:word}"}]}
`
const SERVICE = { base_url: 'https://api.example.com/base', auth: 'bearer' }
const OPEN = { open: true }
/** A service inside, whose range holds a metadata service as well. */
const INSIDE = { base_url: 'http://ledger.internal:8080', allow_addresses: ['169.254.0.0/16', '10.1.0.0/16'] }
const TARGETS = { service: SERVICE, open: OPEN, inside: INSIDE }

interface Line {
  readonly target: keyof typeof TARGETS
  readonly arguments: Readonly<Record<string, unknown>>
  readonly resolve?: Readonly<Record<string, readonly string[]>>
  readonly effect: string
}

const json = { 'content-type': 'application/json' }
const at = (place: string, effect = 'deny', more: object = {}): Line => {
  return { target: 'service', arguments: { path: place, ...more }, effect }
}
const to = (url: string, effect = 'deny', resolve?: Line['resolve']): Line => {
  return { target: 'open', arguments: { url }, effect, ...(resolve !== undefined && { resolve }) }
}
const post = (body: unknown, effect: string, headers?: object): Line => {
  return at('/v1/refunds/7', effect, { method: 'POST', body, ...(headers !== undefined && { headers }) })
}

const inside = (address: string, effect = 'deny'): Line => {
  return { target: 'inside', arguments: { path: '/v1/x' }, effect, resolve: { 'ledger.internal': [address] } }
}
const refund = (place: string): Line => at(place, 'deny', { method: 'POST', body: { amount: 5 } })

const LINES: readonly Line[] = [
  at('/v1/x', 'allow'),
  at('/v1/x?y=%2e%2e', 'allow'),
  at('/v1/x', 'require_approval', { method: 'PUT' }),
  at('/v1/x', 'deny', { method: 'DELETE' }),
  at('/v1/x', 'deny', { method: 'TRACE' }),
  at('/v1/../admin'),
  at('/v1/%2e%2e/admin'),
  at('/v1/.%2E/admin'),
  at('/v1/%252e%252e/admin'),
  at('/v1/x%2fadmin'),
  at('/v1/x%5cadmin'),
  at('/v1\\admin'),
  at('/v1//admin'),
  at('//evil.example/v1/x'),
  at('/v1/admin'),
  at('/v1/admin/'),
  at('/v1/ADMIN'),
  at('/v1/%61dmin'),
  at('/v1/%2561dmin'),
  at('/v1/admin;x=1'),
  at('/v1/x;y=1'),
  at('/v1/x%00'),
  at('/v1/x%0a'),
  at('/v1/x%0d%0aHost:%20evil'),
  at('/v1/x#y'),
  at('/v1/ä'),
  at('@evil.example/v1/x'),
  at('/v1/ADMIN/'),
  at('/v1/x/%252e%252e/admin/'),
  at('/v1/x%2f..%2fadmin/'),
  at('/v1/admin%00.png'),
  at('/v1/admin%20'),
  at('/v1/%20admin'),
  at('/v1/admin.'),
  at('/v1/admin.%20/x'),
  at('/v1/x.y', 'allow'),
  at('/v1/.x', 'allow'),
  at('/v1/x%c0%af..%c0%afadmin'),
  at('/v1/%c0%ae%c0%ae/admin'),
  at('/v1/x%252fadmin'),
  at('/v1/x%3bjsessionid=1'),
  at('/v1/x%7f'),
  at('/v1/x%09'),
  at('/v1/x\tadmin'),
  at('/v1/x\r\nHost: evil.example'),
  at('/v1/./x'),
  at('/v1/x/..'),
  at('/V1/x'),
  at('/v1'),
  at('/v1/'),
  at('v1/x'),
  at('http://evil.example/v1/x'),
  at('\\\\evil.example\\v1\\x'),
  at(':443/v1/x'),
  at('.evil.example/v1/x'),
  at('?/v1/x'),
  at('/v1/x', 'deny', { url: 'https://api.example.com/base/v1/x' }),
  at('/v1/x', 'deny', { method: 'CONNECT' }),
  at('/v1/x', 'deny', { method: 'get ' }),
  at('/v1/x', 'deny', { method: 'GET /v1/admin HTTP/1.1\r\nX:' }),
  at('/v1/x', 'deny', { method: 'PROPFIND' }),
  refund('/v1/refunds/7%0a'),
  refund('/v1/refunds/7%0A'),
  refund('/v1/refunds/7%20'),
  refund('/v1/refunds/7/'),
  refund('/v1/refunds/7/x'),
  refund('/v1/refunds/-7'),
  refund('/v1/refunds/+7'),
  refund('/v1/refunds/7.0'),
  refund('/v1/refunds/0x7'),
  refund('/v1/refunds/%37'),
  refund('/v1/refunds/%D9%A7'),
  refund('/v1/refunds/7%00'),
  refund('/v1/refunds/7;x'),
  refund('/v1/refunds//7'),
  refund('/v1/refunds/7/..'),
  refund('/v1/refunds/{id:int}'),
  ...[
    '42',
    '0042',
    '0000000000000000000000042',
    '+42',
    '-42',
    '42.0',
    '42abc',
    '%2042',
    '%34%32',
    '%D9%A4%D9%A2',
    '0x2a',
    '42/',
    '%2B42',
    '42%20',
    '%25%34%32',
  ].map((id) => at(`/v1/sealed/${id}`)),
  ...[
    '0f8fad5b-d9cb-469f-a165-70867728950e',
    '0F8FAD5BD9CB469FA16570867728950E',
    '%7B0f8fad5b-d9cb-469f-a165-70867728950e%7D',
    'urn:uuid:0f8fad5b-d9cb-469f-a165-70867728950e',
  ].map((id) => at(`/v1/sealed/${id}`)),
  at('/v1/sealed/open', 'allow'),
  at('/v1/sealed/x42', 'allow'),
  at(`/v1/words/${'a'.repeat(129)}`),
  refund('/v1/refunds/٧'),
  refund('/v1/refunds/1234567890123456789'),
  refund('/v1/refunds/'),
  ...(
    [
      ['Proxy-Authorization', 'Basic eDp5'],
      ['Proxy-Connection', 'keep-alive'],
      ['Connection', 'x-team'],
      ['Keep-Alive', 'timeout=5'],
      ['TE', 'trailers'],
      ['Trailer', 'x'],
      ['Content-Length', '5'],
      ['Content-Encoding', 'gzip'],
      ['Accept-Encoding', 'zstd'],
      ['Expect', '100-continue'],
      ['Forwarded', 'host=evil.example'],
      ['X-Forwarded-For', '127.0.0.1'],
      ['X-Forwarded-Proto', 'https'],
      ['X-Real-IP', '127.0.0.1'],
      ['X-HTTP-Method', 'DELETE'],
      ['X-Method-Override', 'DELETE'],
      ['X-Rewrite-URL', '/v1/admin'],
      ['X_Original_URL', '/v1/admin'],
      ['Via', '1.1 x'],
      ['Range', 'bytes=0-1'],
      ['If-Range', 'x'],
      ['Sec-WebSocket-Key', 'x'],
      ['X-Anything', 'x'],
      ['Accept: a\r\nX-Evil', 'x'],
      ['Accept ', 'x'],
    ] as const
  ).map(([name, value]) => at('/v1/x', 'deny', { headers: { [name]: value } })),
  ...['a\nb', 'a\0b', 'a\u010d\u010ab', 'ä'].map((value) => at('/v1/x', 'deny', { headers: { accept: value } })),
  at('/v1/x', 'deny', { headers: { Host: 'evil.example' } }),
  at('/v1/x', 'deny', { headers: { 'X-HTTP-Method-Override': 'DELETE' } }),
  at('/v1/x', 'deny', { headers: { 'X-Original-URL': '/v1/admin' } }),
  at('/v1/x', 'deny', { headers: { 'X-Forwarded-Host': 'evil.example' } }),
  at('/v1/x', 'deny', { headers: { Authorization: 'Bearer mine' } }),
  at('/v1/x', 'deny', { headers: { Cookie: 'a=b' } }),
  at('/v1/x', 'deny', { headers: { Upgrade: 'websocket' } }),
  at('/v1/x', 'deny', { headers: { 'Transfer-Encoding': 'chunked' } }),
  at('/v1/x', 'deny', { headers: { Accept: 'a\r\nX: y' } }),
  at('/v1/x', 'deny', { body: 'a GET with a body' }),
  post({ amount: 100 }, 'allow'),
  post({ amount: 101 }, 'deny'),
  post({ amount: '5' }, 'deny'),
  post('{"amount":5,"amount":500}', 'deny', json),
  post('{"amount":5,"am\\u006funt":500}', 'deny', json),
  post('{"amount":9007199254740993}', 'deny', json),
  post('{"amount":5', 'deny', json),
  post('{"amount":5}', 'deny', { 'content-type': 'text/plain' }),
  post('{"amount":5}', 'deny', { 'content-type': 'application/json; charset=utf-7' }),
  { target: 'service', arguments: { url: 'https://api.example.com.evil.example/base/v1/x' }, effect: 'deny' },
  { target: 'service', arguments: { url: 'https://api.example.com@evil.example/base/v1/x' }, effect: 'deny' },
  ...[
    'https://api.example.com:444/base/v1/x',
    'http://api.example.com/base/v1/x',
    'https://api.example.com./base/v1/x',
    'https://API.example.com/base/v1/x',
    'https://api.example.com/basement/v1/x',
    'https://api.example.com/base/../v1/x',
    'https://api.example.com/v1/x',
    'https://user:pw@api.example.com/base/v1/x',
    'https://api.example.com\\@evil.example/base/v1/x',
    'https://evil.example/?https://api.example.com/base/v1/x',
  ].map((url): Line => ({ target: 'service', arguments: { url }, effect: 'deny' })),
  inside('10.1.0.1', 'allow'),
  inside('169.254.0.1', 'allow'),
  inside('169.254.169.254'),
  inside('169.254.170.2'),
  inside('::ffff:169.254.169.254'),
  inside('10.2.0.1'),
  inside('127.0.0.1'),
  inside('93.184.216.34'),
  to('https://www.example.com/x', 'allow'),
  to('https://www.example.com./x', 'allow'),
  to('https://www.example.com/x', 'allow', { 'www.example.com': ['93.184.216.34', '2606:2800:220:1::1'] }),
  ...[
    '127.0.0.1',
    '::1',
    '::ffff:127.0.0.1',
    '10.0.0.1',
    '169.254.169.254',
    '100.64.0.1',
    '64:ff9b::a9fe:a9fe',
    '0.0.0.0',
    'fd00:ec2::254',
    '2130706433',
    '192.168.1.1',
    '172.16.0.1',
    '192.0.0.192',
    '100.100.100.200',
    '168.63.129.16',
    '198.18.0.1',
    '240.0.0.1',
    '255.255.255.255',
    '224.0.0.1',
    '::',
    '::127.0.0.1',
    '2002:7f00:1::',
    '2001::1',
    'fe80::1',
    'fe80::1%eth0',
    'no address',
  ].map((address) => to('https://www.example.com/x', 'deny', { 'www.example.com': [address] })),
  to('https://www.example.com/x', 'deny', { 'www.example.com': ['93.184.216.34', '10.0.0.1'] }),
  to('https://www.example.com/x', 'deny', { 'WWW.example.com.': ['10.0.0.1'] }),
  to('https://www.example.com./x', 'deny', { 'www.example.com': ['10.0.0.1'] }),
  to('http://localhost/'),
  to('http://127.0.0.1/'),
  to('http://2130706433/'),
  to('http://0x7f000001/'),
  to('http://0177.0.0.1/'),
  to('http://127.1/'),
  to('http://①②⑦.⓪.⓪.①/'),
  to('http://[::1]/'),
  to('http://[::ffff:169.254.169.254]/'),
  to('http://169.254.169.254/latest/meta-data/'),
  to('http://metadata.google.internal/'),
  to('http://0.0.0.0/'),
  to('http://[64:ff9b::169.254.169.254]/'),
  to('http://user:pw@www.example.com/x'),
  to('http://www.example.com:22/'),
  to('ftp://www.example.com/x'),
  to('file:///etc/passwd'),
  to('http://loc%61lhost/'),
  to('http://%31%32%37.0.0.1/'),
  to('http://0x7f.0.0.1/'),
  to('http://0x7f.1/'),
  to('http://017700000001/'),
  to('http://0/'),
  to('http://127.0.0.1../'),
  to('http://localhost../'),
  to('http://[::]/'),
  to('http://[::ffff:7f00:1]/'),
  to('http://[::ffff:127.0.0.1]/'),
  to('http://[0:0:0:0:0:ffff:a9fe:a9fe]/'),
  to('http://[64:ff9b:1::a9fe:a9fe]/'),
  to('http://[::1]./'),
  to('http://[::1%25lo]/'),
  to('http://[::1%lo]/'),
  to('http://ⓛⓞⓒⓐⓛⓗⓞⓢⓣ/'),
  to('http://metadata%2egoogle%2einternal/'),
  to('http://xn--/'),
  to('http://xn--a.example.com/'),
  to('https://www.ex\u00adample.com/x'),
  to('https://www.example.com@127.0.0.1/'),
  to('https://www.example.com:80@127.0.0.1/'),
  to('https://127.0.0.1%2f@www.example.com/x'),
  to('https://www.example.com%2f@127.0.0.1/'),
  to('https://www.example.com%2fx'),
  to('https://www.example.com:0/x'),
  to('https://www.example.com:65616/x'),
  to('https:www.example.com/x'),
  to('https:/www.example.com/x'),
  to('https:///www.example.com/x'),
  to('https://evilwww.example.com.evil.example/x'),
  to('https://www.example.com/a/../x'),
  to('https://www.example.com/%2e%2e/x'),
  to('https://www.example.com/a/.%2E'),
  to('https://www.example.com/./x'),
  to('https://www.example.com//x'),
  to('https://www.example.com/x;y'),
  to('https://www.example.com/x%2fy'),
  to('https://www.example.com/x%00'),
  to('https://www.example.com?/x', 'deny'),
  to('HTTPS://WWW.EXAMPLE.COM/x', 'allow'),
  to('https://www%2eexample%2ecom/x', 'allow'),
  to('https://xn--bcher-kva.example.com/x', 'allow'),
  to('https://www.example.com:443/x', 'allow'),
  to('https://93.184.216.34/x', 'allow'),
  to('http://localhost./'),
  to('http://LOCALHOST/'),
  to('http://１２７.０.０.１/'),
  to('http://127。0。0。1/'),
  to('http://127.0.0.1./'),
  to('http://[::127.0.0.1]/'),
  to('http://[2002:7f00:1::]/'),
  to('http://[fd00:ec2::254]/'),
  to('http://[fe80::1%25eth0]/'),
  to('http://100.100.100.200/'),
  to('http://192.0.0.192/'),
  to('http://169.254.170.2/v2/credentials'),
  to('http://168.63.129.16/'),
  to('http://198.18.0.1/'),
  to('http://100.64.0.1/'),
  to('http://240.0.0.1/'),
  to('http://256.0.0.1/'),
  to('http://1.2.3/'),
  to('http://metadata.google.internal./'),
  to('http://METADATA.google.internal/'),
  to('http://www.example.com%00.evil.example/'),
  to('http://www.example.com\\@127.0.0.1/'),
  to('http://127.0.0.1:7401/v1/tokens'),
  to('http://www.example.com:7401/'),
  to('http://www.example.com#@127.0.0.1/'),
  to('//www.example.com/x'),
  to('www.example.com/x'),
  to('http://www.ex\tample.com/'),
  to('javascript:alert(1)'),
]

let dir = ''
let ran: Ran
const kits = new Map<string, HttpKit>()

beforeAll(async () => {
  dir = mkdtempSync(path.join(tmpdir(), 'sallyport-explain-'))
  mkdirSync(path.join(dir, 'policies'))
  writeFileSync(path.join(dir, 'policies', 'http.yaml'), `targets: [service, open, inside]\n${RULES}`)
  writeFileSync(
    path.join(dir, 'sallyport.yaml'),
    JSON.stringify({
      listen: { mcp: '127.0.0.1:0', admin: '127.0.0.1:0' },
      targets: {
        service: { protocol: 'http', ...SERVICE, credential: { env: 'NO_SUCH_SECRET' } },
        open: { protocol: 'http', ...OPEN },
        inside: { protocol: 'http', ...INSIDE },
      },
    }),
  )
  for (const [name, settings] of Object.entries(TARGETS)) kits.set(name, httpKit({ settings, policy: RULES }))
  const input = LINES.map(({ target, arguments: args, resolve }, index) => {
    return JSON.stringify({
      id: `${index}`,
      principal: { id: 'loop', groups: ['agents'] },
      target,
      tool: 'http_request',
      arguments: args,
      resolve,
    })
  })
  ran = await sallyport(['policy', 'explain', '--jsonl'], { cwd: dir, input: input.join('\n') })
})
afterAll(async () => {
  for (const kit of kits.values()) await kit.close()
  rmSync(dir, { recursive: true, force: true })
})

describe('policy explain --jsonl', () => {
  it('judges every request as it was meant, and as the gateway judges the same one', async () => {
    expect(ran.stderr).toBe('')
    const answers = ran.stdout
      .trim()
      .split('\n')
      .map((line) => JSON.parse(line) as { effect: string; rules: string[] })
    expect(answers).toHaveLength(LINES.length)
    const said = LINES.map(({ arguments: args }, index) => [args, answers[index]?.effect])
    expect(said).toEqual(LINES.map(({ arguments: args, effect }) => [args, effect]))
    for (const [index, { target, arguments: args, resolve, effect }] of LINES.entries()) {
      if (resolve !== undefined) continue
      const live = await liveOf(kits.get(target), args)
      expect([args, live.effect, live.rules]).toEqual([args, effect, answers[index]?.rules])
    }
  })

  it('judges addresses that are told as those that are looked up', async () => {
    const answers = ran.stdout
      .trim()
      .split('\n')
      .map((line) => JSON.parse(line) as { effect: string; reason: string })
    for (const [index, { target, arguments: args, resolve = {} }] of LINES.entries()) {
      const [told] = Object.entries(resolve)
      if (told === undefined || answers[index]?.effect === 'allow') continue
      const [name, addresses] = told
      const names = { [name.toLowerCase().replace(/\.$/u, '')]: [addresses] }
      const kit = httpKit({ settings: TARGETS[target], policy: RULES, names })
      const error = await kit.failure(args)
      await kit.close()
      expect([args, addresses, error.code, error.facts.construct]).toEqual([
        args,
        addresses,
        'ERR_DENIED',
        'http.address',
      ])
      expect(answers[index]?.reason).toContain('address')
    }
  })
})

async function liveOf(kit: HttpKit | undefined, args: Line['arguments']) {
  if (kit === undefined) throw new Error('no such target')
  try {
    const { decision } = await kit.judged(args)
    return { effect: decision.effect, rules: decision.rules }
  } catch (error) {
    if (error instanceof SallyportError) return { effect: 'deny', rules: [] }
    throw error
  }
}

describe('policy explain of one HTTP call', () => {
  const explain = (...args: string[]): Promise<Ran> =>
    sallyport(['policy', 'explain', '--principal', 'loop', ...args], { cwd: dir })

  it('takes method, path and body', async () => {
    const allowed = await explain(
      '--target',
      'service',
      '--method',
      'POST',
      '--path',
      '/v1/refunds/7',
      '--body',
      '{"amount":5}',
    )
    expect(allowed.stdout).toMatch(/^allow /u)
    expect(allowed.stdout).toContain('http.post on /v1/refunds/')
  })

  it('takes a URL with addresses in place of DNS', async () => {
    const url = ['--target', 'open', '--url', 'https://www.example.com/x']
    expect((await explain(...url, '--resolve', 'www.example.com=93.184.216.34')).stdout).toMatch(/^allow /u)
    const denied = await explain(...url, '--resolve', 'www.example.com=93.184.216.34', 'www.example.com=10.0.0.1')
    expect(denied.stdout).toMatch(/^deny .*not a public address/u)
  })

  it('takes any tool with its arguments, and refuses half a question', async () => {
    const asked = await explain('--target', 'service', '--tool', 'http_request', '--arguments', '{"path":"/v1/admin"}')
    expect(asked.stdout).toMatch(/^deny /u)
    const half = await explain('--target', 'service')
    expect(half.code).not.toBe(0)
    expect(half.stderr).toContain('--tool')
  })
})
