import { NO_PREVIOUS } from './format.ts'
import { walkLines } from './read.ts'
import type { Entry, Line, Rest } from './read.ts'

/** What is wrong with a chain at one line. */
interface ChainFault {
  readonly line: number
  readonly reason: 'altered' | 'removed' | 'duplicate' | 'unreadable'
  readonly message: string
}

/** What a walk along a chain found. */
export interface ChainWalk {
  /** The last line that is in order. */
  readonly head: { readonly seq: number; readonly hash: string }
  readonly lines: number
  /** The first fault; behind it nothing is proven. */
  readonly fault: ChainFault | undefined
  readonly last: Entry | undefined
  readonly rest: Rest
}

/** Where to start and stop. */
export interface WalkOptions {
  /** The line the first one continues. */
  readonly from?: { readonly seq: number; readonly hash: string } | undefined
  /** The last line that belongs to the record: the file was continued elsewhere behind it. */
  readonly untilSeq?: number | undefined
}

/** Walks a chain and hands every entry in order to `visit`. Stops at the first fault: one break makes the rest doubtful. */
export async function walkChain(
  path: string,
  options: WalkOptions,
  visit: (entry: Entry, line: Line) => void,
): Promise<ChainWalk> {
  let head = options.from ?? { seq: -1, hash: NO_PREVIOUS }
  let lines = 0
  let last: Entry | undefined
  let fault: ChainFault | undefined
  const rest = await walkLines(path, (line) => {
    if (options.untilSeq !== undefined && head.seq >= options.untilSeq) return false
    fault = faultOf(line, head)
    if (fault !== undefined || line.entry === undefined) return false
    head = { seq: line.entry.seq, hash: line.hash }
    lines = line.number
    last = line.entry
    visit(line.entry, line)
    return true
  })
  return { head, lines, fault, last, rest }
}

function faultOf(line: Line, head: { readonly seq: number; readonly hash: string }): ChainFault | undefined {
  const { entry, number } = line
  if (entry === undefined) return { line: number, reason: 'unreadable', message: 'this line is not an entry' }
  const expected = head.seq + 1
  if (entry.seq > expected) {
    const which = expected === entry.seq - 1 ? `entry ${expected} is` : `entries ${expected} to ${entry.seq - 1} are`
    return { line: number, reason: 'removed', message: `${which} missing before this line` }
  }
  if (entry.seq < expected) {
    return { line: number, reason: 'duplicate', message: `entry ${entry.seq} occurs again or out of order` }
  }
  if (entry.prev !== head.hash) {
    return { line: number, reason: 'altered', message: 'the line before this one is not the one that was written' }
  }
  return undefined
}
