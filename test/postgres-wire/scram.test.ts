/** SCRAM-SHA-256 from both ends: our exchange and the identity's keys, against a client written from RFC 5802. */
import { createHash, createHmac, pbkdf2Sync } from 'node:crypto'
import path from 'node:path'
import { beforeAll, describe, expect, it } from 'vitest'
import type { Principal } from '../../src/core/principal.ts'
import { createIdentity, type CreatedToken, type Identity } from '../../src/identity/identity.ts'
import { prove, verifierOf } from '../../src/identity/scram.ts'
import { ScramExchange } from '../../src/protocols/postgres/wire/scram.ts'
import { openLowdbStore } from '../../src/store/lowdb-store.ts'
import { temporaryDirectory } from '../store/kit.ts'

const DAY_MS = 24 * 60 * 60_000
const OLGA: Principal = { id: 'olga', kind: 'person', groups: [], roles: ['operator'], owner: 'olga' }

const clock = { now: Date.parse('2026-11-23T10:00:00Z') }
let identity: Identity
let loop: CreatedToken
let other: CreatedToken

beforeAll(async () => {
  const directory = await temporaryDirectory()
  const store = await openLowdbStore({
    file: path.join(directory, 'store.json'),
    blobs: path.join(directory, 'blobs'),
    key: new Uint8Array(32),
    mustExist: false,
    now: () => clock.now,
  })
  identity = createIdentity({ store, now: () => clock.now, saltKey: new Uint8Array(32).fill(7) })
  loop = await made('loop', 30 * DAY_MS)
  other = await made('other', 30 * DAY_MS)
})

function made(principal: string, expiresInMs: number): Promise<CreatedToken> {
  return identity.create(OLGA, { principal, kind: 'agent', owner: 'ana', groups: [], roles: ['caller'], expiresInMs })
}

const hmac = (key: Uint8Array, text: string): Buffer => createHmac('sha256', key).update(text).digest()

/** What a client proves with, by RFC 5802 §3. */
function proofOf(token: string, salt: string, authMessage: string): Buffer {
  const salted = pbkdf2Sync(token, Buffer.from(salt, 'base64'), 4096, 32, 'sha256')
  const clientKey = hmac(salted, 'Client Key')
  const signature = hmac(createHash('sha256').update(clientKey).digest(), authMessage)
  return Buffer.from(clientKey.map((byte, index) => byte ^ (signature[index] ?? 0)))
}

/** A log-in as far as the last message of the client. */
async function begun(user: string, token: string, firstBare = 'n=,r=ofTheClient') {
  const exchange = new ScramExchange(await identity.scram(user))
  const serverFirst = exchange.first(`n,,${firstBare}`)
  const [, nonce = '', salt = ''] = /^r=([^,]+),s=([^,]+),i=4096$/u.exec(serverFirst) ?? []
  const withoutProof = `c=biws,r=${nonce}`
  const proof = proofOf(token, salt, `${firstBare},${serverFirst},${withoutProof}`)
  return { exchange, nonce, withoutProof, proof }
}

const final = (withoutProof: string, proof: Uint8Array): string =>
  `${withoutProof},p=${Buffer.from(proof).toString('base64')}`

describe('a proof', () => {
  it('is the one of the example in RFC 7677, and is answered as there', async () => {
    const verifier = await verifierOf('pencil', Buffer.from('W22ZaJ0SNY7soEsUEjb6gQ==', 'base64'))
    const nonce = 'rOprNGfwEbeRWgbNEkqO%hvYDpWUa2RaTCAfuxFIlj)hNlF$k0'
    const authMessage = `n=user,r=rOprNGfwEbeRWgbNEkqO,r=${nonce},s=W22ZaJ0SNY7soEsUEjb6gQ==,i=4096,c=biws,r=${nonce}`
    const proof = Buffer.from('dHzbZapWIk4jUhN+Ute9ytag9zjfMHgsqmmiz7AndVQ=', 'base64')
    expect(prove(verifier, authMessage, proof)?.toString('base64')).toBe('6rriTRBi23WpRR/wtup+mMhUZUn/dB5nLTJRsjl95G4=')
    expect(prove(verifier, `${authMessage} `, proof)).toBeUndefined()
    expect(prove(verifier, authMessage, proof.subarray(1))).toBeUndefined()
    expect(prove(verifier, authMessage, Buffer.concat([proof, proof]))).toBeUndefined()
    expect(prove(verifier, authMessage, new Uint8Array(0))).toBeUndefined()
  })

  it('of a usable token lets its principal in', async () => {
    const { exchange, proof, withoutProof } = await begun('loop', loop.token)
    const found = await exchange.final(final(withoutProof, proof))
    expect(found?.principal.id).toBe('loop')
    expect(found?.message).toMatch(/^v=[A-Za-z0-9+/]{43}=$/u)
  })

  it('with any one bit of it wrong lets nobody in', async () => {
    const { exchange, proof, withoutProof } = await begun('loop', loop.token)
    const letIn: number[] = []
    for (let bit = 0; bit < 256; bit++) {
      const wrong = Buffer.from(proof)
      wrong[bit >> 3] = (wrong[bit >> 3] ?? 0) ^ (1 << (bit & 7))
      if ((await exchange.final(final(withoutProof, wrong))) !== undefined) letIn.push(bit)
    }
    expect(letIn).toEqual([])
  })

  it.each([
    ['the token of somebody else', 'loop', () => other.token],
    ['no token', 'loop', () => ''],
    ['the token of one who does exist, for a user who does not', 'nobody', () => loop.token],
  ])('by %s lets nobody in', async (_, user, token) => {
    const { exchange, proof, withoutProof } = await begun(user, token())
    expect(await exchange.final(final(withoutProof, proof))).toBeUndefined()
  })

  it('that was heard in another log-in lets nobody in', async () => {
    const heard = await begun('loop', loop.token)
    const { exchange, withoutProof } = await begun('loop', 'nothing')
    expect(await exchange.final(final(withoutProof, heard.proof))).toBeUndefined()
    await expect(exchange.final(final(heard.withoutProof, heard.proof))).rejects.toMatchObject({
      code: 'ERR_INVALID_INPUT',
    })
  })

  it('by a token that was revoked, or ran out, lets nobody in', async () => {
    const short = await made('short', DAY_MS)
    const gone = await made('gone', DAY_MS)
    await identity.revoke(OLGA, gone.facts.id)
    const ofGone = await begun('gone', gone.token)
    expect(await ofGone.exchange.final(final(ofGone.withoutProof, ofGone.proof))).toBeUndefined()
    const ofShort = await begun('short', short.token)
    clock.now += 2 * DAY_MS
    expect(await ofShort.exchange.final(final(ofShort.withoutProof, ofShort.proof))).toBeUndefined()
    clock.now -= 2 * DAY_MS
    expect((await ofShort.exchange.final(final(ofShort.withoutProof, ofShort.proof)))?.principal.id).toBe('short')
  })
})

describe('a last message', () => {
  it.each([
    ['another binding', (nonce: string) => `c=eSws,r=${nonce}`, 32],
    ['a part of the nonce', (nonce: string) => `c=biws,r=${nonce.slice(0, -1)}`, 32],
    ['only the nonce of the client', () => 'c=biws,r=ofTheClient', 32],
    ['a shorter proof', (nonce: string) => `c=biws,r=${nonce}`, 31],
    ['a longer proof', (nonce: string) => `c=biws,r=${nonce}`, 33],
    ['no proof', (nonce: string) => `c=biws,r=${nonce}`, 0],
  ])('with %s is refused, though the keys be right', async (_, withoutProof, bytes) => {
    // Whoever forges the text proves the forged text: only the comparison with what was said can tell.
    const { isForged, message } = await forged(withoutProof, bytes)
    await expect(isForged.final(message)).rejects.toMatchObject({ code: 'ERR_INVALID_INPUT' })
  })

  async function forged(say: (nonce: string) => string, bytes: number) {
    const exchange = new ScramExchange(await identity.scram('loop'))
    const serverFirst = exchange.first('n,,n=,r=ofTheClient')
    const [, nonce = '', salt = ''] = /^r=([^,]+),s=([^,]+),/u.exec(serverFirst) ?? []
    const withoutProof = say(nonce)
    const proof = proofOf(loop.token, salt, `n=,r=ofTheClient,${serverFirst},${withoutProof}`)
    const message = final(withoutProof, Buffer.concat([proof, Buffer.alloc(1)]).subarray(0, bytes))
    return { isForged: exchange, message }
  }
})

describe('a first message', () => {
  it.each([
    ['a binding of a channel we do not offer', 'p=tls-server-end-point,,n=,r=x'],
    ['no nonce', 'n,,n='],
    ['an empty nonce', 'n,,n=,r='],
    ['a nonce without end', `n,,n=,r=${'x'.repeat(257)}`],
    ['an extension that must be understood', 'n,,m=x,n=,r=x'],
  ])('with %s is refused', async (_, message) => {
    const exchange = new ScramExchange(await identity.scram('loop'))
    expect(() => exchange.first(message)).toThrow('The SCRAM message is not as RFC 5802 has it.')
  })

  it('is answered with another nonce each time, and with the same salt, for who exists and who does not', async () => {
    for (const user of ['loop', 'nobody']) {
      const [one, two] = await Promise.all([begun(user, 'x'), begun(user, 'x')])
      expect(one.nonce).not.toBe(two.nonce)
      expect(one.nonce.startsWith('ofTheClient')).toBe(true)
      expect((await identity.scram(user)).salt).toEqual((await identity.scram(user)).salt)
    }
  })
})
