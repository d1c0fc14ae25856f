import { mkdtempSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import * as fc from 'fast-check'
import { describe, expect, it } from 'vitest'
import { isLoopback, loadConfig, parseConfig } from '../../src/config.ts'
import { SallyportError } from '../../src/core/errors.ts'

const FILE = '/etc/sallyport/sallyport.yaml'

const GOOD = `
targets:
  shop-db:
    protocol: postgres
    host: db.internal
    database: shop
    credential: {user: agent, file: secrets/shop}
    labels: {env: prod}
    record: {head: 64KiB}
`

/** The lines of the refusal; none when the text is accepted. Anything but an `ERR_CONFIG_INVALID` fails the test. */
function mistakes(text: string): readonly string[] {
  try {
    parseConfig(text, FILE, 'c.yaml')
    return []
  } catch (error) {
    if (!(error instanceof SallyportError) || error.code !== 'ERR_CONFIG_INVALID') throw error
    return error.message.split('\n').filter((line) => /^c\.yaml:\d+:\d+: /u.test(line))
  }
}

describe('sallyport.yaml', () => {
  it('needs nothing: an empty file listens on loopback and serves no target', () => {
    const config = parseConfig('', FILE)
    expect(config.listen).toEqual({ mcp: { host: '127.0.0.1', port: 7400 }, admin: { host: '127.0.0.1', port: 7401 } })
    expect(config.targets).toEqual([])
    expect(config.stateDir).toBe('/etc/sallyport/.sallyport')
    expect(config.recordings).toEqual({ dir: '/etc/sallyport/recordings', fsync: 'writes' })
  })

  it('reads a target, with paths relative to the file', () => {
    const config = parseConfig(GOOD, FILE)
    expect(config.targets).toMatchObject([
      {
        name: 'shop-db',
        protocol: 'postgres',
        labels: { env: 'prod' },
        mode: 'enforce',
        record: { headBytes: 65_536 },
      },
    ])
    expect(config.targets[0]?.endpoint).toContain('db.internal')
    expect(config.credentials.get('shop-db')).toEqual({
      user: 'agent',
      kind: 'file',
      path: '/etc/sallyport/secrets/shop',
    })
  })

  it('holds no secret: a target says where one is read, never what it is', () => {
    expect(
      JSON.stringify(parseConfig(GOOD.replace('file: secrets/shop', 'env: SHOP_PASSWORD'), FILE).targets),
    ).not.toMatch(/SHOP_PASSWORD|credential/u)
  })

  it.each([
    ['an unknown key', 'listne: {}', ['c.yaml:1:1: listne is not a known key']],
    ['an unknown key below', 'listen:\n  mpc: x', ['c.yaml:2:3: listen.mpc is not a known key']],
    ['text for a mapping', 'listen: here', ['c.yaml:1:1: listen must be a mapping of keys to values']],
    ['a list for a file', '- a', ['c.yaml:1:1: the file must be a mapping of keys to values']],
    ['no port', 'listen: {mcp: 127.0.0.1}', ['c.yaml:1:10: listen.mcp must be host:port, such as 127.0.0.1:7400']],
    [
      'a port too high',
      'listen: {mcp: "127.0.0.1:70000"}',
      ['c.yaml:1:10: listen.mcp must be host:port, such as 127.0.0.1:7400'],
    ],
    ['a duration without unit', 'approvals:\n  hold: 45', ['c.yaml:2:3: approvals.hold must be text']],
    [
      'a duration of nonsense',
      'approvals:\n  hold: soon',
      ['c.yaml:2:3: approvals.hold must be a number with a unit, such as 45s'],
    ],
    [
      'plain HTTP to the world',
      'listen: {admin: "10.0.0.5:7401"}',
      ['c.yaml:1:10: listen.admin is reachable from other machines and so needs listen.tls with key and cert'],
    ],
    [
      'a wildcard without host names',
      'listen: {mcp: "0.0.0.0:7400", tls: {key: k, cert: c}}',
      ['c.yaml:1:10: listen.mcp listens on every address, so allowed_hosts must name the hosts it answers to'],
    ],
    [
      'an unknown protocol',
      'targets: {db: {protocol: mysql}}',
      ['c.yaml:1:16: targets.db.protocol must be postgres or ssh or kubernetes or http'],
    ],
    [
      'a cluster in the clear',
      'targets: {web: {protocol: kubernetes, server: "http://10.0.0.1:8080"}}',
      ['c.yaml:1:39: targets.web.server must be an https URL, such as https://10.0.0.1:6443'],
    ],
    [
      'a bad target name',
      'targets: {"../x": {protocol: postgres, host: h, database: d}}',
      [
        'c.yaml:1:11: targets.../x is not a good name: must be lower-case letters, digits, ".", "_" and "-", at most 63',
      ],
    ],
    ['a duplicate key', 'state: a\nstate: b', ['c.yaml:2:1: is not valid YAML: Map keys must be unique']],
    [
      'two documents',
      'state: a\n---\nstate: b',
      ['c.yaml:2:1: is not valid YAML: Source contains multiple documents; please use YAML.parseAllDocuments()'],
    ],
    ['a tab', 'listen:\n\tmcp: x', ['c.yaml:2:1: is not valid YAML: Tabs are not allowed as indentation']],
    [
      'a bad depth',
      'targets: {db: {protocol: postgres, host: h, database: d, record: some}}',
      ['c.yaml:1:58: targets.db.record must be full, digest or {head: 64KiB}'],
    ],
    [
      'two places for a secret',
      'targets: {db: {protocol: postgres, host: h, database: d, credential: {env: A, file: b}}}',
      ['c.yaml:1:58: targets.db.credential has more than one of env, file and exec'],
    ],
    [
      'no place for a secret',
      'targets: {db: {protocol: postgres, host: h, database: d, credential: {}}}',
      ['c.yaml:1:58: targets.db.credential needs env, file or exec'],
    ],
  ])('refuses %s, with its place', (_name, text, expected) => {
    expect(mistakes(text)).toEqual(expected.map((line) => expect.stringContaining(line.slice(0, 60))))
  })

  it('reports all mistakes at once, in the order of the file', () => {
    const found = mistakes(`
statee: x
listen: {mcp: nowhere}
targets:
  a: {protocol: postgres, host: h}
  b: {protocol: postgres, host: h, database: d, passwort: x, mode: maybe}
approvals: {hold: 1y}
`)
    expect(found.map((line) => line.split(':')[1])).toEqual(['2', '3', '5', '6', '6', '7'])
  })

  it('never quotes a value, which may be a secret in the wrong place', () => {
    const secret = 'hunter2-hunter2'
    const texts = [
      `targets: {db: {protocol: postgres, host: h, database: d, password: ${secret}}}`,
      `targets: {db: {protocol: postgres, host: h, database: d, credential: {env: "${secret}"}}}`,
      `targets: {db: {protocol: ${secret}}}`,
      `state: [${secret}]`,
      `log: {level: ${secret}}`,
      `state: "${secret}\\q"`,
      `state: *${secret}`,
      `state: a ${secret}: b`,
      `"${secret}`,
      `state: !${secret} x`,
      `- ${secret}\nb: {`,
      `? [${secret}]\n: x`,
    ]
    const found = texts.map((text) => mistakes(text).join('\n'))
    expect(found).not.toContain('')
    expect(found.join('\n')).not.toContain(secret)
  })

  it('says where secrets go when somebody writes one down', () => {
    const [line] = mistakes('targets: {db: {protocol: postgres, host: h, database: d, password: x}}')
    expect(line).toContain('use credential with env, file or exec')
  })

  it('refuses anchors used without end', () => {
    const levels = Array.from({ length: 12 }, (_, i) => `l${i}: &l${i} [${`*l${i - 1},`.repeat(i === 0 ? 0 : 9)}x]`)
    expect(mistakes(levels.join('\n')).join()).toContain('anchors')
  })

  it('answers any text with a configuration or a SallyportError', () => {
    const piece = fc.constantFrom(
      'targets:',
      'db:',
      ' ',
      '\n',
      '{',
      '}',
      '[',
      '"',
      '&a',
      '*a',
      '!!x',
      'listen',
      ': ',
      '- ',
      '\t',
    )
    fc.assert(
      fc.property(fc.array(fc.oneof(piece, fc.string({ maxLength: 4 })), { maxLength: 30 }), (pieces) => {
        expect(() => mistakes(pieces.join(''))).not.toThrow()
      }),
      { numRuns: 500 },
    )
  })

  it.each([
    ['127.0.0.1', true],
    ['127.8.9.10', true],
    ['::1', true],
    ['localhost', true],
    ['0.0.0.0', false],
    ['::', false],
    ['127.0.0.1.evil.example', false],
    ['10.0.0.1', false],
    ['localhost.evil.example', false],
  ])('knows whether %s stays on this machine', (host, expected) => {
    expect(isLoopback(host)).toBe(expected)
  })

  it('says what to do when there is no file or no permission', () => {
    const dir = mkdtempSync(join(tmpdir(), 'sallyport-config-'))
    try {
      expect(() => loadConfig(join(dir, 'none.yaml'))).toThrow(/"sallyport init" writes one/u)
      expect(() => loadConfig(dir)).toThrow(/cannot be read \(EISDIR\)/u)
      writeFileSync(join(dir, 'big.yaml'), '#'.repeat(1024 * 1024 + 1))
      expect(() => loadConfig(join(dir, 'big.yaml'))).toThrow(/larger than/u)
    } finally {
      rmSync(dir, { recursive: true })
    }
  })
})
