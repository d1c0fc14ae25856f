/** What the connector owes callers and services when addresses, answers and settings are not the usual ones. */
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import path from 'node:path'
import { afterEach, describe, expect, it } from 'vitest'
import type { Call } from '../../src/core/call.ts'
import { vettedAddresses } from '../../src/protocols/http/connect-addresses.ts'
import type { HttpOptions } from '../../src/protocols/http/options.ts'
import { selfSigned } from '../../src/self-signed.ts'
import { startService, type Answering, type TestService } from '../services/http.ts'
import { httpKit, SECRET, type HttpKit } from './kit.ts'

const ALLOW = 'rules: [{id: all, effect: allow, principals: ["*"], actions: ["http.*"], resources: ["**"]}]'

const closers: (() => unknown)[] = []
afterEach(async () => {
  for (const close of closers.splice(0).reverse()) await close()
})

function kept<T extends { close(): unknown }>(one: T): T {
  closers.push(() => one.close())
  return one
}

interface More {
  readonly settings?: Readonly<Record<string, unknown>>
  readonly policy?: string
  readonly names?: Readonly<Record<string, readonly (readonly string[])[]>>
}

function through(server: TestService, { settings, policy = ALLOW, names }: More = {}): HttpKit {
  return kept(
    httpKit({
      settings: { base_url: server.url, allow_addresses: ['127.0.0.0/28'], auth: 'bearer', ...settings },
      policy,
      ...(names !== undefined && { names }),
    }),
  )
}

async function serving(answer: Answering, more?: More): Promise<HttpKit> {
  return through(kept(await startService(answer)), more)
}

/** Runs a call; `onText` is told of each piece of its body when it comes. Returns the whole body. */
async function bodyOf(kit: HttpKit, call: Call, onText: (text: string) => void = () => undefined): Promise<string> {
  let all = ''
  for await (const chunk of kit.run(call)) {
    if (chunk.kind !== 'data' || chunk.channel !== 'body') continue
    const text = Buffer.from(chunk.bytes).toString('utf8')
    all += text
    onText(text)
  }
  return all
}

describe('a service with several addresses', () => {
  /** A target whose name has these addresses, all at the port of a server that listens at one of them. */
  const named = (server: TestService, addresses: readonly string[]): HttpKit =>
    through(server, {
      settings: { base_url: `http://many.example:${server.port}` },
      names: { 'many.example': [addresses] },
    })

  it('is tried at the next one when nothing answers at one', async () => {
    const kit = named(kept(await startService((_, response) => void response.end('here'))), ['127.0.0.9', '127.0.0.1'])
    expect((await kit.ask({ path: '/' })).structured['body']).toBe('here')
  })

  it('is tried at four of them and no more', async () => {
    const server = kept(await startService((_, response) => void response.end('here')))
    const silent = ['127.0.0.9', '127.0.0.10', '127.0.0.11', '127.0.0.12']
    expect((await named(server, [...silent, '127.0.0.1']).failure({ path: '/' })).code).toBe('ERR_UPSTREAM_UNREACHABLE')
    expect((await named(server, [...silent.slice(1), '127.0.0.1']).ask({ path: '/' })).structured['body']).toBe('here')
  })

  it('is asked once when it took the request and hung up', async () => {
    const other = kept(await startService((_, response) => void response.end('again')))
    const first = kept(
      await startService((_, response) => void response.destroy(), undefined, { host: '127.0.0.2', port: other.port }),
    )
    const kit = named(other, ['127.0.0.2', '127.0.0.1'])
    expect((await kit.failure({ method: 'POST', path: '/', body: { pay: 5 } })).code).toBe('ERR_UPSTREAM_LOST')
    expect([first.seen.length, other.connections()]).toEqual([1, 0])
  })

  it('is tried at one only with a body that streams, because a stream that was begun cannot be read again', async () => {
    const server = kept(await startService((_, response) => void response.end('here')))
    const kit = named(server, ['127.0.0.9', '127.0.0.1'])
    const input = async function* (): AsyncGenerator<Uint8Array> {
      yield Buffer.from('part')
    }
    const call = kit.call({ method: 'POST', path: '/' }, { input: input() })
    await expect(bodyOf(kit, call)).rejects.toMatchObject({ code: 'ERR_UPSTREAM_UNREACHABLE' })
    expect(server.connections()).toBe(0)
  })

  it('is not there when its name has none', async () => {
    const kit = named(kept(await startService((_, response) => void response.end())), [])
    expect(await kit.failure({ path: '/' })).toMatchObject({
      code: 'ERR_UPSTREAM_UNREACHABLE',
      message: 'The host of the service has no address.',
    })
  })
})

describe('a look-up that never ends', () => {
  it('is waited for no longer than the call lives', async () => {
    const stop = new AbortController()
    const why = new Error('the caller went away')
    const looking = vettedAddresses(
      new URL('http://slow.example/'),
      { allowAddresses: [] } as unknown as HttpOptions,
      () => {
        queueMicrotask(() => stop.abort(why))
        return new Promise(() => undefined)
      },
      stop.signal,
    )
    await expect(looking).rejects.toBe(why)
  })
})

describe('an answer', () => {
  it.each([
    ['to HEAD', { method: 'HEAD' }, 200],
    ['without content', {}, 204],
    ['that says nothing changed', {}, 304],
  ])('%s has no body, so none is withheld', async (_, args, status) => {
    const kit = await serving(
      (_seen, response) => void response.writeHead(status, { 'content-type': 'image/png' }).end(),
    )
    const { structured } = await kit.ask({ ...args, path: '/' })
    expect(structured).toMatchObject({ http_status: status, body: '' })
    expect(structured['notices'] ?? []).toEqual([])
  })

  it('that turns out to be no text shows nothing of what was held back', async () => {
    let goOn = (): void => undefined
    const kit = await serving((_, response) => {
      response.setHeader('content-type', 'text/plain')
      // The end of the first piece may be the beginning of the credential, and is kept until more comes.
      response.write(`before ${SECRET.slice(0, 7)}`)
      goOn = () => void response.end('\0after')
    })
    const shown = await bodyOf(kit, kit.of({ path: '/' }), () => goOn())
    expect(shown).toBe('before ')
  })

  it('is cut at the bytes of a rule, where the target would give more', async () => {
    const policy = ALLOW.replace('resources: ["**"]', 'resources: ["**"], limits: {bytes: 10B}')
    const kit = await serving(
      (_, response) => void response.setHeader('content-type', 'text/plain').end('x'.repeat(99)),
      {
        policy,
        settings: { bytes: '64KiB' },
      },
    )
    expect((await kit.ask({ path: '/' })).structured).toMatchObject({
      body: 'x'.repeat(10),
      truncated: true,
      truncated_by: 'bytes',
    })
  })

  it('of events comes event by event, also where its length is known', async () => {
    let goOn = (): void => undefined
    const kit = await serving((_, response) => {
      response.writeHead(200, { 'content-type': 'text/event-stream', 'content-length': '22' })
      response.write('data: one\n\n')
      goOn = () => void response.end('data: two\n\n')
    })
    // The service sends the second event when the first was seen.
    expect(await bodyOf(kit, kit.of({ path: '/' }), () => goOn())).toBe('data: one\n\ndata: two\n\n')
  })

  it('that repeats a basic credential shows neither user nor password', async () => {
    const kit = await serving(({ headers }, response) => void response.end(headers.authorization), {
      settings: { auth: 'basic' },
    })
    expect((await kit.ask({ path: '/' })).structured['body']).toBe('Basic [REDACTED:credential]')
  })
})

describe('connections', () => {
  it('are not shared by two settings of one target: each proves its server as it says', async () => {
    const dir = mkdtempSync(path.join(tmpdir(), 'http-names-'))
    closers.push(() => rmSync(dir, { recursive: true }))
    const certificate = selfSigned(['localhost'])
    const ca = path.join(dir, 'ca.pem')
    writeFileSync(ca, certificate.cert)
    const server = kept(await startService((_, response) => void response.end('here'), certificate))
    const settings = { base_url: `https://127.0.0.1:${server.port}` }
    const kit = through(server, { settings: { ...settings, tls: { ca, server_name: 'localhost' } } })
    expect((await kit.ask({ path: '/' })).structured['body']).toBe('here')
    const strict = through(server, { settings: { ...settings, tls: { ca, server_name: 'other.example' } } })
    expect(strict.target.name).toBe(kit.target.name)
    const call = { ...kit.of({ path: '/' }), target: strict.target }
    await expect(bodyOf(kit, call)).rejects.toMatchObject({ code: 'ERR_UPSTREAM_UNREACHABLE' })
  })
})
