/** What policies may test of a body, wherever in it pods stand. */
import { describe, expect, it } from 'vitest'
import { parseJson, type JsonValue } from '../../src/core/json.ts'
import { bodyFacts } from '../../src/protocols/kubernetes/facts.ts'
import type { KubeBody } from '../../src/protocols/kubernetes/request.ts'

const body = (value: unknown, type = 'application/json'): KubeBody => {
  const text = JSON.stringify(value)
  return { type, bytes: Buffer.from(text), value: parseJson(text)?.value as JsonValue }
}
const inPod = (spec: object): object => ({ kind: 'Pod', spec })
const inContainer = (container: object): object => inPod({ containers: [{ image: 'a', ...container }] })

describe('what pods of a body would be allowed to do', () => {
  it.each<readonly [object, readonly string[]]>([
    [inPod({ hostNetwork: true }), ['hostNetwork']],
    [inPod({ hostPID: true, hostIPC: true }), ['hostIPC', 'hostPID']],
    [inPod({ hostNetwork: false, hostPID: null }), []],
    [inPod({ volumes: [{ name: 'v', hostPath: { path: '/' } }] }), ['hostPath']],
    [inPod({ volumes: [{ name: 'v', hostPath: null, emptyDir: {} }] }), []],
    [inContainer({ securityContext: { privileged: true } }), ['privileged']],
    [inContainer({ securityContext: { privileged: false } }), []],
    [inContainer({ securityContext: { allowPrivilegeEscalation: true } }), ['allowPrivilegeEscalation']],
    [inContainer({ securityContext: { capabilities: { add: ['SYS_ADMIN'] } } }), ['capabilities']],
    [inContainer({ securityContext: { capabilities: { add: [], drop: ['ALL'] } } }), []],
    [inContainer({ securityContext: { capabilities: null } }), []],
    [inContainer({ ports: [{ containerPort: 80, hostPort: 80 }] }), ['hostPort']],
    [inContainer({ ports: [{ containerPort: 80, hostPort: 0 }] }), []],
    [inContainer({ securityContext: { windowsOptions: { hostProcess: true } } }), ['hostProcess']],
    [{ kind: 'CronJob', spec: { jobTemplate: { spec: { template: { spec: { hostPID: true } } } } } }, ['hostPID']],
    [{ kind: 'Unknown', deep: [{ deeper: [[{ hostNetwork: true }]] }] }, ['hostNetwork']],
  ])('%j → %j', (value, host) => {
    expect(bodyFacts(body(value))['host_access']).toEqual(host)
  })

  it('names images and accounts once each, in order', () => {
    const facts = bodyFacts(
      body({
        spec: {
          serviceAccountName: 'robot',
          serviceAccount: '',
          initContainers: [{ image: 'z' }],
          containers: [{ image: 'b' }, { image: 'a' }, { image: 'b' }, { image: 7 }],
        },
      }),
    )
    expect(facts).toMatchObject({ images: ['a', 'b', 'z'], service_accounts: ['robot'] })
  })

  it('says nothing of what a patch by operations would do: conditions on it fail closed', () => {
    const facts = bodyFacts(body([{ op: 'add', path: '/spec/hostPID', value: true }], 'application/json-patch+json'))
    expect(facts['body']).toEqual([{ op: 'add', path: '/spec/hostPID', value: true }])
    expect(facts).not.toHaveProperty('host_access')
    expect(facts).not.toHaveProperty('images')
  })

  it('is the body as conditions read it, and empty without one', () => {
    const value = { a: 1, b: [1.5, 'x', true, null], c: { d: {} } }
    expect(bodyFacts(body(value))).toMatchObject({ body: value, content_type: 'application/json' })
    expect(bodyFacts(undefined)).toEqual({
      body: null,
      content_type: '',
      images: [],
      host_access: [],
      service_accounts: [],
    })
  })
})
