/** C14: what approvers are shown beside the request, held against what a service then receives. */
import { createHash } from 'node:crypto'
import { afterEach, describe, expect, it } from 'vitest'
import type { Preview } from '../../src/core/preview.ts'
import { startService, type TestService } from '../services/http.ts'
import { httpKit, SECRET, type HttpKit } from './kit.ts'

const ALLOW =
  'rules: [{id: all, effect: allow, principals: ["*"], actions: ["http.*", http.upgrade], resources: ["**"]}]'
const MASKS = `${ALLOW}
masks:
  - {fields: ["**.ssn"], transform: redact, unless: [group:agents]}
  - {detect: [email], transform: redact, unless: [group:agents]}`

const closers: (() => unknown)[] = []
afterEach(async () => {
  for (const close of closers.splice(0).reverse()) await close()
})

async function world(
  more: { policy?: string; settings?: object } = {},
): Promise<{ server: TestService; kit: HttpKit }> {
  const server = await startService((_, response) => void response.end())
  closers.push(() => server.close())
  const kit = httpKit({
    settings: { base_url: `${server.url}/base`, allow_addresses: ['127.0.0.1'], auth: 'bearer', ...more.settings },
    policy: more.policy ?? ALLOW,
  })
  closers.push(() => kit.close())
  return { server, kit }
}

const textOf = (preview: Preview | undefined): string => preview?.sections[0]?.text ?? ''

describe('C14: the preview of a request', () => {
  for (const [what, args, settings] of [
    ['a GET', { path: '/x?y=1&z=%20' }, {}],
    ['a body', { method: 'POST', path: '/x', body: { amount: 5 } }, {}],
    [
      'a body of several lines',
      { method: 'PUT', path: '/x', headers: { 'content-type': 'text/plain' }, body: 'a\n\nb' },
      {},
    ],
    ['a POST without a body', { method: 'POST', path: '/x' }, {}],
    ['a DELETE', { method: 'DELETE', path: '/x' }, {}],
    [
      'headers of caller and operator',
      { path: '/x', headers: { 'If-Match': '"v1"' } },
      { headers: { 'X-Team': 'blue' } },
    ],
    ['basic authentication', { path: '/x' }, { auth: 'basic' }],
    ['a header as credential', { path: '/x' }, { auth: { header: 'X-Api-Key', prefix: 'Key ' } }],
    ['no credential', { path: '/x' }, { auth: 'none' }],
  ] as const) {
    it(`is method, URL, headers and body of ${what}, as the service receives them`, async () => {
      const { server, kit } = await world({ settings })
      const preview = await kit.preview(kit.of(args))
      expect([preview?.missing, server.connections()]).toEqual([undefined, 0])
      await kit.ask(args)
      const [seen] = server.seen
      const [head = '', ...rest] = textOf(preview).split('\n\n')
      const [line, ...headers] = head.split('\n')
      expect(line).toBe(`${seen?.method ?? ''} ${server.url}${seen?.url ?? ''}`)
      const { connection: _, ...received } = seen?.headers ?? {}
      const shown = headers.map((one) => one.replace(/: \[(?:bearer |basic )?credential\]$/u, ': [it]'))
      const sent = Object.entries(received).map(([name, value]) => {
        return `${name}: ${['authorization', 'x-api-key'].includes(name) ? '[it]' : String(value)}`
      })
      expect(shown.sort()).toEqual(sent.sort())
      const digest = createHash('sha256')
        .update(seen?.body ?? '')
        .digest('hex')
      const end = `[body: ${seen?.body.length ?? 0} bytes, SHA-256 ${digest}]`
      expect(rest.join('\n\n')).toBe(seen?.body === '' ? '' : `${seen?.body ?? ''}\n\n${end}`)
      expect(JSON.stringify(preview)).not.toContain(SECRET)
    })
  }

  it('shows no masked value to approvers though the caller may see it, nor a digest that would confirm one', async () => {
    const { kit } = await world({ policy: MASKS })
    for (const [path, body] of [
      ['/x?ssn=777-11', { a: 1 }],
      ['/x', { a: [{ ssn: '777-11' }] }],
      ['/x?to=ada%40example.com', { a: 1 }],
      ['/x', { to: 'ada@example.com' }],
    ] as const) {
      const preview = await kit.preview(kit.of({ method: 'POST', path, body }))
      const text = JSON.stringify(preview)
      for (const secret of ['777-11', 'ada@', 'ada%40']) expect([text, text.includes(secret)]).toEqual([text, false])
      expect(text).toContain('SHA-256 withheld')
      expect(text).not.toMatch(/[0-9a-f]{64}/u)
    }
    const plain = await kit.preview(kit.of({ method: 'POST', path: '/x', body: { a: 1 } }))
    expect(textOf(plain)).toMatch(/SHA-256 [0-9a-f]{64}\]$/u)
  })

  it('says what it cannot know: a body that streams, and what a WebSocket will say', async () => {
    const { server, kit } = await world()
    const streams = kit.call({ method: 'PUT', path: '/x' }, { input: (async function* () {})() })
    const socket = kit.call({ method: 'GET', path: '/x', upgrade: { protocols: ['chat'] } })
    for (const [call, why] of [
      [streams, 'streams'],
      [socket, 'WebSocket'],
    ] as const) {
      const preview = await kit.preview(call)
      expect(preview?.missing).toContain(why)
      expect(textOf(preview)).toContain(`${server.url}/base/x\nhost: `)
    }
    expect(server.connections()).toBe(0)
  })
})
