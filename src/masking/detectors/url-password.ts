import type { Detector } from './detector.ts'

/** Passwords in the user information of an address (RFC 3986 §3.2.1): `postgres://app:PASSWORD@db/shop`. */
export const urlPassword: Detector = {
  kind: 'url_password',
  summary: 'Passwords in addresses such as `postgres://app:…@db/shop`, and tokens in the place of the user.',
  trigger: (text) => text.includes('://') && text.includes('@'),
  find(text, report) {
    let stop = -1
    for (let mark = text.indexOf('://'); mark >= 0; mark = text.indexOf('://', mark + 3)) {
      const start = mark + 3
      const next = text.indexOf('://', start)
      // Looked for once per word, so that a chain of addresses costs its length.
      if (stop < start) {
        STOP.lastIndex = start
        stop = STOP.exec(text)?.index ?? text.length
      }
      const value = passwordIn(text.slice(start, next < 0 ? stop : Math.min(stop, next)))
      if (value !== undefined) report(start + value.start, start + value.end)
    }
  },
}

const STOP = /[\s"'`<>]/g

function passwordIn(rest: string): { start: number; end: number } | undefined {
  const pathStart = /[/?#]/.exec(rest)?.index ?? rest.length
  let at = rest.lastIndexOf('@', pathStart)
  const colon = rest.indexOf(':')
  if (at < 0) {
    // An unescaped `/`, `?` or `#` in a password is wrong and common; a port before a path is not that.
    at = rest.lastIndexOf('@')
    if (at < 0 || colon < 0 || colon > pathStart || /^:\d{1,5}[/?#]/.test(rest.slice(colon, colon + 7)))
      return undefined
  }
  if (colon < 0 || colon > at) return at >= 20 && !isPlaceholder(rest.slice(0, at)) ? { start: 0, end: at } : undefined
  const password = rest.slice(colon + 1, at)
  return password === '' || isPlaceholder(password) ? undefined : { start: colon + 1, end: at }
}

function isPlaceholder(value: string): boolean {
  return /^(?:\[(?:REDACTED|HASH):[\w:.-]{1,200}\]|\$\{[^}]{1,200}\}|\*{1,64})$/.test(value)
}
