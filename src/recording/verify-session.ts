import { createHash } from 'node:crypto'
import type { Hash } from 'node:crypto'
import path from 'node:path'
import { bulkListSchema, endSchema, sealSchema } from './entries.ts'
import type { Range } from './entries.ts'
import { kindOfFile, stemOf } from './format.ts'
import { walkFrames } from './read.ts'
import type { Entry, FrameHead, Line } from './read.ts'
import { checkSignature, describeLoss } from './ledger.ts'
import type { InstanceCheck, Ledger, SessionPart } from './ledger.ts'
import type { Problem } from './report.ts'
import { walkChain } from './walk.ts'
import type { ChainWalk } from './walk.ts'

/** What a session's entries say of its sidecars. */
interface Bulk {
  /** By sidecar, then by the offset of a call's first frame. */
  readonly ranges: Map<
    string,
    Map<number, Range & { readonly call: string; readonly where: { readonly file: string; readonly line: number } }>
  >
  /** From the seal; `undefined` while there is none. */
  list: readonly { readonly file: string; readonly length: number; readonly broken?: true | undefined }[] | undefined
  /** Whether the entries can be believed to be all there. */
  isWhole: boolean
}

/** Verifies the files of one session: entries, seal, sidecars. */
export async function verifySession(
  check: InstanceCheck,
  names: readonly string[],
  ledger: Ledger,
  parts: readonly SessionPart[],
): Promise<void> {
  const bulk: Bulk = { ranges: new Map(), list: undefined, isWhole: true }
  const open = new Set<string>()
  for (const [index, part] of parts.entries()) {
    await verifyPart(check, ledger, part, parts[index - 1], parts[index + 1], bulk, open)
  }
  await verifySidecars(check, names, parts, bulk)
}

async function verifyPart(
  check: InstanceCheck,
  ledger: Ledger,
  part: SessionPart,
  previous: SessionPart | undefined,
  next: SessionPart | undefined,
  bulk: Bulk,
  open: Set<string>,
): Promise<void> {
  const { file, header } = part
  const problem = (reason: Problem['reason'], message: string, line?: number): void =>
    check.problem({ file, reason, message, ...(line !== undefined && { line }) })
  checkHeader(check, part, previous, problem)
  const missing = new Set(ledger.wanted.get(file) ?? [])
  const listed = ledger.sessions.get(file)
  let sealedAt: number | undefined
  const walk = await walkChain(
    path.join(check.folder, file),
    { from: header.continues, untilSeq: next?.header.continues?.seq },
    (entry, line) => {
      if (sealedAt !== undefined) problem('after_seal', 'something follows the seal', line.number)
      for (const want of missing) if (want.seq === entry.seq && want.hash === line.hash) missing.delete(want)
      if (
        line.number === 1 &&
        listed !== undefined &&
        (listed.hash !== line.hash || listed.session !== header.session)
      ) {
        problem('replaced', 'its header is not the one the journal entered', 1)
      }
      if (entry.type === 'seal') sealedAt = line.number
      readSessionEntry(check, file, entry, line, bulk, open)
    },
  )
  if (walk.fault !== undefined) problem(walk.fault.reason, walk.fault.message, walk.fault.line)
  for (const { seq, by } of missing)
    problem('rolled_back', `${by} knows entry ${seq} of it, which is not here as it was`)
  if (next?.header.continues !== undefined && next.header.continues.hash !== walk.head.hash) {
    problem('rolled_back', `${next.file} continues it from a line that is not here`)
  }
  const isOpen = sealedAt === undefined && next === undefined && ledger.open.has(listed?.journal ?? header.journal)
  checkEnding(
    check,
    ledger,
    part,
    walk,
    { sealedAt, isOpen, isContinued: next !== undefined, isListed: listed !== undefined },
    problem,
  )
  if (sealedAt !== undefined && open.size > 0)
    problem('altered', `${open.size} calls have no end entry before the seal`, sealedAt)
  if (walk.fault !== undefined || isOpen) bulk.isWhole = false
  const status = statusOf(walk, isOpen, next !== undefined)
  check.file({ file, kind: 'session', status, entries: walk.lines })
}

function checkHeader(
  check: InstanceCheck,
  { file, header }: SessionPart,
  previous: SessionPart | undefined,
  problem: (reason: Problem['reason'], message: string, line?: number) => void,
): void {
  if (header.file !== file || header.instance !== check.instance) problem('header', 'it was written as another file', 1)
  if ((header.continues === undefined) !== (header.part === 1) || header.continues?.file !== previous?.file) {
    problem('header', 'it does not continue the file of this session that is here before it', 1)
  }
}

function checkEnding(
  check: InstanceCheck,
  ledger: Ledger,
  { file }: SessionPart,
  walk: ChainWalk,
  state: {
    readonly sealedAt: number | undefined
    readonly isOpen: boolean
    readonly isContinued: boolean
    readonly isListed: boolean
  },
  problem: (reason: Problem['reason'], message: string, line?: number) => void,
): void {
  const { sealedAt, isOpen, isContinued, isListed } = state
  // Between the creation of a file and its entry in the journal it holds its header and nothing else.
  if (!isListed && !(isOpen && walk.lines <= 1)) problem('unlisted', 'no journal knows this file')
  if (walk.fault !== undefined) return
  if (walk.rest.bytes > 0 && !isContinued && !isOpen) problem('torn', `${walk.rest.bytes} bytes follow the last line`)
  if (sealedAt === undefined && !isContinued && (!isOpen || check.isClosed || ledger.sealed.has(file))) {
    problem('unsealed', 'the file is not sealed')
  }
  if (
    sealedAt !== undefined &&
    isListed &&
    !ledger.sealed.has(file) &&
    !ledger.open.has(ledger.sessions.get(file)?.journal ?? '')
  ) {
    problem('unlisted', 'no journal knows that this file was sealed')
  }
}

function statusOf(
  walk: ChainWalk,
  isOpen: boolean,
  isContinued: boolean,
): 'bad' | 'continued' | 'open' | 'sealed' | 'crashed' {
  if (walk.fault !== undefined) return 'bad'
  if (isContinued) return 'continued'
  if (walk.last?.type !== 'seal') return isOpen ? 'open' : 'bad'
  return walk.last.members['ending'] === 'crashed' ? 'crashed' : 'sealed'
}

function readSessionEntry(
  check: InstanceCheck,
  file: string,
  entry: Entry,
  line: Line,
  bulk: Bulk,
  open: Set<string>,
): void {
  const where = { file, line: line.number }
  const call = entry.members['call']
  if (entry.type === 'decision' && typeof call === 'string') open.add(call)
  if (entry.type === 'gap' || entry.type === 'cut') check.note({ ...where, text: describeLoss(entry) })
  if (entry.type === 'end') {
    const parsed = endSchema.safeParse(entry.members)
    if (!parsed.success) return check.problem({ ...where, reason: 'unreadable', message: 'this is no end entry' })
    open.delete(parsed.data.call)
    const range = parsed.data.bulk
    if (range === undefined) return
    const ranges = bulk.ranges.get(range.file) ?? new Map()
    ranges.set(range.offset, { ...range, call: parsed.data.call, where })
    bulk.ranges.set(range.file, ranges)
  }
  if (entry.type === 'seal') {
    const seal = sealSchema.safeParse(entry.members)
    const list = bulkListSchema.safeParse(entry.members['bulk'])
    if (!seal.success || !list.success)
      return check.problem({ ...where, reason: 'unreadable', message: 'this is no seal' })
    bulk.list = list.data
    checkSignature(check, file, line, seal.data.key)
  }
}

async function verifySidecars(
  check: InstanceCheck,
  names: readonly string[],
  parts: readonly SessionPart[],
  bulk: Bulk,
): Promise<void> {
  const stem = stemOf(parts[0]?.file ?? '')
  const present = names.filter((name) => kindOfFile(name) === 'bulk' && stemOf(name) === stem)
  const known = new Set([...bulk.ranges.keys(), ...(bulk.list ?? []).map(({ file }) => file)])
  for (const file of new Set([...present, ...known])) {
    const sealed = bulk.list?.find((item) => item.file === file)
    if (!present.includes(file)) {
      check.problem({ file, reason: 'bulk_missing', message: 'the entries name this sidecar, and it is gone' })
    } else if (bulk.list !== undefined && sealed === undefined) {
      check.problem({ file, reason: 'unlisted', message: 'the seal of its session does not know this sidecar' })
    } else {
      await verifySidecar(check, file, bulk.ranges.get(file) ?? new Map(), sealed, bulk)
    }
  }
}

/** Follows the frames of each call through a sidecar and compares them with what the call's end entry says. */
async function verifySidecar(
  check: InstanceCheck,
  file: string,
  ranges: Map<
    number,
    Range & { readonly call: string; readonly where: { readonly file: string; readonly line: number } }
  >,
  sealed: { readonly length: number; readonly broken?: true | undefined } | undefined,
  bulk: Bulk,
): Promise<void> {
  let faults = 0
  const fault = (reason: Problem['reason'], message: string): void => {
    faults++
    check.problem({ file, reason, message })
  }
  const active = new Map<
    string,
    { readonly range: Range | undefined; readonly hash: Hash; frames: number; bytes: number }
  >()
  let current: Hash | undefined
  let frames = 0
  const rest = await walkFrames(
    path.join(check.folder, file),
    {
      frame(head: FrameHead) {
        frames++
        if (head.n === 0)
          active.set(head.call, { range: ranges.get(head.offset), hash: createHash('sha256'), frames: 0, bytes: 0 })
        const call = active.get(head.call)
        current = call?.hash
        if (call === undefined || head.n !== call.frames) {
          fault('bulk_altered', `the frame at byte ${head.offset} is out of order`)
          return false
        }
        return true
      },
      bytes: (bytes) => void current?.update(bytes),
      end(head: FrameHead) {
        const call = active.get(head.call)
        if (call === undefined) return
        call.frames++
        call.bytes += head.end - head.offset
        const { range } = call
        if (range === undefined || head.end !== range.end) return
        active.delete(head.call)
        if (call.frames === range.frames && call.bytes === range.bytes && call.hash.digest('hex') === range.sha256) {
          ranges.delete(range.offset)
        }
      },
    },
    sealed?.length,
  )
  for (const { call, where, offset } of ranges.values()) {
    check.problem({
      ...where,
      reason: 'bulk_altered',
      message: `the result of call ${call} at byte ${offset} of ${file} is not what was shown`,
    })
    faults++
  }
  if (sealed !== undefined && rest.offset !== sealed.length)
    fault('torn', `it holds ${rest.offset} whole bytes of ${sealed.length}`)
  else if (sealed !== undefined && rest.bytes > 0 && sealed.broken !== true)
    fault('torn', `${rest.bytes} bytes follow the last frame`)
  // While a session goes on, its newest frames belong to calls that have not ended.
  if (bulk.isWhole && active.size > 0) fault('bulk_altered', `${active.size} results belong to no end entry`)
  const status = faults > 0 ? 'bad' : sealed === undefined ? 'open' : 'sealed'
  check.file({ file, kind: 'bulk', status, entries: frames })
}
