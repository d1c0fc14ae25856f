import { afterAll, beforeAll, describe, expect, it } from 'vitest'
import { has } from '../setup/needs.ts'
import { openKube, type TestKube } from './kube.ts'

describe.runIf(has('kube-apiserver'))('the control plane of the tests', () => {
  let kube: TestKube
  beforeAll(async () => {
    kube = await openKube()
  })
  afterAll(() => kube.close())

  it('is a real one, whose deployments become running pods', async () => {
    const made = await kube.api('POST', '/apis/apps/v1/namespaces/default/deployments', {
      metadata: { name: 'web' },
      spec: {
        replicas: 2,
        selector: { matchLabels: { app: 'web' } },
        template: { metadata: { labels: { app: 'web' } }, spec: { containers: [{ name: 'web', image: 'nginx:1' }] } },
      },
    })
    expect(made.status).toBe(201)
    await expect
      .poll(
        async () => {
          const { body } = await kube.api('GET', '/apis/apps/v1/namespaces/default/deployments/web')
          return (body as { status: { readyReplicas?: number } }).status.readyReplicas
        },
        { timeout: 60_000 },
      )
      .toBe(2)
  })

  it('lets a node answer for its containers', async () => {
    const { body } = await kube.api('GET', '/api/v1/namespaces/default/pods')
    const [pod] = (body as { items: readonly { metadata: { name: string } }[] }).items
    const name = pod?.metadata.name ?? ''
    const logs = await kube.api('GET', `/api/v1/namespaces/default/pods/${name}/log`)
    expect(logs).toEqual({ status: 200, body: `hello from ${name}\nsecond line\n` })
  })
})
