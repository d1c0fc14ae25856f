import assert from 'node:assert/strict'
import { createHash } from 'node:crypto'
import type { Hash } from 'node:crypto'
import { createReadStream } from 'node:fs'
import fs from 'node:fs/promises'
import path from 'node:path'
import { ChainFile } from './chain-file.ts'
import type { RecorderContext } from './context.ts'
import { recordingFailed } from './disk.ts'
import { decisionSchema, endSchema, sealSchema, sessionHeaderSchema } from './entries.ts'
import type { Range, SessionHeader } from './entries.ts'
import { hashOf, kindOfFile, spellLine, stemOf } from './format.ts'
import type { Head } from './format.ts'
import type { Sealed } from './journal.ts'
import { firstEntry, walkFrames } from './read.ts'
import type { Rest } from './read.ts'
import type { RecoveryGap } from './recover.ts'
import { walkChain } from './walk.ts'
import type { ChainWalk } from './walk.ts'

/** Stands for the number of a file's header, which is not 0 in a file that continues another. */
export const HEADER = -1

/** Longest torn piece that is kept word for word in the entry about it. */
const KEPT_REST_BYTES = 16 * 1024

interface Part {
  readonly file: string
  readonly walk: ChainWalk
}

/** What a session's entries say, up to where they end. */
interface Told {
  readonly last: Part
  /** Calls that were decided and have no end entry. */
  readonly open: ReadonlySet<string>
  readonly calls: number
  /** By sidecar: as far as end entries prove it was whole. */
  readonly proven: ReadonlyMap<string, number>
}

/** Completes one session's files, or says why they must not be touched. `files` are its parts in order. */
export async function recoverSession(
  context: RecorderContext,
  names: readonly string[],
  session: string,
  files: readonly string[],
  known: ReadonlyMap<string, readonly Head[]>,
): Promise<Sealed | RecoveryGap> {
  const told = await readParts(context, names, files, known)
  if ('reason' in told) return told
  const { last } = told
  if (last.walk.last?.type === 'seal') {
    const { ending } = sealSchema.parse(last.walk.last.members)
    return { session, head: { file: last.file, ...last.walk.head }, ending }
  }
  const sidecars = await readSidecars(context, sidecarsOf(names, last.file), told)
  if ('reason' in sidecars) return sidecars
  return { session, head: await complete(context, told, sidecars), ending: 'crashed' }
}

async function readParts(
  context: RecorderContext,
  names: readonly string[],
  files: readonly string[],
  known: ReadonlyMap<string, readonly Head[]>,
): Promise<Told | RecoveryGap> {
  const open = new Set<string>()
  const proven = new Map<string, number>()
  let calls = 0
  let last: Part | undefined
  for (const [index, file] of files.entries()) {
    if (!names.includes(file)) return { reason: 'missing', file, message: 'the file of this session is gone' }
    const wanted = new Map((known.get(file) ?? []).map((head) => [head.seq, head.hash]))
    const header = await headerOf(context, file)
    const next = await headerOf(context, files[index + 1])
    const options = { from: header?.continues, untilSeq: next?.continues?.seq }
    const walk = await walkChain(path.join(context.folder, file), options, (entry, line) => {
      if (wanted.get(entry.seq) === line.hash) wanted.delete(entry.seq)
      if (line.number === 1 && wanted.get(HEADER) === line.hash) wanted.delete(HEADER)
      if (entry.type === 'decision') {
        calls++
        open.add(decisionSchema.parse(entry.members).call)
      }
      if (entry.type !== 'end') return
      const { call, bulk } = endSchema.parse(entry.members)
      open.delete(call)
      if (bulk !== undefined) proven.set(bulk.file, Math.max(bulk.end, proven.get(bulk.file) ?? 0))
    })
    if (walk.fault !== undefined) {
      return { reason: 'broken', file, message: `line ${walk.fault.line}: ${walk.fault.message}` }
    }
    if (wanted.size > 0) {
      return { reason: 'rolled_back', file, message: 'the file no longer holds every line a checkpoint knew' }
    }
    last = { file, walk }
  }
  assert(last !== undefined, 'a session has at least one file')
  return { last, open, calls, proven }
}

async function headerOf(context: RecorderContext, file: string | undefined): Promise<SessionHeader | undefined> {
  if (file === undefined) return undefined
  return sessionHeaderSchema.safeParse((await firstEntry(path.join(context.folder, file)))?.members).data
}

/** Cuts off what is torn, ends what was open and seals the file. */
async function complete(context: RecorderContext, { last, open, calls }: Told, sidecars: Sidecars): Promise<Head> {
  const { disk, folder, signer, now } = context
  const head = await cutRest(context, last.file, last.walk)
  const chain = new ChainFile({
    disk,
    fd: disk.reopen(path.join(folder, last.file)),
    name: last.file,
    signer,
    now,
    isNew: false,
    from: { head, owed: [], failure: undefined },
  })
  try {
    if (sidecars.torn !== undefined) await cutSidecar(context, chain, sidecars.torn)
    for (const call of open) {
      const bulk = sidecars.ranges.get(call)
      await chain.append('end', { call, ending: 'crashed', recovered: true, ...(bulk && { bulk }) })
    }
    const body = { ending: 'crashed', key: signer.keyId, calls, bulk: sidecars.list }
    await chain.append('seal', body, { isSigned: true, sync: context.fsync !== 'off' })
    return chain.head
  } finally {
    await chain.close()
  }
}

function sidecarsOf(names: readonly string[], file: string): readonly string[] {
  const part = (name: string): number => Number(/\.(\d+)\.bulk$/.exec(name)?.[1] ?? 1)
  return names
    .filter((name) => kindOfFile(name) === 'bulk' && stemOf(name) === stemOf(file))
    .sort((a, b) => part(a) - part(b))
}

/** What a session's sidecars hold. */
interface Sidecars {
  readonly list: readonly { readonly file: string; readonly length: number; readonly broken?: true }[]
  /** Frames of calls that never got their end entry. */
  readonly ranges: ReadonlyMap<string, Range>
  /** The last sidecar, when it ends in a piece of a frame. */
  readonly torn: { readonly file: string; readonly rest: Rest } | undefined
}

async function readSidecars(
  context: RecorderContext,
  names: readonly string[],
  { open, proven }: Told,
): Promise<Sidecars | RecoveryGap> {
  const list: { file: string; length: number; broken?: true }[] = []
  const ranges = new Map<string, Range>()
  let torn: Sidecars['torn']
  for (const [index, file] of names.entries()) {
    const full = path.join(context.folder, file)
    const rest = await walkFrames(full, { frame: () => true })
    if (rest.offset < (proven.get(file) ?? 0)) {
      // Not the work of a crash: entries that were written later say that it was longer.
      return { reason: 'broken', file, message: `the sidecar is damaged at byte ${rest.offset}` }
    }
    for (const [call, range] of await rangesOf(full, open, rest.offset)) ranges.set(call, { file, ...range })
    const isLast = index === names.length - 1
    if (rest.bytes > 0 && isLast) torn = { file, rest }
    list.push({ file, length: rest.offset, ...(rest.bytes > 0 && !isLast && { broken: true }) })
  }
  return { list, ranges, torn }
}

/** Finds the frames of the `open` calls among the first `length` bytes of a sidecar. */
async function rangesOf(
  file: string,
  open: ReadonlySet<string>,
  length: number,
): Promise<ReadonlyMap<string, Omit<Range, 'file'>>> {
  const found = new Map<string, { offset: number; end: number; frames: number; bytes: number; hash: Hash }>()
  let current: Hash | undefined
  await walkFrames(
    file,
    {
      frame({ call, n, offset, end }) {
        // A first frame begins a call's range; an earlier call of that name has its end entry already.
        if (open.has(call) && n === 0) found.set(call, { offset, end, frames: 0, bytes: 0, hash: createHash('sha256') })
        const range = found.get(call)
        current = range?.hash
        if (range === undefined) return
        range.end = end
        range.frames++
        range.bytes += end - offset
      },
      bytes: (bytes) => void current?.update(bytes),
    },
    length,
  )
  return new Map([...found].map(([call, { hash, ...range }]) => [call, { ...range, sha256: hash.digest('hex') }]))
}

/** Records the torn end of a sidecar, then cuts it off: interrupted in between, it is recorded once more. */
async function cutSidecar(
  context: RecorderContext,
  chain: ChainFile,
  torn: NonNullable<Sidecars['torn']>,
): Promise<void> {
  const full = path.join(context.folder, torn.file)
  await chain.append('cut', { file: torn.file, ...(await describeRest(full, torn.rest)) }, { sync: true })
  await fs.truncate(full, torn.rest.offset)
}

/**
 * Replaces what is behind the last complete line by an entry that says so, and returns the new end of the chain.
 *
 * The entry is written over the torn bytes before the rest is cut off: interrupted at any point, the file still ends in
 * something torn, which the next start records in turn. Nothing is dropped in silence.
 */
export async function cutRest(
  context: RecorderContext,
  name: string,
  { head, rest }: ChainWalk,
): Promise<{ readonly seq: number; readonly hash: string }> {
  if (rest.bytes === 0) return head
  const file = path.join(context.folder, name)
  const at = new Date(context.now()).toISOString()
  const line = Buffer.from(`${spellLine(head.seq + 1, at, 'cut', head.hash, await describeRest(file, rest))}\n`)
  let handle: fs.FileHandle | undefined
  try {
    handle = await fs.open(file, fs.constants.O_RDWR | fs.constants.O_NOFOLLOW)
    for (let done = 0; done < line.length;) {
      const { bytesWritten } = await handle.write(line, done, line.length - done, rest.offset + done)
      done += bytesWritten
    }
    await handle.truncate(rest.offset + line.length)
    await handle.sync()
  } catch (error) {
    throw recordingFailed(error)
  } finally {
    await handle?.close()
  }
  return { seq: head.seq + 1, hash: hashOf(line) }
}

/** What an entry says about a torn piece: how long it was, its hash and, when short, the piece itself. */
async function describeRest(file: string, rest: Rest): Promise<object> {
  const hash = createHash('sha256')
  const kept: Buffer[] = []
  for await (const piece of createReadStream(file, { start: rest.offset }) as AsyncIterable<Buffer>) {
    hash.update(piece)
    if (rest.bytes <= KEPT_REST_BYTES) kept.push(piece)
  }
  return {
    reason: 'torn',
    offset: rest.offset,
    bytes: rest.bytes,
    sha256: hash.digest('hex'),
    ...(kept.length > 0 && { data: Buffer.concat(kept).toString('base64') }),
  }
}
