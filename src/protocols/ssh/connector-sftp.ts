/**
 * Carries out one file operation at the target, and only that (C1). Content goes through as it is read or written, in
 * order, so that it is masked, recorded and limited like the output of a command.
 *
 * @packageDocumentation
 */
import type { SFTPWrapper } from 'ssh2'
import type { Call, Permit } from '../../core/call.ts'
import type { Chunk, ExitChunk } from '../../core/chunk.ts'
import { SallyportError } from '../../core/errors.ts'
import { reasonOf } from './errors.ts'
import type { SshOptions } from './options.ts'
import type { SshRequest } from './plan.ts'
import { ask, SftpStatus, STATUS } from './sftp-channel.ts'
import { attributesOf, ENTRY_COLUMNS, rowOf, type Entry } from './sftp-rows.ts'
import type { Lease } from './upstreams.ts'

/** A planned file operation. */
export type SftpRequest = Extract<SshRequest, { kind: 'sftp' }>

/** What OpenSSH sends and takes in one packet. */
const BLOCK_BYTES = 32 * 1024
/** Blocks that are asked for at once. */
const BLOCKS = 8
/** How the flags of an open are written (draft-ietf-secsh-filexfer-02, section 6.3). */
const OPEN = { READ: 1, WRITE: 2, APPEND: 4, CREAT: 8, TRUNC: 16, EXCL: 32 } as const

/** Bytes in front of each piece of an upload: where in the file it goes. */
export const OFFSET_BYTES = 8

interface Run {
  readonly sftp: SFTPWrapper
  readonly request: SftpRequest
  readonly permit: Permit
  readonly target: string
  readonly bytesMax: number
  readonly call: Call
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
  const own = (call.target.options as SshOptions).bytesMax
  const limits = [permit.obligations.bytesMax, own].filter((limit) => limit !== undefined)
  const run: Run = { sftp, request, permit, target, bytesMax: Math.min(...limits), call }
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
    let ahead = window(run, handle, 0)
    ahead.catch(() => undefined)
    for (let at = 0; ;) {
      const { bytes, isEnd } = await ahead
      const next = at + bytes.length
      if (!isEnd && next <= bytesMax) {
        ahead = window(run, handle, next)
        ahead.catch(() => undefined)
      }
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

/** Reads some blocks at once. The end is where the target says so, not where a block is short. */
async function window(
  run: Run,
  handle: Buffer,
  from: number,
): Promise<{ readonly bytes: Buffer; readonly isEnd: boolean }> {
  const blocks = await Promise.all(
    Array.from({ length: BLOCKS }, (_, index) => block(run, handle, from + index * BLOCK_BYTES)),
  )
  const short = blocks.findIndex((bytes) => bytes.length < BLOCK_BYTES)
  return {
    bytes: Buffer.concat(short < 0 ? blocks : blocks.slice(0, short + 1)),
    isEnd: short >= 0,
  }
}

async function block(run: Run, handle: Buffer, from: number): Promise<Buffer> {
  const bytes = Buffer.allocUnsafe(BLOCK_BYTES)
  let length = 0
  while (length < BLOCK_BYTES) {
    const at = length
    const count = await asked<number>(run, (done) =>
      run.sftp.read(handle, bytes, at, BLOCK_BYTES - at, from + at, (error, read) => done(error, read)),
    ).catch((error: unknown) => unlessEnd(error) ?? 0)
    if (count === 0) break
    length += count
  }
  return bytes.subarray(0, length)
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
    for await (const piece of until(call.input ?? [], permit.signal)) {
      const bytes = Buffer.from(piece.buffer, piece.byteOffset, piece.length)
      const at = Number(bytes.readBigUInt64BE(0))
      if (!Number.isSafeInteger(at)) throw new SallyportError('ERR_INVALID_INPUT', 'No file is that long.')
      const data = bytes.subarray(OFFSET_BYTES)
      // Recorded before it is written.
      yield { kind: 'data', channel: 'stdin', bytes: data }
      const blocks: Promise<unknown>[] = []
      for (let from = 0; from < data.length; from += BLOCK_BYTES) {
        const length = Math.min(BLOCK_BYTES, data.length - from)
        blocks.push(asked(run, (done) => sftp.write(handle, data, from, length, at + from, done)))
      }
      await Promise.all(blocks)
    }
    isClosed = true
    // A disk that is full may only be noticed now.
    await asked(run, (done) => sftp.close(handle, done))
    yield exit('OK')
  } finally {
    if (!isClosed) await closed(run, handle)
  }
}

/** A client that sends nothing must not keep a call that is to end. */
async function* until(
  input: AsyncIterable<Uint8Array> | Iterable<Uint8Array>,
  signal: AbortSignal,
): AsyncGenerator<Uint8Array, void, undefined> {
  const iterator = Symbol.asyncIterator in input ? input[Symbol.asyncIterator]() : input[Symbol.iterator]()
  let abort: () => void = () => undefined
  const aborted = new Promise<never>((_resolve, reject) => (abort = () => reject(reasonOf(signal))))
  aborted.catch(() => undefined)
  if (signal.aborted) abort()
  signal.addEventListener('abort', abort, { once: true })
  let isWaiting = false
  try {
    for (;;) {
      isWaiting = true
      const next = await Promise.race([iterator.next(), aborted])
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
