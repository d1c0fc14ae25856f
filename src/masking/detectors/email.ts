import { type Detector, HIDDEN, isAlphanumeric } from './detector.ts'

/**
 * Mail addresses (RFC 5321 §4.1.2), unquoted local part, domain with a dot. Found outward from each `@`, so that the
 * cost is the length of the text and no part of a long local part stays behind. Letters beyond ASCII count (RFC 6531).
 */
export const email: Detector = {
  kind: 'email',
  summary: 'Mail addresses with a dotted domain.',
  trigger: (text) => text.includes('@'),
  find(text, report) {
    for (let at = text.indexOf('@'); at >= 0; at = text.indexOf('@', at + 1)) {
      const start = localStart(text, at)
      const end = domainEnd(text, at + 1)
      if (start < at && end > at) report(start, end)
    }
  },
  canonical: (value) => value.toLowerCase(),
  partial(value) {
    const at = value.lastIndexOf('@')
    const first = at >= 3 ? String.fromCodePoint(value.codePointAt(0) ?? 0) : ''
    return first + HIDDEN.repeat(3) + value.slice(at)
  },
}

const LOCAL_MARKS = "._%+'-!#$&*/=?^`{|}~"
// Marks that may stand in a local part but seldom begin one; in running text they are the punctuation before it.
const LEADING_MARKS = ".'`{|=/?&*#!^~$%-"

function localStart(text: string, at: number): number {
  let start = at
  while (start > 0 && (isWordAt(text, start - 1) || LOCAL_MARKS.includes(text.charAt(start - 1)))) start--
  // `to=jane@…`, `{jane@…`: the value is the last piece; what precedes a mark that no mailbox provider allows stays.
  for (let index = at - 1; index >= start; index--) {
    if ('=?&{|}`/!#$*^~'.includes(text.charAt(index))) {
      start = index + 1
      break
    }
  }
  while (start < at && LEADING_MARKS.includes(text.charAt(start))) start++
  return start
}

/** Returns where the domain that begins at `start` ends, or -1 when there is none. */
function domainEnd(text: string, start: number): number {
  let end = start
  while (end < text.length && (isWordAt(text, end) || '.-'.includes(text.charAt(end)))) end++
  const stop = text.slice(start, end).indexOf('..')
  if (stop >= 0) end = start + stop
  while (end > start && '.-_'.includes(text.charAt(end - 1))) end--
  const domain = text.slice(start, end)
  const dot = domain.lastIndexOf('.')
  if (dot <= 0 || domain.startsWith('-')) return -1
  const top = domain.slice(dot + 1)
  if (NOT_DOMAINS.test(top)) return -1
  // `a@b.com2`: the top level is letters; digits glued behind it belong to something else, yet the address is there.
  const letters = /^(?:xn--[A-Za-z0-9-]{2,59}|[A-Za-z\u0080-\uffff]{2,63})/.exec(top)
  return letters === null ? -1 : start + dot + 1 + letters[0].length
}

/** File names such as `icon@2x.png` look like addresses. */
const NOT_DOMAINS = /^(?:png|jpe?g|gif|svg|webp|css|html?)$/i

function isWordAt(text: string, index: number): boolean {
  const code = text.charCodeAt(index)
  if (code < 0x80) return isAlphanumeric(code) || code === 95
  return BEYOND_ASCII.test(text.charAt(index))
}

const BEYOND_ASCII = /[\p{L}\p{N}\p{M}]/u
