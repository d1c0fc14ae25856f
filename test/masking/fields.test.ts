import * as fc from 'fast-check'
import { describe, expect, it } from 'vitest'
import type { Chunk } from '../../src/core/chunk.ts'
import type { FieldMask, Transform } from '../../src/core/decision.ts'
import { bytes, exit, joined, looking, masking } from './support.ts'

async function shownOf(chunks: readonly Chunk[], fields: readonly FieldMask[]): Promise<readonly Chunk[]> {
  const decision = looking()
  const shown: Chunk[] = []
  const source = (async function* () {
    yield* chunks
  })()
  for await (const chunk of masking.stream(source, {
    ...decision,
    obligations: { ...decision.obligations, fields },
  }))
    shown.push(chunk)
  return shown
}

function head(type: string): Chunk {
  return { kind: 'head', attributes: { ':status': '200', 'content-type': type } }
}

async function masked(
  text: string,
  paths: readonly string[],
  type = 'application/json',
  transform: Transform = 'redact',
) {
  const fields = paths.map((path) => ({ path, transform }))
  const shown = await shownOf([head(type), bytes('body', text), exit], fields)
  return joined(shown, 'body').toString('utf8')
}

describe('fields of a JSON patch, which says in pointers where its values go', () => {
  const shown = (patch: string, ...paths: readonly string[]): string => {
    const decision = looking()
    const data = [{ start: 0, end: patch.length, form: 'json' as const }]
    const fields = paths.map((path) => ({ path, transform: 'redact' as const }))
    const obligations = { ...decision.obligations, fields }
    return masking.fields({ text: patch, data }, { ...decision, obligations }).text
  }
  it.each([
    ['data.pin', '[{"op":"add","path":"/data/pin","value":"7"}]'],
    ['**.data.pin', '[{"op":"add","path":"/data/pin","value":"7"}]'],
    ['data.pin', '[{"op":"add","path":"/data","value":{"pin":"7"}}]'],
    ['data', '[{"op":"add","path":"/data/pin","value":"7"}]'],
    ['data.pin', '[{"op":"add","path":"","value":{"data":{"pin":"7"}}}]'],
    ['list.pin', '[{"op":"add","path":"/list/0/pin","value":"7"}]'],
    ['list.0.pin', '[{"op":"add","path":"/list/0/pin","value":"7"}]'],
    ['**.a/b', '[{"op":"add","path":"/x/a~1b","value":"7"}]'],
    ['**.pin', '[{"op":"add","path":"/x","value":"{\\"pin\\":7}"}]'],
  ])('C10: %s in %s', (path, patch) => {
    expect(shown(patch, path)).not.toContain('7')
    expect(shown(patch, path)).toContain('"op":"add"')
  })

  it.each([
    ['/items/0/secret', ['**.ssn', 'items.secret']],
    ['/items/0/secret', ['items.0.secret.ssn', 'items.secret']],
    ['/map/5/list/-', ['**.ssn', 'map.5.list.note']],
    ['/map/5/list/0', ['map.5.list.0.ssn', 'map.list.note']],
  ])('C10: a mask that meets a part of what goes to %s does not keep others from the rest', (pointer, paths) => {
    const patch = `[{"op":"add","path":"${pointer}","value":{"ssn":"7","note":"7"}}]`
    expect(shown(patch, ...paths)).not.toContain('7"')
  })

  it('C10: are withheld when a pointer can be read in too many ways', () => {
    const patch = '[{"op":"add","path":"/0/1/2/3/4/pin","value":"7"}]'
    expect(shown(patch, 'pin')).toMatch(/^\[withheld/u)
  })

  it('leave what no mask names as it was written', () => {
    const patch = '[{"op":"add","path":"/data/mode","value":"7"},{"op":"remove","path":"/data/pin"}, 1]'
    expect(shown(patch, 'data.pin')).toBe(patch)
  })
})

describe('fields of JSON', () => {
  for (const [path, before, after] of [
    ['ssn', '{"ssn":"1","x":{"ssn":"2"}}', '{"ssn":"[REDACTED:field]","x":{"ssn":"2"}}'],
    ['**.ssn', '{"ssn":"1","x":[{"ssn":"2"}]}', '{"ssn":"[REDACTED:field]","x":[{"ssn":"[REDACTED:field]"}]}'],
    ['x.*.ssn', '{"x":{"a":{"ssn":1},"ssn":2}}', '{"x":{"a":{"ssn":"[REDACTED:field]"},"ssn":2}}'],
    [
      'items.price',
      '{"items":[[{"price":1.50}],{"price":null}]}',
      '{"items":[[{"price":"[REDACTED:field]"}],{"price":"[REDACTED:field]"}]}',
    ],
    ['card', '{"card":{"number":"4111"},"n":1}', '{"card":"[REDACTED:field]","n":1}'],
    ['ssn', '{"SSN":"1"}', '{"SSN":"[REDACTED:field]"}'],
    ['ssn', '{"s\\u0073n":"1"}', '{"ssn":"[REDACTED:field]"}'],
    ['ssn', '{"ssn":"1","ssn":"2","a":0}', '{"ssn":"[REDACTED:field]","a":0}'],
    ['ssn', '[{"ssn":"1"},2]', '[{"ssn":"[REDACTED:field]"},2]'],
    ['a.b', '{"a":"b","a.b":"1"}', '{"a":"b","a.b":"1"}'],
    ['**.ssn', '{"echo":"{\\"ssn\\": 1, \\"x\\": 2}"}', '{"echo":"{\\"ssn\\":\\"[REDACTED:field]\\",\\"x\\":2}"}'],
    ['echo.ssn', '{"echo":"[{\\"ssn\\":1}]"}', '{"echo":"[{\\"ssn\\":\\"[REDACTED:field]\\"}]"}'],
    ['**.ssn', '{"echo":"{\\"ssn\\":1,\\"ssn\\":2}"}', '{"echo":"{\\"ssn\\":\\"[REDACTED:field]\\"}"}'],
    ['**.ssn', '{"echo":"{ \\"x\\": 1 }"}', '{"echo":"{ \\"x\\": 1 }"}'],
    ['__proto__', '{"__proto__":"1"}', '{"__proto__":"[REDACTED:field]"}'],
    ['ssn', '\ufeff{"ssn":"1"}', '{"ssn":"[REDACTED:field]"}'],
  ] as const) {
    it(`${path} in ${before}`, async () => expect(await masked(before, [path])).toBe(after))
  }

  it('keep their digits where they are not masked', async () => {
    const text = '{"id":12345678901234567890,"x":1.10,"y":1e400,"z":-0.0,"s":"\\u00e9"}'
    expect(await masked(text, ['ssn'])).toBe('{"id":12345678901234567890,"x":1.10,"y":1e400,"z":-0.0,"s":"é"}')
  })

  it('are replaced as the transform says', async () => {
    const text = '{"card":"4111111111111111","n":5}'
    expect(await masked(text, ['card', 'n'], 'application/json', 'null')).toBe('{"card":null,"n":null}')
    expect(await masked(text, ['card', 'n'], 'application/json', 'partial')).toBe(
      '{"card":"[REDACTED:field]1111","n":"[REDACTED:field]"}',
    )
    const hashed = await masked(text, ['card'], 'application/json', 'hash')
    expect(hashed).toMatch(/^\{"card":"\[HASH:field:h[0-9a-f]{16}\]","n":5\}$/)
  })

  for (const [what, text, type] of [
    ['no JSON under its name', '<html>4111', 'application/json'],
    ['half of a value', '{"ssn":"4111', 'application/json'],
    ['more than a value', '{"ssn":"1"} 4111', 'application/json'],
    ['another type', 'ssn: 4111', 'text/plain'],
    ['no type at all', '{"ssn":"4111"}', ''],
    ['deeper than anybody nests', `${'['.repeat(500)}4111${']'.repeat(500)}`, 'application/json'],
  ] as const) {
    it(`C6: are withheld with the whole body when it is ${what}`, async () => {
      const shown = await shownOf([head(type), bytes('body', text), exit], [{ path: 'ssn', transform: 'redact' }])
      expect(joined(shown, 'body').toString()).toBe('')
      expect(shown.some((chunk) => chunk.kind === 'notice')).toBe(true)
    })
  }

  it('are masked line by line where each line is a value, as they flow', async () => {
    const shown = await shownOf(
      [head('application/x-ndjson'), bytes('body', '{"ssn":1}\n{"ss'), bytes('body', 'n":2}\n{"ssn":3}'), exit],
      [{ path: 'ssn', transform: 'null' }],
    )
    expect(shown.filter((chunk) => chunk.kind === 'data').map((chunk) => joined([chunk], 'body').toString())).toEqual([
      '{"ssn":null}\n',
      '{"ssn":null}\n',
      '{"ssn":null}',
    ])
  })

  it('are masked in the data of events, and nothing else of an event is free text', async () => {
    const text = 'event: order\nid: 7\n: ssn 4111\ndata: {"ssn":"4111"}\n\ndata: [DONE]\n\nevent: ssn is 4111\n'
    expect(await masked(text, ['ssn'], 'text/event-stream')).toBe(
      'event: order\nid: 7\n:\ndata: {"ssn":"[REDACTED:field]"}\n\ndata: [DONE]\n\n:\n',
    )
  })
})

describe('any JSON and any paths', () => {
  const key = fc.constantFrom('a', 'b', 'ssn', 'A', 'x y', '__proto__', 'constructor', 'é')
  const leaf = fc.oneof(
    fc.string(),
    fc.integer(),
    fc.double({ noNaN: true, noDefaultInfinity: true }),
    fc.boolean(),
    fc.constant(null),
  )
  const { tree } = fc.letrec((tie) => ({
    tree: fc.oneof(
      { maxDepth: 5 },
      leaf,
      fc.array(tie('tree'), { maxLength: 4 }),
      fc.dictionary(key, tie('tree'), { maxKeys: 4 }),
    ),
  }))
  const path = fc
    .array(fc.constantFrom('a', 'b', 'ssn', '*', '**', 'é'), { minLength: 1, maxLength: 4 })
    .map((keys) => [...keys, 'ssn'].join('.'))

  /** The straightforward reading of a path, written apart from the code under test. */
  function isNamed(paths: readonly string[], trail: readonly string[]): boolean {
    return paths.some((text) => {
      const pattern = text
        .split('.')
        .map((word) => (word === '**' ? '(?:[^.]*\\.)*' : `${word === '*' ? '[^.]*' : word}\\.`))
        .join('')
      return new RegExp(`^${pattern}$`, 'iu').test(trail.map((word) => `${word}.`).join(''))
    })
  }

  function expected(value: unknown, paths: readonly string[], trail: readonly string[]): unknown {
    if (Array.isArray(value)) return value.map((item) => expected(item, paths, trail))
    if (typeof value !== 'object' || value === null) return value
    return Object.fromEntries(
      Object.entries(value).map(([name, field]) => {
        const here = [...trail, name]
        return [name, isNamed(paths, here) ? '[REDACTED:field]' : expected(field, paths, here)]
      }),
    )
  }

  it('C10: lose what a path names, wherever it stands, and keep everything else', async () => {
    await fc.assert(
      fc.asyncProperty(tree, fc.array(path, { minLength: 1, maxLength: 3 }), async (value, paths) => {
        const text = JSON.stringify(value)
        expect(JSON.parse(await masked(text, paths))).toEqual(
          JSON.parse(JSON.stringify(expected(JSON.parse(text), paths, []))),
        )
      }),
      { numRuns: 500 },
    )
  })

  /** JSON as somebody hostile writes it: spelled in any way, with equal keys, JSON inside of texts, numbers no double holds. */
  type Written =
    | { readonly kind: 'text' | 'number' | 'literal'; readonly form: number }
    | { readonly kind: 'nested'; readonly inner: Written }
    | { readonly kind: 'list'; readonly items: readonly Written[] }
    | { readonly kind: 'object'; readonly fields: readonly (readonly [string, Written])[] }

  const names = fc.constantFrom('a', 'b', 'ssn', 'SSN', 'x y', '__proto__', 'é', '', 'mark')
  const { written } = fc.letrec<{ written: Written }>((tie) => ({
    written: fc.oneof(
      { maxDepth: 5 },
      fc.record({ kind: fc.constantFrom('text', 'number', 'literal'), form: fc.nat({ max: 5 }) }),
      fc.record({ kind: fc.constant('list' as const), items: fc.array(tie('written'), { maxLength: 3 }) }),
      fc.record({
        kind: fc.constant('object' as const),
        fields: fc.array(fc.tuple(names, tie('written')), { maxLength: 4 }),
      }),
      fc.record({
        kind: fc.constant('object' as const),
        fields: fc.array(fc.tuple(names, tie('written')), { maxLength: 4 }),
      }),
      fc.record({
        kind: fc.constant('nested' as const),
        inner: fc.record({
          kind: fc.constant('object' as const),
          fields: fc.array(fc.tuple(names, tie('written')), { minLength: 1, maxLength: 3 }),
        }),
      }),
    ),
  }))

  const NUMBERS = ['90#07', '-90#07.50', '90#07e400', '0.90#070', '90#0712345678901234567890', '-0.090#07E-3']
  const TEXTS = ['v#v', 'v#v/é', '"v#v\\', 'v#v\n\u2028', '{v#v', '[v#v']
  const LITERALS = ['true', 'false', 'null']

  interface Both {
    readonly sent: string
    readonly shown: string
    /** Whether what is shown has lost anything of what was sent. */
    readonly isChanged?: boolean | undefined
  }

  /** Writes a document and, beside it, what must come of it: byte for byte, with the marks of what must be gone. */
  class Writer {
    #mark = 0
    #random: number
    readonly gone: string[] = []
    readonly #paths: readonly string[]

    constructor(paths: readonly string[], seed: number) {
      this.#paths = paths
      this.#random = seed
    }

    write(one: Written, trail: readonly string[], isGone: boolean): Both {
      const blank = this.#pick(4) === 0 ? ' \n\t' : ''
      switch (one.kind) {
        case 'list': {
          const items = one.items.map((item) => this.write(item, trail, isGone))
          return {
            sent: `[${blank}${items.map(({ sent }) => sent).join(`${blank},`)}]`,
            shown: `[${items.map(({ shown }) => shown).join(',')}]`,
            isChanged: items.some(({ isChanged }) => isChanged === true),
          }
        }
        case 'object':
          return this.#object(one.fields, trail, isGone, blank)
        case 'nested': {
          const { sent, shown, isChanged } = this.#object(
            one.inner.kind === 'object' ? one.inner.fields : [],
            trail,
            isGone,
            blank,
          )
          return { sent: this.#spelled(sent), shown: JSON.stringify(isChanged === true ? shown : sent), isChanged }
        }
        default: {
          const forms = one.kind === 'text' ? TEXTS : one.kind === 'number' ? NUMBERS : LITERALS
          const text = (forms[one.form % forms.length] ?? '').replace('#', this.#next(isGone && one.kind !== 'literal'))
          return one.kind === 'text'
            ? { sent: this.#spelled(text), shown: JSON.stringify(text) }
            : { sent: text, shown: text }
        }
      }
    }

    #object(
      given: readonly (readonly [string, Written])[],
      trail: readonly string[],
      isGone: boolean,
      blank: string,
    ): Both {
      const kept = new Map<string, string>()
      let isChanged = false
      const sent = given.map(([word, field]) => {
        const name = word === 'mark' ? `k${this.#next(isGone)}k` : word
        const here = [...trail, name]
        const isNamedHere = isNamed(this.#paths, here)
        const inner = this.write(field, here, isGone || isNamedHere)
        // Of equal keys one is kept, and a text that hides another is written anew.
        if (isNamedHere || kept.has(name)) isChanged = true
        kept.set(name, isNamedHere ? '"[REDACTED:field]"' : inner.shown)
        if (inner.isChanged === true) isChanged = true
        return `${this.#spelled(name)}${blank}:${inner.sent}`
      })
      const shown = `{${[...kept].map(([name, field]) => `${JSON.stringify(name)}:${field}`).join(',')}}`
      return { sent: `{${sent.join(`,${blank}`)}${blank}}`, shown, isChanged }
    }

    /** A JSON text with some of its characters in escapes. */
    #spelled(text: string): string {
      const signs = Array.from({ length: text.length }, (_, at) => text.charAt(at))
      return `"${signs.map((sign) => (this.#pick(3) === 0 ? escaped(sign) : JSON.stringify(sign).slice(1, -1))).join('')}"`
    }

    #next(isGone: boolean): string {
      // A nine begins a mark and stands nowhere else: the digits of an escape never look like one.
      const count = ++this.#mark
      const mark = `9${[0, 3, 6, 9].map((shift) => 1 + ((count >> shift) & 7)).join('')}`
      if (isGone) this.gone.push(mark)
      return mark
    }

    #pick(below: number): number {
      this.#random = (Math.imul(this.#random, 1_103_515_245) + 12_345) >>> 0
      return (this.#random >>> 16) % below
    }
  }

  const escaped = (sign: string): string => `\\u${sign.charCodeAt(0).toString(16).padStart(4, '0')}`

  it('C10: lose every value a path names in any spelling, and keep every other sign and digit', async () => {
    let hidden = 0
    await fc.assert(
      fc.asyncProperty(
        written,
        fc.array(path, { minLength: 1, maxLength: 3 }),
        fc.nat(),
        async (document, paths, seed) => {
          const writer = new Writer(paths, seed)
          const whole = {
            kind: 'object',
            fields: [
              ['a', document],
              ['ssn', document],
            ],
          } as const
          const { sent, shown } = writer.write(whole, [], false)
          // A path that may lead anywhere: a text under which none can match is not looked into.
          const said = await masked(sent, [...paths, '**.nowhere'])
          expect(said).toBe(shown)
          for (const mark of writer.gone) expect(said).not.toContain(mark)
          hidden += writer.gone.length
        },
      ),
      { numRuns: 1000 },
    )
    expect(hidden).toBeGreaterThan(50)
  })

  it('are the same however they are cut', async () => {
    await fc.assert(
      fc.asyncProperty(tree, fc.array(fc.nat({ max: 200 }), { maxLength: 8 }), async (value, cuts) => {
        const whole = Buffer.from(JSON.stringify({ ssn: value, x: value }))
        const pieces: Chunk[] = []
        let at = 0
        for (const cut of [...cuts, whole.length].sort((a, b) => a - b)) {
          pieces.push(bytes('body', whole.subarray(at, Math.max(at, cut))))
          at = Math.max(at, cut)
        }
        const fields: FieldMask[] = [{ path: '**.ssn', transform: 'redact' }]
        const shown = await shownOf([head('application/json'), ...pieces, exit], fields)
        expect(joined(shown, 'body').toString()).toBe(await masked(whole.toString(), ['**.ssn']))
      }),
      { numRuns: 200 },
    )
  })
})
