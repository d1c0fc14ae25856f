/** The difference of two objects as approvers read it. */
import * as fc from 'fast-check'
import { describe, expect, it } from 'vitest'
import { parseJson, type JsonValue } from '../../src/core/json.ts'
import { diffOf, lineDiff, withoutNoise, type Diff } from '../../src/protocols/kubernetes/preview-diff.ts'
import { shownRequests, withoutValues } from '../../src/protocols/kubernetes/shown.ts'
import { readRequest } from '../../src/protocols/kubernetes/read-request.ts'

const json = (value: unknown): JsonValue => parseJson(JSON.stringify(value))?.value as JsonValue
const ABOUT = { group: '', resource: 'configmaps' }
const diff = (before: unknown, after: unknown, about = ABOUT): Diff =>
  diffOf(before === undefined ? undefined : json(before), after === undefined ? undefined : json(after), about)

describe('a difference', () => {
  it('has the lines that changed, three around them, and the keys above', () => {
    const spec = (image: string): object => ({
      spec: { a: { one: 1, two: 2, three: 3, four: 4, containers: [{ name: 'c', image, tty: true }] } },
    })
    expect(diff(spec('web:1'), spec('web:2')).text.split('\n')).toEqual([
      '@@ spec.a',
      '      four: 4',
      '      containers:',
      '        - name: c',
      '-         image: web:1',
      '+         image: web:2',
      '          tty: true',
    ])
  })

  it('tells what is far apart in pieces, each under its keys', () => {
    const lines = (change: string): string[] => [
      'a:',
      ...Array.from({ length: 9 }, (_, index) => `  k${index}: 1`),
      'b:',
      `  x: ${change}`,
    ]
    expect(lineDiff(['top: 1', ...lines('1')], ['top: 2', ...lines('2')])).toEqual([
      '- top: 1',
      '+ top: 2',
      '  a:',
      '    k0: 1',
      '    k1: 1',
      '@@ a',
      '    k7: 1',
      '    k8: 1',
      '  b:',
      '-   x: 1',
      '+   x: 2',
    ])
  })

  it('is all lines of one that is not there, and none of two that are alike', () => {
    expect(diff(undefined, { a: 1 }).text).toBe('+ a: 1')
    expect(diff({ a: 1 }, undefined).text).toBe('- a: 1')
    expect(diff({ a: 1, b: [1.5, 'x', null] }, { a: 1, b: [1.5, 'x', null] })).toEqual({ text: '', hidden: [] })
  })

  it('leaves out what the server writes by itself, and nothing else of that name', () => {
    const noise = {
      managedFields: [1],
      resourceVersion: '1',
      generation: 1,
      creationTimestamp: 'x',
      uid: 'u',
      selfLink: 's',
    }
    expect(diff({ metadata: noise }, { metadata: { ...noise, resourceVersion: '2', generation: 2 } }).text).toBe('')
    expect(diff({ spec: { uid: 'a' } }, { spec: { uid: 'b' } }).text).toContain('uid: b')
    for (const odd of [1, { a: 1 }, { metadata: 'x' }]) expect(withoutNoise(json(odd))).toEqual(json(odd))
  })

  it('C10: names the places of values nobody is shown, and says no value', () => {
    const secret = (password: string): object => ({ kind: 'Secret', data: { password, same: 'aGk=' } })
    const about = { group: '', resource: 'secrets' }
    expect(diff(secret('b25l'), secret('dHdv'), about)).toEqual({ text: '', hidden: ['data.password'] })
    const env = (value: string): object => ({
      env: [
        { name: 'MODE', value: 'x' },
        { name: 'DB_PASSWORD', value },
      ],
    })
    const { text, hidden } = diff(env('one'), env('two'))
    expect([text, hidden]).toEqual(['', ['env.1.value']])
    const added = diff({ kind: 'Secret', data: {} }, secret('dHdv'), about)
    expect(added.hidden).toEqual([])
    expect(added.text).toContain('password')
    expect(added.text).not.toContain('dHdv')
  })

  it('keeps numbers that JavaScript has no room for', () => {
    const before = parseJson('{"n":9007199254740993}')?.value
    const after = parseJson('{"n":9007199254740992}')?.value
    expect(diffOf(before, after, ABOUT).text).toMatch(/9007199254740993[^]*9007199254740992/u)
  })

  it('leads from the one to the other, whatever they are', () => {
    const line = fc.constantFrom<string>('a', 'b', ' c', '  d', 'e: f')
    fc.assert(
      fc.property(fc.array(line, { maxLength: 12 }), fc.array(line, { maxLength: 12 }), (before, after) => {
        const lines = lineDiff(before, after)
        const gone = lines.filter((each) => each.startsWith('- ')).map((each) => each.slice(2))
        const come = lines.filter((each) => each.startsWith('+ ')).map((each) => each.slice(2))
        const left = [...before]
        for (const each of gone) left.splice(left.indexOf(each), 1)
        const kept = [...after]
        for (const each of come) kept.splice(kept.indexOf(each), 1)
        expect(left.sort()).toEqual(kept.sort())
        expect(lines.length > 0).toBe(before.join('\n') !== after.join('\n'))
      }),
    )
  })

  it('of texts too long to compare is all lines of both', () => {
    const lines = (tail: string): string[] => Array.from({ length: 2_001 }, (_, index) => `${index} ${tail}`)
    expect(lineDiff(lines('a'), lines('b'))).toHaveLength(4_002)
  })
})

describe('a request as it is shown', () => {
  const request = (method: string, path: string, body?: unknown, contentType = 'application/json') =>
    readRequest({ method, path, ...(body !== undefined && { contentType, body: Buffer.from(JSON.stringify(body)) }) })
  const PODS = '/api/v1/namespaces/web/pods'

  it('has a line for each, its command as words, and says what is a dry run', () => {
    const { text } = shownRequests([
      request('GET', PODS),
      request('GET', `${PODS}/p/exec?command=sh&command=-c&command=a%0Ab`),
      request('DELETE', `${PODS}/p?dryRun=All`),
    ])
    expect(text.split('\n')).toEqual([
      `GET ${PODS}`,
      `GET ${PODS}/p/exec?command=sh&command=-c&command=a%0Ab`,
      '  command: ["sh","-c","a\\nb"]',
      `DELETE ${PODS}/p?dryRun=All`,
      '  (dry run: the server only pretends)',
    ])
  })

  it('C10: shows of operations where they act, and no text that could be a value', () => {
    const patch = [
      { op: 'replace', path: '/spec/replicas', value: 3 },
      { op: 'replace', path: '/spec/containers/0/env/0/value', value: 'hunter2' },
      { op: 'remove', path: '/spec/x' },
    ]
    const { text, data } = shownRequests([request('PATCH', `${PODS}/p`, patch, 'application/json-patch+json')])
    expect(text).not.toContain('hunter2')
    expect(text).toContain('"path":"/spec/replicas","value":3')
    expect(data?.[0] && text.slice(data[0].start, data[0].end)).toContain('"op":"remove"')
    const secret = [{ op: 'add', path: '/metadata/labels/x', value: 'hunter2' }]
    const path = '/api/v1/namespaces/web/secrets/s'
    expect(shownRequests([request('PATCH', path, secret, 'application/json-patch+json')]).text).not.toContain('hunter2')
  })

  it('still says the same when only values were masked, and not when anything else was', () => {
    const { text } = shownRequests([request('POST', PODS, { kind: 'Pod', a: ['x', { b: 'y' }] })])
    expect(withoutValues(text, text.replace('"y"', '"[REDACTED]"'))).toBeUndefined()
    for (const [from, to] of [
      ['POST', 'GET'],
      ['/web/', '/[REDACTED]/'],
      ['"b"', '"c"'],
      ['["x",', '['],
    ] as const) {
      expect(withoutValues(text, text.replace(from, to))?.join('')).toMatch(/^POST [^]*"b":•/u)
    }
  })
})
