import * as fc from 'fast-check'
import { describe, expect, it } from 'vitest'
import { SallyportError } from '../../src/core/errors.ts'
import { BackendReader, type BackendPiece } from '../../src/protocols/postgres/messages/backend.ts'
import { encodeBind } from '../../src/protocols/postgres/messages/bind.ts'
import { FLUSH, SYNC, TERMINATE } from '../../src/protocols/postgres/messages/control.ts'
import { encodeCopy } from '../../src/protocols/postgres/messages/copy.ts'
import { decodeTextRow, encodeTextRow } from '../../src/protocols/postgres/messages/data-row.ts'
import { encodeDescribe } from '../../src/protocols/postgres/messages/describe.ts'
import { encodeExecute } from '../../src/protocols/postgres/messages/execute.ts'
import { FrontendReader, type FrontendMessage } from '../../src/protocols/postgres/messages/frontend.ts'
import { encodeFunctionCall } from '../../src/protocols/postgres/messages/function-call.ts'
import { LARGE_BYTES_MAX, STARTUP_BYTES_MAX } from '../../src/protocols/postgres/messages/limits.ts'
import { encodeParse } from '../../src/protocols/postgres/messages/parse.ts'
import { encodeQuery } from '../../src/protocols/postgres/messages/query.ts'
import { decodeReport, encodeReport } from '../../src/protocols/postgres/messages/report.ts'
import { decodeRowDescription, encodeRowDescription } from '../../src/protocols/postgres/messages/row-description.ts'
import { encodeStartup, readStartup, type StartupPacket } from '../../src/protocols/postgres/messages/startup.ts'

const name = fc.string({ unit: 'grapheme', maxLength: 20 }).filter((text) => !text.includes('\0') && isWellFormed(text))
const oid = fc.nat(0xffff_ffff)
const value = fc.option(fc.uint8Array({ maxLength: 30 }).map((bytes) => Buffer.from(bytes)))
const format = fc.constantFrom(0 as const, 1 as const)

function isWellFormed(text: string): boolean {
  return !/\p{Surrogate}/u.test(text)
}

const frontend: fc.Arbitrary<FrontendMessage> = fc.oneof(
  fc.record({ type: fc.constant('Query' as const), sql: name }),
  fc.record({ type: fc.constant('Parse' as const), name, sql: name, paramTypes: fc.array(oid, { maxLength: 4 }) }),
  fc.array(value, { maxLength: 4 }).chain((params) =>
    fc.record({
      type: fc.constant('Bind' as const),
      portal: name,
      statement: name,
      paramFormats: fc.oneof(
        fc.constant([]),
        fc.tuple(format),
        fc.array(format, { minLength: params.length, maxLength: params.length }),
      ),
      params: fc.constant(params),
      resultFormats: fc.array(format, { maxLength: 4 }),
    }),
  ),
  fc.record({
    type: fc.constantFrom('Describe' as const, 'Close' as const),
    what: fc.constantFrom('statement' as const, 'portal' as const),
    name,
  }),
  fc.record({ type: fc.constant('Execute' as const), portal: name, rowsMax: fc.nat(0x7fff_ffff) }),
  fc.record({
    type: fc.constant('FunctionCall' as const),
    oid,
    argFormats: fc.constant([0 as const]),
    args: fc.array(value, { maxLength: 3 }),
    resultFormat: format,
  }),
  fc.record({
    type: fc.constant('CopyData' as const),
    data: fc.uint8Array({ maxLength: 40 }).map((bytes) => Buffer.from(bytes)),
  }),
  fc.constant({ type: 'CopyDone' as const }),
  fc.record({ type: fc.constant('CopyFail' as const), reason: name }),
  fc.constantFrom({ type: 'Sync' as const }, { type: 'Flush' as const }, { type: 'Terminate' as const }),
)

function encode(message: FrontendMessage): Buffer {
  switch (message.type) {
    case 'Query':
      return encodeQuery(message)
    case 'Parse':
      return encodeParse(message)
    case 'Bind':
      return encodeBind(message)
    case 'Describe':
    case 'Close':
      return encodeDescribe(message)
    case 'Execute':
      return encodeExecute(message)
    case 'FunctionCall':
      return encodeFunctionCall(message)
    case 'CopyData':
    case 'CopyDone':
    case 'CopyFail':
      return encodeCopy(message)
    case 'Sync':
      return SYNC
    case 'Flush':
      return FLUSH
    case 'Terminate':
      return TERMINATE
    default:
      throw new Error('not made here')
  }
}

/** What `work` throws that is no error of ours. */
function untyped(work: () => unknown): unknown {
  try {
    work()
  } catch (error) {
    return error instanceof SallyportError ? undefined : error
  }
  return undefined
}

/** Cuts bytes at the given places. */
function cut(bytes: Buffer, places: readonly number[]): Buffer[] {
  const at = [...new Set(places.map((place) => place % (bytes.length + 1)))].sort((a, b) => a - b)
  return [0, ...at].map((start, index) => bytes.subarray(start, at[index] ?? bytes.length))
}

function readAll(reader: FrontendReader): FrontendMessage[] {
  const messages: FrontendMessage[] = []
  for (let message = reader.next(); message !== undefined; message = reader.next()) messages.push(message)
  return messages
}

describe('messages of a client', () => {
  it('come out as they went in, however their bytes are cut', () => {
    fc.assert(
      fc.property(fc.array(frontend, { maxLength: 8 }), fc.array(fc.nat(), { maxLength: 12 }), (messages, places) => {
        const reader = new FrontendReader()
        const seen: FrontendMessage[] = []
        for (const piece of cut(Buffer.concat(messages.map(encode)), places)) {
          reader.push(piece)
          seen.push(...readAll(reader))
        }
        expect(seen).toEqual(messages)
        expect(reader.waiting).toBe(0)
      }),
    )
  })

  it('are refused with a typed error, or wait for more, whatever bytes come', () => {
    fc.assert(
      fc.property(fc.uint8Array({ maxLength: 200 }), (bytes) => {
        const reader = new FrontendReader()
        reader.push(Buffer.from(bytes))
        expect(untyped(() => readAll(reader))).toBeUndefined()
      }),
      { numRuns: 2_000 },
    )
  })

  it.each([
    ['a length of 1 GiB', [0x51, 0x40, 0, 0, 0]],
    ['a length of 4 GiB - 1', [0x51, 0xff, 0xff, 0xff, 0xff]],
    ['a length below its own', [0x51, 0, 0, 0, 3]],
    ['a Sync with a body', [0x53, 0, 0, 0, 5, 0]],
    ['a kind nobody knows', [0x7a, 0, 0, 0, 4]],
  ])('are refused at once for %s', (_, bytes) => {
    const reader = new FrontendReader()
    reader.push(Buffer.from(bytes))
    expect(() => reader.next()).toThrow(SallyportError)
  })

  it.each([
    ['a text without an end', 'Q', Buffer.from('select 1')],
    ['bytes behind the text', 'Q', Buffer.from('select 1\0drop table x\0')],
    ['a text that is not UTF-8', 'Q', Buffer.from([0x27, 0xff, 0x5c, 0x27, 0])],
    ['more parameters than bytes', 'B', Buffer.from([0, 0, 0, 0, 0xff, 0xff])],
    ['a value longer than the message', 'B', Buffer.from([0, 0, 0, 0, 0, 1, 0x7f, 0xff, 0xff, 0xff, 1, 0, 0])],
    ['a value of negative length', 'B', Buffer.from([0, 0, 0, 0, 0, 1, 0xff, 0xff, 0xff, 0xfe, 0, 0])],
    ['a third format', 'B', Buffer.from([0, 0, 0, 1, 0, 2, 0, 0, 0, 0])],
    ['a negative number of rows', 'E', Buffer.from([0, 0xff, 0xff, 0xff, 0xff])],
    ['neither statement nor portal', 'D', Buffer.from('X\0')],
  ])('are refused for %s', (_, letter, body) => {
    const header = Buffer.alloc(5)
    header.write(letter, 'latin1')
    header.writeUInt32BE(body.length + 4, 1)
    const reader = new FrontendReader()
    reader.push(Buffer.concat([header, body]))
    expect(() => reader.next()).toThrow(expect.objectContaining({ code: 'ERR_INVALID_INPUT' }))
  })

  it('hold no more than one message that is not complete', () => {
    const reader = new FrontendReader()
    const header = Buffer.alloc(5)
    header.write('Q', 'latin1')
    header.writeUInt32BE(LARGE_BYTES_MAX + 5, 1)
    reader.push(header)
    expect(() => reader.next()).toThrow('length that cannot be')
  })
})

const startup: fc.Arbitrary<StartupPacket> = fc.oneof(
  fc.constantFrom({ type: 'ssl' as const }, { type: 'gssenc' as const }),
  fc.record({
    type: fc.constant('cancel' as const),
    processId: fc.integer(),
    key: fc.uint8Array({ minLength: 4, maxLength: 256 }).map((bytes) => Buffer.from(bytes)),
  }),
  fc.record({
    type: fc.constant('startup' as const),
    major: fc.constant(3),
    minor: fc.nat(9),
    parameters: fc
      .array(
        fc.tuple(
          name.filter((text) => text !== ''),
          name,
        ),
        { maxLength: 4 },
      )
      .map((all) => new Map(all)),
  }),
)

describe('start-up packets', () => {
  it('come out as they went in, and wait until they are complete', () => {
    fc.assert(
      fc.property(startup, (packet) => {
        const bytes = encodeStartup(packet)
        for (let end = 0; end < bytes.length; end++) expect(readStartup(bytes.subarray(0, end))).toBeUndefined()
        expect(readStartup(Buffer.concat([bytes, Buffer.from('more')]))).toEqual({ packet, length: bytes.length })
      }),
    )
  })

  it('throw nothing untyped for garbage', () => {
    fc.assert(
      fc.property(fc.uint8Array({ maxLength: 60 }), (bytes) => {
        expect(untyped(() => readStartup(Buffer.from(bytes)))).toBeUndefined()
      }),
      { numRuns: 2_000 },
    )
  })

  it('are refused by their length before they are waited for', () => {
    const bytes = Buffer.alloc(4)
    bytes.writeUInt32BE(STARTUP_BYTES_MAX + 1)
    expect(() => readStartup(bytes)).toThrow(SallyportError)
  })

  it('may not name a parameter twice', () => {
    const body = Buffer.concat([Buffer.from([0, 3, 0, 0]), Buffer.from('user\0a\0user\0b\0\0')])
    const length = Buffer.alloc(4)
    length.writeUInt32BE(body.length + 4)
    expect(() => readStartup(Buffer.concat([length, body]))).toThrow('twice')
  })
})

function backendPieces(pieces: readonly Buffer[], rowsMax = Number.POSITIVE_INFINITY): BackendPiece[] {
  const reader = new BackendReader()
  const seen: BackendPiece[] = []
  for (const piece of pieces) {
    reader.push(piece)
    for (let next = reader.next(rowsMax); next !== undefined; next = reader.next(rowsMax)) seen.push(next)
  }
  return seen
}

const row = fc.array(fc.option(name), { maxLength: 4 }).map(encodeTextRow)
const reported = fc
  .dictionary(fc.constantFrom('S', 'C', 'M', 'D', 'H'), name)
  .map((fields) => encodeReport('ErrorResponse', new Map(Object.entries(fields))))

describe('messages of a backend', () => {
  it('are the same bytes and rows, however they are cut', () => {
    fc.assert(
      fc.property(
        fc.array(fc.oneof(row, row, reported), { maxLength: 12 }),
        fc.array(fc.nat(), { maxLength: 12 }),
        fc.integer({ min: 1, max: 5 }),
        (messages, places, rowsMax) => {
          const all = Buffer.concat(messages)
          const seen = backendPieces(cut(all, places), rowsMax)
          expect(Buffer.concat(seen.map(({ bytes }) => bytes))).toEqual(all)
          const rows = seen.reduce((sum, piece) => sum + (piece.kind === 'rows' ? piece.rows : 0), 0)
          expect(rows).toBe(messages.filter((message) => message[0] === 0x44).length)
          expect(seen.every((piece) => piece.kind !== 'rows' || piece.rows <= rowsMax)).toBe(true)
        },
      ),
    )
  })

  it('come as one slice when a cut row goes on in front of whole ones, and no row more than was asked for', () => {
    const one = encodeTextRow(['a value'])
    const all = Buffer.concat([one, one, one, one])
    const pieces = [all.subarray(0, one.length + 9), all.subarray(one.length + 9)]
    expect(backendPieces(pieces).map((piece) => piece.kind === 'rows' && piece.rows)).toEqual([2, 2])
    expect(backendPieces(pieces, 1).map((piece) => piece.kind === 'rows' && piece.rows)).toEqual([1, 1, 1, 1])
    const reader = new BackendReader()
    for (const piece of pieces) reader.push(piece)
    expect(reader.next(1)).toMatchObject({ rows: 1 })
    const late = new BackendReader()
    late.push(pieces[0] as Buffer)
    late.next()
    late.push(pieces[1] as Buffer)
    expect(late.next(0)).toMatchObject({ rows: 0, bytes: all.subarray(one.length + 9, 2 * one.length) })
    expect(late.next(0)).toMatchObject({ rows: 0, bytes: Buffer.alloc(0) })
  })

  it('throw nothing untyped for garbage', () => {
    fc.assert(
      fc.property(fc.uint8Array({ maxLength: 200 }), (bytes) => {
        expect(untyped(() => backendPieces([Buffer.from(bytes)]))).toBeUndefined()
      }),
      { numRuns: 2_000 },
    )
  })

  it('are read and written the same: rows, reports, descriptions', () => {
    fc.assert(
      fc.property(fc.array(fc.option(name), { maxLength: 5 }), (cells) => {
        expect(decodeTextRow(encodeTextRow(cells).subarray(5))).toEqual(cells)
      }),
    )
    const report = new Map([
      ['S', 'ERROR'],
      ['C', '42501'],
      ['M', 'no'],
    ])
    expect(decodeReport('ErrorResponse', encodeReport('ErrorResponse', report).subarray(5))).toEqual(report)
    const fields = [
      { name: 'a', tableOid: 1, attnum: 2, typeOid: 25, typeSize: -1, typeModifier: -1, format: 0 as const },
    ]
    expect(decodeRowDescription(encodeRowDescription(fields).subarray(5))).toEqual(fields)
  })
})
