/**
 * The recording format as types and pure functions: how a line is spelled, hashed, named and signed over.
 *
 * `recordings/README.md` is the specification; this file is its counterpart in code and holds no I/O. Everything that
 * writes or reads a recording goes through these functions, so that there is one spelling.
 *
 * @packageDocumentation
 */
import { hash } from 'node:crypto'

/** First member of every header. A reader that does not know the version must refuse the file. */
export const FORMAT = 'sallyport-recording/1'

/** What stands in `prev` of a file's first line. */
export const NO_PREVIOUS = '0'.repeat(64)

/** Longest line a writer makes and a reader accepts, in bytes. */
export const LINE_BYTES_MAX = 64 * 1024 * 1024

/** Longest first line of a frame in a sidecar, in bytes. */
export const FRAME_HEAD_BYTES_MAX = 64 * 1024

/** Every type of entry. `session` and `sealed`, `admin` and `checkpoint` occur in journals only. */
export type EntryType =
  | 'open'
  | 'decision'
  | 'approval'
  | 'end'
  | 'refused'
  | 'gap'
  | 'cut'
  | 'notice'
  | 'heard'
  | 'session'
  | 'sealed'
  | 'admin'
  | 'checkpoint'
  | 'seal'

/** A position in a chain: a line and the hash of its bytes. */
export interface Head {
  /** File name, relative to the instance's folder. */
  readonly file: string
  readonly seq: number
  /** SHA-256 over the line's bytes with its newline, lower-case hex. */
  readonly hash: string
}

/**
 * Characters that JSON leaves as they are and a terminal or an editor does not show: DEL and C1 controls, directional and
 * other format characters, line and paragraph separators, what is ignorable by default. In a JSON text they occur inside
 * strings only, so escaping them changes how the text looks and not what it means.
 */
const UNSEEN = /[\p{Cc}\p{Cf}\p{Cs}\p{Zl}\p{Zp}\p{Default_Ignorable_Code_Point}]/gu

/** Most texts are of these alone, and testing for it costs a tenth of looking for the others. */
const PRINTABLE_ASCII = /^[ -~]*$/

/** Returns the JSON text of `value`, without a character that hides or reorders others. */
export function encodeJson(value: unknown): string {
  return visible(JSON.stringify(value))
}

/** Returns `text` fit for a terminal: every control, directional and invisible character shows as an escape. */
export function visible(text: string): string {
  return PRINTABLE_ASCII.test(text) ? text : text.replace(UNSEEN, escapeUnits)
}

function escapeUnits(match: string): string {
  let escaped = ''
  for (let index = 0; index < match.length; index++) {
    escaped += `\\u${match.charCodeAt(index).toString(16).padStart(4, '0')}`
  }
  return escaped
}

/** The hash entries are chained by: SHA-256 of the exact bytes, newline included, in lower-case hex. */
export function hashOf(bytes: Uint8Array | string): string {
  return hash('sha256', bytes, 'hex')
}

/**
 * Spells one line, without its newline. `body` holds what is particular to the type: an object, or the JSON text of one
 * that {@link encodeJson} has spelled.
 */
export function spellLine(seq: number, at: string, type: EntryType, prev: string, body: object | string): string {
  const members = typeof body === 'string' ? body : encodeJson(body)
  const tail = members === '{}' ? '}' : `,${members.slice(1)}`
  return `{"seq":${seq},"at":"${at}","type":"${type}","prev":"${prev}"${tail}`
}

/** Puts a signature into a line as its last member. What was signed is the line without that member. */
export function attachSignature(line: string, signature: string): string {
  return `${line.slice(0, -1)},"sig":"${signature}"}`
}

const SIGNED = /,"sig":"([0-9a-f]{128})"\}$/

/** Takes a signed line apart, or returns `undefined` when it carries no signature in the one spelling there is. */
export function detachSignature(line: string): { readonly signed: string; readonly signature: string } | undefined {
  const match = SIGNED.exec(line)
  if (match?.[1] === undefined) return undefined
  return { signed: `${line.slice(0, match.index)}}`, signature: match[1] }
}

/** Names of instances: what a folder may be called. */
export const INSTANCE_NAME = /^[a-z0-9][a-z0-9-]{0,62}$/

const SESSION_FILE = /^\d{8}T\d{6}Z-[0-9a-f-]{8,64}(\.\d{1,6})?\.jsonl$/
const JOURNAL_FILE = /^journal-(\d{8})\.jsonl$/
const BULK_FILE = /^\d{8}T\d{6}Z-[0-9a-f-]{8,64}(\.\d{1,6})?\.bulk$/

/** What a file name of an instance's folder says the file is. */
export type FileKind = 'session' | 'journal' | 'bulk' | 'other'

/** Tells what a file is by its name. Names are made here from times, numbers and hex only, never from a caller's text. */
export function kindOfFile(name: string): FileKind {
  if (JOURNAL_FILE.test(name)) return 'journal'
  if (SESSION_FILE.test(name)) return 'session'
  return BULK_FILE.test(name) ? 'bulk' : 'other'
}

/** Returns the stem of a session's files. A session id that is not plain hex and dashes is replaced by its hash. */
export function sessionStem(startedAtMs: number, session: string): string {
  const name = /^[0-9a-f-]{8,64}$/.test(session) ? session : hashOf(session).slice(0, 32)
  return `${stampOf(startedAtMs)}-${name}`
}

/**
 * Returns the name of the journal after `last`, or of the first one. Journals are numbered, because clocks jump and two
 * runs may begin within a second; their names sort as they were made.
 */
export function journalAfter(last: string | undefined): string {
  const number = Number(JOURNAL_FILE.exec(last ?? '')?.[1] ?? 0)
  return `journal-${String(number + 1).padStart(8, '0')}.jsonl`
}

/** Returns what the names of a session's files have in common. */
export function stemOf(file: string): string {
  return file.replace(/(\.\d+)?\.(jsonl|bulk)$/, '')
}

/** Returns the name of a session's file or sidecar; the first of each has no number. */
export function partName(stem: string, part: number, extension: 'jsonl' | 'bulk'): string {
  return part === 1 ? `${stem}.${extension}` : `${stem}.${part}.${extension}`
}

/** Returns a time as file names carry it. */
export function stampOf(ms: number): string {
  return new Date(ms).toISOString().slice(0, 19).replaceAll(/[-:]/g, '') + 'Z'
}
