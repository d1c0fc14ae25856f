/**
 * How far this instance has seen its shared store come, kept in its own state directory: a process that starts again would
 * otherwise take a store that was put back from a backup for the one it left, and a supervisor starts it again at once.
 *
 * @packageDocumentation
 */
import { readFile } from 'node:fs/promises'
import { SallyportError } from '../../core/errors.ts'
import { writeDurably } from '../durable-file.ts'
import { errnoOf } from '../store.ts'

/** A moment of one store. */
export interface Mark {
  /** Made with the store, and with nothing else. */
  readonly store: string
  /** The highest version of a document. */
  readonly version: number
}

/** The mark of one instance. Whoever opens it closes it. */
export interface HighWater {
  /** Writes down how far the store came. */
  close(): Promise<void>
}

/** What is seen between two writes is forgotten when the process is killed. */
const WRITE_MS = 5_000

/**
 * Compares the store with the mark, and then follows it.
 *
 * @param found the highest version the store has now, and the highest that it can have given.
 * @param reached the highest version seen since.
 * @throws SallyportError what `putBack` makes, when the store was further than this; `ERR_STORE_FAILED` when the mark cannot
 * be read or written.
 */
export async function openHighWater(
  file: string,
  found: Mark & { readonly given: number },
  reached: () => number,
  putBack: () => SallyportError,
): Promise<HighWater> {
  const before = await readMark(file)
  // Another store is another beginning.
  const known = before?.store === found.store ? before.version : 0
  if (found.given < known) throw putBack()
  let written = known
  const write = async (): Promise<void> => {
    const version = Math.max(written, found.version, reached())
    if (version === written && before?.store === found.store) return
    await writeDurably(file, `${JSON.stringify({ format: 1, store: found.store, version })}\n`)
    written = version
  }
  await write()
  let writing: Promise<void> = Promise.resolve()
  // Tried again with the next change: what is missing here is only looked at when the store was put back.
  const timer = setInterval(() => {
    writing = writing.then(write).catch(() => undefined)
  }, WRITE_MS)
  timer.unref()
  return {
    async close() {
      clearInterval(timer)
      await writing
      await write().catch(() => undefined)
    },
  }
}

async function readMark(file: string): Promise<Mark | undefined> {
  let text: string
  try {
    text = await readFile(file, 'utf8')
  } catch (error) {
    if (errnoOf(error) === 'ENOENT') return undefined
    throw new SallyportError('ERR_STORE_FAILED', `${file} cannot be read (${errnoOf(error)}).`, { cause: error })
  }
  const mark = parsed(text)
  if (mark !== undefined) return mark
  // Fail closed: whether the store was put back cannot be known.
  throw new SallyportError(
    'ERR_STORE_FAILED',
    `${file} is damaged. It says how far the shared store had come; if that was not put back, remove the file.`,
  )
}

function parsed(text: string): Mark | undefined {
  try {
    const mark = JSON.parse(text) as Partial<Mark> | null
    const { store, version } = mark ?? {}
    return typeof store === 'string' && Number.isSafeInteger(version) ? { store, version: version ?? 0 } : undefined
  } catch {
    return undefined
  }
}
