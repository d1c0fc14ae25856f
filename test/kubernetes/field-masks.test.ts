import { describe, expect, it } from 'vitest'
import { parseJson, writeJson, type JsonValue } from '../../src/core/json.ts'
import { maskValue } from '../../src/protocols/kubernetes/masks.ts'
import { planApi, type KubePlan } from '../../src/protocols/kubernetes/plan.ts'
import { targetOf } from '../../src/protocols/kubernetes/request.ts'
import { trimRows } from '../../src/protocols/kubernetes/table-rows.ts'

const WIDGETS = '/apis/example.com/v1/namespaces/web/widgets'
const TABLE = 'application/json;as=Table;v=v1;g=meta.k8s.io,application/json'

function plan(payload: object, ...paths: readonly string[]): KubePlan {
  const fields = paths.map((path) => ({ path, transform: 'redact' as const }))
  return planApi({ kind: 'api', method: 'GET', ...payload }, { masks: [], fields, streams: false })
}

const patch = (...operations: readonly object[]): object => ({
  method: 'PATCH',
  path: `${WIDGETS}/w`,
  content_type: 'application/json-patch+json',
  body: Buffer.from(JSON.stringify(operations)).toString('base64'),
})

describe('where fields are masked', () => {
  it.each([
    [{ op: 'copy', from: '/spec/card', path: '/metadata/labels/x' }, 'spec.card'],
    [{ op: 'move', from: '/spec/card', path: '/spec/other' }, 'spec.card'],
    [{ op: 'test', path: '/spec/card', value: '4111' }, 'spec.card'],
    [{ op: 'test', path: '/spec/Card', value: '4111' }, 'spec.card'],
    [{ op: 'copy', from: '/spec', path: '/metadata/annotations' }, 'spec.card'],
    [{ op: 'test', path: '/spec', value: { card: '4111' } }, 'spec.card'],
    [{ op: 'copy', from: '/spec/cards/0/number', path: '/spec/x' }, 'spec.cards.number'],
    [{ op: 'test', path: '/spec/a~1b', value: 'x' }, 'spec.a/b'],
    [{ op: 'test', path: '/spec/deep/er/ssn', value: 'x' }, '**.ssn'],
    [{ op: 'copy', from: '/status/x', path: '/spec/x' }, '**.ssn'],
    [{ op: 'copy', from: 5, path: '/spec/x' }, 'spec.card'],
    [{ op: 'compare', path: '/spec/x' }, 'spec.card'],
  ])('a patch that reads is refused: %j under %s', (operation, path) => {
    expect(plan(patch(operation), path).refused).toMatchObject({ construct: 'k8s.patch_reads' })
  })

  it.each([
    [{ op: 'test', path: '/metadata/resourceVersion', value: '7' }, 'spec.card'],
    [{ op: 'test', path: '/spec/replicas', value: 1 }, '**.ssn'],
    [{ op: 'replace', path: '/spec/card', value: '4111' }, 'spec.card'],
    [{ op: 'copy', from: '/spec/color', path: '/spec/other' }, 'spec.card'],
  ])('any other is not: %j under %s', (operation, path) => {
    expect(plan(patch(operation), path).refused).toBeUndefined()
  })

  it.each([
    [`${WIDGETS}?fieldSelector=spec.card%3D4111`, 'spec.card'],
    [`${WIDGETS}?fieldSelector=metadata.name!%3Dx,spec.card!%3D4111`, '**.card'],
    [`${WIDGETS}?fieldSelector=spec.password%3Dx`, 'spec.other'],
  ])('nobody selects by them: %s under %s', (path, field) => {
    expect(plan({ path }, field).refused).toMatchObject({ construct: 'k8s.field_selector' })
  })

  it.each([[`${WIDGETS}?fieldSelector=metadata.name%3Dx`], ['/api/v1/pods?fieldSelector=spec.nodeName%3Dn']])(
    'other selectors are let through: %s',
    (path) => {
      expect(plan({ path }, 'spec.card').refused).toBeUndefined()
    },
  )

  it('the same values are not read under other names', () => {
    const events = { path: '/apis/events.k8s.io/v1/namespaces/web/events' }
    expect(plan(events, 'message').refused).toMatchObject({ construct: 'k8s.renamed_fields' })
    expect(plan(events).refused).toBeUndefined()
    expect(plan({ path: '/api/v1/namespaces/web/events' }, 'message').refused).toBeUndefined()
  })
})

describe('tables of kinds nobody here knows', () => {
  const masked = (rows: unknown, group = 'example.com'): { rows: readonly { cells: unknown; object: unknown }[] } => {
    const value = parse({ kind: 'Table', apiVersion: 'meta.k8s.io/v1', columnDefinitions: [], rows })
    return JSON.parse(writeJson(maskValue(value, { group, resource: 'widgets' }).value)) as never
  }
  const parse = (value: unknown): JsonValue => parseJson(JSON.stringify(value))?.value ?? null
  const object = (spec: unknown): object => ({
    kind: 'Widget',
    apiVersion: 'example.com/v1',
    metadata: { name: 'w' },
    spec,
  })

  it('are asked for with their objects, whatever the client wanted, which gets no more than that', () => {
    const [request] = plan({ path: `${WIDGETS}?limit=500`, accept: TABLE }).requests
    expect(request === undefined ? '' : targetOf(request)).toBe(`${WIDGETS}?limit=500&includeObject=Object`)
    const none = plan({ path: `${WIDGETS}?includeObject=None`, accept: TABLE }).requests[0]
    const value = parse({ kind: 'Table', rows: [{ cells: ['w'], object: object({}) }] })
    const trimmed = (one = none): unknown => (one === undefined ? '' : JSON.parse(writeJson(trimRows(value, one))))
    expect(trimmed()).toMatchObject({ rows: [{ cells: ['w'], object: null }] })
    expect(trimmed(request)).toMatchObject({
      rows: [{ object: { kind: 'PartialObjectMetadata', metadata: { name: 'w' } } }],
    })
    expect(targetOf(plan({ path: '/api/v1/pods', accept: TABLE }).requests[0] ?? never())).toBe('/api/v1/pods')
  })

  it('show no cell with a value that is masked in its object', () => {
    const spec = {
      password: 'hunter2',
      color: 'red',
      env: [{ name: 'API_TOKEN', value: 'abc' }],
      nested: '{"token":"t9"}',
    }
    const { rows } = masked([{ cells: ['w', 'hunter2', 'red', 'x=abc;', '[{"token":"t9"}]', 7], object: object(spec) }])
    expect(rows[0]?.cells).toEqual(['w', '***', 'red', '***', '***', 7])
  })

  it('keep the rows apart', () => {
    const { rows } = masked([
      { cells: ['a', 'one'], object: object({ password: 'one' }) },
      { cells: ['b', 'one'], object: object({ password: 'two' }) },
    ])
    expect(rows.map(({ cells }) => cells)).toEqual([
      ['a', '***'],
      ['b', 'one'],
    ])
  })

  it('show names and numbers only when a server sends no objects', () => {
    const partial = { kind: 'PartialObjectMetadata', metadata: { name: 'w' } }
    expect(masked([{ cells: ['w', 'hunter2', 3], object: partial }]).rows[0]?.cells).toEqual(['w', '***', 3])
    expect(masked([{ cells: ['w', 'hunter2'], object: null }]).rows[0]?.cells).toEqual(['***', '***'])
  })

  it('hide what any object would, when a kind only calls itself a table', () => {
    const value = parse({
      kind: 'Table',
      password: 'hunter2',
      rows: [{ token: 'hunter2', cells: [{ apiKey: 'hunter2' }] }],
    })
    expect(writeJson(maskValue(value, { group: 'example.com', resource: 'tables' }).value)).not.toContain('hunter2')
  })

  it('are no less strange in a group of the server itself', () => {
    const [request] = plan({ path: '/apis/apps/v1alpha9/namespaces/web/safes', accept: TABLE }).requests
    expect(request === undefined ? '' : targetOf(request)).toContain('includeObject=Object')
    const [own] = plan({ path: '/apis/apps/v1/namespaces/web/deployments', accept: TABLE }).requests
    expect(own === undefined ? '' : targetOf(own)).not.toContain('includeObject')
  })

  it('stay as they are for kinds of the server itself', () => {
    expect(masked([{ cells: ['w', 'Running'], object: null }], '').rows[0]?.cells).toEqual(['w', 'Running'])
  })
})

function never(): never {
  throw new Error('there is no request')
}
