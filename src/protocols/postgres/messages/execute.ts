import { BodyReader, MessageWriter } from './bytes.ts'
import { violation } from './violation.ts'

/** Execute: runs a portal, or lets it go on. */
export interface Execute {
  readonly type: 'Execute'
  readonly portal: string
  /** 0: all rows. */
  readonly rowsMax: number
}

export function decodeExecute(body: Buffer): Execute {
  const reader = new BodyReader('Execute', body)
  const portal = reader.text()
  const rowsMax = reader.int32()
  reader.end()
  // The server takes a negative number for "all"; nobody sends one but to see who disagrees.
  if (rowsMax < 0) throw violation('Execute', 'asks for a negative number of rows')
  return { type: 'Execute', portal, rowsMax }
}

export function encodeExecute({ portal, rowsMax }: Omit<Execute, 'type'>): Buffer {
  return new MessageWriter('E', portal.length + 8).text(portal).int32(rowsMax).done()
}
