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
import { hashOf, spellLine } from './format.ts'
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

/** Completes one session's files, or says why they must not be touched. `files` are its parts in order. */
export async function recoverSession(
  context: RecorderContext,
  names: readonly string[],
  session: string,
  files: readonly string[],
  known: ReadonlyMap<string, readonly Head[]>,
): Promise<Sealed | RecoveryGap> {
  const open = new Set<string>()
  let calls = 0
  const parts: Part[] = []
  for (const file of files) {
    if (!names.includes(file)) return { reason: 'missing', file, message: 'the file of this session is gone' }
    const wanted = new Map((known.get(file) ?? []).map((head) => [head.seq, head.hash]))
    const next = await headerOf(context, files[parts.length + 1])
    const header = await headerOf(context, file)
    const walk = await walkChain(
      path.join(context.folder, file),
      { from: header?.continues, untilSeq: next?.continues?.seq },
      (entry, line) => {
        if (wanted.get(entry.seq) === line.hash) wanted.delete(entry.seq)
        if (line.number === 1 && wanted.get(HEADER) === line.hash) wanted.delete(HEADER)
        if (entry.type === 'decision') {
          calls++
          open.add(decisionSchema.parse(entry.members).call)
        }
        if (entry.type === 'end') open.delete(endSchema.parse(entry.members).call)
      },
    )
    if (walk.fault !== undefined) {
      return { reason: 'broken', file, message: `line ${walk.fault.line}: ${walk.fault.message}` }
    }
    if (wanted.size > 0) {
      return { reason: 'rolled_back', file, message: 'the file no longer holds every line a checkpoint knew' }
    }
    parts.push({ file, walk })
  }
  const last = parts.at(-1)
  if (last === undefined) return { reason: 'missing', file: session, message: 'no file of this session is known' }
  const seal = last.walk.last?.type === 'seal' ? sealSchema.parse(last.walk.last.members) : undefined
  if (seal !== undefined) return { session, head: { file: last.file, ...last.walk.head }, ending: seal.ending }
  return { session, head: await complete(context, names, last, open, calls), ending: 'crashed' }
}

async function headerOf(context: RecorderContext, file: string | undefined): Promise<SessionHeader | undefined> {
  if (file === undefined) return undefined
  return sessionHeaderSchema.safeParse((await firstEntry(path.join(context.folder, file)))?.members).data
}

/** Ends what was open and seals the file. */
async function complete(
  context: RecorderContext,
  names: readonly string[],
  part: Part,
  open: ReadonlySet<string>,
  calls: number,
): Promise<Head> {
  const { disk, folder, signer, now } = context
  const head = await cutRest(context, part.file, part.walk)
  const file = path.join(folder, part.file)
  const chain = new ChainFile({
    disk,
    fd: disk.reopen(file),
    name: part.file,
    signer,
    now,
    isNew: false,
    from: { head, owed: [], failure: undefined },
  })
  try {
    const sidecars = await recoverSidecars(context, chain, sidecarsOf(names, part.file), open)
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
  const stem = file.replace(/(\.\d+)?\.jsonl$/, '')
  const part = (name: string): number => Number(/\.(\d+)\.bulk$/.exec(name)?.[1] ?? 1)
  return names.filter((name) => name.startsWith(`${stem}.`) && name.endsWith('.bulk')).sort((a, b) => part(a) - part(b))
}

interface RecoveredSidecars {
  readonly list: readonly { readonly file: string; readonly length: number; readonly broken?: true }[]
  /** Frames of calls that never got their end entry. */
  readonly ranges: ReadonlyMap<string, Range>
}

async function recoverSidecars(
  context: RecorderContext,
  chain: ChainFile,
  names: readonly string[],
  open: ReadonlySet<string>,
): Promise<RecoveredSidecars> {
  const list: { file: string; length: number; broken?: true }[] = []
  const ranges = new Map<string, Range>()
  for (const [index, file] of names.entries()) {
    const full = path.join(context.folder, file)
    const rest = await walkFrames(full, { frame: () => true })
    for (const [call, range] of await rangesOf(full, open, rest.offset)) ranges.set(call, { file, ...range })
    const isLast = index === names.length - 1
    if (rest.bytes > 0 && isLast) await cutSidecar(chain, full, file, rest)
    list.push({ file, length: rest.offset, ...(rest.bytes > 0 && !isLast && { broken: true }) })
  }
  return { list, ranges }
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
async function cutSidecar(chain: ChainFile, full: string, file: string, rest: Rest): Promise<void> {
  await chain.append('cut', { ...(await describeRest(full, rest)), file }, { sync: true })
  await fs.truncate(full, rest.offset)
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
