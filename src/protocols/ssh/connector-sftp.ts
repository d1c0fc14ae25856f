/**
 * Carries out one file operation at the target, and only that (C1). Content goes through as it is read or written, in
 * order, so that it is masked, recorded and limited like the output of a command.
 *
 * @packageDocumentation
 */
import { setMaxListeners } from 'node:events'
import type { SFTPWrapper } from 'ssh2'
import type { Call, Permit } from '../../core/call.ts'
import type { Chunk, ExitChunk } from '../../core/chunk.ts'
import { SallyportError } from '../../core/errors.ts'
import { reasonOf } from './errors.ts'
import { socketOf, together, type Outlet } from './library.ts'
import { writeAt } from './library-bulk.ts'
import type { SshOptions } from './options.ts'
import type { SshRequest } from './plan.ts'
import { ask, SftpStatus, STATUS } from './sftp-channel.ts'
import { attributesOf, ENTRY_COLUMNS, rowOf, type Entry } from './sftp-rows.ts'
import type { Lease } from './upstreams.ts'

/** A planned file operation. */
export type SftpRequest = Extract<SshRequest, { kind: 'sftp' }>

/**
 * Bytes of one request. OpenSSH takes messages of 256 KiB; for other hosts the library cuts a request into such as they
 * must take. Each request costs an answer, and each byte beyond a packet of the transport a packet more.
 */
const BLOCK_BYTES = 128 * 1024
/** Bytes that are read into one buffer, and shown together. */
const WINDOW_BYTES = 2 * BLOCK_BYTES
/** Windows that are asked for before the first of them is shown; a file that turns out to be long gets more and more. */
const WINDOWS_MAX = 8
/** Bytes of an upload that may be on their way to the target. */
const UNWRITTEN_BYTES_MAX = 2 * 1024 * 1024
/** How the flags of an open are written (draft-ietf-secsh-filexfer-02, section 6.3). */
const OPEN = { READ: 1, WRITE: 2, APPEND: 4, CREAT: 8, TRUNC: 16, EXCL: 32 } as const

/** What belongs to a piece of an upload. */
export interface Place {
  /** Where in the file it goes. */
  readonly at: number
  /** Told when the target has written it. Pieces are written while the next ones are taken. */
  readonly written: () => void
}

const places = new WeakMap<Uint8Array, Place>()

/** Says where a piece of an upload goes; the piece is then input of the call. */
export function placed(piece: Uint8Array, place: Place): Uint8Array {
  places.set(piece, place)
  return piece
}

/** Where a piece of an upload goes, if that was said. */
export function placeOf(piece: Uint8Array): Place | undefined {
  return places.get(piece)
}

interface Run {
  readonly sftp: SFTPWrapper
  readonly request: SftpRequest
  readonly permit: Permit
  readonly target: string
  readonly bytesMax: number
  readonly call: Call
  readonly socket: Outlet
}

/** Runs one file operation. What the target refuses is how the call ended; it is no failure of the gateway. */
export async function* runSftp(
  call: Call,
  request: SftpRequest,
  permit: Permit,
  lease: Lease,
): AsyncGenerator<Chunk, void, undefined> {
  const target = call.target.name
  const sftp = await lease.sftp(permit.signal)
  // Every request that is on its way listens to it.
  setMaxListeners(0, permit.signal)
  const own = (call.target.options as SshOptions).bytesMax
  const limits = [permit.obligations.bytesMax, own].filter((limit) => limit !== undefined)
  const run: Run = {
    sftp,
    request,
    permit,
    target,
    bytesMax: Math.min(...limits),
    call,
    socket: socketOf(lease.client),
  }
  try {
    yield* operate(run)
  } catch (error) {
    if (!(error instanceof SftpStatus)) throw error
    yield exit(error.status)
  }
}

async function* operate(run: Run): AsyncGenerator<Chunk, void, undefined> {
  const { request, sftp } = run
  const { path, to = '', attributes = {} } = request
  switch (request.operation) {
    case 'read':
      yield* read(run)
      return
    case 'write':
      yield* write(run)
      return
    case 'list':
      yield* list(run)
      return
    case 'stat':
      yield* shown(one(path, '', attributesOf(await asked(run, (done) => sftp.stat(path, done)))))
      return
    case 'lstat':
      yield* shown(one(path, '', attributesOf(await asked(run, (done) => sftp.lstat(path, done)))))
      return
    case 'readlink':
      yield* shown(one(await asked<string>(run, (done) => sftp.readlink(path, done)), '', {}))
      return
    case 'remove':
      await asked(run, (done) => sftp.unlink(path, done))
      break
    case 'rmdir':
      await asked(run, (done) => sftp.rmdir(path, done))
      break
    case 'rename':
      await asked(run, (done) => sftp.rename(path, to, done))
      break
    case 'mkdir':
      await asked(run, (done) => sftp.mkdir(path, attributes, done))
      break
    case 'setstat':
      await asked(run, (done) => sftp.setstat(path, attributes, done))
      break
    default:
      await asked(run, (done) => sftp.symlink(to, path, done))
  }
  yield exit('OK')
}

function asked<T>(
  { target, permit }: Run,
  send: (done: (error: Error | null | undefined, result?: T) => void) => void,
): Promise<T> {
  return ask<T>(target, permit.signal, send)
}

function one(name: string, long: string, attributes: Entry['attributes']): Entry {
  return { name, long, attributes }
}

function* shown(entry: Entry): Generator<Chunk> {
  yield { kind: 'head', columns: ENTRY_COLUMNS }
  yield { kind: 'data', channel: 'rows', rows: [rowOf(entry)] }
  yield exit('OK')
}

function exit(status: keyof typeof STATUS, more: Partial<ExitChunk> = {}): ExitChunk {
  return { kind: 'exit', status, truncated: false, ...more }
}

async function* list(run: Run): AsyncGenerator<Chunk, void, undefined> {
  const { sftp, request, permit } = run
  const handle = await asked<Buffer>(run, (done) => sftp.opendir(request.path, done))
  try {
    yield { kind: 'head', columns: ENTRY_COLUMNS }
    let left = permit.obligations.rowsMax ?? Number.POSITIVE_INFINITY
    for (;;) {
      const entries = await asked<readonly RawEntry[]>(run, (done) => readAll(sftp, handle, done)).catch(unlessEnd)
      if (entries === undefined) return yield exit('OK')
      const rows = entries
        .slice(0, left)
        .map(({ filename, longname, attrs }) => rowOf(one(filename, longname, attributesOf(attrs))))
      if (rows.length > 0) yield { kind: 'data', channel: 'rows', rows }
      if (entries.length > left) return yield exit('OK', { truncated: true, truncatedBy: 'rows' })
      left -= rows.length
    }
  } finally {
    await closed(run, handle)
  }
}

interface RawEntry {
  readonly filename: string
  readonly longname: string
  readonly attrs: object
}

/** The types of the library leave out that it can be asked not to hide the directory itself. */
function readAll(
  sftp: SFTPWrapper,
  handle: Buffer,
  done: (error: Error | null | undefined, list?: readonly RawEntry[]) => void,
): void {
  const full = sftp as unknown as { readdir(handle: Buffer, options: { full: boolean }, done: unknown): void }
  full.readdir(handle, { full: true }, done)
}

function unlessEnd(error: unknown): undefined {
  if (error instanceof SftpStatus && error.status === 'EOF') return undefined
  throw error
}

async function* read(run: Run): AsyncGenerator<Chunk, void, undefined> {
  const { sftp, request, bytesMax } = run
  const handle = await asked<Buffer>(run, (done) => sftp.open(request.path, OPEN.READ, done))
  try {
    yield { kind: 'head', attributes: { path: request.path } }
    const ahead = new Ahead(run, handle)
    for (let at = 0; ;) {
      const { bytes, isEnd } = await ahead.next()
      const next = at + bytes.length
      const piece = bytes.subarray(0, Math.max(0, bytesMax - at))
      if (piece.length > 0) yield { kind: 'data', channel: 'body', bytes: piece }
      if (next > bytesMax) return yield exit('OK', { truncated: true, truncatedBy: 'bytes' })
      if (isEnd) return yield exit('OK')
      at = next
    }
  } finally {
    await closed(run, handle)
  }
}

interface Window {
  readonly bytes: Buffer
  readonly isEnd: boolean
}

/** Windows of a file in their order, the next ones asked for while one is looked at. */
class Ahead {
  readonly #run: Run
  readonly #handle: Buffer
  readonly #windows: Promise<Window>[] = []
  #from = 0
  #count = 1

  constructor(run: Run, handle: Buffer) {
    this.#run = run
    this.#handle = handle
  }

  async next(): Promise<Window> {
    // What a limit cuts off is not asked for.
    while (this.#windows.length < this.#count && this.#from <= this.#run.bytesMax) {
      const window = readWindow(this.#run, this.#handle, this.#from)
      window.catch(() => undefined)
      this.#windows.push(window)
      this.#from += WINDOW_BYTES
    }
    this.#count = Math.min(this.#count + 1, WINDOWS_MAX)
    return (await this.#windows.shift()) ?? { bytes: Buffer.alloc(0), isEnd: true }
  }
}

/** Reads some blocks at once. The end is where the target says so, not where a block is short. */
async function readWindow(run: Run, handle: Buffer, from: number): Promise<Window> {
  const bytes = Buffer.allocUnsafe(WINDOW_BYTES)
  const starts = Array.from({ length: WINDOW_BYTES / BLOCK_BYTES }, (_, index) => index * BLOCK_BYTES)
  const lengths = await Promise.all(starts.map((start) => readBlock(run, handle, bytes, start, from)))
  const short = lengths.findIndex((length) => length < BLOCK_BYTES)
  // Blocks behind a short one were asked for before that was known.
  const end = short < 0 ? WINDOW_BYTES : short * BLOCK_BYTES + (lengths[short] ?? 0)
  return { bytes: bytes.subarray(0, end), isEnd: short >= 0 }
}

/** Reads one block of a window and returns how much of it there is. */
async function readBlock(run: Run, handle: Buffer, bytes: Buffer, start: number, from: number): Promise<number> {
  let length = 0
  while (length < BLOCK_BYTES) {
    const at = start + length
    const count = await asked<number>(run, (done) =>
      run.sftp.read(handle, bytes, at, BLOCK_BYTES - length, from + at, (error, read) => done(error, read)),
    ).catch((error: unknown) => unlessEnd(error) ?? 0)
    if (count === 0) break
    length += count
  }
  return length
}

async function* write(run: Run): AsyncGenerator<Chunk, void, undefined> {
  const { sftp, request, call, permit } = run
  const { flags, attributes = {} } = request
  const mode =
    OPEN.WRITE |
    (flags?.append === true ? OPEN.APPEND : 0) |
    (flags?.create === true ? OPEN.CREAT : 0) |
    (flags?.truncate === true ? OPEN.TRUNC : 0) |
    (flags?.exclusive === true ? OPEN.EXCL : 0)
  const handle = await asked<Buffer>(run, (done) => openWith(sftp, request.path, mode, attributes, done))
  let isClosed = false
  try {
    yield { kind: 'head', attributes: { path: request.path } }
    const writing = new Writing(run, handle)
    for await (const bytes of until(call.input ?? [], permit.signal, writing.failed)) {
      const place = placeOf(bytes)
      if (place === undefined)
        throw new SallyportError('ERR_INVALID_INPUT', 'It is not said where in the file it goes.')
      // Recorded before it is written.
      yield { kind: 'data', channel: 'stdin', bytes }
      await writing.write(bytes, place)
    }
    await writing.finished()
    isClosed = true
    // A disk that is full may only be noticed now.
    await asked(run, (done) => sftp.close(handle, done))
    yield exit('OK')
  } finally {
    if (!isClosed) await closed(run, handle)
  }
}

/** Pieces on their way to the target: the next ones are sent before the first is answered. */
class Writing {
  readonly #run: Run
  readonly #handle: Buffer
  readonly #pieces: { readonly bytes: number; readonly written: Promise<void> }[] = []
  #bytes = 0
  readonly #failed = new AbortController()

  constructor(run: Run, handle: Buffer) {
    this.#run = run
    this.#handle = handle
  }

  /** Aborted with the first that goes wrong, also while nothing comes to be written. */
  get failed(): AbortSignal {
    return this.#failed.signal
  }

  /** Sends a piece, and resolves when there is room for another. */
  async write(bytes: Uint8Array, place: Place): Promise<void> {
    const written = this.#send(bytes, place)
    written.catch((error: unknown) => this.#failed.abort(error))
    this.#pieces.push({ bytes: bytes.length, written })
    this.#bytes += bytes.length
    while (this.#bytes > UNWRITTEN_BYTES_MAX) await this.#oldest()
  }

  /** Resolves when everything is written. */
  async finished(): Promise<void> {
    while (this.#pieces.length > 0) await this.#oldest()
  }

  async #oldest(): Promise<void> {
    const piece = this.#pieces.shift()
    if (piece === undefined) return
    await piece.written
    this.#bytes -= piece.bytes
  }

  async #send(piece: Uint8Array, { at, written }: Place): Promise<void> {
    const { sftp } = this.#run
    const data = Buffer.from(piece.buffer, piece.byteOffset, piece.length)
    const blocks: Promise<unknown>[] = []
    together(this.#run.socket, () => {
      for (let from = 0; from < data.length; from += BLOCK_BYTES) {
        const length = Math.min(BLOCK_BYTES, data.length - from)
        blocks.push(
          asked(this.#run, (done) => writeAt(sftp, this.#handle, data.subarray(from, from + length), at + from, done)),
        )
      }
    })
    await Promise.all(blocks)
    written()
  }
}

/** A client that sends nothing must not keep a call that is to end, or whose writing failed. */
async function* until(
  input: AsyncIterable<Uint8Array> | Iterable<Uint8Array>,
  permit: AbortSignal,
  failed: AbortSignal,
): AsyncGenerator<Uint8Array, void, undefined> {
  const iterator = Symbol.asyncIterator in input ? input[Symbol.asyncIterator]() : input[Symbol.iterator]()
  const signal = AbortSignal.any([permit, failed])
  let stop: (() => void) | undefined
  const abort = (): void => stop?.()
  signal.addEventListener('abort', abort, { once: true })
  let isWaiting = false
  try {
    for (;;) {
      isWaiting = true
      const next = await new Promise<IteratorResult<Uint8Array>>((resolve, reject) => {
        stop = () => reject(failed.aborted ? failed.reason : reasonOf(permit))
        if (signal.aborted) stop()
        else Promise.resolve(iterator.next()).then(resolve, reject)
      })
      isWaiting = false
      if (next.done === true) return
      yield next.value
    }
  } finally {
    signal.removeEventListener('abort', abort)
    // A generator that waits for its next piece ends only with that; it is not waited for.
    const ended = Promise.resolve(iterator.return?.())
    if (isWaiting) ended.catch(() => undefined)
    else await ended
  }
}

/** The types of the library know attributes of an open only as a mode. */
function openWith(
  sftp: SFTPWrapper,
  path: string,
  flags: number,
  attributes: object,
  done: (error: Error | null | undefined, handle?: Buffer) => void,
): void {
  const open = sftp as unknown as { open(path: string, flags: number, attributes: object, done: unknown): void }
  open.open(path, flags, attributes, done)
}

/** Lets go of a handle; also when the call was stopped, and no longer than it takes. */
async function closed({ sftp, target }: Run, handle: Buffer): Promise<void> {
  await ask(target, AbortSignal.timeout(CLOSE_MS), (done) => sftp.close(handle, done)).catch(() => undefined)
}

const CLOSE_MS = 5_000
