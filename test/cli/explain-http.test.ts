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
  - {id: no-admin, effect: deny, principals: ["*"], actions: ["http.*"], resources: [{path: "/v1/admin/**"}, {path: "/v1/admin"}]}
`
const SERVICE = { base_url: 'https://api.example.com/base', auth: 'bearer' }
const OPEN = { open: true }

interface Line {
  readonly target: 'service' | 'open'
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
]

let dir = ''
let ran: Ran
const kits = new Map<string, HttpKit>()

beforeAll(async () => {
  dir = mkdtempSync(path.join(tmpdir(), 'sallyport-explain-'))
  mkdirSync(path.join(dir, 'policies'))
  writeFileSync(path.join(dir, 'policies', 'http.yaml'), `targets: [service, open]\n${RULES}`)
  writeFileSync(
    path.join(dir, 'sallyport.yaml'),
    JSON.stringify({
      listen: { mcp: '127.0.0.1:0', admin: '127.0.0.1:0' },
      targets: {
        service: { protocol: 'http', ...SERVICE, credential: { env: 'NO_SUCH_SECRET' } },
        open: { protocol: 'http', ...OPEN },
      },
    }),
  )
  kits.set('service', httpKit({ settings: SERVICE, policy: RULES }))
  kits.set('open', httpKit({ settings: OPEN, policy: RULES }))
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
    for (const [index, { target, arguments: args, resolve, effect }] of LINES.entries()) {
      expect([args, answers[index]?.effect]).toEqual([args, effect])
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
    for (const [index, { arguments: args, resolve = {} }] of LINES.entries()) {
      const [addresses = []] = Object.values(resolve)
      if (addresses.length === 0 || answers[index]?.effect === 'allow') continue
      const kit = httpKit({ settings: OPEN, policy: RULES, names: { 'www.example.com': [addresses] } })
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
