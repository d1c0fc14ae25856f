import { describe, expect, it } from 'vitest'
import { SallyportError } from '../../src/core/errors.ts'
import { parseJson, writeJson } from '../../src/core/json.ts'
import { readArgv } from '../../src/protocols/kubernetes/argv.ts'
import { scrubMessage } from '../../src/protocols/kubernetes/mask-message.ts'
import { maskValue } from '../../src/protocols/kubernetes/masks.ts'
import { planApi } from '../../src/protocols/kubernetes/plan.ts'
import { readRequest } from '../../src/protocols/kubernetes/read-request.ts'
import { kindOf, targetOf } from '../../src/protocols/kubernetes/request.ts'

const PODS = '/api/v1/namespaces/web/pods'
const body = (value: unknown): Uint8Array => Buffer.from(JSON.stringify(value))

describe('a verb is what the server would do', () => {
  it.each([
    ['GET', `${PODS}/p/exec?command=sh`, 'exec', 'core/pods'],
    ['POST', `${PODS}/p/exec?command=sh`, 'exec', 'core/pods'],
    ['GET', `${PODS}/p/attach`, 'attach', 'core/pods'],
    ['GET', `${PODS}/p/portforward?ports=80`, 'portforward', 'core/pods'],
    ['GET', `${PODS}/p/proxy/metrics`, 'proxy', 'core/pods'],
    ['GET', '/api/v1/nodes/n/proxy/run/web/p/c', 'proxy', 'core/nodes'],
    ['DELETE', '/api/v1/namespaces/web/services/s:80/proxy/', 'proxy', 'core/services'],
    ['POST', `${PODS}/p/eviction`, 'evict', 'core/pods'],
    ['POST', '/api/v1/namespaces/web/serviceaccounts/sa/token', 'token', 'core/serviceaccounts'],
    ['PATCH', `${PODS}/p/ephemeralcontainers`, 'debug', 'core/pods'],
    ['DELETE', `${PODS}?labelSelector=app%3Dx`, 'deletecollection', 'core/pods'],
    ['DELETE', `${PODS}/p`, 'delete', 'core/pods'],
    ['GET', `${PODS}?watch=`, 'watch', 'core/pods'],
    ['GET', `${PODS}?watch=FALSE`, 'list', 'core/pods'],
    ['GET', '/api/v1/watch/namespaces/web/pods', 'watch', 'core/pods'],
    ['PUT', '/apis/apps/v1/namespaces/web/deployments/d/scale', 'scale', 'apps/deployments'],
    ['GET', '/apis/apps/v1/namespaces/web/deployments/d/scale', 'get', 'apps/deployments/scale'],
    ['PATCH', `${PODS}/p/status`, 'patch', 'core/pods/status'],
    ['GET', `${PODS}/p/console`, 'unknown', 'core/pods/console'],
    ['POST', `${PODS}/p`, 'unknown', 'core/pods'],
    ['GET', '/metrics', 'unknown', undefined],
    ['GET', '/logs/kube-apiserver.log', 'unknown', undefined],
    ['GET', '/api/v1/namespaces/web', 'get', 'core/namespaces'],
    ['PUT', '/api/v1/namespaces/web/finalize', 'update', 'core/namespaces/finalize'],
    ['GET', '/version', 'discover', undefined],
  ])('%s %s is %s on %s', (method, path, verb, kind) => {
    const request = readRequest({ method, path })
    expect(request.verb).toBe(verb)
    expect(kindOf(request)).toBe(kind)
  })
})

describe('what has two readings is refused', () => {
  it.each([
    '/api/v1//namespaces/web/pods',
    '/api/v1/namespaces/web/../kube-system/secrets',
    '/api/v1/namespaces/web/%2e%2e/secrets',
    '/api/v1/namespaces/web/pods%2fp',
    '/api/v1/namespaces/./secrets',
    '/API/V1/namespaces/web/pods/%65xec',
    `${PODS}/p/`,
    `${PODS}/p/exec/more`,
    `${PODS}?watch=0&watch=1`,
    `${PODS}?watch=0&Watch=1`,
    `${PODS}?a=b;watch=1`,
    `${PODS}/p/log?container=a&container=b`,
    `${PODS}\\p`,
    '/api/v1/namespaces/web;x/pods',
    '/api/v1/namespaces/web%00/pods',
    '/api/v1/namespaces/web/pods/',
    '/api/v1/namespaces/web/pods?labelSelector=a&labelSelector=b',
    '/api/v1/namespaces/web/pods?dryRun=All&dryRun=None',
    '/api/v1/namespaces/web/pods/p/log?follow=1&FOLLOW=0',
    '/apis//v1/pods',
    '/api/V1/pods',
    '/api/1/namespaces/web/pods',
    '/apis/apps/latest/namespaces/web/deployments',
    `${PODS}?labelSelector=a%0Ab`,
    `${PODS}?fieldManager=a%00b`,
    '/api/v1/namespaces/Web/pods',
    '/api/v1/namespaces/web/pods/p%20q',
    'https://other/api/v1/pods',
    '/api/v1/nodes/n/proxy/../../namespaces/x/secrets',
  ])('%s', (path) => {
    expect(() => readRequest({ method: 'GET', path })).toThrow(SallyportError)
  })

  it.each([
    ['a dry run the server would not see', '?dryRun=All', { kind: 'DeleteOptions' }],
    ['a dry run with another value', '', { dryRun: ['None'] }],
    ['a dry run that is none', '?dryRun=', undefined],
  ])('%s', (_, query, options) => {
    const path = `${PODS}/p${query}`
    expect(() => readRequest({ method: 'DELETE', path, ...(options && { body: body(options) }) })).toThrow('dryRun')
  })

  it.each([
    ['a key twice', '{"kind":"Pod","kind":"Secret"}', 'application/json'],
    ['another encoding', '{}', 'application/vnd.kubernetes.protobuf'],
    ['an alias', 'a: &x 1\nb: *x', 'application/yaml'],
    ['two documents', 'a: 1\n---\nb: 2', 'application/yaml'],
  ])('%s', (_, text, contentType) => {
    expect(() => readRequest({ method: 'POST', path: PODS, contentType, body: Buffer.from(text) })).toThrow(
      SallyportError,
    )
  })
})

it('C1: what is sent is built from what was understood, and asks for what masks can read', () => {
  const accept = 'application/vnd.kubernetes.protobuf'
  const request = readRequest({ method: 'GET', path: `${PODS}?watch=1&labelSelector=a+b`, accept })
  expect(targetOf(request)).toBe(`${PODS}?watch=true&labelSelector=a%20b`)
  expect(request.accept).toBe('application/json')
})

describe('C10: a Secret is masked wherever it stands', () => {
  const VALUE = 'aHVudGVyMg=='
  const secret = { kind: 'Secret', metadata: { name: 's' }, data: { password: VALUE }, stringData: { x: 'hunter2' } }
  const applied = { 'kubectl.kubernetes.io/last-applied-configuration': JSON.stringify(secret), 'x/copy': VALUE }
  const bare = { metadata: { name: 's', annotations: applied, managedFields: [VALUE] }, data: { password: VALUE } }
  it.each([
    ['alone', secret],
    ['in its annotations', { ...bare, kind: 'Secret' }],
    ['in a list that does not say so', { kind: 'SecretList', items: [bare] }],
    ['in a table', { kind: 'Table', rows: [{ cells: ['s'], object: bare }] }],
    ['in a change', { type: 'ADDED', object: secret }],
    ['inside another object', { kind: 'Bundle', spec: { resources: [secret] } }],
    ['inside a text', { kind: 'ConfigMap', data: { file: JSON.stringify(secret) } }],
    ['as variable', { kind: 'X', spec: { env: [{ name: 'DB_PASSWORD', value: VALUE }] } }],
    ['as token', { kind: 'TokenRequest', status: { token: VALUE } }],
    ['as Helm release', { kind: 'ConfigMap', metadata: { labels: { owner: 'helm' } }, data: { release: VALUE } }],
  ])('%s', (_, object) => {
    const parsed = parseJson(JSON.stringify(object))
    const { value } = maskValue(parsed?.value ?? null, { group: '', resource: 'secrets' })
    expect(writeJson(value)).not.toMatch(/aHVudGVyMg|hunter2/u)
  })

  it.each([
    'Job is invalid: spec.template: Invalid value: core.PodTemplateSpec{Env:[]core.EnvVar{{Value:"hunter2"}}}: no',
    'error: illegal base64, error found in #10 byte of ...|"hunter2"|..., bigger context ...|hunter2|...',
    'Forbidden: pod updates may not change fields\n  core.PodSpec{\n- Value: "hunter2"',
  ])('in no message: %s', (message) => {
    expect(scrubMessage(message, false)).not.toContain('hunter2')
  })

  it.each([
    ['copies', 'secrets', [{ op: 'copy', from: '/data/password', path: '/metadata/labels/x' }]],
    ['tests', 'secrets', [{ op: 'test', path: '/data/password', value: VALUE }]],
    ['moves a variable', 'pods', [{ op: 'move', from: '/spec/containers/0/env/0/value', path: '/metadata/labels/x' }]],
    ['copies all of it', 'pods', [{ op: 'copy', from: '/spec', path: '/metadata/labels/x' }]],
  ])('refuses a patch that %s', (_, resource, patch) => {
    const payload = {
      kind: 'api',
      method: 'PATCH',
      path: `/api/v1/namespaces/web/${resource}/x`,
      content_type: 'application/json-patch+json',
      body: Buffer.from(JSON.stringify(patch)).toString('base64'),
    }
    const plan = planApi(payload, { masks: [], streams: false })
    expect(plan.refused?.construct).toBe('k8s.patch_reads')
    expect(plan.shown.text).not.toContain(VALUE)
  })

  it('refuses to write a mask back', () => {
    const payload = {
      kind: 'api',
      method: 'PUT',
      path: '/api/v1/namespaces/web/secrets/x',
      body: Buffer.from('{"kind":"Secret","data":{"a":"Kioq"}}').toString('base64'),
    }
    expect(planApi(payload, { masks: [], streams: false }).refused?.construct).toBe('k8s.masked_value')
  })
})

describe('a command line is read strictly', () => {
  it.each([
    [['get', 'pods', '--server=https://evil']],
    [['get', 'pods', '-s', 'https://evil']],
    [['get', 'pods', '--as=admin']],
    [['get', '--raw', '/api/v1/secrets']],
    [['get', 'pods', '--kubeconfig', '/x']],
    [['get', 'pods', '-n', 'a', '-n', 'b']],
    [['get', 'pods', '-n', 'a', '--namespace=b']],
    [['get', 'pods', '-nb']],
    [['get', 'pods', '-As']],
    [['get', 'pods', '-o', 'jsonpath={.items}']],
    [['apply', '-f', 'https://evil/x.yaml']],
    [['delete', 'pod', 'a', 'b']],
    [['delete', 'pods', '--all']],
    [['exec', 'p', 'date']],
    [['exec', '-it', 'p', '--', 'sh']],
    [['version;', 'kubectl', 'delete', 'pods']],
    [['plugin', 'run']],
  ])('%j is refused', (argv) => {
    expect(() => readArgv(argv)).toThrow(SallyportError)
  })

  it('and says the same as its arguments', () => {
    expect(readArgv(['kubectl', 'logs', 'web-1', '-n', 'web', '-c', 'app', '--tail=5'])).toEqual({
      kind: 'tool',
      verb: 'logs',
      name: 'web-1',
      namespace: 'web',
      container: 'app',
      tail_lines: 5,
    })
  })
})

describe('a forwarding', () => {
  const plan = (path: string) =>
    planApi({ kind: 'api', method: 'GET', path, opening: true }, { masks: [], streams: false })

  it('announces its connections, and says nothing of their ports', () => {
    const [part] = plan(`${PODS}/p/portforward`).action.parts
    expect(part).toMatchObject({ verb: 'k8s.portforward', announces: true, resource: { kind: 'core/pods', name: 'p' } })
    expect(part?.attributes).not.toHaveProperty('ports')
  })

  it.each([`${PODS}/p/portforward?ports=80`, `${PODS}/p/exec?command=sh`, `${PODS}/p`])(
    'is all that can be opened before it is used: not %s',
    (path) => {
      expect(() => plan(path)).toThrow(SallyportError)
    },
  )
})
