/** What the tool, paths, queries and targets refuse, each with a sentence of its own; and what is near it and is taken. */
import { describe, expect, it } from 'vitest'
import type { ToolPayload } from '../../src/protocols/kubernetes/payload.ts'
import { kubernetesSchema } from '../../src/protocols/kubernetes/options.ts'
import { jsonFrom } from '../../src/protocols/kubernetes/read-body.ts'
import { readRequest } from '../../src/protocols/kubernetes/read-request.ts'
import { commandOf, type ToolCommand } from '../../src/protocols/kubernetes/tool.ts'

type Input = Omit<ToolPayload, 'kind'>

const refusal = (sentence: string): unknown =>
  expect.objectContaining({ code: 'ERR_INVALID_INPUT', message: expect.stringContaining(sentence) })

describe('the tool', () => {
  const command = (input: Input): Promise<ToolCommand> =>
    commandOf(input, 'web', {
      findKind: async () => undefined,
      uidOf: async () => undefined,
      podsOf: async () => undefined,
    })
  const CONFIG = { apiVersion: 'v1', kind: 'ConfigMap', metadata: { name: 'c', namespace: 'web' } }
  const pods = { resource: 'pods', name: 'p' }
  const web = { resource: 'deploy', name: 'web' }

  it.each<readonly [Input, string]>([
    [{ verb: 'edit' }, 'The verb is none of'],
    [{ verb: 'constructor' }, 'The verb is none of'],
    [{ verb: 'get', resource: 'pods', namespace: 'a', all_namespaces: true }, 'either namespace or all_namespaces'],
    [{ verb: 'get', resource: 'pods', namespace: 'a/b' }, 'The namespace is not the name of one'],
    [{ verb: 'get', resource: 'nodes', namespace: 'web' }, 'nodes are not in namespaces'],
    [{ verb: 'get', resource: 'nodes', all_namespaces: true }, 'nodes are not in namespaces'],
    [{ verb: 'get', resource: 'pods', name: 'a/b' }, 'not the name of an object'],
    [{ verb: 'get', resource: 'pods', name: '..' }, 'not the name of an object'],
    [{ verb: 'get', ...pods, all_namespaces: true }, 'One object is in one namespace'],
    [{ verb: 'get' }, 'Name the resource'],
    [{ verb: 'get', resource: 'pods,secrets' }, 'Name one resource'],
    [{ verb: 'get', resource: 'pods/a/b' }, 'Name one resource'],
    [{ verb: 'get', resource: 'pods/a', name: 'b' }, 'The name is given twice'],
    [{ verb: 'get', resource: 'Pod$' }, 'must be one kind'],
    [{ verb: 'get', resource: 'gadgets' }, 'no resource of that name'],
    [{ verb: 'get', ...pods, selector: 'a=b' }, 'either a name or a selector'],
    [{ verb: 'get', ...pods, field_selector: 'a=b' }, 'either a name or a selector'],
    [{ verb: 'list', ...pods }, 'A list has no name'],
    [{ verb: 'describe', resource: 'pods' }, 'Name the object'],
    [{ verb: 'delete', ...pods, selector: 'a=b' }, 'a selector is no identity'],
    [{ verb: 'events', name: 'a,b' }, 'not the name of an object'],
    [{ verb: 'logs', ...web }, 'Logs are those of a pod'],
    [{ verb: 'top', resource: 'deploy' }, 'top is of pods or nodes'],
    [{ verb: 'top', resource: 'services' }, 'top is of pods or nodes'],
    [{ verb: 'create' }, 'Give the object as manifest'],
    [{ verb: 'create', manifest: '- 1' }, 'The manifest must be one object'],
    [{ verb: 'create', manifest: { ...CONFIG, kind: 'Gad get' } }, 'needs apiVersion and kind'],
    [{ verb: 'create', manifest: { ...CONFIG, apiVersion: 'v1/../v1' } }, 'needs apiVersion and kind'],
    [{ verb: 'create', manifest: { ...CONFIG, kind: 'Gadget' } }, 'no such apiVersion and kind'],
    [{ verb: 'create', manifest: CONFIG, resource: 'pods' }, 'The manifest says which object is meant'],
    [{ verb: 'apply', manifest: CONFIG, name: 'd' }, 'The manifest says which object is meant'],
    [{ verb: 'create', manifest: CONFIG, namespace: 'other' }, 'another namespace than the call'],
    [{ verb: 'create', manifest: { ...CONFIG, metadata: { namespace: '../x' } } }, 'The namespace is not one'],
    [
      { verb: 'create', manifest: { apiVersion: 'v1', kind: 'Node', metadata: { name: 'n', namespace: 'web' } } },
      'The namespace is not one',
    ],
    [{ verb: 'apply', manifest: { ...CONFIG, metadata: {} } }, 'The manifest needs metadata.name'],
    [{ verb: 'patch', ...web }, 'Give the patch'],
    [{ verb: 'label', ...web }, 'Give labels'],
    [{ verb: 'annotate', ...web, annotations: {} }, 'Give annotations'],
    [{ verb: 'scale', ...web }, 'Give replicas'],
    [{ verb: 'rollout_status', ...pods }, 'A rollout is that of'],
    [{ verb: 'rollout_undo', resource: 'statefulsets', name: 's' }, 'Only a deployment can be taken back'],
    [{ verb: 'cordon', ...pods }, 'cordon acts on a node'],
    [{ verb: 'drain', ...pods }, 'drain acts on a node'],
    [{ verb: 'exec', ...web, command: ['sh'] }, 'A command runs in a pod'],
    [{ verb: 'exec', ...pods }, 'Give the command as a list of words'],
    [{ verb: 'can_i', resource: 'pods' }, 'Give ask_verb'],
  ])('refuses %j: %s', async (input, sentence) => {
    await expect(command(input)).rejects.toEqual(refusal(sentence))
  })

  it.each<readonly [Input, string, string]>([
    [{ verb: 'get', resource: 'pods' }, 'list', '/api/v1/namespaces/web/pods'],
    [{ verb: 'get', resource: 'pods', all_namespaces: true }, 'list', '/api/v1/pods'],
    [{ verb: 'get', resource: 'pods/p' }, 'get', '/api/v1/namespaces/web/pods/p'],
    [{ verb: 'get', resource: 'node', name: 'n' }, 'get', '/api/v1/nodes/n'],
    [{ verb: 'logs', name: 'p' }, 'logs', '/api/v1/namespaces/web/pods/p/log'],
    [{ verb: 'rollout-status', ...web }, 'get', '/apis/apps/v1/namespaces/web/deployments/web'],
    [{ verb: 'scale', ...web, replicas: 0 }, 'scale', '/apis/apps/v1/namespaces/web/deployments/web/scale'],
    [{ verb: 'cordon', name: 'n' }, 'patch', '/api/v1/nodes/n'],
    [{ verb: 'create', manifest: CONFIG, namespace: 'web' }, 'create', '/api/v1/namespaces/web/configmaps'],
  ])('takes %j for %s on %s', async (input, verb, path) => {
    const [first] = (await command(input)).requests
    expect(first).toMatchObject({ verb, path })
  })

  it('evicts no more pods in one call than a node has', async () => {
    const pod = (index: number): unknown => ({
      metadata: { name: `p${index}`, namespace: 'web', uid: `u${index}`, ownerReferences: [{ kind: 'ReplicaSet' }] },
    })
    const draining = (count: number): Promise<ToolCommand> =>
      commandOf({ verb: 'drain', name: 'n' }, 'web', {
        findKind: async () => undefined,
        uidOf: async () => undefined,
        podsOf: async () => ({
          list: new Map([['items', Array.from({ length: count }, (_, index) => jsonFrom(pod(index)))]]),
          eviction: 'policy/v1beta1',
        }),
      })
    expect((await draining(500)).requests).toHaveLength(502)
    await expect(draining(501)).rejects.toEqual(refusal('more than the 500 pods'))
  })
})

describe('a request to the API', () => {
  const PODS = '/api/v1/namespaces/web/pods'
  const read = (path: string, method = 'GET', accept?: string) => readRequest({ method, path, accept })

  it.each([
    ['api/v1/pods', 'must start with a slash'],
    ['/api/v1/watch', 'names no resource'],
    ['/api/v1/Pods', 'not the plural of a kind'],
    [`${PODS}/p,q`, 'not the name of an object'],
    [`${PODS}/p/Exec`, 'The subresource in the path is none'],
    [`${PODS}?%20x=1`, 'no plain name'],
    [`${PODS}?=1`, 'no plain name'],
    [`${PODS}?labelSelector=é`, 'must be printable ASCII'],
    [`${PODS}?labelSelector=%`, 'an escape that is none'],
  ])('is refused: %s (%s)', (path, sentence) => {
    expect(() => read(path)).toThrow(refusal(sentence))
  })

  it('has a method everybody knows', () => {
    for (const method of ['TRACE', 'get', 'CONNECT', '']) {
      expect(() => read(PODS, method)).toThrow(refusal('The method must be'))
    }
  })

  it.each([
    ['GET', '/apis/apps', 'discover'],
    ['GET', '/api/v1', 'discover'],
    ['GET', `${PODS}?limit=1&&continue=x`, 'list'],
    ['GET', '/api/v1/watch/namespaces/web/pods/p/log', 'unknown'],
    ['PATCH', PODS, 'unknown'],
    ['PATCH', '/api/v1/watch/namespaces/web/pods/p', 'unknown'],
    ['DELETE', '/api/v1/watch/namespaces/web/pods', 'unknown'],
    ['POST', '/api/v1/watch/namespaces/web/pods', 'unknown'],
    ['PATCH', '/apis/apps/v1/namespaces/web/deployments/d/ephemeralcontainers', 'unknown'],
    ['PUT', '/apis/example.com/v1/things/x/approval', 'unknown'],
    ['PUT', '/apis/certificates.k8s.io/v1/certificatesigningrequests/x/approval', 'approve'],
    ['PUT', `${PODS}/p/status`, 'update'],
    ['PATCH', `${PODS}/p/status`, 'patch'],
    ['POST', `${PODS}/p/status`, 'unknown'],
    ['POST', '/api/v1', 'unknown'],
  ])('%s %s is %s', (method, path, verb) => {
    expect(read(path, method).verb).toBe(verb)
  })

  it('takes the name a list is narrowed to for its name, and that of nothing else', () => {
    expect(read(`${PODS}?fieldSelector=metadata.name%3Dp`).name).toBe('p')
    expect(read(`${PODS}?fieldSelector=metadata.name%3Dp`, 'DELETE').name).toBeUndefined()
  })

  it.each([
    ['/apis', 'application/json;g=apidiscovery.k8s.io;v=v2;as=APIGroupDiscoveryList', /as=APIGroupDiscoveryList/u],
    ['/openapi/v2', 'application/com.github.proto-openapi.spec.v2@v1.0+protobuf', /proto-openapi/u],
    [PODS, 'application/json;as=PartialObjectMetadataList;g=meta.k8s.io;v=v1', /as=PartialObjectMetadataList/u],
    [PODS, 'application/json;as=Table;v=v1;g=meta.k8s.io,application/json', /as=Table/u],
    [PODS, 'application/json;as=APIGroupDiscoveryList', /^application\/json$/u],
    [PODS, 'application/yaml', /^application\/json$/u],
  ])('%s as %s is asked for in a form that can be read', (path, accept, form) => {
    expect(read(path, 'GET', accept).accept).toMatch(form)
  })
})

describe('the address of a cluster', () => {
  it.each([
    ['http://10.0.0.1:6443', 'must be an https URL'],
    ['nonsense', 'must be an https URL'],
    ['https://me:pass@10.0.0.1', 'must not hold a password'],
    ['https://10.0.0.1/?a=b', 'must not have a query'],
    ['https://10.0.0.1/#x', 'must not have a query'],
    ['https://010.0.0.1', 'another spelling'],
    ['https://10.0.0.1:443', 'another spelling'],
  ])('is not %s: it %s', (server, sentence) => {
    const parsed = kubernetesSchema.safeParse({ server })
    expect(JSON.stringify(parsed.error?.issues)).toContain(sentence)
    expect(JSON.stringify(parsed.error?.issues)).not.toContain('pass@')
  })

  it('is one with or without a path', () => {
    for (const server of ['https://10.0.0.1:6443', 'https://cluster.example/k8s', 'https://cluster.example/']) {
      expect(
        kubernetesSchema.safeParse({ server }).error?.issues.filter(({ path }) => path[0] === 'server') ?? [],
      ).toEqual([])
    }
  })
})
