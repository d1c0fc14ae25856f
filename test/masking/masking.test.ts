import { Buffer } from 'node:buffer'
import * as fc from 'fast-check'
import { describe, expect, it } from 'vitest'
import type { Detection, Transform } from '../../src/core/decision.ts'
import { SallyportError } from '../../src/core/errors.ts'
import { DETECTORS } from '../../src/masking/detectors/index.ts'
import { createMasking } from '../../src/masking/masking.ts'
import { checkPattern } from '../../src/masking/pattern.ts'
import { looking, lookingForAll, masking } from './support.ts'

const CARD = '4111111111111111'

function codeOf(attempt: () => unknown): string {
  try {
    attempt()
    return 'none'
  } catch (error) {
    return error instanceof SallyportError ? error.code : 'other'
  }
}

describe('disguises', () => {
  it.each([
    ['full-width digits', '４１１１１１１１１１１１１１１１'],
    ['Arabic-Indic digits', '٤١١١١١١١١١١١١١١١'],
    ['mathematical digits', '𝟒𝟏𝟏𝟏𝟏𝟏𝟏𝟏𝟏𝟏𝟏𝟏𝟏𝟏𝟏𝟏'],
    ['zero-width spaces', CARD.split('').join('\u200b')],
    ['soft hyphens', CARD.split('').join('\u00ad')],
    ['combining marks', CARD.split('').join('\u0301')],
    ['null bytes, as in UTF-16', CARD.split('').join('\0')],
    ['backspaces', CARD.split('').join('\b')],
    ['terminal colours', '\u001b[01;31m\u001b[K4111\u001b[m\u001b[K111111111111'],
    ['a terminal title inside', `41111111\u001b]0;title\u000711111111`],
    ['no-break spaces', '4111\u00a01111\u00a01111\u00a01111'],
    ['figure dashes', '4111\u20121111\u20121111\u20121111'],
    ['JSON escapes', '\\u0034\\u003111111111111111'],
    ['a JSON line break before it', '\\n4111111111111111'],
    ['percent-encoding', '%34%31%31%3111111111111%31'],
  ])('hide no card: %s', (_what, text) => {
    expect(masking.text(`a ${text} b`, looking({ detector: 'credit_card', transform: 'redact' }))).toBe(
      `a ${text.startsWith('\\n') ? '\\n' : ''}${text.startsWith('\u001b') ? '\u001b[01;31m\u001b[K' : ''}[REDACTED:credit_card] b`,
    )
  })

  it.each([
    ['JSON', 'jane\\u0040example.com'],
    ['an address', 'jane%40example.com'],
    ['full-width', 'jane＠example．com'],
    ['zero-width', 'ja\u200bne@exam\u2060ple.com'],
  ])('hide no mail address: %s', (_what, text) => {
    expect(masking.text(text, looking({ detector: 'email', transform: 'redact' }))).toBe('[REDACTED:email]')
  })

  it('do not stop a key from being seen', () => {
    const text = 'x\n-----BEGIN RSA PRI\u200bVATE KEY-----\nMIIEpAIBAAKCAQEA0Z3\n-----END RSA PRI\u200bVATE KEY-----\ny'
    expect(masking.text(text, lookingForAll())).toBe('x\n[REDACTED:private_key]\ny')
  })

  it('undone do not hide what is there undisguised', () => {
    expect(masking.text(`${CARD}\u200b5`, lookingForAll())).toBe('[REDACTED:credit_card]\u200b5')
  })
})

describe('masking twice', () => {
  const pieces = [
    'jane@example.com',
    CARD,
    '123-45-6789',
    'password=hunter2',
    'password: "',
    'token=abcd1234efgh5678',
    'postgres://app:s3cret@db/shop',
    'Authorization: Bearer abcdef1234567890',
    'AKIAIOSFODNN7EXAMPLE',
    '10.1.2.3',
    '+49 30 1234567',
    'DE89 3704 0044 0532 0130 00',
    '\n-----BEGIN PRIVATE KEY-----\nMIIEvQ==\n-----END PRIVATE KEY-----\n',
    '４１１１１１１１１１１１１１１１',
    'a',
    '1',
    ' ',
    '\n',
    ':',
    '@',
    '/',
    '"',
    ', ',
  ]

  it('changes nothing', () => {
    const property = fc.property(
      fc.array(fc.constantFrom(...pieces), { maxLength: 14 }).map((parts) => parts.join('')),
      fc.constantFrom<Transform>('redact', 'hash'),
      (text, transform) => {
        const once = masking.text(text, lookingForAll(transform))
        expect(masking.text(once, lookingForAll(transform))).toBe(once)
      },
    )
    expect(() => fc.assert(property, { numRuns: 600 })).not.toThrow()
  })

  it('changes nothing under partial where values stand apart', () => {
    const property = fc.property(
      fc.array(fc.constantFrom(...pieces), { maxLength: 14 }).map((parts) => parts.join(' | ')),
      (text) => {
        const once = masking.text(text, lookingForAll('partial'))
        expect(masking.text(once, lookingForAll('partial'))).toBe(once)
      },
    )
    expect(() => fc.assert(property, { numRuns: 300 })).not.toThrow()
  })

  it('changes nothing for any text', () => {
    const property = fc.property(fc.string({ unit: 'grapheme', maxLength: 200 }), (text) => {
      const once = masking.text(text, lookingForAll())
      expect(masking.text(once, lookingForAll())).toBe(once)
    })
    expect(() => fc.assert(property, { numRuns: 300 })).not.toThrow()
  })

  it("changes nothing under an operator's pattern that fits the placeholder", () => {
    const decision = looking({ detector: 'custom:word', pattern: '\\w+', transform: 'redact' })
    const once = masking.text('two words', decision)
    expect(once).toBe('[REDACTED:custom:word] [REDACTED:custom:word]')
    expect(masking.text(once, decision)).toBe(once)
  })

  it.each([
    `[REDACTED:${CARD}]`,
    `[REDACTED:custom:${CARD}]`,
    `[HASH:credit_card:h${CARD}]`,
    `[REDACTED:email]${CARD}`,
    `[REDACTED:custom:unknown jane@b.io]`,
  ])('is no hiding place: %s', (text) => {
    expect(masking.text(text, lookingForAll())).not.toMatch(/4111|jane/)
  })
})

describe('overlapping finds', () => {
  const both = (one: Transform, other: Transform): readonly Detection[] => [
    { detector: 'url_password', transform: one },
    { detector: 'email', transform: other },
  ]

  it('are replaced as one, by the longest, redacted when their transforms differ', () => {
    const text = 'postgres://app:s3cret@db.example.com/x'
    expect(masking.text(text, looking(...both('hash', 'partial')))).toBe('postgres://app:[REDACTED:email]/x')
    expect(masking.text(text, looking(...both('partial', 'hash')))).toBe('postgres://app:[REDACTED:email]/x')
  })

  it('C5: of one detector with unequal transforms are redacted', () => {
    const decision = looking({ detector: 'email', transform: 'partial' }, { detector: 'email', transform: 'hash' })
    expect(masking.text('jane@b.io', decision)).toBe('[REDACTED:email]')
  })

  it('of different kinds keep no piece: that of an address may be one of a password', () => {
    const decision = looking(
      { detector: 'email', transform: 'partial' },
      { detector: 'password_assignment', transform: 'partial' },
    )
    expect(masking.text('password=hunter2@example.com', decision)).toBe('password=[REDACTED:email]')
  })

  it('never show a piece of either', () => {
    const decision = looking(
      { detector: 'custom:a', pattern: 'abc123', transform: 'redact' },
      { detector: 'custom:b', pattern: '123xyz', transform: 'redact' },
    )
    expect(masking.text('-abc123xyz-', decision)).toBe('-[REDACTED:custom:a]-')
  })
})

describe('a request', () => {
  it('C10: is masked in text and parameters', () => {
    const shown = masking.request(
      { text: `select * from t where mail = 'jane@b.io' and id = $1`, params: ['7', 'jane@b.io', null] },
      lookingForAll(),
    )
    expect(shown).toEqual({
      text: `select * from t where mail = '[REDACTED:email]' and id = $1`,
      params: ['7', '[REDACTED:email]', null],
    })
  })

  it('turns a parameter that is nothing but a removed value into NULL', () => {
    expect(masking.request({ text: '', params: ['jane@b.io', ''] }, lookingForAll('null')).params).toEqual([null, ''])
  })

  it('is untouched without detectors', () => {
    const request = { text: 'jane@b.io' }
    expect(masking.request(request, looking())).toBe(request)
    expect(masking.text('jane@b.io', looking())).toBe('jane@b.io')
  })
})

describe('an error', () => {
  it('C10: is masked in message, hint, construct and detail, and its cause says nothing', () => {
    const cause = Object.assign(new Error('duplicate key (mail)=(jane@b.io)'), { code: '23505', detail: 'jane@b.io' })
    const error = new SallyportError('ERR_UPSTREAM_REJECTED', 'The value jane@b.io exists.', {
      detail: 'jane@b.io',
      facts: { sqlstate: '23505', hint: 'try not jane@b.io', construct: 'x jane@b.io', rules: ['r'], ticket: 't' },
      cause,
    })
    const shown = masking.error(error, lookingForAll())
    expect(shown).toBeInstanceOf(SallyportError)
    expect(shown.code).toBe('ERR_UPSTREAM_REJECTED')
    expect(shown.message).toBe('The value [REDACTED:email] exists.')
    expect(shown.detail).toBe('[REDACTED:email]')
    expect(shown.facts).toEqual({
      sqlstate: '23505',
      hint: 'try not [REDACTED:email]',
      construct: 'x [REDACTED:email]',
      rules: ['r'],
      ticket: 't',
    })
    expect(shown.cause).toMatchObject({ name: 'Error', message: '', code: '23505' })
    const everything = [shown, shown.cause].map((each) =>
      each instanceof Error ? `${each.stack} ${JSON.stringify(each, Object.getOwnPropertyNames(each))}` : '',
    )
    expect(everything.join()).not.toContain('jane')
    expect(shown.stack).toContain('masking.test.ts')
  })

  it('C10: keeps no cause that is not an error, and no name that is data', () => {
    const thrown = new SallyportError('ERR_INTERNAL', 'x', { cause: 'jane@b.io' })
    expect(masking.error(thrown, lookingForAll()).cause).toMatchObject({ name: 'Cause', message: '' })
    const named = Object.assign(new Error('x'), { name: 'jane@b.io', code: 'jane@b.io' })
    const shown = masking.error(new SallyportError('ERR_INTERNAL', 'x', { cause: named }), lookingForAll())
    expect(JSON.stringify(shown.cause, ['name', 'code', 'stack', 'message'])).not.toContain('jane')
  })

  it('is untouched without detectors', () => {
    const error = new SallyportError('ERR_INTERNAL', 'x')
    expect(masking.error(error, looking())).toBe(error)
  })
})

describe('what cannot be performed', () => {
  it.each<readonly [string, Detection]>([
    ['an unknown detector', { detector: 'names', transform: 'redact' }],
    ['a pattern that is none', { detector: 'custom:x', pattern: '(', transform: 'redact' }],
    ['a pattern that can match nothing', { detector: 'custom:x', pattern: 'a*', transform: 'redact' }],
    ['a pattern without a name of its own', { detector: 'email', pattern: 'a', transform: 'redact' }],
    ['a name with a value in it', { detector: 'custom:a b', pattern: 'a', transform: 'redact' }],
    ['a custom detector without a pattern', { detector: 'custom:x', transform: 'redact' }],
  ])('denies the call: %s', (_what, detection) => {
    expect(codeOf(() => masking.text('x', looking(detection)))).toBe('ERR_POLICY_INVALID')
    expect(codeOf(() => masking.stream((async function* none() {})(), looking(detection)))).toBe('ERR_POLICY_INVALID')
  })

  it('refuses a short key', () => {
    expect(codeOf(() => createMasking({ hashKey: Buffer.alloc(15) }))).toBe('ERR_CONFIG_INVALID')
  })

  it('hashes otherwise under another key', () => {
    const other = createMasking({ hashKey: Buffer.alloc(32, 7) })
    expect(other.text('jane@b.io', lookingForAll('hash'))).not.toBe(masking.text('jane@b.io', lookingForAll('hash')))
  })
})

describe("the check of an operator's pattern", () => {
  it.each(['EMP-\\d{6}', '(?i)internal', '\\bfoo\\b', '^x', 'a+', '[0-9]{3}-[0-9]{3}'])('accepts %s', (pattern) => {
    expect(checkPattern(pattern)).toBeUndefined()
  })

  it.each([
    ['', 'empty'],
    ['a*', 'empty text'],
    ['a|', 'empty text'],
    ['^', 'empty text'],
    ['$', 'empty text'],
    ['\\b', 'empty text'],
    ['(?:)', 'empty text'],
    ['(', 'not an RE2 pattern'],
    ['(?=a)', 'not an RE2 pattern'],
    ['(a)\\1', 'not an RE2 pattern'],
    ['x'.repeat(1001), 'longer than'],
    ['((a{100}){100}){100}', ''],
    ['(?:[a-z]{900}){9}x', ''],
  ])('refuses %s', (pattern, why) => {
    expect(checkPattern(pattern)).toContain(why)
  })

  it('leaves no pattern that takes for ever', () => {
    const decision = looking({ detector: 'custom:evil', pattern: '(a+)+$', transform: 'redact' })
    const start = process.cpuUsage()
    masking.text(`${'a'.repeat(50_000)}!`, decision)
    expect(process.cpuUsage(start).user / 1_000).toBeLessThan(3_000)
  })
})

describe('the detectors', () => {
  it('are all documented', async () => {
    const { readFile } = await import('node:fs/promises')
    const text = await readFile(new URL('../../docs/detectors.md', import.meta.url), 'utf8')
    for (const { kind, summary } of DETECTORS.values()) expect(text).toContain(`| \`${kind}\` | ${summary}`)
  })
})
