import { type Detector, entropyOf } from './detector.ts'

/** A value after a name that says it is a password: `password=…`, `"passwd": "…"`, `PASSWORD '…'`, `--password …`. */
export const passwordAssignment: Detector = {
  kind: 'password_assignment',
  summary: 'Values assigned to a name that says password (`PGPASSWORD=…`, `"passwd": "…"`, `--password …`).',
  trigger: (text) => /pass|pwd|identified/i.test(text),
  find(text, report) {
    eachValue(
      text,
      /(?:pass(?:word|wd|phrase|code|wort)?|pwd|identified[ ]{1,4}by)(?![A-Za-z])/gi,
      (start, end, name) => {
        // A bare `pass` is an English word; as a name it stands alone or at the end of one (`db_pass=`).
        if (/^pass$/i.test(name) && !/[=:]["'\\]{0,2}[ \t]{0,4}$/.test(text.slice(Math.max(0, start - 8), start)))
          return
        report(start, end)
      },
    )
  },
}

/** A random-looking value after a name that says it is a secret: tokens, keys, signatures. */
export const genericSecret: Detector = {
  kind: 'generic_secret',
  summary: 'Random-looking values of 12 or more characters assigned to a name such as `token` or `api_key`.',
  trigger: (text) => /secret|token|key|credential|signature|cookie|session|auth/i.test(text),
  find(text, report) {
    eachValue(
      text,
      /(?:secret|token|api[_-]?key|access[_-]?key|private[_-]?key|account[_-]?key|(?:secret|encryption|signing|master|auth|client|shared|storage|service)[_-]?key|credentials?|signature|cookie|session[_-]?id|auth)(?![A-Za-z])/gi,
      (start, end) => {
        const value = text.slice(start, Math.min(end, start + 4096))
        // What else stands in it, an earlier replacement or a foreign letter, makes it no less a secret.
        if (isRandom(value.replaceAll(/\[(?:REDACTED|HASH):[\w:.-]{1,200}\]|[^!-~]/g, ''))) report(start, end)
      },
    )
  },
}

/** Words have few digits and repeat letters; secrets of this length do not. */
function isRandom(value: string): boolean {
  if (value.length < 12) return false
  const entropy = entropyOf(value)
  if (/^[0-9a-f-]+$/i.test(value)) return /\d/.test(value) && entropy >= 2.8
  return entropy >= 3 && /\d/.test(value) && /[A-Za-z]/.test(value)
}

/**
 * Calls `take` for the value that follows each `names` match. Goes on behind the value, so that a chain of names costs
 * its length once.
 */
function eachValue(text: string, names: RegExp, take: (start: number, end: number, name: string) => void): void {
  const pattern = new RegExp(names)
  for (let match = pattern.exec(text); match !== null; match = pattern.exec(text)) {
    const value = valueAfter(text, match.index, match.index + match[0].length)
    if (value === undefined || isOwnLabel(text, match.index)) continue
    pattern.lastIndex = Math.max(pattern.lastIndex, value.end)
    if (value.end > value.start && !isNoSecret(text.slice(value.start, value.end))) {
      take(value.start, value.end, match[0])
    }
  }
}

// Between a name and its value: closing quote of the name, blanks, a sign; or blanks before a quote; or `>` of a tag.
const BETWEEN =
  /(?:[_-]?[0-9A-Z_]{0,16})?(\\?["'`\]]{0,2})(?:[ \t]{0,8}(?::=|=>|={1,3}|:(?!:))[ \t]{0,8}|[ \t]{1,8}(?=["'])|>(?=[^<>\s]))/y
// `--password hunter2`: a blank is enough after an option.
const OPTION = /[ \t]{1,8}(?=[^\s-])/y

function valueAfter(text: string, nameStart: number, nameEnd: number): { start: number; end: number } | undefined {
  BETWEEN.lastIndex = nameEnd
  let between = BETWEEN.exec(text)
  if (between === null) {
    if (!/--?[a-z-]{0,24}$/i.test(text.slice(Math.max(0, nameStart - 26), nameStart))) return undefined
    OPTION.lastIndex = nameEnd
    between = OPTION.exec(text)
    if (between === null) return undefined
  }
  const start = nameEnd + between[0].length
  const quote = /^\\?["'`]/.exec(text.slice(start, start + 2))?.[0]
  if (quote !== undefined) {
    return { start: start + quote.length, end: quotedEnd(text, start + quote.length, quote) }
  }
  if (between[0].endsWith('>')) return { start, end: runEnd(text, start, TAG_STOPS) }
  const isQuotedName = (between[1] ?? '') !== ''
  return { start, end: runEnd(text, start, isQuotedName ? JSON_STOPS : STOPS) }
}

/** Returns where a quoted value ends: before its closing quote, or with the line. */
function quotedEnd(text: string, start: number, quote: string): number {
  for (let at = start; at < text.length; at++) {
    if (text.charAt(at) === '\n') return at
    if (text.startsWith(quote, at)) return at
    if (text.charAt(at) === '\\') at++
  }
  return text.length
}

const STOPS = /[\s"'`]/g
const JSON_STOPS = /[\s"'`,}\]]/g
const TAG_STOPS = /[<\n]/g

function runEnd(text: string, start: number, stops: RegExp): number {
  stops.lastIndex = start
  return stops.exec(text)?.index ?? text.length
}

/** Whether a name is the kind in an earlier replacement, as in `[REDACTED:aws_access_key]: "…"`. */
function isOwnLabel(text: string, nameStart: number): boolean {
  const before = text.slice(Math.max(0, nameStart - 32), nameStart)
  const open = before.lastIndexOf('[')
  return open >= 0 && OWN_LABEL.test(before.slice(open) + text.slice(nameStart, nameStart + 64))
}

const OWN_LABEL =
  /^\[(?:REDACTED|HASH):(?:aws_secret_key|aws_access_key|google_api_key|private_key|stripe_key|github_token|slack_token|generic_secret|password_assignment|url_password)(?::h[0-9a-f]{16})?\]/

/** Placeholders of templates, empty values, and what masking itself writes. */
function isNoSecret(value: string): boolean {
  if (value.length > 256) return false
  return /^(?:null|none|nil|undefined|true|false|\?|\$\d{1,3}|\*{1,256}|•{1,256}|x{3,256}|<[\w -]{0,64}>|\$\{[^}]{0,200}\}|\$?\{\{(?:[^}]{0,200}\}\})?|\[(?:REDACTED|HASH):[\w:.-]{1,200}\])[,;)\]}]{0,4}$/i.test(
    value,
  )
}
