/** What approvers are shown of a change, and what their approval is held to. Each answer of the server is spelled out. */
import { beforeEach, describe, expect, it } from 'vitest'
import { asDryRun, previewOf } from '../../src/protocols/kubernetes/connect-preview.ts'
import { readGuard } from '../../src/protocols/kubernetes/connect-guard.ts'
import type { KubePlan } from '../../src/protocols/kubernetes/plan.ts'
import { readRequest } from '../../src/protocols/kubernetes/read-request.ts'
import type { KubeRequest } from '../../src/protocols/kubernetes/request.ts'
import { commandOf } from '../../src/protocols/kubernetes/tool.ts'
import { Said, upstreamOf, type Sent } from './upstream-kit.ts'

const CONFIG = '/api/v1/namespaces/web/configmaps/c'
const PODS = '/api/v1/namespaces/web/pods'
const DEPLOYMENT = '/apis/apps/v1/namespaces/web/deployments/web'

let sent: Sent[] = []
beforeEach(() => (sent = []))

const request = (method: string, path: string, body?: object, contentType = 'application/json'): KubeRequest =>
  readRequest({ method, path, ...(body && { contentType, body: Buffer.from(JSON.stringify(body)) }) })

function preview(requests: readonly KubeRequest[], answers: readonly unknown[], tool?: KubePlan['tool']) {
  const left = [...answers]
  const upstream = upstreamOf((asked) => {
    sent.push(asked)
    return left.shift()
  }, new AbortController().signal)
  return previewOf({ requests, ...(tool && { tool }) } as unknown as KubePlan, upstream)
}
const object = (data: object, metadata: object = {}): object => ({
  metadata: { name: 'c', uid: 'u', resourceVersion: '7', ...metadata },
  data,
})

describe('a preview', () => {
  it('is the difference the server would make, and a guard of what was there', async () => {
    const patch = request('PATCH', CONFIG, { data: { a: '2' } }, 'application/merge-patch+json')
    const shown = await preview([patch], [object({ a: '1' }), object({ a: '2' })])
    expect(shown.sections[0]).toMatchObject({
      title: 'patch core/configmaps web/c',
      text: expect.stringMatching(/- +a: .*1.*\n\+ +a: .*2/u),
    })
    expect(readGuard(shown.guard ?? '')).toHaveLength(1)
    expect(sent.map(({ method, path }) => `${method} ${path}`)).toEqual([`GET ${CONFIG}`, `PATCH ${CONFIG}?dryRun=All`])
  })

  it('says when nothing would change, and when it is not there yet', async () => {
    const patch = request('PATCH', CONFIG, { data: { a: '1' } }, 'application/merge-patch+json')
    const same = await preview([patch], [object({ a: '1' }), object({ a: '1' })])
    expect(same.sections[0]?.text).toBe('Nothing would change.\n')
    const apply = request('PATCH', `${CONFIG}?fieldManager=x`, { data: { a: '1' } }, 'application/apply-patch+yaml')
    const made = await preview([apply], [new Said(404), object({ a: '1' })])
    expect(made.sections[0]?.text).toMatch(/^It is not there yet and would be made\.\n/u)
    const created = await preview([request('POST', PODS, { kind: 'Pod' })], [object({})])
    expect(created.sections[0]?.text).not.toContain('not there yet')
    expect(created).not.toHaveProperty('guard')
  })

  it('asks nothing of what only reads', async () => {
    expect(await preview([request('GET', CONFIG)], [])).toEqual({ sections: [] })
    expect(sent).toEqual([])
  })

  it.each([
    ['GET', `${PODS}/p/exec?command=sh`, 'known when it has run'],
    ['GET', `${PODS}/p/attach`, 'known when it is typed'],
    ['GET', `${PODS}/p/portforward?ports=1`, 'known when it does'],
    ['GET', `${PODS}/p/proxy/x`, 'has no dry run'],
    ['POST', '/api/v1/namespaces/web/serviceaccounts/s/token', 'cannot be made on trial'],
    ['POST', `${PODS}/p`, 'what is not understood'],
    ['POST', `${PODS}/p/binding`, 'a change of binding is not tried'],
  ])('is none of %s %s: %s', async (method, path, why) => {
    const shown = await preview([request(method, path)], [])
    expect(shown.missing).toContain(why)
    expect(sent).toEqual([])
  })

  it('is tried on no other server than the API server itself', async () => {
    const change = request('POST', '/apis/example.com/v1/namespaces/web/things', { kind: 'Thing' })
    for (const service of [{ spec: { service: { name: 'x' } } }, new Said(404), new Said(403), { kind: 'Odd' }]) {
      sent = []
      expect((await preview([change], [service])).missing).toContain('served by another server')
      expect(sent.map(({ method }) => method)).toEqual(['GET'])
    }
    sent = []
    expect((await preview([change], [{ spec: { service: null } }, object({})])).missing).toBeUndefined()
    expect(sent.map(({ path }) => path)).toEqual([
      '/apis/apiregistration.k8s.io/v1/apiservices/v1.example.com',
      '/apis/example.com/v1/namespaces/web/things?dryRun=All',
    ])
  })

  it('fails as the change would', async () => {
    const patch = request('PATCH', CONFIG, { data: {} }, 'application/merge-patch+json')
    await expect(preview([patch], [object({}), new Said(422)])).rejects.toMatchObject({ code: 'ERR_UPSTREAM_REJECTED' })
  })

  it('of a deletion says what it is, what hangs on it, and what becomes of that', async () => {
    const pod = object(
      {},
      {
        creationTimestamp: '2026-01-01T00:00:00Z',
        ownerReferences: [{ kind: 'ReplicaSet', name: 'r' }],
        finalizers: ['f/x', 7],
        deletionTimestamp: '2026-01-02T00:00:00Z',
      },
    )
    const shown = await preview([request('DELETE', `${PODS}/p?propagationPolicy=Orphan`)], [pod, {}])
    expect(shown.sections[0]?.text?.split('\n')).toEqual([
      'uid u, made 2026-01-01T00:00:00Z',
      'It belongs to ReplicaSet r, which may make it anew.',
      'It goes only when these have finished: f/x, .',
      'It is being deleted already.',
      'What belongs to it stays.',
    ])
    const foreground = request('DELETE', `${PODS}/p`, { propagationPolicy: 'Foreground' })
    const gone = await preview([foreground], [new Said(404), {}])
    expect(gone.sections[0]?.text).toBe('It is not there.\nWhat belongs to it is deleted first.')
  })

  it('of many that are deleted is their list', async () => {
    const items = Array.from({ length: 502 }, (_, index) => ({
      metadata: { namespace: 'web', name: `p${index}`, uid: `u${index}` },
    }))
    const shown = await preview([request('DELETE', `${PODS}?labelSelector=a%3Db`)], [{ items }, {}])
    expect(shown.sections[0]).toMatchObject({ title: expect.stringContaining('502 objects') as string, more: 2 })
    expect(shown.sections[0]?.table?.rows[1]).toEqual(['web', 'p1'])
  })

  it('of a rollout that is taken back is held to the template it goes back to', async () => {
    const lookups = { findKind: async () => undefined, uidOf: async () => undefined, podsOf: async () => undefined }
    const tool = await commandOf({ verb: 'rollout_undo', resource: 'deploy', name: 'web' }, 'web', lookups)
    const set = (revision: string, image: string): object => ({
      metadata: {
        name: `web-${revision}`,
        uid: `rs-${revision}`,
        annotations: { 'deployment.kubernetes.io/revision': revision },
        ownerReferences: [{ kind: 'Deployment', uid: 'u', controller: true }],
      },
      spec: { template: { metadata: { labels: {} }, spec: { containers: [{ name: 'c', image }] } } },
    })
    const web = {
      metadata: {
        name: 'web',
        uid: 'u',
        resourceVersion: '7',
        annotations: { 'deployment.kubernetes.io/revision': '2' },
      },
      spec: { template: { spec: { containers: [{ name: 'c', image: 'new' }] } } },
    }
    const guardOf = async (old: string): Promise<readonly string[]> => {
      sent = []
      const sets = { items: [set('1', old), set('2', 'new')] }
      const shown = await preview(tool.requests, [web, sets, web, web], tool)
      return readGuard(shown.guard ?? '')
    }
    const [first, second] = [await guardOf('old'), await guardOf('evil')]
    expect(sent.map(({ path }) => path)).toEqual([
      DEPLOYMENT,
      '/apis/apps/v1/namespaces/web/replicasets',
      DEPLOYMENT,
      expect.stringMatching(/^\/apis\/apps\/v1\/namespaces\/web\/deployments\/web\?.*dryRun=All/u),
    ])
    expect(first).toHaveLength(2)
    expect(second[0]).toBe(first[0])
    expect(second[1]).not.toBe(first[1])
    await expect(preview(tool.requests, [web, new Said(403)], tool)).rejects.toMatchObject({
      code: 'ERR_UPSTREAM_REJECTED',
    })
  })
})

describe('a dry run', () => {
  it('says so wherever the server may look', async () => {
    for (const [asked, path, body] of [
      [request('DELETE', CONFIG), `${CONFIG}?dryRun=All`, undefined],
      [request('DELETE', CONFIG, { gracePeriodSeconds: 1 }), CONFIG, { gracePeriodSeconds: 1, dryRun: ['All'] }],
      [request('DELETE', PODS, { kind: 'DeleteOptions' }), PODS, { kind: 'DeleteOptions', dryRun: ['All'] }],
      [request('PUT', CONFIG, { data: {} }), `${CONFIG}?dryRun=All`, { data: {} }],
      [
        request('POST', `${PODS}/p/eviction`, { deleteOptions: { gracePeriodSeconds: 1 } }),
        `${PODS}/p/eviction`,
        { deleteOptions: { gracePeriodSeconds: 1, dryRun: ['All'] } },
      ],
      [request('POST', `${PODS}/p/eviction`, {}), `${PODS}/p/eviction`, { deleteOptions: { dryRun: ['All'] } }],
    ] as const) {
      const pretending = asDryRun(asked)
      const query = pretending.query.map((pair) => pair.join('=')).join('&')
      const text = pretending.body && JSON.parse(Buffer.from(pretending.body.bytes).toString())
      expect([pretending.isDryRun, `${pretending.path}${query === '' ? '' : `?${query}`}`, text]).toEqual([
        true,
        path,
        body,
      ])
      // What the gateway itself reads of it is a dry run as well.
      const contentType = pretending.body?.type
      const read = readRequest({
        method: pretending.method,
        path: `${pretending.path}${query === '' ? '' : `?${query}`}`,
        ...(pretending.body && { contentType, body: pretending.body.bytes }),
      })
      expect(read.isDryRun).toBe(true)
    }
    expect(sent).toEqual([])
  })
})
