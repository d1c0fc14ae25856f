import fs from 'node:fs/promises'
import path from 'node:path'
import {
  checkpointSchema,
  journalHeaderSchema,
  removalSchema,
  sealedEntrySchema,
  sealSchema,
  sessionEntrySchema,
  sessionHeaderSchema,
} from './entries.ts'
import type { JournalHeader } from './entries.ts'
import { kindOfFile, stemOf } from './format.ts'
import type { Head } from './format.ts'
import { checkSignature, describeLoss } from './ledger.ts'
import type { InstanceCheck, Ledger, SessionPart, Wanted } from './ledger.ts'
import { firstEntry } from './read.ts'
import type { Entry, Line } from './read.ts'
import type { Problem } from './report.ts'
import { verifySession } from './verify-session.ts'
import { walkChain } from './walk.ts'

/** Verifies one instance: its journals first, because they say what else must be there. */
export async function verifyInstance(check: InstanceCheck): Promise<void> {
  const names = (await fs.readdir(check.folder)).sort()
  const ledger: Ledger = {
    sessions: new Map(),
    sealed: new Set(),
    wanted: new Map(),
    removed: new Set(),
    open: new Set(),
    broken: new Set(),
  }
  await verifyJournals(check, names, ledger)
  const headers = await sessionHeaders(check, names, ledger)
  for (const parts of headers.values()) await verifySession(check, names, ledger, parts)
  const stems = new Set([...headers.values()].flat().map(({ file }) => stemOf(file)))
  for (const file of ledger.removed) stems.add(stemOf(file))
  for (const file of names.filter((name) => kindOfFile(name) === 'bulk' && !stems.has(stemOf(name)))) {
    check.problem({ file, reason: 'unlisted', message: 'this sidecar belongs to no session that is here' })
  }
}

async function verifyJournals(check: InstanceCheck, names: readonly string[], ledger: Ledger): Promise<void> {
  const journals = names.filter((name) => kindOfFile(name) === 'journal')
  const headers = new Map<string, JournalHeader>()
  for (const name of journals) {
    const header = journalHeaderSchema.safeParse((await firstEntry(path.join(check.folder, name)))?.members)
    if (!header.success) check.problem({ file: name, line: 1, reason: 'header', message: 'this is no journal header' })
    else headers.set(name, header.data)
  }
  const wanted = wantedOfJournals(check, journals, headers)
  const successors = new Map(
    [...headers].flatMap(([name, { previous }]) => (previous ? [[previous.file, name] as const] : [])),
  )
  for (const name of journals) {
    const header = headers.get(name)
    if (header === undefined) {
      check.file({ file: name, kind: 'journal', status: 'bad', entries: 0 })
      continue
    }
    const successor = successors.get(name)
    const next = successor === undefined ? undefined : headers.get(successor)
    await verifyJournal(check, ledger, name, header, next, wanted.get(name) ?? [])
  }
  // A run goes on in the journal that took over from a broken one.
  for (const name of [...journals].reverse()) {
    const successor = successors.get(name)
    if (successor !== undefined && headers.get(successor)?.continues === true && ledger.open.has(successor))
      ledger.open.add(name)
  }
}

/** Collects which lines of journals others know, and reports journals that are gone or not linked. */
function wantedOfJournals(
  check: InstanceCheck,
  journals: readonly string[],
  headers: ReadonlyMap<string, JournalHeader>,
): ReadonlyMap<string, Wanted[]> {
  const wanted = new Map<string, Wanted[]>()
  const want = ({ file, seq, hash }: Head, by: string): void => {
    if (kindOfFile(file) !== 'journal') return
    if (!journals.includes(file)) {
      check.problem({ file, reason: 'missing', message: `${by} knows this journal, and it is gone` })
    }
    wanted.set(file, [...(wanted.get(file) ?? []), { seq, hash, by }])
  }
  const named = new Set<string>()
  for (const [name, { previous }] of headers) {
    if (previous === null) {
      if (name !== journals[0]) {
        check.problem({
          file: name,
          line: 1,
          reason: 'header',
          message: 'it names no earlier journal, and there are some',
        })
      }
      continue
    }
    if (named.has(previous.file)) {
      check.problem({
        file: name,
        line: 1,
        reason: 'header',
        message: `another journal follows ${previous.file} as well`,
      })
    }
    named.add(previous.file)
    want(previous, name)
  }
  for (const head of check.heads) want(head, 'the given head')
  return wanted
}

async function verifyJournal(
  check: InstanceCheck,
  ledger: Ledger,
  name: string,
  header: JournalHeader,
  next: JournalHeader | undefined,
  wanted: readonly Wanted[],
): Promise<void> {
  const problem = (reason: Problem['reason'], message: string, line?: number): void =>
    check.problem({ file: name, reason, message, ...(line !== undefined && { line }) })
  if (header.file !== name || header.instance !== check.instance) problem('header', 'it was written as another file', 1)
  const missing = new Set(wanted)
  const isContinued = next?.continues === true
  let sealedAt: number | undefined
  const walk = await walkChain(
    path.join(check.folder, name),
    { untilSeq: isContinued ? next?.previous?.seq : undefined },
    (entry, line) => {
      if (sealedAt !== undefined) problem('after_seal', 'something follows the seal', line.number)
      for (const want of missing) if (want.seq === entry.seq && want.hash === line.hash) missing.delete(want)
      if (entry.type === 'seal') sealedAt = line.number
      readJournalEntry(check, ledger, name, entry, line)
    },
  )
  if (walk.fault !== undefined) problem(walk.fault.reason, walk.fault.message, walk.fault.line)
  for (const { seq, by } of missing)
    problem('rolled_back', `${by} knows entry ${seq} of it, which is not here as it was`)
  const isOpen = sealedAt === undefined && !isContinued
  // A line may be in the middle of being written while the run goes on.
  if (walk.fault === undefined && walk.rest.bytes > 0 && !isContinued && (!isOpen || next !== undefined)) {
    problem('torn', `${walk.rest.bytes} bytes follow the last line`)
  }
  if (isOpen && (next !== undefined || check.isClosed)) problem('unsealed', 'the journal is not sealed')
  if (isOpen && next === undefined) ledger.open.add(name)
  if (sealedAt !== undefined && next?.previous && next.previous.seq !== walk.head.seq) {
    problem('after_seal', 'it went on after the next journal began')
  }
  const ending = walk.last?.type === 'seal' ? walk.last.members['ending'] : undefined
  const status = walk.fault
    ? 'bad'
    : isContinued
      ? 'continued'
      : isOpen
        ? 'open'
        : ending === 'crashed'
          ? 'crashed'
          : 'sealed'
  check.file({ file: name, kind: 'journal', status, entries: walk.lines })
}

function readJournalEntry(check: InstanceCheck, ledger: Ledger, name: string, entry: Entry, line: Line): void {
  const where = { file: name, line: line.number }
  const unreadable = (): void =>
    check.problem({ ...where, reason: 'unreadable', message: `this is no ${entry.type} entry` })
  switch (entry.type) {
    case 'session': {
      const parsed = sessionEntrySchema.safeParse(entry.members)
      if (!parsed.success) return unreadable()
      ledger.sessions.set(parsed.data.file, { ...parsed.data, journal: name })
      return
    }
    case 'sealed': {
      const parsed = sealedEntrySchema.safeParse(entry.members)
      if (!parsed.success) return unreadable()
      ledger.sealed.add(parsed.data.head.file)
      want(ledger, parsed.data.head, name)
      return
    }
    case 'checkpoint': {
      const parsed = checkpointSchema.safeParse(entry.members)
      if (!parsed.success) return unreadable()
      checkSignature(check, name, line, parsed.data.key)
      for (const head of parsed.data.heads) want(ledger, head, name)
      return
    }
    case 'seal': {
      const parsed = sealSchema.safeParse(entry.members)
      if (!parsed.success) return unreadable()
      checkSignature(check, name, line, parsed.data.key)
      return
    }
    case 'admin': {
      const removal = removalSchema.safeParse(entry.members)
      if (removal.success) ledger.removed.add(removal.data.subject)
      return
    }
    case 'gap':
    case 'cut':
      check.note({ ...where, text: describeLoss(entry) })
      return
    default:
  }
}

function want(ledger: Ledger, { file, seq, hash }: Head, by: string): void {
  const list = ledger.wanted.get(file)
  if (list === undefined) ledger.wanted.set(file, [{ seq, hash, by }])
  else list.push({ seq, hash, by })
}

/** Reads the headers of all session files, matches them with the journals, and groups the parts of a session. */
async function sessionHeaders(
  check: InstanceCheck,
  names: readonly string[],
  ledger: Ledger,
): Promise<ReadonlyMap<string, readonly SessionPart[]>> {
  const sessions = new Map<string, SessionPart[]>()
  for (const file of new Set([...names.filter((name) => kindOfFile(name) === 'session'), ...ledger.sessions.keys()])) {
    if (!names.includes(file)) {
      if (ledger.removed.has(file)) check.file({ file, kind: 'session', status: 'removed', entries: 0 })
      else check.problem({ file, reason: 'missing', message: 'a journal knows this file, and it is gone' })
      continue
    }
    const header = sessionHeaderSchema.safeParse((await firstEntry(path.join(check.folder, file)))?.members)
    if (!header.success) {
      check.problem({ file, line: 1, reason: 'header', message: 'this is no session header' })
      check.file({ file, kind: 'session', status: 'bad', entries: 0 })
      continue
    }
    const parts = sessions.get(header.data.session) ?? []
    parts.push({ file, header: header.data })
    sessions.set(header.data.session, parts)
  }
  for (const parts of sessions.values()) parts.sort((a, b) => a.header.part - b.header.part)
  return sessions
}
