/** Who gets as far as naming a target: TLS, where a token may be told, what a start-up packet may hold. */
import { execFile } from 'node:child_process'
import { once } from 'node:events'
import { mkdtemp, rm, writeFile } from 'node:fs/promises'
import { connect, type AddressInfo, type Socket } from 'node:net'
import { tmpdir } from 'node:os'
import path from 'node:path'
import { connect as connectTls, createSecureContext } from 'node:tls'
import { promisify } from 'node:util'
import { Client } from 'pg'
import { afterAll, afterEach, beforeAll, describe, expect, it, vi } from 'vitest'
import { SallyportError } from '../../src/core/errors.ts'
import type { Principal } from '../../src/core/principal.ts'
import { prove, SCRAM_ITERATIONS, verifierOf } from '../../src/identity/scram.ts'
import { createPostgresDoor, type PostgresDoor } from '../../src/protocols/postgres/listener.ts'
import { encodePassword } from '../../src/protocols/postgres/messages/password.ts'
import { encodeStartup } from '../../src/protocols/postgres/messages/startup.ts'
import { selfSigned } from '../../src/self-signed.ts'
import { RawClient } from '../e2e/raw-postgres.ts'
import { has } from '../setup/needs.ts'

const run = promisify(execFile)
const OURS = selfSigned(['localhost'])
const OTHER = selfSigned(['localhost'])
const LOOP: Principal = { id: 'loop', kind: 'agent', groups: [], roles: ['caller'], owner: 'maria' }
const TOKEN = 'sp_880af47skgpj_F-KuAP5EvBYemnIFvIcMOcYPG4n35dR6hi0X0TbFOOQ'

let isLocal = false
let auth: 'password' | 'scram' = 'password'
/** Tokens the door was told. */
const told: string[] = []
let door: PostgresDoor
let port = 0
let dir = ''

beforeAll(async () => {
  const unused = (): never => {
    throw new Error('Nobody comes this far.')
  }
  door = createPostgresDoor(
    {
      tls: () => createSecureContext(OURS),
      get auth() {
        return auth
      },
      isLocal: () => isLocal,
      async scram() {
        const salt = Buffer.alloc(16, 5)
        const verifier = await verifierOf(TOKEN, salt)
        return {
          salt,
          iterations: SCRAM_ITERATIONS,
          async check(authMessage, proof) {
            const signature = prove(verifier, authMessage, proof)
            return signature && { principal: LOOP, signature }
          },
        }
      },
      async authenticate(token) {
        told.push(token)
        if (token !== TOKEN) throw new SallyportError('ERR_UNAUTHENTICATED', 'No.')
        return LOOP
      },
      // The end of the way: whoever is told that there is no such target has proved who it is.
      target: () => undefined,
      statementTimeoutMs: unused,
      openSession: unused,
      connect: unused,
      run: unused,
      judge: unused,
      withdraw: unused,
      policyVersion: () => '1',
      isOpen: () => false,
      onFault: unused,
    },
    { idleMs: 10_000, idleInTransactionMs: 10_000, connectionsMax: 10, connectionsPerPrincipalMax: 10 },
  )
  door.server.listen(0, '127.0.0.1')
  await once(door.server, 'listening')
  port = (door.server.address() as AddressInfo).port
  dir = await mkdtemp(path.join(tmpdir(), 'sallyport-login-'))
  await writeFile(path.join(dir, 'ours.pem'), OURS.cert)
  await writeFile(path.join(dir, 'other.pem'), OTHER.cert)
})
afterAll(async () => {
  await door?.close()
  await rm(dir, { recursive: true, force: true })
})

async function psql(words: string): Promise<string> {
  const env = { PATH: process.env['PATH'], PGPASSWORD: TOKEN, HOME: '/nonexistent', LC_ALL: 'C' }
  const failed = await run('psql', ['-X', '-c', 'select 1', `port=${port} user=loop dbname=db ${words}`], {
    env,
  }).catch((error: { stderr?: string }) => error)
  return failed.stderr ?? ''
}

describe.runIf(has('psql'))('a client from another machine', () => {
  it('is let in over TLS it can verify', async () => {
    expect(await psql(`host=localhost sslmode=verify-full sslrootcert=${dir}/ours.pem`)).toContain('no such target')
  })

  it.each([
    ['the certificate of somebody else', 'host=localhost sslmode=verify-full sslrootcert=$dir/other.pem'],
    ['another name than the certificate has', 'host=127.0.0.1 sslmode=verify-full sslrootcert=$dir/ours.pem'],
  ])('turns away itself for %s, and tells nobody its token', async (_, words) => {
    const before = told.length
    expect(await psql(words.replace('$dir', dir))).toMatch(/certificate/u)
    expect(told.length).toBe(before)
  })

  it('is refused without TLS before it is asked for its token', async () => {
    const before = told.length
    expect(await psql('host=127.0.0.1 sslmode=disable')).toContain('sslmode=require')
    const client = new RawClient(port)
    const parameters = new Map([['user', 'loop']])
    const startup = encodeStartup({ type: 'startup', major: 3, minor: 0, parameters })
    client.socket.write(Buffer.concat([startup, encodePassword(TOKEN)]))
    const heard = await client.hear(() => false)
    expect(heard).toMatchObject({ letters: 'E', codes: ['28000'] })
    expect(told.length).toBe(before)
  })
})

describe.runIf(has('psql'))('a client of this machine', () => {
  beforeAll(() => {
    isLocal = true
  })

  it('may do without TLS', async () => {
    expect(await psql('host=127.0.0.1 sslmode=disable')).toContain('no such target')
  })

  it('is answered that there is no GSS encryption, and goes on', async () => {
    const client = new RawClient(port)
    client.socket.write(encodeStartup({ type: 'gssenc' }))
    const [answer] = (await once(client.socket, 'data')) as [Buffer]
    expect(answer.toString('latin1')).toBe('N')
    client.end()
  })

  it.each([
    [
      'a second start-up packet instead of a token',
      encodeStartup({ type: 'startup', major: 3, minor: 0, parameters: new Map([['user', 'x']]) }),
    ],
    ['an SSLRequest instead of a token', encodeStartup({ type: 'ssl' })],
    ['a token of 1 GiB', Buffer.from([0x70, 0x40, 0, 0, 0])],
    ['a token of 4 GiB and a little', Buffer.from([0x70, 0xff, 0xff, 0xff, 0xff, 0x70, 0, 0, 0, 5, 0])],
    ['a token without an end', Buffer.from([0x70, 0, 0, 0, 5, 0x61])],
    ['two tokens in one message', Buffer.from([0x70, 0, 0, 0, 8, 0x61, 0, 0x62, 0])],
  ])('is sent away for %s', async (_, bytes) => {
    const client = new RawClient(port)
    client.socket.write(encodeStartup({ type: 'startup', major: 3, minor: 0, parameters: new Map([['user', 'loop']]) }))
    await client.hear((letter) => letter === 'R')
    client.socket.write(bytes)
    expect((await client.hear(() => false)).codes).toEqual(['08P01'])
  })

  it('cannot leave a stranger waiting to be heard: a start-up packet has its bound', async () => {
    const client = new RawClient(port)
    client.socket.write(Buffer.from([0, 0, 0x27, 0x11, 0, 3, 0, 0]))
    expect((await client.hear(() => false)).codes).toEqual(['08P01'])
  })
})

describe('bytes behind an SSLRequest', () => {
  beforeAll(() => {
    isLocal = true
  })
  const startup = encodeStartup({ type: 'startup', major: 3, minor: 0, parameters: new Map([['user', 'loop']]) })

  // CVE-2021-23214: whoever sits between could put the first words of a connection into the client's mouth.
  it.each([
    ['a start-up packet', startup],
    ['a start-up packet and a token', Buffer.concat([startup, encodePassword(TOKEN)])],
    ['one byte', Buffer.alloc(1)],
    ['what begins a TLS handshake', Buffer.from([22, 3, 1])],
    ['a second SSLRequest', encodeStartup({ type: 'ssl' })],
  ])('are read by nobody, and end the connection in the clear: %s', async (_, bytes) => {
    for (const type of ['ssl', 'gssenc'] as const) {
      const before = told.length
      const client = new RawClient(port)
      const first = once(client.socket, 'data') as Promise<[Buffer]>
      const heard = client.hear(() => false)
      client.socket.write(Buffer.concat([encodeStartup({ type }), bytes]))
      // Neither "yes" nor "no" comes first.
      expect((await first)[0].toString('latin1', 0, 1)).toBe('E')
      expect(await heard).toMatchObject({ letters: 'E', codes: ['08P01'] })
      expect(told.length).toBe(before)
    }
  })

  it('that are not there are not missed: a start-up packet inside TLS is read', async () => {
    const client = new RawClient(port)
    client.socket.removeAllListeners('data')
    client.socket.write(encodeStartup({ type: 'ssl' }))
    expect(String((await once(client.socket, 'data'))[0])).toBe('S')
    const secure = connectTls({ socket: client.socket, rejectUnauthorized: false })
    secure.on('error', () => undefined)
    secure.write(startup)
    expect(String((await once(secure, 'data'))[0])[0]).toBe('R')
    // Once inside, nobody asks for it again.
    secure.destroy()
  })

  it('may ask nothing twice', async () => {
    const client = new RawClient(port)
    client.socket.removeAllListeners('data')
    for (const answer of ['N', '08P01']) {
      client.socket.write(encodeStartup({ type: 'gssenc' }))
      expect(String((await once(client.socket, 'data'))[0])).toContain(answer)
    }
    client.end()
  })
})

describe('a stranger', () => {
  const startup = encodeStartup({ type: 'startup', major: 3, minor: 0, parameters: new Map([['user', 'loop']]) })
  const asked = async (socket: Socket, packet: Buffer): Promise<string> => {
    socket.write(packet)
    return String(((await once(socket, 'data')) as [Buffer])[0])[0] ?? ''
  }

  beforeAll(() => {
    isLocal = true
  })
  afterEach(() => {
    vi.useRealTimers()
  })

  it.each([
    ['who says half a start-up packet', startup.subarray(0, 9), 'gssenc', 'N'],
    ['who never shakes hands', Buffer.alloc(0), 'ssl', 'S'],
    ['who shakes hands byte by byte', Buffer.from([22]), 'ssl', 'S'],
    ['who never says its token', startup, 'gssenc', 'N'],
    ['who says half a token', Buffer.concat([startup, encodePassword(TOKEN).subarray(0, 20)]), 'gssenc', 'N'],
  ] as const)('%s has ten seconds in all, whatever it says in them', async (_, words, type, answer) => {
    vi.useFakeTimers({ toFake: ['setTimeout', 'clearTimeout'] })
    const socket = connect(port, '127.0.0.1')
    let isClosed = false
    socket.on('close', () => (isClosed = true))
    socket.on('error', () => undefined)
    socket.resume()
    // The answer tells that the clock of this stranger runs.
    expect(await asked(socket, encodeStartup({ type }))).toBe(answer)
    const tokenAsked = words.length >= startup.length ? once(socket, 'data') : undefined
    const step = Math.floor(9_999 / Math.max(1, words.length))
    for (const byte of words) {
      await vi.advanceTimersByTimeAsync(step)
      socket.write(Buffer.from([byte]))
    }
    await tokenAsked
    await vi.advanceTimersByTimeAsync(10_000 - step * words.length)
    expect(vi.getTimerCount()).toBe(0)
    await expect.poll(() => isClosed).toBe(true)
  })

  it('is heard until its ten seconds are over', async () => {
    vi.useFakeTimers({ toFake: ['setTimeout', 'clearTimeout'] })
    const socket = connect(port, '127.0.0.1')
    expect(await asked(socket, encodeStartup({ type: 'gssenc' }))).toBe('N')
    await vi.advanceTimersByTimeAsync(9_999)
    expect(await asked(socket, startup)).toBe('R')
    socket.destroy()
  })
})

describe('a client that proves by SCRAM', () => {
  beforeAll(() => {
    auth = 'scram'
    isLocal = true
  })
  afterAll(() => {
    auth = 'password'
  })

  const loggedIn = async (user: string, password: string): Promise<string> => {
    const client = new Client({ host: '127.0.0.1', port, user, password, database: 'db' })
    client.on('error', () => undefined)
    try {
      await client.connect()
      return 'let in'
    } catch (error) {
      const { code, message } = error as Error & { code?: string }
      return `${code} ${message}`
    }
  }

  it('gets further with its token, and with nothing else', async () => {
    expect(await loggedIn('loop', TOKEN)).toContain('no such target')
    const wrong = '28P01 The user or the token is wrong.'
    expect(await loggedIn('loop', `${TOKEN}x`)).toBe(wrong)
    expect(await loggedIn('loop', TOKEN.slice(0, -1))).toBe(wrong)
    // Its token stands for loop, and for nobody else.
    expect(await loggedIn('dora', TOKEN)).toBe(wrong)
  })

  it('cannot say its token instead, nor name another mechanism', async () => {
    const startup = encodeStartup({ type: 'startup', major: 3, minor: 0, parameters: new Map([['user', 'loop']]) })
    const before = told.length
    const plus = Buffer.from('SCRAM-SHA-256-PLUS\0\0\0\0\x0bn,,n=,r=abc', 'latin1')
    const header = Buffer.from([0x70, 0, 0, 0, plus.length + 4])
    for (const said of [encodePassword(TOKEN), Buffer.concat([header, plus])]) {
      const client = new RawClient(port)
      client.socket.write(Buffer.concat([startup, said]))
      expect((await client.hear(() => false)).codes).toEqual(['08P01'])
    }
    expect(told.length).toBe(before)
  })
})
