/**
 * What the copies of the proof differ in, and how any of it is found again in whatever a caller could get hold of.
 *
 * Values differ in length, order, sign, equality and in where they are NULL. Most carry a mark that stands nowhere else;
 * those without one can only be told by comparing the copies.
 */

type Text = string | null
type Values = readonly Text[]

/** The masked values of one copy, six rows each, in SQL's text form. */
export interface Secrets {
  readonly ssn: Values
  readonly card: Values
  readonly email: Values
  readonly salary: Values
  readonly pin: Values
  readonly flag: Values
  readonly born: Values
  readonly seen: Values
  readonly doc: Values
  readonly tags: Values
  readonly key: Values
  readonly address: Values
  readonly level: Values
  readonly span: Values
}

export const ROWS = 6

/** Stands in every marked text, followed by the number of the copy. */
const MARK = 'zqvkjxw'

export const VARIANTS: readonly Secrets[] = [
  {
    ssn: [`${MARK}1-123-45-6789`, `${MARK}1-a`, `${MARK}1-zzzz`, null, `${MARK}1-123-45-6789`, `${MARK}1-m`],
    card: [`${MARK}1-4111111111111111`, `${MARK}1-5500`, null, `${MARK}1-3400000`, `${MARK}1-9`, `${MARK}1-1`],
    email: [
      `${MARK}1.ada@example.com`,
      `${MARK}1.b@example.org`,
      `${MARK}1.c@c.example`,
      `${MARK}1.d@d.example`,
      null,
      `${MARK}1.z@z.example`,
    ],
    salary: ['9177100551', '9177100552', '-9177100553', null, '20', '9177100550.75'],
    pin: ['1', '2', '3', '4', '5', '6'],
    flag: ['t', 'f', null, 't', 't', 'f'],
    born: ['1971-01-01', '1981-02-02', null, '1991-03-03', '2001-04-04', '2011-05-05'],
    seen: ['2020-01-01Z', null, '2021-01-01Z', '2022-01-01Z', '2023-01-01Z', '2024-01-01Z'],
    doc: [`{"a":"${MARK}1"}`, null, `["${MARK}1",1]`, `"${MARK}1"`, '{}', `{"b":{"c":"${MARK}1"}}`],
    tags: [`{${MARK}1-x,${MARK}1-y}`, '{}', null, `{${MARK}1-z}`, `{NULL,${MARK}1}`, `{${MARK}1}`],
    key: ['a9e1f00d-0001-4000-8000-000000000001', null, 'a9e1f00d-0001-4000-8000-000000000002', null, null, null],
    address: ['203.0.113.11', '203.0.113.12', null, '2001:db8::1', '203.0.113.0/28', '203.0.113.13'],
    level: ['low', 'high', 'mid', null, 'low', 'low'],
    span: ['[1,5)', 'empty', null, '[7,)', '(,3)', '[2,3)'],
  },
  {
    ssn: [`${MARK}2-z`, `${MARK}2-000-00-0000-0000-0000`, null, `${MARK}2-b`, `${MARK}2-b`, `${MARK}2-`],
    card: [null, `${MARK}2-1`, `${MARK}2-99999999999999999999999999`, `${MARK}2-2`, null, `${MARK}2-7`],
    email: [
      `${MARK}2.zzz@z.example`,
      null,
      `${MARK}2.a@a.example`,
      `${MARK}2.a@a.example.com`,
      `${MARK}2.a@a.example`,
      null,
    ],
    salary: ['-9177200551', null, '917720055000003', '9177200554.5', '10', '0'],
    pin: ['-9177200', '70000', null, '0', '32768', '-1'],
    flag: ['f', 't', 't', null, null, 'f'],
    born: ['2031-01-01', null, '1901-01-01', '1901-01-01', '1955-05-05', '0044-03-15 BC'],
    seen: [null, '1999-01-01Z', '1998-01-01Z', 'infinity', '1997-01-01Z', '1996-01-01Z'],
    doc: [null, `{"a":"${MARK}2","z":[1,2,3]}`, '[]', `{"a":{"${MARK}2":1}}`, `"${MARK}2 longer than the others"`, '1'],
    tags: [null, `{${MARK}2}`, `{a,b,${MARK}2-long-long-long}`, '{}', null, `{{${MARK}2,b},{c,d}}`],
    key: [null, 'a9e1f00d-0002-4000-8000-000000000001', null, null, 'a9e1f00d-0002-4000-8000-000000000001', null],
    address: [null, '198.51.100.1', '198.51.100.2', '198.51.100.0/24', 'fe80::2', null],
    level: [null, 'mid', 'mid', 'high', 'high', 'mid'],
    span: [null, '[100,200)', '[1,2)', 'empty', '[5,6)', null],
  },
  {
    ssn: [null, null, `${MARK}3-same`, `${MARK}3-same`, null, `${MARK}3-same`],
    card: Array.from({ length: ROWS }, () => `${MARK}3-00`),
    email: [`${MARK}3.q@q.example`, `${MARK}3.p@p.example`, null, null, `${MARK}3.o@o.example`, `${MARK}3.n@n.example`],
    salary: Array.from({ length: ROWS }, () => '9177300551'),
    pin: [null, null, null, null, null, '7'],
    flag: [null, null, null, null, null, null],
    born: Array.from({ length: ROWS }, () => '2000-02-29'),
    seen: Array.from({ length: ROWS }, () => '2000-01-01Z'),
    doc: Array.from({ length: ROWS }, () => `{"a":"${MARK}3"}`),
    tags: Array.from({ length: ROWS }, () => `{${MARK}3}`),
    key: Array.from({ length: ROWS }, () => 'a9e1f00d-0003-4000-8000-000000000009'),
    address: Array.from({ length: ROWS }, () => '192.0.2.33'),
    level: Array.from({ length: ROWS }, () => 'high'),
    span: Array.from({ length: ROWS }, () => '[9,99)'),
  },
  {
    // Values that are something else at second sight: JSON, numbers, patterns, SQL, markup, several lines.
    ssn: [`{"${MARK}4": 1}`, '9177400551', `2020-01-01 ${MARK}4`, `%${MARK}4_`, `${MARK}4|x`, '17'],
    card: [`${MARK}4\\x00`, `${MARK}4'; drop table customers; --`, `${MARK}4 é`, `${MARK}4\nx`, '$1', `${MARK}4*`],
    email: [`<${MARK}4/>`, `[${MARK}4`, `${MARK}4(`, `\\${MARK}4`, '12', `${MARK}4'`],
    salary: ['9177400551', '-9177400551', '917740055774774', '9177400551.77', '0.01', '32767'],
    pin: ['2147483647', '-2147483648', '1', '1', '9', '0'],
    flag: ['t', 't', 't', 't', 't', 't'],
    born: ['9999-12-31', '0001-01-01', 'infinity', '-infinity', '1970-01-01', null],
    seen: ['-infinity', '2038-01-19Z', '1970-01-01Z', null, null, '4000-01-01Z'],
    doc: ['{"amount": 1e3}', `{"type":"${MARK}4"}`, '[[[]]]', 'null', 'true', `{"a":"\\u0041${MARK}4"}`],
    tags: [`{"${MARK}4,\\"q"}`, '{1,2}', '{NULL}', null, '{}', `[2:3]={${MARK}4,b}`],
    key: ['a9e1f00d-0004-4000-8000-000000000001', 'a9e1f00d-0004-4000-8000-000000000000', null, null, null, null],
    address: ['::', '0.0.0.0/0', '255.255.255.255', '::ffff:1.2.3.4', '10.0.0.0/8', null],
    level: ['low', 'low', 'low', 'low', 'low', 'low'],
    span: ['(,)', '[-5,-4)', '[1,1]', 'empty', null, '[0,2147483647)'],
  },
]

const MARKS: readonly string[] = [MARK, ...[1, 2, 3, 4].map((n) => `9177${n}0055`), 'a9e1f00d-000']

const DISGUISED: readonly RegExp[] = [
  new RegExp([...MARKS, ...MARKS.map(reversed)].join('|'), 'iu'),
  new RegExp(MARKS.map((mark) => Buffer.from(mark).toString('hex')).join('|'), 'iu'),
  new RegExp(MARKS.flatMap(insideBase64).join('|'), 'u'),
]

/** Whole values long enough to be no accident: statements hold marks of their own, which stand in records of them. */
const WHOLE = VARIANTS.flatMap((secrets) => Object.values(secrets) as readonly Values[])
  .flat()
  .filter((value) => value !== null && value.length >= 10 && MARKS.some((mark) => value.includes(mark)))
  .filter((value) => value !== null)

const DISGUISED_WHOLE: readonly RegExp[] = [
  new RegExp([...WHOLE, ...WHOLE.map(reversed)].map((value) => escaped(value)).join('|'), 'u'),
  new RegExp(WHOLE.map((value) => Buffer.from(value).toString('hex')).join('|'), 'iu'),
  new RegExp(WHOLE.flatMap(insideBase64).join('|'), 'u'),
]

/** What of a masked value stands in an answer: as it is, backwards, in hexadecimal or in base64. */
export function rawIn(text: string): string | undefined {
  return foundBy(DISGUISED, text)
}

/** What of a masked value stands in a recording, a log or before an approver, where the statement itself is told. */
export function rawInWritten(text: string): string | undefined {
  return foundBy(DISGUISED_WHOLE, text)
}

function foundBy(patterns: readonly RegExp[], text: string): string | undefined {
  for (const pattern of patterns) {
    const found = pattern.exec(text)
    if (found !== null) return text.slice(Math.max(0, found.index - 40), found.index + 60)
  }
  return undefined
}

function escaped(text: string): string {
  return text.replaceAll(/[\\^$.*+?()[\]{}|/]/gu, String.raw`\$&`)
}

function reversed(text: string): string {
  return Array.from(text).toReversed().join('')
}

/** What of the base64 of a text does not depend on what stands around it, for each place it may begin at. */
function insideBase64(text: string): readonly string[] {
  return [0, 1, 2].map((before) => {
    const whole = Buffer.concat([Buffer.alloc(before), Buffer.from(text)]).toString('base64')
    const first = Math.ceil((before * 8) / 6)
    const last = Math.floor(((before + text.length) * 8) / 6)
    return whole.slice(first, last).replaceAll(/[+/]/gu, '[+/_-]')
  })
}
