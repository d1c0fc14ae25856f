import { describe, expect, it } from 'vitest'
import { parseConfig } from '../../src/config.ts'
import { parseStoreUrl, shownAddress } from '../../src/store/postgres/address.ts'
import { parseMaster } from '../../src/store/keys.ts'

describe('the address of a shared store', () => {
  it('verifies the certificate unless told otherwise', () => {
    expect(parseStoreUrl('postgres://sallyport@db.internal/state')).toEqual({
      host: 'db.internal',
      port: 5432,
      database: 'state',
      user: 'sallyport',
      tls: { mode: 'verify' },
    })
    const own = parseStoreUrl(
      'postgres://s@db:6000/state?sslmode=verify-full&sslrootcert=ca.pem',
      (file) => `/etc/${file}`,
    )
    expect(own).toMatchObject({ port: 6000, tls: { mode: 'verify', caFile: '/etc/ca.pem' } })
    expect(shownAddress(own)).toBe('db:6000/state')
  })

  it.each([
    ['127.0.0.1', 'postgres://s@127.0.0.1/state?sslmode=disable'],
    ['::1', 'postgres://s@[::1]/state?sslmode=disable'],
    ['/run/postgresql', 'postgres://s@localhost/state?host=/run/postgresql'],
  ])('may go without TLS on this machine itself: %s', (host, url) => {
    expect(parseStoreUrl(url)).toMatchObject({ host, tls: { mode: 'disable' } })
  })

  it.each([
    ['a password', 'postgres://s:hunter2-secret@db/state', 'password'],
    ['no TLS over a network', 'postgres://s@db/state?sslmode=disable', 'this machine only'],
    [
      'a name that only looks like this machine',
      'postgres://s@127.0.0.1.evil.example/state?sslmode=disable',
      'this machine only',
    ],
    ['a certificate nobody checks', 'postgres://s@db/state?sslmode=require', 'verify-full'],
    ['a certificate whose name nobody checks', 'postgres://s@db/state?sslmode=verify-ca', 'verify-full'],
    ['a parameter it does not know', 'postgres://s@db/state?options=-csearch_path%3Devil', 'no other'],
    ['another host in the parameters', 'postgres://s@db/state?host=evil.example', 'directory of a socket'],
    ['no user', 'postgres://db/state', 'no user'],
    ['no database', 'postgres://s@db', 'no database'],
    ['no host', 'postgres://s@/state', 'host'],
    ['another kind of address', 'mysql://s@db/state', 'postgres://'],
    ['no address', 'hunter2-secret', 'postgres://'],
  ])('is refused with %s, and never quoted', (_what, url, says) => {
    const refused = (() => {
      try {
        return JSON.stringify(parseStoreUrl(url))
      } catch (error) {
        return String(error)
      }
    })()
    expect(refused).toContain(says)
    expect(refused).toMatch(/^SallyportError/)
    expect(refused).not.toContain('hunter2')
  })

  it('is taken from the file or from the command line, and secrets from where they say or from the environment', () => {
    const yaml = 'store: {url: "postgres://s@db/state", password: {file: pw}, key: {env: STORE_KEY}, stale_max: 2s}'
    expect(parseConfig(yaml, '/etc/sallyport/sallyport.yaml').store).toEqual({
      address: parseStoreUrl('postgres://s@db/state'),
      password: { kind: 'file', path: '/etc/sallyport/pw' },
      key: { kind: 'env', name: 'STORE_KEY' },
      staleMaxMs: 2_000,
      liveMaxMs: 30_000,
    })
    const over = parseConfig(yaml, '/etc/s.yaml', undefined, { store: 'postgres://s@other/state' }).store
    expect(over?.address.host).toBe('other')
    const bare = parseConfig('', '/etc/s.yaml', undefined, { store: 'postgres://s@db/state' }).store
    expect(bare).toMatchObject({ password: { name: 'SALLYPORT_STORE_PASSWORD' }, key: { name: 'SALLYPORT_STORE_KEY' } })
    expect(parseConfig('', '/etc/s.yaml').store).toBeUndefined()
    expect(() => parseConfig('store: {url: "postgres://s:hunter2@db/state"}', '/etc/s.yaml')).toThrow(
      /store\.url.*password/,
    )
  })

  it('takes a key of 32 bytes and nothing else, and never quotes it', () => {
    const key = Buffer.alloc(32, 9).toString('base64')
    expect([...parseMaster(`${key}\n`)]).toEqual([...Buffer.alloc(32, 9)])
    expect(() => parseMaster('')).toThrow(/32 random bytes/)
    for (const wrong of ['hunter2', Buffer.alloc(31).toString('base64'), `${key.slice(0, -2)}!=`, `${key}${key}`]) {
      expect(() => parseMaster(wrong)).toThrow(/32 random bytes/)
      expect(() => parseMaster(wrong)).not.toThrow(wrong)
    }
  })
})
