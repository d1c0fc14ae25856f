import { describe, expect, it } from 'vitest'
import { compileResource, viewOf } from '../../src/policy/resources.ts'
import { isRenamed } from '../../src/protocols/kubernetes/aliases.ts'
import { partOf } from '../../src/protocols/kubernetes/part.ts'
import { readRequest } from '../../src/protocols/kubernetes/read-request.ts'

/** Whether a deny and an allow for a kind meet a request. */
function meets(
  kind: string,
  method: string,
  path: string,
  namespaces?: readonly string[],
): { deny: boolean; allow: boolean } {
  const pattern = compileResource({ kind, ...(namespaces !== undefined && { namespaces }) })
  if (typeof pattern === 'string') throw new Error(pattern)
  const view = viewOf(partOf(readRequest({ method, path })).resource)
  return { deny: pattern.touches(view), allow: pattern.covers(view) }
}

describe('one object under several names', () => {
  it.each([
    ['core/events', 'GET', '/apis/events.k8s.io/v1/namespaces/web/events'],
    ['core/events', 'GET', '/apis/events.k8s.io/v1beta1/watch/events'],
    ['events.k8s.io/events', 'GET', '/api/v1/namespaces/web/events/e'],
    ['apps/deployments', 'DELETE', '/apis/extensions/v1beta1/namespaces/web/deployments/d'],
    ['apps/deployments', 'PATCH', '/apis/extensions/v1beta1/namespaces/web/deployments/d/scale'],
    ['apps/deployments/status', 'GET', '/apis/extensions/v1beta1/namespaces/web/deployments/d/status'],
    ['extensions/daemonsets', 'GET', '/apis/apps/v1/daemonsets'],
    ['networking.k8s.io/ingresses', 'POST', '/apis/extensions/v1beta1/namespaces/web/ingresses'],
    ['networking.k8s.io/*', 'DELETE', '/apis/extensions/v1beta1/namespaces/web/networkpolicies/n'],
    ['policy/podsecuritypolicies', 'GET', '/apis/extensions/v1beta1/podsecuritypolicies'],
    ['core/replicationcontrollers', 'PUT', '/apis/extensions/v1beta1/namespaces/web/replicationcontrollers/r/scale'],
    ['core/pods', 'POST', '/api/v1/namespaces/web/bindings'],
    ['core/namespaces', 'DELETE', '/apis/project.openshift.io/v1/projects/web'],
    ['rbac.authorization.k8s.io/*', 'POST', '/apis/authorization.openshift.io/v1/clusterrolebindings'],
    // What a subresource hands out is the object.
    ['core/pods', 'GET', '/api/v1/namespaces/web/pods/p/status'],
    ['core/pods', 'GET', '/api/v1/namespaces/web/pods/p/ephemeralcontainers'],
    ['core/pods', 'PATCH', '/api/v1/namespaces/web/pods/p/status'],
    ['core/namespaces', 'PUT', '/api/v1/namespaces/web/finalize'],
    ['apps/deployments', 'GET', '/apis/extensions/v1beta1/namespaces/web/deployments/d/status'],
  ])('a deny for %s meets %s %s, an allow does not', (kind, method, path) => {
    expect(meets(kind, method, path)).toEqual({ deny: true, allow: false })
  })

  it.each([
    ['core/events', 'GET', '/apis/other.example/v1/namespaces/web/events'],
    ['apps/deployments', 'GET', '/apis/apps/v1/namespaces/web/statefulsets'],
    ['core/pods', 'GET', '/api/v1/namespaces/web/services/p/status'],
    ['apps/deployments', 'GET', '/apis/apps/v1/namespaces/web/deployments/d/scale'],
    ['extensions/*', 'GET', '/apis/apps/v1/namespaces/web/statefulsets'],
  ])('a deny for %s does not meet %s %s', (kind, method, path) => {
    expect(meets(kind, method, path)).toEqual({ deny: false, allow: false })
  })

  it('an allow means the name it says', () => {
    expect(meets('core/events', 'GET', '/api/v1/events')).toEqual({ deny: true, allow: true })
    expect(meets('events.k8s.io/events', 'GET', '/apis/events.k8s.io/v1/events')).toEqual({ deny: true, allow: true })
  })

  it('values under other names are known to be', () => {
    const renamed = (path: string): boolean => isRenamed(readRequest({ method: 'GET', path }))
    expect(renamed('/apis/events.k8s.io/v1/events')).toBe(true)
    expect(renamed('/apis/extensions/v1beta1/ingresses')).toBe(true)
    expect(renamed('/api/v1/events')).toBe(false)
  })
})

describe('rules that name namespaces', () => {
  const KUBE = ['kube-*']

  it.each([
    ['an object of one of them', '/api/v1/namespaces/kube-system/pods/p', true, true],
    ['an object of another one', '/api/v1/namespaces/web/pods/p', false, false],
    ['a list over all of them', '/api/v1/pods', true, false],
    // Who may delete a namespace deletes what is in it, and a node has pods of each.
    ['an object that has none', '/api/v1/nodes/n', true, false],
    ['a namespace itself', '/api/v1/namespaces/kube-system', true, false],
    ['another namespace', '/api/v1/namespaces/web', true, false],
  ])('as a deny and an allow, meet %s', (_what, path, deny, allow) => {
    expect(meets('*/*', 'DELETE', path, KUBE)).toEqual({ deny, allow })
  })
})
