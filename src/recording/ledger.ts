import type { KeyObject } from 'node:crypto'
import type { SessionHeader } from './entries.ts'
import { detachSignature } from './format.ts'
import type { Head } from './format.ts'
import { isSignedBy } from './keys.ts'
import type { Entry, Line } from './read.ts'
import type { FileReport, Problem } from './report.ts'

/** One instance's folder, and where findings go. */
export interface InstanceCheck {
  readonly folder: string
  readonly instance: string
  readonly keys: ReadonlyMap<string, KeyObject>
  readonly heads: readonly Head[]
  readonly isClosed: boolean
  problem(problem: Problem): void
  file(report: FileReport): void
  note(note: { readonly file: string; readonly line: number; readonly text: string }): void
}

/** A line that must be in a file, and who says so. */
export interface Wanted {
  readonly seq: number
  readonly hash: string
  readonly by: string
}

/** What the journals of an instance say, taken together. */
export interface Ledger {
  /** Session files by name, with the session and the hash of the header. */
  readonly sessions: Map<string, { readonly session: string; readonly hash: string; readonly journal: string }>
  /** Session files whose seal was entered. */
  readonly sealed: Set<string>
  readonly wanted: Map<string, Wanted[]>
  readonly removed: Set<string>
  /** Journals whose run goes on, as far as anybody can tell. */
  readonly open: Set<string>
  /** Files no check may be made of because the journal that knows them is broken. */
  readonly broken: Set<string>
}

/** One file of a session. */
export interface SessionPart {
  readonly file: string
  readonly header: SessionHeader
}

/** Checks the signature of a seal or checkpoint line. */
export function checkSignature(check: InstanceCheck, file: string, line: Line, keyId: string): void {
  const key = check.keys.get(keyId)
  const parts = detachSignature(line.text)
  const where = { file, line: line.number }
  if (key === undefined) {
    check.problem({
      ...where,
      reason: 'wrong_key',
      message: `it is signed with key ${keyId.slice(0, 64)}, which is not trusted`,
    })
  } else if (parts === undefined || !isSignedBy(key, parts.signed, parts.signature)) {
    check.problem({ ...where, reason: 'forged', message: 'the signature is not the key owner’s' })
  }
}

/** Says in words what a gap or cut entry records. */
export function describeLoss({ type, members }: Entry): string {
  const text = (key: string): string => {
    const value = members[key]
    return typeof value === 'string' || typeof value === 'number' ? `${value}` : '?'
  }
  if (type === 'cut') return `${text('bytes')} bytes were cut off (${text('reason')})`
  if (members['reason'] === 'write_failed')
    return `writing failed (${text('error')}); ${text('refused')} entries were refused`
  return `${text('file')}: ${text('message')} (${text('reason')})`
}
