import { BodyReader, MessageWriter } from './bytes.ts'

/** Query: a text with any number of statements. */
export interface Query {
  readonly type: 'Query'
  readonly sql: string
}

export function decodeQuery(body: Buffer): Query {
  const reader = new BodyReader('Query', body)
  const sql = reader.text()
  reader.end()
  return { type: 'Query', sql }
}

export function encodeQuery({ sql }: Query): Buffer {
  return new MessageWriter('Q', sql.length + 8).text(sql).done()
}
