import { describe, expect, it } from 'vitest'
import { vettedAddresses } from '../../src/protocols/http/connect-addresses.ts'
import { Pools } from '../../src/protocols/http/connect-pool.ts'
import { httpOptions, httpSchema } from '../../src/protocols/http/options.ts'
import { HttpPools } from '../../src/protocols/shared/http-pools.ts'
import { parseRange, refuseAddress, type AddressRange } from '../../src/protocols/http/addresses.ts'

function ranges(...texts: readonly string[]): readonly AddressRange[] {
  return texts.map((text) => {
    const range = parseRange(text)
    if (range === undefined) throw new Error(text)
    return range
  })
}

describe('addresses without a range of their own', () => {
  for (const address of [
    '127.0.0.1',
    '127.255.255.254',
    '0.0.0.0',
    '10.1.2.3',
    '172.16.0.1',
    '192.168.1.1',
    '169.254.169.254',
    '169.254.1.1',
    '100.64.0.1',
    '100.100.100.200',
    '192.0.0.192',
    '192.0.0.1',
    '192.0.2.1',
    '198.18.0.1',
    '198.19.255.255',
    '203.0.113.5',
    '224.0.0.1',
    '240.0.0.1',
    '255.255.255.255',
    '168.63.129.16',
    '::',
    '::1',
    '::127.0.0.1',
    '::7f00:1',
    '::a9fe:a9fe',
    '100::1',
    'fec0::1',
    '::ffff:127.0.0.1',
    '::ffff:169.254.169.254',
    '::ffff:a9fe:a9fe',
    '64:ff9b::169.254.169.254',
    '64:ff9b:1::a9fe:a9fe',
    '2002:7f00:1::',
    '2001::1',
    '2001:db8::1',
    'fc00::1',
    'fd00:ec2::254',
    'fe80::1',
    'ff02::1',
    // Not addresses in their plain form, so no address at all.
    '2130706433',
    '0x7f.1',
    '127.1',
    '0177.0.0.1',
    '134744072',
    '0x08080808',
    '010.010.010.010',
    '2606:4700::1111%1',
    'fe80::1%eth0',
    'localhost',
    '',
  ]) {
    it(`refuses ${JSON.stringify(address)}`, () => expect(refuseAddress(address, [])).toBeDefined())
  }
  for (const address of ['1.1.1.1', '93.184.216.34', '2606:4700::1111', '::ffff:1.1.1.1']) {
    it(`takes ${address}`, () => expect(refuseAddress(address, [])).toBeUndefined())
  }
})

describe('addresses with ranges an operator named', () => {
  it('takes what lies inside and refuses all else, public ones too', () => {
    const allowed = ranges('10.1.0.0/16')
    expect(refuseAddress('10.1.2.3', allowed)).toBeUndefined()
    expect(refuseAddress('::ffff:10.1.2.3', allowed)).toBeUndefined()
    expect(refuseAddress('10.2.0.1', allowed)).toBeDefined()
    expect(refuseAddress('1.1.1.1', allowed)).toBeDefined()
  })

  it('refuses a metadata service inside an allowed range unless its own address is named', () => {
    expect(refuseAddress('169.254.169.254', ranges('169.254.0.0/16'))).toContain('metadata')
    expect(refuseAddress('169.254.169.254', ranges('0.0.0.0/0'))).toContain('metadata')
    expect(refuseAddress('169.254.169.254', ranges('169.254.169.254'))).toBeUndefined()
    expect(refuseAddress('fd00:ec2::254', ranges('fd00::/8'))).toContain('metadata')
  })

  for (const [address, range] of [
    ['64:ff9b::a9fe:a9fe', '64:ff9b::/96'],
    ['64:ff9b:1::a9fe:a9fe', '64:ff9b:1::/48'],
    ['64:ff9b:1:a9fe:a9:fe00::', '64:ff9b:1::/48'],
    ['2001:db8:a9fe:a9fe::', '2001:db8::/32'],
    ['2001:db8:1:2:a9:fea9:fe00:0', '2001:db8::/32'],
    ['2001:db8:1:2:3:4:6464:64c8', '2001:db8::/32'],
    ['2002:a9fe:a9fe::1', '2002::/16'],
    ['2001:0:1:2:3:4:5601:5601', '2001::/16'],
    ['fe80::5efe:a9fe:a9fe', 'fe80::/10'],
    ['::ffff:0:a9fe:a9fe', '::/0'],
    ['::a9fe:a9fe', '::/0'],
  ] as const) {
    it(`refuses a metadata service that is reached as ${address}, by translation or through a tunnel`, () => {
      expect(refuseAddress(address, ranges(range))).toContain('metadata')
      expect(refuseAddress(address, ranges(range, address))).toBeUndefined()
    })
  }

  it('reads only ranges that can be read in one way', () => {
    for (const text of ['127.1', '10.0.0.0/33', '10.0.0.0/', '10.0.0.0/8/8', '010.0.0.1', 'fe80::1%lo/64', 'host']) {
      expect([text, parseRange(text)]).toEqual([text, undefined])
    }
  })
})

describe('connections', () => {
  const address = { address: '1.1.1.1', family: 4 }

  it('are kept apart by scheme, name, port and address', async () => {
    const pools = new Pools(httpOptions(httpSchema.parse({ open: true })))
    const places = ['http://a.example/', 'https://a.example/', 'http://b.example/', 'http://a.example:8080/']
    const all = [
      ...places.map((place) => pools.to(new URL(place), address)),
      pools.to(new URL('http://a.example/'), { address: '1.0.0.1', family: 4 }),
    ]
    expect(new Set(all).size).toBe(all.length)
    expect(pools.to(new URL('http://a.example/x'), address)).toBe(all[0])
    await pools.close()
  })

  it('ask for the name a certificate is to have, and verify it', () => {
    const tls = { server_name: 'inner.example' }
    const pools = new Pools(httpOptions(httpSchema.parse({ base_url: 'https://a.example/', tls })))
    expect(pools.connecting(address)).toMatchObject({ servername: 'inner.example', rejectUnauthorized: true })
  })

  it('make room for others when there are too many', async () => {
    const limits = { connectionsMax: 1, headerBytesMax: 1024, responseTimeoutMs: 1000, keepAliveMs: 1000 }
    const pools = new HttpPools({ poolsMax: 2, ...limits })
    const of = (key: string): { readonly closed: boolean } => pools.of(key, 'http://a.example', () => ({}))
    const [first, second] = [of('1'), of('2')]
    of('1')
    of('3')
    expect([first.closed, second.closed]).toEqual([false, true])
    await pools.close()
  })

  it('wait for no name longer than their call lives', async () => {
    const options = httpOptions(httpSchema.parse({ open: true }))
    const call = new AbortController()
    const never = (): Promise<never> => new Promise(() => undefined)
    const vetting = vettedAddresses(new URL('http://a.example/'), options, never, call.signal)
    call.abort(new Error('over'))
    await expect(vetting).rejects.toThrow('over')
  })
})
