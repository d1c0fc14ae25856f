import fs from 'node:fs/promises'
import path from 'node:path'
import { z } from 'zod'
import { ChainFile } from './chain-file.ts'
import type { RecorderContext } from './context.ts'
import {
  checkpointSchema,
  journalHeaderSchema,
  sealedEntrySchema,
  sessionEntrySchema,
  sessionHeaderSchema,
} from './entries.ts'
import { kindOfFile, stampOf } from './format.ts'
import type { Head } from './format.ts'
import { loadHead } from './head.ts'
import type { Sealed } from './journal.ts'
import { endsWithSeal, firstEntry, walkLines } from './read.ts'
import type { Entry, Line } from './read.ts'
import { cutRest, HEADER, recoverSession } from './recover-session.ts'
import { walkChain } from './walk.ts'
import type { ChainWalk } from './walk.ts'

/** Something an earlier run recorded and that is not, or no longer, as it was. */
export interface RecoveryGap {
  readonly reason: 'missing' | 'broken' | 'rolled_back'
  readonly file: string
  readonly message: string
}

/** What a start found. */
export interface Recovery {
  /** Sessions sealed as crashed. */
  readonly sealed: readonly Sealed[]
  readonly gaps: readonly RecoveryGap[]
  /** Files that were created and never used; they are removed, and the new journal says so. */
  readonly unbegun: readonly { readonly file: string; readonly bytes: number }[]
  /** End of the last journal, for the next to name. */
  readonly previous: Head | undefined
  /** Name of the newest journal there is or was. */
  readonly lastName: string | undefined
  /** What could not be entered in an old journal and goes into the new one. */
  readonly deferred: readonly Sealed[]
}

interface OldJournal {
  readonly name: string
  readonly walk: ChainWalk
  readonly entries: readonly Entry[]
  /** Whether another journal took over when this one broke; it was left as it is on purpose. */
  readonly isContinued: boolean
}

/**
 * Completes what earlier runs of this instance left open: cuts off torn last lines into entries that say so, ends open
 * calls as `crashed`, seals sessions and journals. A file whose chain is broken, or that is shorter than a checkpoint
 * knew it, is left exactly as it is: signing it would make a forgery genuine. Safe to be interrupted and run again.
 */
export async function recoverInstance(context: RecorderContext, stateDir: string): Promise<Recovery> {
  const names = (await fs.readdir(context.folder)).sort()
  const gaps: RecoveryGap[] = []
  const sealed: Sealed[] = []
  const journals = await unsealedJournals(context, names, gaps)
  const sessions = openSessions(journals)
  const unbegun = await removeUnbegun(context, names, sessions)
  for (const [session, files] of sessions.open) {
    const outcome = await recoverSession(context, names, session, files, sessions.known).catch(unreadable(files))
    if ('head' in outcome) sealed.push(outcome)
    else gaps.push(outcome)
  }
  const deferred = await sealJournals(context, journals, sealed)
  const journal = await previousHead(context, stateDir, gaps)
  return { sealed, gaps, unbegun, deferred, ...journal }
}

/** A file of another version, or a forged one: its chain holds, and its entries are not what they should be. */
function unreadable(files: readonly string[]): (error: unknown) => RecoveryGap {
  return (error) => {
    if (!(error instanceof z.ZodError)) throw error
    return { reason: 'broken', file: files[0] ?? '', message: 'it holds an entry this version cannot read' }
  }
}

async function unsealedJournals(
  context: RecorderContext,
  names: readonly string[],
  gaps: RecoveryGap[],
): Promise<OldJournal[]> {
  const journals: OldJournal[] = []
  const continued = new Map<string, number>()
  const candidates: string[] = []
  for (const name of names.filter((name) => kindOfFile(name) === 'journal')) {
    const file = path.join(context.folder, name)
    const header = journalHeaderSchema.safeParse((await firstEntry(file))?.members)
    if (header.data?.continues === true && header.data.previous !== null) {
      continued.set(header.data.previous.file, header.data.previous.seq)
    }
    if (!(await endsWithSeal(file))) candidates.push(name)
  }
  for (const name of candidates) {
    const entries: Entry[] = []
    const untilSeq = continued.get(name)
    const walk = await walkChain(path.join(context.folder, name), { untilSeq }, (entry) => void entries.push(entry))
    if (walk.fault !== undefined) {
      gaps.push({ reason: 'broken', file: name, message: `line ${walk.fault.line}: ${walk.fault.message}` })
    }
    journals.push({ name, walk, entries, isContinued: untilSeq !== undefined })
  }
  return journals
}

/** What old journals say of sessions: those not sealed yet, by session, and how far files were known to have come. */
interface OldSessions {
  readonly open: ReadonlyMap<string, readonly string[]>
  readonly known: ReadonlyMap<string, readonly Head[]>
  /** Files named in a journal that was not sealed. */
  readonly listed: ReadonlySet<string>
  /** Files whose names sort before this belong to runs that were completed. */
  readonly since: string
  /** Journals that were not sealed. */
  readonly journals: ReadonlySet<string>
}

function openSessions(journals: readonly OldJournal[]): OldSessions {
  const open = new Map<string, string[]>()
  const known = new Map<string, Head[]>()
  const listed = new Set<string>()
  const know = (head: Head): void => void known.set(head.file, [...(known.get(head.file) ?? []), head])
  const entries = journals.flatMap((journal) => journal.entries)
  for (const { type, members } of entries) {
    if (type === 'session') {
      const { session, file, hash } = sessionEntrySchema.parse(members)
      open.set(session, [...(open.get(session) ?? []), file])
      listed.add(file)
      know({ file, seq: HEADER, hash })
    }
    if (type === 'checkpoint') checkpointSchema.parse(members).heads.forEach(know)
  }
  for (const { type, members } of entries) {
    if (type === 'sealed') open.delete(sealedEntrySchema.parse(members).session)
  }
  return { open, known, listed, since: sinceOf(journals[0]), journals: new Set(journals.map(({ name }) => name)) }
}

/** Returns what the names of a run's session files do not sort before. */
function sinceOf(journal: OldJournal | undefined): string {
  const header = journalHeaderSchema.safeParse(journal?.entries[0]?.members)
  return header.success ? stampOf(Date.parse(header.data.started_at)) : ''
}

/** Enters what was sealed into the last journal that is in order and seals the journals. Returns what found no place. */
async function sealJournals(
  context: RecorderContext,
  journals: readonly OldJournal[],
  sealed: readonly Sealed[],
): Promise<readonly Sealed[]> {
  const { disk, folder, signer, now } = context
  let left = sealed
  const whole = journals.filter(
    ({ walk, isContinued }) => walk.fault === undefined && !isContinued && walk.head.seq >= 0,
  )
  for (const { name, walk } of whole.reverse()) {
    const head = await cutRest(context, name, walk)
    const chain = new ChainFile({
      disk,
      fd: disk.reopen(path.join(folder, name)),
      name,
      signer,
      now,
      isNew: false,
      from: { head, owed: [], failure: undefined },
    })
    try {
      for (const { session, head, ending } of left) {
        await chain.append('sealed', { session, head, ending })
      }
      await chain.append(
        'seal',
        { ending: 'crashed', key: signer.keyId },
        { isSigned: true, sync: context.fsync !== 'off' },
      )
    } finally {
      await chain.close()
    }
    left = []
  }
  return left
}

/** Finds where the last journal ended, and whether that is as far as the state directory knows it had come. */
async function previousHead(
  context: RecorderContext,
  stateDir: string,
  gaps: RecoveryGap[],
): Promise<Pick<Recovery, 'previous' | 'lastName'>> {
  const last = (await journalNames(context)).at(-1)
  const remembered = await loadHead(stateDir, context.instance)
  if (remembered !== undefined) {
    let found: string | undefined
    const file = path.join(context.folder, remembered.file)
    const isThere = await exists(file)
    if (isThere) await walkChain(file, {}, (entry, line) => void (entry.seq === remembered.seq && (found = line.hash)))
    if (found !== remembered.hash) {
      // INVARIANT: the new journal names what should be there, so that every later verification misses it too.
      gaps.push({
        reason: isThere ? 'rolled_back' : 'missing',
        file: remembered.file,
        message: isThere
          ? `the journal had entry ${remembered.seq} and no longer has it as it was`
          : 'the last journal is gone',
      })
      const { instance: _, ...previous } = remembered
      return { previous, lastName: [last ?? '', remembered.file].sort().at(-1) }
    }
  }
  if (last === undefined) return { previous: undefined, lastName: undefined }
  const { head } = await walkChain(path.join(context.folder, last), {}, () => undefined)
  return { previous: { file: last, ...head }, lastName: last }
}

/**
 * Removes files that were created and never used: journals without a complete line, and files of sessions that hold a
 * header at most and were not entered in their journal, which comes before the first call. Returns what was removed.
 */
async function removeUnbegun(
  context: RecorderContext,
  names: readonly string[],
  { listed, since, journals }: OldSessions,
): Promise<Recovery['unbegun']> {
  const removed: { file: string; bytes: number }[] = []
  for (const name of names) {
    const kind = kindOfFile(name)
    if (kind !== 'journal' && (kind !== 'session' || listed.has(name) || name < since)) continue
    const file = path.join(context.folder, name)
    const first: Line[] = []
    const rest = await walkLines(file, (line) => first.push(line) < 2)
    const header = sessionHeaderSchema.safeParse(first[0]?.entry?.members)
    const isUnused = first.length === 0 || (first.length === 1 && header.success && journals.has(header.data.journal))
    if (!isUnused) continue
    await fs.unlink(file)
    removed.push({ file: name, bytes: rest.offset + rest.bytes })
  }
  return removed
}

async function journalNames(context: RecorderContext): Promise<readonly string[]> {
  return (await fs.readdir(context.folder)).filter((name) => kindOfFile(name) === 'journal').sort()
}

async function exists(file: string): Promise<boolean> {
  return fs.access(file).then(
    () => true,
    () => false,
  )
}
