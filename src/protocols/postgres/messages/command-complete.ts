import { BodyReader, MessageWriter } from './bytes.ts'

/** CommandComplete: what was done, such as `INSERT 0 3`. */
export function decodeCommandComplete(body: Buffer): string {
  const reader = new BodyReader('CommandComplete', body)
  const tag = reader.text()
  reader.end()
  return tag
}

export function encodeCommandComplete(tag: string): Buffer {
  return new MessageWriter('C', tag.length + 2).text(tag).done()
}

/** The number of rows a tag tells of, when it does. */
export function rowsOfTag(tag: string): number | undefined {
  const digits = / (\d{1,15})$/u.exec(tag)?.[1]
  return digits === undefined ? undefined : Number(digits)
}
