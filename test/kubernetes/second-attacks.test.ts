import { describe, expect, it } from 'vitest'
import { parseJson, writeJson } from '../../src/core/json.ts'
import { scrubMessage } from '../../src/protocols/kubernetes/mask-message.ts'
import { maskValue } from '../../src/protocols/kubernetes/masks.ts'
import { planApi } from '../../src/protocols/kubernetes/plan.ts'
import { readYaml } from '../../src/protocols/kubernetes/read-body.ts'
import { readRequest } from '../../src/protocols/kubernetes/read-request.ts'
import { Pieces } from '../../src/protocols/kubernetes/streams/pieces.ts'

const POD = '/api/v1/namespaces/web/pods/p'
const masked = (value: unknown, resource = 'things', group = 'example.org'): string =>
  writeJson(maskValue(parseJson(JSON.stringify(value))?.value ?? null, { resource, group }).value)

function planned(path: string, operations: unknown): ReturnType<typeof planApi> {
  const body = Buffer.from(JSON.stringify(operations)).toString('base64')
  const type = 'application/json-patch+json'
  return planApi({ kind: 'api', method: 'PATCH', path, content_type: type, body }, { masks: [], streams: false })
}

describe('a dry run is only what the server can pretend', () => {
  it.each([
    ['GET', `${POD}/exec?command=reboot&dryRun=All`],
    ['GET', `${POD}/attach?dryRun=All`],
    ['GET', `${POD}/portforward?dryRun=All`],
    ['POST', `${POD}/proxy/shutdown?dryRun=All`],
    ['POST', '/api/v1/namespaces/web/serviceaccounts/sa/token?dryRun=All'],
    ['POST', `${POD}/console?dryRun=All`],
  ])('%s %s', (method, path) => {
    expect(readRequest({ method, path }).isDryRun).toBe(false)
    const { shown } = planApi({ kind: 'api', method, path }, { masks: [], streams: false })
    expect(shown.text).not.toContain('pretends')
  })

  it('still sees one where there is one', () => {
    expect(readRequest({ method: 'POST', path: '/api/v1/namespaces/web/pods?dryRun=All' }).isDryRun).toBe(true)
    expect(readRequest({ method: 'POST', path: `${POD}/eviction?dryRun=All` }).isDryRun).toBe(true)
  })
})

describe('a place has one name', () => {
  it('the old form of a binding binds', () => {
    const body = Buffer.from('{"metadata":{"name":"p"},"target":{"kind":"Node","name":"n"}}')
    const read = readRequest({ method: 'POST', path: '/api/v1/namespaces/web/bindings', body })
    expect(read).toMatchObject({ verb: 'bind', name: 'p' })
  })

  it.each(['db', 'db:5432', 'http:db:5432', 'https:db:'])('a proxied service %s is db to every rule', (name) => {
    const path = `/api/v1/namespaces/web/services/${name}/proxy/`
    const read = readRequest({ method: 'GET', path })
    expect(read).toMatchObject({ verb: 'proxy', name: 'db', path })
  })

  it('no group is called core', () => {
    expect(() => readRequest({ method: 'GET', path: '/apis/core/v1/namespaces/web/secrets' })).toThrow('group')
  })
})

describe('a patch by operations cannot take the name away by which a value is masked', () => {
  const env = '/spec/template/spec/containers/0/env'
  it.each([
    [{ op: 'replace', path: `${env}/0/name`, value: 'PLAIN' }],
    [{ op: 'add', path: `${env}/0/name`, value: 'PLAIN' }],
    [{ op: 'remove', path: '/spec/parameters/0/key' }],
    [{ op: 'copy', from: '/metadata/name', path: `${env}/0/name` }],
    [{ op: 'replace', path: '/spec/template/kind', value: 'Status' }],
    [{ op: 'copy', from: '/spec/password', path: '/spec/notes' }],
    [{ op: 'move', from: '/spec/auth/api_key', path: '/spec/notes' }],
    [{ op: 'test', path: '/spec/password', value: 'guess' }],
    [{ op: 'copy', from: '/spec/environment/DB_PASSWORD', path: '/spec/notes' }],
    [
      {
        op: 'test',
        path: '/spec/template/spec/containers/0',
        value: { name: 'web', env: [{ name: 'PASSWORD', value: 'guess' }] },
      },
    ],
    [{ op: 'test', path: '/spec/template/spec/containers', value: [] }],
  ])('%j', (operation) => {
    const plan = planned('/apis/apps/v1/namespaces/web/deployments/d', [operation])
    expect(plan.refused?.construct).toBe('k8s.patch_reads')
  })

  it.each([
    [{ op: 'replace', path: '/spec/replicas', value: 2 }],
    [{ op: 'test', path: '/metadata/resourceVersion', value: '7' }],
    [{ op: 'replace', path: '/spec/ports/0/name', value: 'http' }],
    [{ op: 'add', path: '/spec/template/metadata/labels/name', value: 'web' }],
    [{ op: 'replace', path: `${env}/0`, value: { name: 'A', value: 'b' } }],
  ])('%j goes through', (operation) => {
    expect(planned('/apis/apps/v1/namespaces/web/deployments/d', [operation]).refused).toBeUndefined()
  })

  it('a value under a name that is secret is not shown to approvers', () => {
    const plan = planned('/apis/example.org/v1/namespaces/web/things/t', [
      { op: 'replace', path: '/spec/password', value: 'hunter2' },
    ])
    expect(plan.shown.text).not.toContain('hunter2')
  })
})

describe('masks hold whatever an object calls itself', () => {
  it('an object that says it is a Status', () => {
    const text = masked({
      kind: 'Status',
      password: 'hunter2',
      env: [{ name: 'TOKEN', value: 'hunter2' }],
      details: { causes: [{ message: 'Invalid value: core.Pod{hunter2}', password: 'hunter2' }] },
    })
    expect(text).not.toContain('hunter2')
    expect(masked({ spec: { auth: { kind: 'Status', apiKey: 'hunter2' } } })).not.toContain('hunter2')
  })

  it('a value with two names', () => {
    expect(masked({ list: [{ name: 'PLAIN', key: 'DB_PASSWORD', value: 'hunter2' }] })).not.toContain('hunter2')
  })

  it.each([
    { metadata: { name: 'sh.helm.release.v1.shop.v3' }, data: { release: 'hunter2' } },
    { metadata: { name: 'shop.v3', labels: {} }, data: { release: 'H4sIAAhunter2' } },
  ])('a release of Helm whose labels were taken away', (object) => {
    expect(masked({ kind: 'ConfigMap', ...object }, 'configmaps', '')).not.toContain('hunter2')
  })
})

describe('what a caller sends costs what it is worth', () => {
  it('YAML with many keys, and with one key twice', () => {
    const keys = Array.from({ length: 20_000 }, (_, index) => `k${index}: 1`).join('\n')
    expect(readYaml(keys)).toHaveProperty('size', 20_000)
    expect(() => readYaml(`${keys}\nk7: 2`)).toThrow('twice')
    expect(() => readYaml('1: a\n"1": b')).toThrow('twice')
    expect(() => readYaml('? {a: 1}\n: b')).toThrow('no text')
    expect(() => readYaml('- x\n'.repeat(300_000))).toThrow('characters')
  })

  it('a message with a mistake in every word', () => {
    const text = 'labels: Invalid value: "a": must be good, '.repeat(100_000)
    expect(scrubMessage(text, false).length).toBeLessThan(20_000)
  })
})

describe('pieces on their way', () => {
  it('wake every channel that waits', async () => {
    const pieces = new Pieces()
    const pushed = [1, 2, 3].map(async (channel) => {
      for (let i = 0; i < 8; i++) await pieces.push(Buffer.alloc(200_000, channel))
    })
    let bytes = 0
    const read = (async () => {
      for await (const piece of pieces) bytes += piece.length
    })()
    await Promise.all(pushed)
    pieces.end()
    await read
    expect(bytes).toBe(24 * 200_000)
  })

  it('of one byte each do not keep what they were cut from, nor come without end', async () => {
    const pieces = new Pieces()
    let taken = 0
    for (let i = 0; i < 5_000; i++) {
      const isTaken = await Promise.race([
        pieces.push(Buffer.alloc(65_536).subarray(7, 8)).then(() => true),
        new Promise<boolean>((resolve) => setImmediate(() => resolve(false))),
      ])
      if (!isTaken) break
      taken++
    }
    expect(taken).toBeLessThan(2_000)
    for await (const piece of pieces) {
      expect(piece.buffer.byteLength).toBeLessThan(64)
      break
    }
  })
})
