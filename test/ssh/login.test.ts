/** Who gets in at the SSH door, and how often somebody may try. */
import { generateKeyPairSync, sign } from 'node:crypto'
import { EventEmitter } from 'node:events'
import ssh2 from 'ssh2'
import type { AuthContext, ParsedKey } from 'ssh2'
import { describe, expect, it } from 'vitest'
import type { Principal } from '../../src/core/principal.ts'
import { hostKeyFrom } from '../../src/protocols/ssh/host-key.ts'
import { Guard } from '../../src/protocols/ssh/listener-guard.ts'
import { answerLogin, type Logins } from '../../src/protocols/ssh/listener-login.ts'

const ANA: Principal = { id: 'ana', kind: 'person', groups: [], roles: ['caller'], owner: 'ana' }
const known = ssh2.utils.parseKey(hostKeyFrom(new Uint8Array(32).fill(1))) as ParsedKey
const other = ssh2.utils.parseKey(hostKeyFrom(new Uint8Array(32).fill(2))) as ParsedKey
const parse = (key: Buffer): ParsedKey | Error => ssh2.utils.parseKey(key)

const LOGINS: Logins = {
  authenticate: async (token) => {
    if (token === 'good') return ANA
    throw new Error('no')
  },
  authenticateKey: async (key) => {
    if (Buffer.from(key).equals(known.getPublicSSH())) return ANA
    throw new Error('no')
  },
}

/** A log-in request as the library hands it over; it notes what was answered. */
function request(fields: object): { context: AuthContext; answers: string[] } {
  const answers: string[] = []
  const context = Object.assign(new EventEmitter(), {
    username: 'box',
    service: 'ssh-connection',
    accept: () => answers.push('accept'),
    reject: () => answers.push('reject'),
    ...fields,
  })
  return { context: context as unknown as AuthContext, answers }
}

async function login(
  fields: object,
  logins = LOGINS,
): Promise<{ who: string | undefined; answers: string[]; failures: number }> {
  let failures = 0
  const { context, answers } = request(fields)
  const who = await answerLogin(context, logins, parse, () => failures++)
  return { who: who?.id, answers, failures }
}

const blob = Buffer.from('what is signed')
const offer = (key: ParsedKey, more: object = {}): object => ({
  method: 'publickey',
  key: { algo: 'ssh-ed25519', data: key.getPublicSSH() },
  ...more,
})

describe('a log-in', () => {
  it('is no offer of a key: without a signature nobody is logged in', async () => {
    expect(await login(offer(known))).toEqual({ who: undefined, answers: ['accept'], failures: 0 })
    expect(await login(offer(known, { blob }))).toMatchObject({ who: undefined })
    expect(await login(offer(known, { signature: known.sign(blob) }))).toMatchObject({ who: undefined })
  })

  it('is a signature by a key somebody registered', async () => {
    expect(await login(offer(known, { blob, signature: known.sign(blob) }))).toMatchObject({ who: 'ana', failures: 0 })
  })

  it('is no signature by another key, over something else, or none at all', async () => {
    for (const more of [
      { blob, signature: other.sign(blob) },
      { blob: Buffer.from('else'), signature: known.sign(blob) },
      { blob, signature: Buffer.alloc(64) },
      { blob, signature: Buffer.alloc(0) },
      { blob, signature: Buffer.from('x') },
    ]) {
      expect(await login(offer(known, more))).toEqual({ who: undefined, answers: ['reject'], failures: 1 })
    }
    const unknown = await login(offer(other, { blob, signature: other.sign(blob) }))
    expect(unknown).toEqual({ who: undefined, answers: ['reject'], failures: 1 })
  })

  it('is no certificate, not even one for a registered key that is signed by it', async () => {
    const field = (value: string | Buffer): Buffer => {
      const bytes = Buffer.from(value)
      const length = Buffer.alloc(4)
      length.writeUInt32BE(bytes.length)
      return Buffer.concat([length, bytes])
    }
    const name = 'ssh-ed25519-cert-v01@openssh.com'
    const [none, all] = [Buffer.alloc(8), Buffer.alloc(8, 255)]
    // The fields of PROTOCOL.certkeys: nonce, key, serial, type, id, names, times, options, authority, signature.
    const data = Buffer.concat(
      [
        [field(name), field(Buffer.alloc(32)), field(known.getPublicSSH().subarray(-32))],
        [none, Buffer.of(0, 0, 0, 1), field('ana'), field(''), none, all],
        [field(''), field(''), field(''), field(known.getPublicSSH()), field(known.sign(blob))],
      ].flat(),
    )
    // Even where somebody looked up the key in it and found ana.
    const logins: Logins = { ...LOGINS, authenticateKey: async () => ANA }
    for (const algo of [name, 'ssh-ed25519']) {
      const asked = { method: 'publickey', key: { algo, data }, blob, signature: known.sign(blob) }
      expect(await login(asked, logins)).toEqual({ who: undefined, answers: ['reject'], failures: 1 })
    }
  })

  it('is a signature by an RSA key only over SHA-2', async () => {
    const { privateKey } = generateKeyPairSync('rsa', { modulusLength: 2048 })
    const rsa = ssh2.utils.parseKey(privateKey.export({ type: 'pkcs1', format: 'pem' })) as ParsedKey
    const logins: Logins = { ...LOGINS, authenticateKey: async () => ANA }
    const by = async (hash: string, hashAlgo: string | undefined): Promise<string | undefined> => {
      const signature = sign(hash, blob, privateKey)
      const { context } = request({
        method: 'publickey',
        key: { algo: 'ssh-rsa', data: rsa.getPublicSSH() },
        blob,
        signature,
        hashAlgo,
      })
      return (await answerLogin(context, logins, parse, () => undefined))?.id
    }
    expect(await by('sha256', 'sha256')).toBe('ana')
    expect(await by('sha512', 'sha512')).toBe('ana')
    expect(await by('sha1', undefined)).toBeUndefined()
    // The library answers what it cannot check with an error, and does not throw it.
    expect(rsa.verify(blob, Buffer.alloc(256), 'no-such-hash')).toBeInstanceOf(Error)
    expect(await by('sha256', 'no-such-hash')).toBeUndefined()
  })

  it('is a token, asked for without an echo', async () => {
    const asked: unknown[] = []
    const ask = (answer: unknown): object => ({
      method: 'keyboard-interactive',
      prompt: (prompts: unknown, done: (answers: unknown) => void) => {
        asked.push(prompts)
        done(answer)
      },
    })
    expect(await login(ask(['good']))).toMatchObject({ who: 'ana' })
    expect(asked).toEqual([[{ prompt: 'Sallyport token: ', echo: false }]])
    for (const answer of [['bad'], [], [''], new Error('aborted'), undefined, ['bad', 'good']]) {
      expect(await login(ask(answer))).toMatchObject({ who: undefined, answers: ['reject'], failures: 1 })
    }
  })

  it('is nothing else', async () => {
    expect(await login({ method: 'none' })).toEqual({ who: undefined, answers: ['reject'], failures: 0 })
    for (const method of ['password', 'hostbased']) {
      expect(await login({ method, password: 'good' })).toMatchObject({
        who: undefined,
        answers: ['reject'],
        failures: 1,
      })
    }
  })
})

describe('strangers', () => {
  it('are few at a time, and few from one address', () => {
    const guard = new Guard(() => 0)
    const admitted = Array.from({ length: 40 }, () => guard.admit('a')).filter((each) => each !== undefined)
    expect(admitted).toHaveLength(16)
    admitted[0]?.over()
    admitted[0]?.over()
    expect([guard.admit('a'), guard.admit('a')].filter((each) => each !== undefined)).toHaveLength(1)
    const others = Array.from({ length: 100 }, (_, index) => guard.admit(`b${index}`)).filter(
      (each) => each !== undefined,
    )
    expect(others).toHaveLength(48)
  })

  it('are not remembered without end', () => {
    const guard = new Guard(() => 0)
    for (let index = 0; index < 20; index++) guard.failed('a')
    for (let index = 0; index < 9_999; index++) guard.failed(`b${index}`)
    expect(guard.admit('a')).toBeUndefined()
    guard.failed('c')
    expect(guard.admit('a')).toBeDefined()
  })

  it('who fail too often wait a minute', () => {
    let now = 0
    const guard = new Guard(() => now)
    for (let index = 0; index < 20; index++) guard.failed('a')
    expect(guard.admit('a')).toBeUndefined()
    expect(guard.admit('b')).toBeDefined()
    now = 60_000
    expect(guard.admit('a')).toBeDefined()
  })
})

describe('the host key', () => {
  it('is the same for the same secret, and one that clients can read', () => {
    expect(hostKeyFrom(new Uint8Array(32).fill(1))).toBe(hostKeyFrom(new Uint8Array(32).fill(1)))
    expect(known.type).toBe('ssh-ed25519')
    expect(known.verify(blob, known.sign(blob))).toBe(true)
  })
})
