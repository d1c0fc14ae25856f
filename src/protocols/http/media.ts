import { isJsonType, mediaTypeOf } from './body.ts'

const TEXTUAL = new Set([
  'application/javascript',
  'application/x-javascript',
  'application/ecmascript',
  'application/xml',
  'application/xhtml+xml',
  'application/yaml',
  'application/x-yaml',
  'application/toml',
  'application/sql',
  'application/graphql',
  'application/graphql-response+json',
  'application/x-ndjson',
  'application/ndjson',
  'application/jsonl',
  'application/json-seq',
  'application/x-www-form-urlencoded',
  'application/problem+json',
])

/**
 * Whether a response is text the detectors can read. A response that does not say what it is counts as text; bytes that
 * show otherwise end it. Text that is not UTF-8 or ASCII is none for us: nothing would be recognised in it.
 */
export function isTextual(contentType: string | undefined): boolean {
  if (contentType === undefined) return true
  const type = mediaTypeOf(contentType.replace(/;\s*charset=(?:iso-8859-1|"iso-8859-1")\s*(?=;|$)/iu, ''))
  if (type === undefined) return false
  return (
    type.startsWith('text/') || TEXTUAL.has(type) || isJsonType(type) || type.endsWith('+xml') || type.endsWith('+yaml')
  )
}
