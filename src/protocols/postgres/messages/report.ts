/**
 * ErrorResponse and NoticeResponse: fields by letter (PostgreSQL manual, 55.8).
 *
 * @packageDocumentation
 */
import { BodyReader, MessageWriter } from './bytes.ts'

/** Fields of a report by their letter: `S` severity, `C` SQLSTATE, `M` message, `D` detail, `H` hint, `P` position … */
export type Report = ReadonlyMap<string, string>

export function decodeReport(type: 'ErrorResponse' | 'NoticeResponse', body: Buffer): Report {
  const reader = new BodyReader(type, body)
  const fields = new Map<string, string>()
  for (let letter = reader.byte(); letter !== 0; letter = reader.byte()) {
    fields.set(String.fromCharCode(letter), reader.text())
  }
  reader.end()
  return fields
}

export function encodeReport(type: 'ErrorResponse' | 'NoticeResponse', fields: Report): Buffer {
  const writer = new MessageWriter(type === 'ErrorResponse' ? 'E' : 'N', 256)
  for (const [letter, value] of fields) writer.byte(letter.charCodeAt(0)).text(value.replaceAll('\0', ''))
  return writer.byte(0).done()
}
