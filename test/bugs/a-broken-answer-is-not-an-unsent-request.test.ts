/**
 * A service that breaks the connection, or its TLS, after it read a request has had that request. It was taken for one
 * that could not be reached: the request went to the next address as well, and its approval was free for another try.
 */
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs'
import { connect } from 'node:net'
import { tmpdir } from 'node:os'
import path from 'node:path'
import { afterEach, describe, expect, it } from 'vitest'
import { SallyportError } from '../../src/core/errors.ts'
import { selfSigned, type Certificate } from '../../src/self-signed.ts'
import { httpKit, type HttpKit } from '../http/kit.ts'
import { startRaw, startService } from '../services/http.ts'

const ALLOW = 'rules: [{id: all, effect: allow, principals: ["*"], actions: ["http.*"], resources: ["**"]}]'
/** One that is tried once for each of them. */
const NAMES = { localhost: [['127.0.0.1', '127.0.0.1']] }

const closers: (() => unknown)[] = []
afterEach(async () => {
  for (const close of closers.splice(0).reverse()) await close()
})

function certified(): { readonly certificate: Certificate; readonly ca: string } {
  const dir = mkdtempSync(path.join(tmpdir(), 'http-unsent-'))
  closers.push(() => rmSync(dir, { recursive: true }))
  const certificate = selfSigned(['localhost'])
  const ca = path.join(dir, 'ca.pem')
  writeFileSync(ca, certificate.cert)
  return { certificate, ca }
}

function kitFor(settings: object, names: Parameters<typeof httpKit>[0]['names'] = NAMES): HttpKit {
  const kit = httpKit({
    settings: { allow_addresses: ['127.0.0.1'], auth: 'bearer', ...settings },
    policy: ALLOW,
    ...(names && { names }),
  })
  closers.push(() => kit.close())
  return kit
}

describe('a request whose answer breaks', () => {
  it('C12: may have taken effect, also when what breaks is the TLS it came by', async () => {
    const { certificate, ca } = certified()
    let spoil = (): void => undefined
    const service = await startService(() => spoil(), certificate)
    closers.push(() => service.close())
    const between = await startRaw((client) => {
      const server = connect(service.port, '127.0.0.1')
      server.on('error', () => undefined)
      client.pipe(server).pipe(client)
      client.on('close', () => server.destroy())
      // A record no key of theirs has made.
      spoil = () => void client.write(Buffer.concat([Buffer.from('1703030020', 'hex'), Buffer.alloc(32, 7)]))
    })
    closers.push(() => between.close())
    const kit = kitFor({ base_url: `https://localhost:${between.port}`, tls: { ca } })
    const error = await kit.failure({ method: 'POST', path: '/pay', body: 'once' })
    expect([error.code, error.facts.noEffect]).toEqual(['ERR_UPSTREAM_LOST', undefined])
    expect(service.seen.map(({ body }) => body)).toEqual(['once'])
  })
})

describe('a request that was never sent', () => {
  const refusals: readonly (readonly [string, () => Promise<object>, SallyportError['code']])[] = [
    [
      'the service ends the connection before its TLS is made',
      async () => {
        const server = await startRaw((socket) => socket.once('data', () => socket.destroy()))
        closers.push(() => server.close())
        return { base_url: `https://localhost:${server.port}` }
      },
      'ERR_UPSTREAM_UNREACHABLE',
    ],
    [
      'the file with its authorities is gone',
      async () => ({ base_url: 'https://localhost:9', tls: { ca: path.join(tmpdir(), 'no', 'such', 'ca.pem') } }),
      'ERR_CONFIG_INVALID',
    ],
  ]
  for (const [what, settings, code] of refusals) {
    it(`is known to have had no effect when ${what}`, async () => {
      const error = await kitFor(await settings()).failure({ method: 'POST', path: '/pay', body: 'once' })
      expect([error.code, error.facts.noEffect]).toEqual([code, true])
    })
  }

  it('is known to have had no effect when no header can hold its credential', async () => {
    const service = await startService((_, response) => void response.end())
    closers.push(() => service.close())
    const kit = httpKit({
      settings: { allow_addresses: ['127.0.0.1'], auth: 'bearer', base_url: service.url },
      policy: ALLOW,
      secret: 'one line\nand another',
    })
    closers.push(() => kit.close())
    const error = await kit.failure({ method: 'POST', path: '/pay', body: 'once' })
    expect([error.code, error.facts.noEffect, service.connections()]).toEqual(['ERR_CREDENTIAL_MISSING', true, 0])
    expect(error.message).not.toContain('another')
  })

  it('is known to have had no effect when it is stopped while others have all connections', async () => {
    const held: (() => void)[] = []
    let isAsked = (): void => undefined
    const asked = new Promise<void>((resolve) => (isAsked = resolve))
    const service = await startService((_, response) => {
      held.push(() => void response.end())
      isAsked()
    })
    closers.push(() => service.close())
    let lookUps = 0
    const names = {
      get localhost() {
        lookUps++
        return [['127.0.0.1']]
      },
    }
    const kit = kitFor({ base_url: `http://localhost:${service.port}`, connections: 1 }, names)
    const first = kit.ask({ path: '/slow' })
    await asked
    const leaving = new AbortController()
    const second = (async () => {
      for await (const _ of kit.run({ ...kit.of({ method: 'POST', path: '/pay' }), signal: leaving.signal }));
    })()
    // From here on it looks for an address, or waits for the connection: its claim is made.
    await expect.poll(() => lookUps).toBe(2)
    leaving.abort(new SallyportError('ERR_CANCELLED', 'The client went away.'))
    const error = await second.then(
      () => undefined,
      (cause: unknown) => SallyportError.from(cause),
    )
    expect([error?.code, error?.facts.noEffect]).toEqual(['ERR_CANCELLED', true])
    for (const release of held) release()
    await first
    expect(service.seen.map(({ url }) => url)).toEqual(['/slow'])
  })
})
