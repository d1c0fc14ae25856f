/** HTTP end to end: a gateway process, ordinary clients, real services, and nothing but the gateway's doors. */
import { execFile } from 'node:child_process'
import { promisify } from 'node:util'
import { Agent, fetch as undiciFetch, request } from 'undici'
import { afterAll, beforeAll, describe, expect, it, vi } from 'vitest'
import { selfSigned } from '../../src/self-signed.ts'
import { startService, type TestService } from '../services/http.ts'
import { startNginx, type Nginx } from '../services/nginx.ts'
import { has } from '../setup/needs.ts'
import { openHttpWorld, SECRET, withTls, type HttpWorld } from './http-world.ts'
import { callTool } from './world.ts'

const POLICY = `
targets: [service, other, web]
rules:
  - {id: read, effect: allow, principals: [group:agents], actions: [http.get, http.head], resources: [{path: "/**"}]}
  - {id: guarded, effect: require_approval, principals: [group:agents], actions: [http.get], resources: [{path: "/guarded/**"}], approvers: {any_of: [group:lead]}}
  - {id: order, effect: require_approval, principals: [group:agents], actions: [http.post], resources: [{path: "/orders"}], approvers: {any_of: [group:lead]}}
  - {id: pay, effect: require_approval, principals: [group:agents], actions: [http.post], resources: [{path: "/pay/**"}], approvers: {any_of: [group:lead]}}
  - {id: seldom, effect: require_approval, principals: [group:agents], actions: [http.post], resources: [{path: "/pay/seldom"}], approvers: {any_of: [group:lead]}, limits: {rate: 1/h}}
  - {id: nothing-forbidden, effect: deny, actions: ["http.*"], resources: [{path: "/forbidden/**"}], reason: That is forbidden.}
masks:
  - {fields: ["**.ssn"], transform: redact}
  - {detect: [email], transform: redact}
`

const run = promisify(execFile)

describe.runIf(has('curl'))('HTTP, end to end', () => {
  let service: TestService
  let other: TestService
  let nginx: Nginx | undefined
  let world: HttpWorld
  const streams = new Set<() => void>()
  const bearer = (token = world.agent): { authorization: string } => ({ authorization: `Bearer ${token}` })
  const at = (path: string): string => `${world.urls.http}/service${path}`
  const asked = (path: string): number => service.seen.filter(({ url }) => url === `/base${path}`).length

  beforeAll(async () => {
    other = await startService((_, response) => void response.end('the other one'))
    service = await startService(({ url, method, headers, body }, response) => {
      const json = (value: unknown): void =>
        void response.setHeader('content-type', 'application/json').end(method === 'HEAD' ? '' : JSON.stringify(value))
      const hop = /^\/base\/hop\/(\d+)(\/.*)?$/u.exec(url)
      if (hop !== null) {
        const left = Number(hop[1])
        const to = left === 0 ? (hop[2] ?? '/end') : `/hop/${left - 1}${hop[2] ?? ''}`
        response.writeHead(302, { location: `/base${to}` }).end()
      } else if (url === '/base/away') response.writeHead(302, { location: `${other.url}/x` }).end()
      else if (url === '/base/stream') {
        response.writeHead(200, { 'content-type': 'text/event-stream' })
        response.write('data: {"ssn":"777-11","n":1}\n\n')
        streams.add(() => response.write('data: {"ssn":"777-12","n":2}\n\n'))
      } else if (url === '/base/pay/broken') response.destroy()
      else if (url === '/base/pay/long') json({ paid: 'yes '.repeat(75_000) })
      else json({ ssn: '123-45-6789', mail: 'ada@example.com', echo: headers.authorization, got: body, n: 1.5 })
    })
    if (has('nginx')) nginx = await startNginx({ 'a.json': '{"ssn":"123-45-6789","x":1}', 'b.txt': 'ada@example.com' })
    const target = (name: string, url: string): string =>
      `  ${name}: {protocol: http, base_url: "${url}", allow_addresses: [127.0.0.1], auth: bearer, credential: {file: secret}}`
    world = await openHttpWorld(
      [
        target('service', `${service.url}/base`),
        target('other', other.url),
        target('web', nginx?.url ?? 'http://127.0.0.1:9'),
      ].join('\n'),
      POLICY,
      'approvals: {hold: 100ms}\n',
    )
  })
  afterAll(async () => {
    await world?.close()
    await service?.close()
    await other?.close()
    await nginx?.close()
  })

  it('C10: answers the tool and every client with the same masked body', async () => {
    const expected =
      '{"ssn":"[REDACTED:field]","mail":"[REDACTED:email]","echo":"Bearer [REDACTED:credential]","got":"","n":1.5}'
    const { structuredContent } = await world.tool({ target: 'service', path: '/x' })
    expect(structuredContent).toMatchObject({ status: 'ok', http_status: 200, body: expected })
    const { stdout } = await run('curl', [
      '-sS',
      '--noproxy',
      '*',
      '-H',
      `Authorization: Bearer ${world.agent}`,
      at('/x'),
    ])
    expect(stdout).toBe(expected)
    expect(await (await fetch(at('/x'), { headers: bearer() })).text()).toBe(expected)
    expect(await (await request(at('/x'), { headers: bearer() })).body.text()).toBe(expected)
    const { stdout: head } = await run('curl', ['-sSI', '--noproxy', '*', '-u', `me:${world.agent}`, at('/x')])
    expect(head).toMatch(/^HTTP\/1\.1 200 /u)
    expect(service.seen.at(-1)?.headers.authorization).toBe(`Bearer ${SECRET}`)
  })

  it('judges every hop of a redirect as a call of its own', async () => {
    const { structuredContent } = await world.tool({ target: 'service', path: '/hop/2' })
    expect(structuredContent).toMatchObject({ status: 'ok', redirects: ['/hop/1', '/hop/0', '/end'] })
    const sent = ['/hop/2', '/hop/1', '/hop/0', '/end'].map((path) => `GET ${service.url}/base${path}`)
    for (const line of sent) expect(world.recorded()).toContain(line)
    const stopped = await world.tool({ target: 'service', path: '/hop/9' })
    expect(stopped.structuredContent).toMatchObject({ http_status: 302 })
    expect(((stopped.structuredContent?.['redirects'] ?? []) as string[]).length).toBe(5)
    expect(asked('/hop/3')).toBe(0)
  })

  it('follows no redirect to another service, to what is denied, or past an approval', async () => {
    const away = await world.tool({ target: 'service', path: '/away' })
    expect(away.structuredContent).toMatchObject({ http_status: 302 })
    expect(other.seen).toEqual([])
    const denied = await world.tool({ target: 'service', path: '/hop/0/forbidden/x' })
    expect(denied.structuredContent).toMatchObject({ status: 'denied' })
    expect(asked('/forbidden/x')).toBe(0)
    const held = await world.tool({ target: 'service', path: '/hop/0/guarded/x' })
    expect(held.structuredContent).toMatchObject({ status: 'pending_approval' })
    expect(asked('/guarded/x')).toBe(0)
    await world.approve(String(held.structuredContent?.ticket))
    const done = await callTool(world.urls.mcp, world.agent, 'approval_status', {
      ticket: held.structuredContent?.ticket,
      wait_ms: 5000,
    })
    expect(done.structuredContent).toMatchObject({ status: 'ok' })
    expect(asked('/guarded/x')).toBe(1)
  })

  it('C12: holds a request at the listener until a person agrees, runs it once, and shows the answer again', async () => {
    const send = (body: string): Promise<Response> =>
      fetch(at('/orders'), {
        method: 'POST',
        headers: { ...bearer(), 'content-type': 'application/json', 'sallyport-reason': 'the customer asked' },
        body,
      })
    const held = await send('{"ssn":"777-11","amount":5}')
    expect(held.status).toBe(202)
    const { ticket } = (await held.json()) as { ticket: string }
    const shown = await world.cli(['approvals', 'show', ticket], world.lead)
    expect(shown.stdout).toContain(`POST ${service.url}/base/orders`)
    expect(shown.stdout).toContain('{"ssn":"[REDACTED:field]","amount":5}')
    expect(shown.stdout).toContain('authorization: [bearer credential]')
    expect(shown.stdout).toContain('the customer asked')
    // The preview: what will be sent, headers of the gateway's own included.
    const [, preview = ''] = shown.stdout.split('The request as it will be sent')
    expect(preview).toContain(`POST ${service.url}/base/orders`)
    expect(preview).toContain(`host: 127.0.0.1:${service.port}`)
    expect(preview).toContain('accept-encoding: gzip, deflate, br')
    expect(preview).toContain('content-length: 27')
    expect(preview).toContain('authorization: [bearer credential]')
    expect(preview).toContain('{"ssn":"[REDACTED:field]","amount":5}')
    expect(preview).toContain('[body: 27 bytes, SHA-256 withheld]')
    expect(shown.stdout).not.toContain(SECRET)
    expect(shown.stdout).toContain('SHA-256 withheld')
    expect(shown.stdout).not.toContain('777-11')
    const voted = await world.cli(['approvals', 'approve', ticket], world.lead)
    expect([voted.code, voted.stderr]).toEqual([0, ''])
    expect((await send('{"ssn":"777-11","amount":6}')).status).toBe(202)
    expect(asked('/orders')).toBe(0)
    const done = await send('{"ssn":"777-11","amount":5}')
    expect([done.status, JSON.parse(await done.text())]).toMatchObject([200, { ssn: '[REDACTED:field]' }])
    // The answer may be complete a moment before its ticket is settled.
    await vi.waitFor(async () => expect((await send('{"ssn":"777-11","amount":5}')).status).toBe(200), 90_000)
    expect(asked('/orders')).toBe(1)
    expect(done.headers.get('sallyport-replayed')).toBeNull()
    expect((await send('{"ssn":"777-11","amount":5}')).headers.get('sallyport-replayed')).toBe('true')
    // The same request by the tool is the same request: its approval and its result are one.
    const byTool = await world.tool({
      target: 'service',
      method: 'POST',
      path: '/orders',
      headers: { accept: '*/*', 'accept-language': '*', 'user-agent': 'node', 'content-type': 'application/json' },
      body: '{"ssn":"777-11","amount":5}',
    })
    expect([byTool.structuredContent?.status, asked('/orders')]).toEqual(['ok', 1])
    expect(byTool.structuredContent).toMatchObject({ replayed: true })
  })

  describe('a request that was answered with a ticket', () => {
    const post = (path: string, n = 1): Promise<Response> =>
      fetch(at(path), {
        method: 'POST',
        headers: { ...bearer(), 'content-type': 'application/json' },
        body: `{"n":${n}}`,
      })
    const held = async (path: string, n?: number): Promise<string> => {
      const answer = await post(path, n)
      const ticket = answer.headers.get('sallyport-ticket') ?? ''
      expect([answer.status, answer.headers.get('retry-after')]).toEqual([202, '5'])
      expect(await answer.json()).toMatchObject({
        code: 'ERR_APPROVAL_PENDING',
        ticket,
        approvers: ['group:lead'],
        expires_at: expect.stringMatching(/^\d{4}-/u) as string,
        next: expect.stringContaining('very same request') as string,
      })
      return ticket
    }

    it('C12: is answered 409 once it ran, and not as if it were whole, when its answer was too long to keep', async () => {
      await world.approve(await held('/pay/long'))
      expect((await (await post('/pay/long')).text()).length).toBe(300_011)
      // The answer may be complete a moment before its ticket is settled.
      const again = await vi.waitFor(async () => {
        const answer = await post('/pay/long')
        expect(answer.status).toBe(409)
        return answer
      }, 90_000)
      expect(await again.json()).toMatchObject({
        code: 'ERR_APPROVAL_CONFLICT',
        detail: expect.stringContaining('already ran under ticket') as string,
      })
      expect(asked('/pay/long')).toBe(1)
    })

    it('is answered 429 with rule and ticket when persons agreed and a limit has no room', async () => {
      await world.approve(await held('/pay/seldom', 1))
      expect((await post('/pay/seldom', 1)).status).toBe(200)
      const ticket = await held('/pay/seldom', 2)
      await world.approve(ticket)
      const answer = await post('/pay/seldom', 2)
      expect([answer.status, answer.headers.get('sallyport-ticket')]).toEqual([429, ticket])
      expect(Number(answer.headers.get('retry-after'))).toBeGreaterThan(0)
      expect(await answer.json()).toMatchObject({ code: 'ERR_LIMIT_RATE', rules: ['seldom'], ticket })
      expect(asked('/pay/seldom')).toBe(1)
    })

    it('C12: is answered 500 and sent to nobody again when the service broke off', async () => {
      await world.approve(await held('/pay/broken'))
      const broken = await post('/pay/broken')
      expect([broken.status, await broken.json()]).toMatchObject([502, { code: 'ERR_UPSTREAM_LOST' }])
      const again = await vi.waitFor(async () => {
        const answer = await post('/pay/broken')
        expect(answer.status).toBe(500)
        return answer
      }, 90_000)
      expect(await again.json()).toMatchObject({ code: 'ERR_OUTCOME_UNKNOWN' })
      expect(asked('/pay/broken')).toBe(1)
    })

    it('is answered 403 when its approver refuses it', async () => {
      const ticket = await held('/pay/refused')
      await world.approve(ticket, 'deny')
      const answer = await post('/pay/refused')
      expect([answer.status, await answer.json()]).toMatchObject([403, { code: 'ERR_APPROVAL_REFUSED', ticket }])
      expect(asked('/pay/refused')).toBe(0)
    })
  })

  it('C2: cuts a stream when the policy no longer allows it, masked until then', async () => {
    const answer = await fetch(at('/stream'), { headers: bearer() })
    const reader = answer.body?.getReader()
    const first = Buffer.from((await reader?.read())?.value ?? []).toString()
    expect(first).toContain('"[REDACTED:field]"')
    await world.policy(POLICY.replace('[{path: "/**"}]', '[{path: "/x"}]'))
    await expect(
      (async () => {
        for (;;) if ((await reader?.read())?.done !== false) return
      })(),
    ).rejects.toThrow(/terminated/u)
    await world.policy(POLICY)
  })

  it('ends a stream whose session is killed, and one whose token is revoked', async () => {
    const token = await world.token('short-lived', ['agents'])
    const open = async (): Promise<ReadableStreamDefaultReader<Uint8Array>> => {
      const answer = await fetch(at('/stream'), { headers: bearer(token) })
      const reader = answer.body?.getReader()
      if (reader === undefined) throw new Error('no body')
      await reader.read()
      return reader
    }
    const broken = async (reader: ReadableStreamDefaultReader<Uint8Array>): Promise<void> => {
      for (;;) if ((await reader.read()).done) return
    }
    const killed = await open()
    const listed = await world.cli(['sessions', 'list', '--json'])
    const session = listed.stdout
      .trim()
      .split('\n')
      .map((line) => JSON.parse(line) as { id: string; principal: string; door: string })
      .find(({ principal }) => principal === 'short-lived')
    expect(session?.door).toBe('http')
    expect((await world.cli(['sessions', 'kill', session?.id ?? ''])).code).toBe(0)
    await expect(broken(killed)).rejects.toThrow(/terminated/u)
    const revoked = await open()
    const { tokens } = await world.operator.get<{ tokens: { id: string; principal: string }[] }>('/v1/tokens')
    const id = tokens.find(({ principal }) => principal === 'short-lived')?.id ?? ''
    await world.operator.post(`/v1/tokens/${id}/revoke`)
    await expect(broken(revoked)).rejects.toThrow(/terminated/u)
    expect((await fetch(at('/x'), { headers: bearer(token) })).status).toBe(401)
  })

  it.runIf(has('nginx'))('stands before nginx as before anything else', async () => {
    const json = await fetch(`${world.urls.http}/web/a.json`, { headers: bearer() })
    expect([json.status, await json.text()]).toEqual([200, '{"ssn":"[REDACTED:field]","x":1}'])
    const { structuredContent } = await world.tool({ target: 'web', path: '/none.json' })
    expect(structuredContent).toMatchObject({ status: 'ok', http_status: 404 })
    // A text has no fields that could be masked, and fields of this target are.
    const text = await fetch(`${world.urls.http}/web/b.txt`, { headers: bearer() })
    expect([text.status, await text.text()]).toEqual([502, expect.not.stringContaining('ada@')])
  })

  it('drains, records what nobody can change unseen, and says no secret anywhere', async () => {
    const answer = await fetch(at('/stream'), { headers: bearer() })
    const reader = answer.body?.getReader()
    await reader?.read()
    const ended = (async () => {
      for (;;) if ((await reader?.read())?.done !== false) return
    })().catch(() => 'broken')
    expect(await world.stop()).toBe(0)
    await ended
    const verified = await world.cli(['recordings', 'verify'])
    expect([verified.code, verified.stdout]).toEqual([0, expect.stringContaining('as they were written')])
    for (const secret of [SECRET, '123-45-6789', 'ada@example.com', '777-11']) {
      expect([secret, world.recorded().includes(secret), world.output.includes(secret)]).toEqual([secret, false, false])
    }
  })

  it('speaks TLS to curl, undici and fetch, and to nobody without', async () => {
    const { key, cert } = selfSigned(['localhost'])
    await withTls(world, key, cert)
    await world.start()
    const port = new URL(world.urls.http).port
    expect(world.urls.http).toMatch(/^https:/u)
    const url = `https://localhost:${port}/service/x`
    const ca = `${world.dir}/cert.pem`
    const words = ['-sS', '--noproxy', '*', '--cacert', ca, '--resolve', `localhost:${port}:127.0.0.1`]
    const { stdout } = await run('curl', [...words, '-H', `Authorization: Bearer ${world.agent}`, url])
    expect(stdout).toContain('[REDACTED:field]')
    const dispatcher = new Agent({
      connect: {
        ca: cert,
        lookup: (_host, { all }, done) =>
          all === true ? done(null, [{ address: '127.0.0.1', family: 4 }]) : done(null, '127.0.0.1', 4),
      },
    })
    for (const text of [
      await (await request(url, { headers: bearer(), dispatcher })).body.text(),
      await (await undiciFetch(url, { headers: bearer(), dispatcher })).text(),
    ]) {
      expect(text).toContain('[REDACTED:field]')
    }
    await dispatcher.close()
    await expect(fetch(`http://127.0.0.1:${port}/service/x`, { headers: bearer() })).rejects.toThrow(/fetch failed/u)
    expect(world.output).not.toContain(SECRET)
  })
})
