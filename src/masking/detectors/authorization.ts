import { type Detector } from './detector.ts'

/** Credentials of an HTTP Authorization header (RFC 9110 §11.6.2), with the header's name or with the scheme alone. */
export const bearer: Detector = {
  kind: 'bearer',
  summary: 'Credentials in `Authorization` headers, and after `Bearer` or `Basic`.',
  trigger: (text) => /authorization|bearer|basic/i.test(text),
  find(text, report) {
    const header = new RegExp(HEADER)
    for (let match = header.exec(text); match !== null; match = header.exec(text)) {
      const start = match.index + match[0].length
      VALUE.lastIndex = start
      const value = VALUE.exec(text)?.[0].trimEnd() ?? ''
      header.lastIndex = start + value.length
      if (value !== '' && !isPlaceholder(value)) report(start, start + value.length)
    }
    for (const match of text.matchAll(SCHEME)) {
      const value = match[1] ?? ''
      const end = match.index + match[0].length
      if (isCredential(match[0], value)) report(end - value.length, end)
    }
  },
}

const HEADER =
  /authorization\\?["']?[ \t]{0,4}[:=][ \t]{0,4}\\?["']?(?:(?:bearer|basic|token|digest|negotiate|apikey|aws4-hmac-sha256)[ \t]{1,4})?/gi
const VALUE = /[^\r\n"'\\]+/y
const SCHEME = /(?:bearer|basic)[ \t]{1,4}([A-Za-z0-9._~+/=-]{8,})/gi

function isPlaceholder(value: string): boolean {
  return /^(?:\[(?:REDACTED|HASH):[\w:.-]{1,200}\]|<[\w -]{1,64}>|\$\{[^}]{1,200}\}|null|none)$/i.test(value)
}

/** `Basic authentication` and `bearer of news` are prose: a credential holds a digit, or decodes to `user:password`. */
function isCredential(whole: string, value: string): boolean {
  if (/^basic/i.test(whole)) {
    return value.length % 4 !== 1 && Buffer.from(value, 'base64').toString('latin1').includes(':')
  }
  return /\d/.test(value) || value.length >= 24
}
