/** What clients say that are no kubectl: raw bytes, upgrades that are none, tokens that end. */
import { once } from 'node:events'
import { connect as connectTls, type TLSSocket } from 'node:tls'
import { describe, expect, it } from 'vitest'
import { STREAMING_MAX } from '../../src/protocols/kubernetes/listener-streaming.ts'
import { SpdyConnection } from '../../src/protocols/kubernetes/streams/spdy-connection.ts'
import type { KubeWorld } from './kube-door-world.ts'
import { HOPE } from './kube-settled.ts'

/** The pod `till` in the namespace `shop` runs, and the agent may run `cat` in it and forward its port 80. */
export function describeStrangers(world: () => KubeWorld): void {
  describe('clients that are up to something', () => {
    const EXEC = '/cluster/api/v1/namespaces/shop/pods/till/exec?command=cat&stdout=true&stderr=true'
    const door = (): URL => new URL(world().urls.kubernetes)
    const open = async (): Promise<TLSSocket> => {
      // The certificate is known from the kubeconfig; what is attacked here is behind it.
      const socket = connectTls({ host: '127.0.0.1', port: Number(door().port), rejectUnauthorized: false })
      socket.on('error', () => undefined)
      await once(socket, 'secureConnect')
      return socket
    }
    const said = async (lines: readonly string[], body = ''): Promise<string> => {
      const socket = await open()
      socket.setEncoding('utf8').write(`${lines.join('\r\n')}\r\n\r\n${body}`)
      let text = ''
      socket.on('data', (piece: string) => (text += piece))
      await once(socket, 'close')
      return text
    }
    const head = (path: string, ...more: readonly string[]): readonly string[] => [
      `GET ${path} HTTP/1.1`,
      'host: gateway',
      `authorization: Bearer ${world().agent}`,
      ...more,
    ]
    const UPGRADE = ['connection: Upgrade', 'upgrade: SPDY/3.1', 'x-stream-protocol-version: v4.channel.k8s.io']

    it('get no tunnel from an upgrade that failed', async () => {
      const second = 'GET /cluster/api/v1/namespaces/shop/secrets HTTP/1.1\r\nhost: gateway\r\n\r\n'
      const answer = await said(head(EXEC.replace('till', 'nobody'), ...UPGRADE), second)
      expect(answer).toMatch(/^HTTP\/1\.1 404 /u)
      expect(answer.match(/HTTP\/1\.1/gu)).toHaveLength(1)
    })

    it.each([
      ['a list', '/cluster/api/v1/namespaces/shop/pods'],
      ['a proxied pod', '/cluster/api/v1/namespaces/shop/pods/till/proxy/exec'],
      ['a node', '/cluster/api/v1/nodes/node-1/proxy/exec/shop/till/main?command=cat'],
    ])('turn no other request into streams: %s', async (_what, path) => {
      expect(await said(head(path, ...UPGRADE))).toMatch(/^HTTP\/1\.1 403 /u)
    })

    it.each([
      ['two tokens', ['authorization: Bearer x', 'connection: close'], /^HTTP\/1\.1 401 /u],
      ['two lengths', ['content-length: 0', 'content-length: 5'], /^HTTP\/1\.1 400 /u],
      ['a length and chunks', ['content-length: 5', 'transfer-encoding: chunked'], /^HTTP\/1\.1 400 /u],
      ['two hosts', ['host: other', 'connection: close'], /^HTTP\/1\.1 400 /u],
      ['a compressed body', ['content-encoding: gzip', 'content-length: 0', 'connection: close'], /^HTTP\/1\.1 400 /u],
    ])('are refused with %s', async (_what, more, expected) => {
      expect(await said(head('/cluster/api/v1/namespaces/shop/pods', ...more))).toMatch(expected)
    })

    describe('that were refused', () => {
      /** Entries of the recording of what never became a call. */
      const refused = (): readonly string[] => lines().filter((line) => line.includes('"type":"refused"'))
      const decided = (): readonly string[] => lines().filter((line) => line.includes('"type":"decision"'))
      const lines = (): readonly string[] => world().recorded().split('\n')
      const FORWARD = ['connection: Upgrade', 'upgrade: SPDY/3.1', 'x-stream-protocol-version: portforward.k8s.io']

      it('leave an entry for an upgrade that is no stream', async () => {
        const before = refused().length
        await said(head('/cluster/api/v1/namespaces/shop/secrets', ...UPGRADE))
        await expect.poll(() => refused().slice(before), HOPE).toEqual([expect.stringContaining('k8s.upgrade')])
      })

      it('leave an entry for a target that is not there', async () => {
        const before = refused().length
        expect(await said(head('/elsewhere/api/v1/pods', 'connection: close'))).toMatch(/^HTTP\/1\.1 404 /u)
        await expect.poll(() => refused().slice(before), HOPE).toEqual([expect.stringContaining('ERR_UNKNOWN_TARGET')])
      })

      it('leave an entry for each try, and are judged once', async () => {
        const websocket = [
          'connection: Upgrade',
          'upgrade: websocket',
          'sec-websocket-version: 13',
          'sec-websocket-key: AAAAAAAAAAAAAAAAAAAAAA==',
          'sec-websocket-protocol: v5.channel.k8s.io',
        ]
        const denied = EXEC.replace('command=cat', 'command=rm')
        const [decisions, tries] = [decided().length, refused().length]
        const first = await said(head(denied, ...websocket))
        const second = await said(head(denied, ...UPGRADE))
        expect(first).toMatch(/^HTTP\/1\.1 403 /u)
        expect(second).toBe(first)
        expect(decided().length).toBe(decisions + 1)
        await expect.poll(() => refused().slice(tries), HOPE).toEqual([expect.stringContaining('ERR_DENIED')])
      })

      it('get no streams for a forwarding no rule could let through, and the recording has it', async () => {
        const before = decided().length
        const answer = await said(head('/cluster/api/v1/namespaces/default/pods/till/portforward', ...FORWARD))
        expect(answer).toMatch(/^HTTP\/1\.1 403 /u)
        await expect
          .poll(() => decided().slice(before), HOPE)
          .toEqual([expect.stringContaining('/namespaces/default/pods/till/portforward')])
      })

      it('are denied a forwarding by name before it is one', async () => {
        const answer = await said(head('/cluster/api/v1/namespaces/shop/pods/vault/portforward', ...FORWARD))
        expect(answer).toMatch(/^HTTP\/1\.1 403 /u)
        expect(answer).toContain('Rule: no-vault')
      })
    })

    it('cannot send input to a command that was judged without', async () => {
      const socket = await open()
      socket.write(`${head(EXEC, ...UPGRADE).join('\r\n')}\r\n\r\n`)
      const [answer] = (await once(socket, 'data')) as [Buffer]
      expect(answer.toString()).toMatch(/^HTTP\/1\.1 101 /u)
      const connection = new SpdyConnection(socket, 'client', () => undefined)
      void connection.run().catch(() => undefined)
      const stdin = await connection.open({ streamtype: 'stdin' }).catch((error: unknown) => error)
      expect(stdin).toMatchObject({ code: 'ERR_UPSTREAM_LOST' })
      connection.close()
    })

    it.each([
      ['a body', EXEC, ['content-length: 5']],
      ['ports in its query', `${EXEC.replace(/exec.*$/u, 'portforward')}?ports=80`, []],
    ])('are refused streams with %s', async (_what, path, more) => {
      const streams = path === EXEC ? 'v4.channel.k8s.io' : 'portforward.k8s.io'
      const asked = ['connection: Upgrade', 'upgrade: SPDY/3.1', `x-stream-protocol-version: ${streams}`]
      expect(await said(head(path, ...asked, ...more))).toMatch(/^HTTP\/1\.1 400 /u)
    })

    it('are not known by a token in a WebSocket protocol or the query, and neither reaches the server', async () => {
      const token = Buffer.from(world().agent).toString('base64url')
      const answer = await said([
        `GET ${EXEC}&access_token=${world().agent} HTTP/1.1`,
        'host: gateway',
        'connection: Upgrade',
        'upgrade: websocket',
        'sec-websocket-version: 13',
        'sec-websocket-key: AAAAAAAAAAAAAAAAAAAAAA==',
        `sec-websocket-protocol: base64url.bearer.authorization.k8s.io.${token}, v5.channel.k8s.io`,
      ])
      expect(answer).toMatch(/^HTTP\/1\.1 401 /u)
    })

    it('speak HTTP/1.1 and nothing newer', async () => {
      const answer = await said(['PRI * HTTP/2.0', '', 'SM'])
      expect(answer).not.toMatch(/^HTTP\/[\d.]+ 2/u)
    })

    it('forward nothing more once their token is revoked', async () => {
      const { id, token } = await world().operator.post<{ id: string; token: string }>('/v1/tokens', {
        principal: 'leaver',
        kind: 'agent',
        owner: 'sam',
        groups: ['agents'],
        roles: ['caller'],
        expires_in_ms: 3_600_000,
      })
      const socket = await open()
      const forwarding = head('/cluster/api/v1/namespaces/shop/pods/till/portforward')
        .map((line) => line.replace(world().agent, token))
        .concat(['connection: Upgrade', 'upgrade: SPDY/3.1', 'x-stream-protocol-version: portforward.k8s.io'])
      socket.write(`${forwarding.join('\r\n')}\r\n\r\n`)
      const [answer] = (await once(socket, 'data')) as [Buffer]
      expect(answer.toString()).toMatch(/^HTTP\/1\.1 101 /u)
      const connection = new SpdyConnection(socket, 'client', () => undefined)
      void connection.run().catch(() => undefined)
      await world().operator.post(`/v1/tokens/${id}/revoke`)
      // The recording has the length of what was refused so early, and why.
      const refusals = (): number => world().recorded().split('"code":"ERR_UNAUTHENTICATED"').length
      const before = refusals()
      const error = await connection.open({ streamtype: 'error', port: '80', requestid: '1' })
      await connection.open({ streamtype: 'data', port: '80', requestid: '1' })
      let text = ''
      for await (const piece of error.received) text += Buffer.from(piece).toString()
      expect(text).toContain('token')
      // It was the last one: whoever may do nothing more does not go on filling the recording with tries.
      const second = connection.open({ streamtype: 'error', port: '80', requestid: '2' })
      expect(await second.catch((failure: unknown) => failure)).toMatchObject({ code: 'ERR_UPSTREAM_LOST' })
      // Written before the client was told.
      expect(refusals()).toBe(before + 1)
    })

    it('hold so many connections as streams and no more, and get them back', async () => {
      // A principal of its own: what the agent's other streams still hold counts for the agent.
      const token = await world().token('crowd', ['agents'])
      const asks = head(
        '/cluster/api/v1/namespaces/shop/pods/till/portforward',
        'connection: Upgrade',
        'upgrade: SPDY/3.1',
        'x-stream-protocol-version: portforward.k8s.io',
      ).map((line) => line.replace(world().agent, token))
      const answered = async (): Promise<readonly [TLSSocket, string]> => {
        const socket = await open()
        socket.write(`${asks.join('\r\n')}\r\n\r\n`)
        const [answer] = (await once(socket, 'data')) as [Buffer]
        return [socket, answer.toString()]
      }
      const sockets: TLSSocket[] = []
      for (let i = 0; i < STREAMING_MAX; i++) {
        const [socket, answer] = await answered()
        sockets.push(socket)
        expect(answer).toMatch(/^HTTP\/1\.1 101 /u)
      }
      const [, refused] = await answered()
      expect(refused).toMatch(/^HTTP\/1\.1 429 /u)
      for (const socket of sockets) socket.destroy()
      await expect.poll(async () => (await answered())[1], HOPE).toMatch(/^HTTP\/1\.1 101 /u)
    })

    it.each([
      ['somebody else', ['Impersonate-User: system:anonymous', 'Impersonate-Group: nobody', 'X-Remote-User: nobody']],
      [
        'somebody else, in another spelling',
        ['IMPERSONATE-USER: nobody', 'impersonate_user: nobody', 'Impersonate-Uid: 7'],
      ],
      ['what belongs to the connection', ['connection: impersonate-user, authorization', 'impersonate-user: nobody']],
      ['another method', ['X-HTTP-Method-Override: DELETE', 'X-HTTP-Method: DELETE', 'X-Method-Override: DELETE']],
      ['another place', ['X-Original-URL: /version', 'X-Rewrite-URL: /version', 'X-Forwarded-Prefix: /version']],
      [
        'a form nobody can mask',
        ['accept-encoding: gzip', 'accept: application/vnd.kubernetes.protobuf', 'te: trailers'],
      ],
    ])('get the same masked Secret with headers about %s', async (_what, more) => {
      const answer = await said(head('/cluster/api/v1/namespaces/shop/secrets/db', ...more, 'connection: close'))
      expect(answer).toMatch(/^HTTP\/1\.1 200 [\s\S]*"kind":"Secret"[\s\S]*"password":"Kioq"/u)
      expect(answer).not.toMatch(/content-encoding/iu)
      expect((await world().kube.api('GET', '/api/v1/namespaces/shop/secrets/db')).status).toBe(200)
    })
  })
}
