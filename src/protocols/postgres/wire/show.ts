import type { Chunk } from '../../../core/chunk.ts'
import { encodeCommandComplete } from '../messages/command-complete.ts'
import { encodeCopy } from '../messages/copy.ts'
import { encodeTextRow } from '../messages/data-row.ts'
import { encodeReport } from '../messages/report.ts'
import { encodeRowDescription } from '../messages/row-description.ts'
import type { Downstream } from './downstream.ts'
import type { WireCall } from './payload.ts'

/** Writes what a chunk is on the wire, as fast as the client reads it. */
export function show(client: Downstream, chunk: Chunk, wire: WireCall): Promise<void> | undefined {
  switch (chunk.kind) {
    case 'head':
      // One without columns is for the recording.
      if (chunk.columns === undefined) break
      // Decoded on the way: names as the detectors left them, everything else as the backend described it.
      client.write(
        encodeRowDescription(
          wire.fields.map((field, index) => ({ ...field, name: chunk.columns?.[index]?.name ?? '' })),
        ),
      )
      break
    case 'data':
      if (chunk.channel === 'rows') {
        for (const row of chunk.rows) client.write(encodeTextRow(row))
        const control = chunk.rows.length === 0 ? wire.controls.shift() : undefined
        if (control !== undefined) client.write(control)
      } else if (chunk.channel === 'copy') {
        client.write(encodeCopy({ type: 'CopyData', data: Buffer.from(chunk.bytes) }))
      } else if (chunk.channel === 'wire') client.write(chunk.bytes)
      // What the client itself has sent (`stdin`) is for the recording alone.
      break
    case 'notice':
      client.write(noticeResponse(chunk.severity, chunk.text))
      break
    case 'exit':
      if (chunk.replayed === true) client.write(encodeCommandComplete(chunk.status))
  }
  return client.isFull ? client.flush() : undefined
}

/** A notice of the gateway's own. */
export function noticeResponse(severity: string, text: string): Buffer {
  return encodeReport(
    'NoticeResponse',
    new Map([
      ['S', severity],
      ['V', severity],
      ['C', '00000'],
      ['M', text],
    ]),
  )
}
