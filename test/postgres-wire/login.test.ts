/** Who gets as far as naming a target: TLS, where a token may be told, what a start-up packet may hold. */
import { execFile } from 'node:child_process'
import { once } from 'node:events'
import { mkdtemp, rm, writeFile } from 'node:fs/promises'
import type { AddressInfo } from 'node:net'
import { tmpdir } from 'node:os'
import path from 'node:path'
import { createSecureContext } from 'node:tls'
import { promisify } from 'node:util'
import { afterAll, beforeAll, describe, expect, it } from 'vitest'
import { SallyportError } from '../../src/core/errors.ts'
import { createPostgresDoor, type PostgresDoor } from '../../src/protocols/postgres/listener.ts'
import { encodePassword } from '../../src/protocols/postgres/messages/password.ts'
import { encodeStartup } from '../../src/protocols/postgres/messages/startup.ts'
import { selfSigned } from '../../src/self-signed.ts'
import { RawClient } from '../e2e/raw-postgres.ts'
import { has } from '../setup/needs.ts'

const run = promisify(execFile)
const OURS = selfSigned(['localhost'])
const OTHER = selfSigned(['localhost'])
const TOKEN = 'sp_880af47skgpj_F-KuAP5EvBYemnIFvIcMOcYPG4n35dR6hi0X0TbFOOQ'

let isLocal = false
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
      auth: 'password',
      isLocal: () => isLocal,
      scram: unused,
      async authenticate(token) {
        told.push(token)
        if (token !== TOKEN) throw new SallyportError('ERR_UNAUTHENTICATED', 'No.')
        return { id: 'loop', kind: 'agent', groups: [], roles: ['caller'], owner: 'maria' }
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
