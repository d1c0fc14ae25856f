import fs from 'node:fs/promises'
import path from 'node:path'
import { journalHeaderSchema, sessionHeaderSchema } from './entries.ts'
import { kindOfFile } from './format.ts'
import { endsWithSeal, firstEntry } from './read.ts'
import { instancesOf } from './verify.ts'

/** One recording, as its header says. */
export interface RecordingInfo {
  readonly instance: string
  readonly kind: 'session' | 'journal'
  /** Path of the file. */
  readonly file: string
  /** RFC 3339. */
  readonly startedAt: string
  readonly isSealed: boolean
  /** Length of the file; its sidecars not counted. */
  readonly bytes: number
  /** The rest is there for sessions only. */
  readonly session?: string
  /** A session whose file broke goes on in further parts. */
  readonly part?: number
  readonly principal?: string
  readonly owner?: string
  readonly door?: string
  readonly run?: string
}

/** Lists the recordings in `dir`, oldest first. Reads headers and ends only, and proves nothing; `verify` does. */
export async function list(dir: string): Promise<readonly RecordingInfo[]> {
  const found: RecordingInfo[] = []
  for (const instance of await instancesOf(dir)) {
    for (const name of (await fs.readdir(path.join(dir, instance))).sort()) {
      const info = await infoOf(path.join(dir, instance, name), instance)
      if (info !== undefined) found.push(info)
    }
  }
  return found.sort((a, b) => (a.startedAt < b.startedAt ? -1 : a.startedAt > b.startedAt ? 1 : 0))
}

/** Returns the files of one session, in order; empty when there is none. */
export async function partsOf(dir: string, session: string): Promise<readonly RecordingInfo[]> {
  const parts = (await list(dir)).filter((info) => info.kind === 'session' && info.session === session)
  return parts.sort((a, b) => (a.part ?? 1) - (b.part ?? 1))
}

async function infoOf(file: string, instance: string): Promise<RecordingInfo | undefined> {
  const kind = kindOfFile(path.basename(file))
  if (kind !== 'session' && kind !== 'journal') return undefined
  const members = (await firstEntry(file))?.members
  const shared = { instance, file, isSealed: await endsWithSeal(file), bytes: (await fs.stat(file)).size }
  if (kind === 'journal') {
    const header = journalHeaderSchema.safeParse(members)
    return header.success ? { ...shared, kind, startedAt: header.data.started_at } : undefined
  }
  const header = sessionHeaderSchema.safeParse(members)
  if (!header.success) return undefined
  const { session, part, principal, door, run, started_at: startedAt } = header.data
  return {
    ...shared,
    kind,
    startedAt,
    session,
    part,
    principal: principal.id,
    owner: principal.owner,
    door,
    ...(run !== undefined && { run }),
  }
}
