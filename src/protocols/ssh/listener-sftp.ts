/**
 * File transfer at the door: every operation of a client is a call of its own, and an open file is one call whose
 * content is its input or its result.
 *
 * Nothing of a request reaches the target before it is judged. The door answers by itself only what concerns no file:
 * what a relative path means, since every client starts at `/`.
 *
 * @packageDocumentation
 */
import { randomUUID } from 'node:crypto'
import { setMaxListeners } from 'node:events'
import type { Socket } from 'node:net'
import type { SFTPWrapper } from 'ssh2'
import type { Call } from '../../core/call.ts'
import { SallyportError } from '../../core/errors.ts'
import type { Target } from '../../core/target.ts'
import type { OwnedSession } from '../../gateway/sessions.ts'
import type { Chunk } from '../../core/chunk.ts'
import type { ChannelDeps } from './listener-channel.ts'
import { exitWell, roomIn, togetherInTurn, unsentAnswers } from './library.ts'
import { ReadFile, TargetRefused, WriteFile, type OpenFile } from './listener-files.ts'
import type { SftpPayload } from './payload.ts'
import { STATUS } from './sftp-channel.ts'
import { attributesOf, entryOf, type Attributes, type Entry } from './sftp-rows.ts'

/** Files and directories one channel may have open. */
const HANDLES_MAX = 64
/** Requests that may be unanswered; OpenSSH's clients have 64. */
const REQUESTS_MAX = 1024
/** Answers that may wait for a client that does not read. */
const UNSENT_MAX = 1024
/** Entries of a directory in one answer. */
const NAMES_MAX = 64
/** Entries of one directory that are kept for a client; nobody but a target that lies has more. */
const ENTRIES_MAX = 100_000

interface Directory {
  readonly kind: 'directory'
  readonly path: string
  readonly entries: Entry[]
  readonly isCut: boolean
}

type Handle = Directory | OpenFile

/** Serves one channel until it closes. */
export function serveSftp(
  sftp: SFTPWrapper,
  socket: Socket,
  session: Promise<OwnedSession>,
  target: Target,
  deps: ChannelDeps,
): void {
  new SftpDoor(sftp, socket, session, target, deps).listen()
}

class SftpDoor {
  readonly #sftp: SFTPWrapper
  readonly #socket: Socket
  readonly #session: Promise<OwnedSession>
  readonly #target: Target
  readonly #deps: ChannelDeps
  readonly #gone = new AbortController()
  readonly #handles = new Map<string, Handle>()
  #count = 0
  #pending = 0
  #reads: Promise<void> = Promise.resolve()

  constructor(sftp: SFTPWrapper, socket: Socket, session: Promise<OwnedSession>, target: Target, deps: ChannelDeps) {
    this.#sftp = sftp
    // Every call of the channel listens to it; how many there are is bounded.
    setMaxListeners(0, this.#gone.signal)
    this.#socket = socket
    this.#session = session
    this.#target = target
    this.#deps = deps
  }

  listen(): void {
    const sftp = this.#sftp
    const leave = (): void => this.#leave()
    sftp.on('close', leave)
    sftp.on('end', () => {
      // `scp` takes what its connection ends with for whether all went well.
      if (!this.#gone.signal.aborted && this.#pending === 0) exitWell(sftp)
      leave()
    })
    sftp.on('error', leave)
    sftp.on('OPEN', (id, path, flags, attrs) => this.#answer(id, () => this.#open(id, path, flags, attrs)))
    sftp.on('CLOSE', (id, handle) => this.#answer(id, () => this.#close(id, handle)))
    sftp.on('READ', (id, handle, offset, length) => {
      this.#answer(id, async () => {
        const file = this.#file(handle)
        if (!(file instanceof ReadFile)) return sftp.status(id, STATUS.FAILURE, 'This file is not open for reading.')
        await this.#inTurn(async () => {
          const bytes = await file.read(offset, length)
          if (bytes === undefined) sftp.status(id, STATUS.EOF)
          else sftp.data(id, bytes)
        })
      })
    })
    sftp.on('WRITE', (id, handle, offset, data) => {
      this.#answer(id, async () => {
        const file = this.#file(handle)
        if (!(file instanceof WriteFile)) return sftp.status(id, STATUS.FAILURE, 'This file is not open for writing.')
        await file.write(offset, data)
        sftp.status(id, STATUS.OK)
      })
    })
    sftp.on('FSTAT', (id, handle) => this.#answer(id, () => this.#stat(id, 'stat', this.#pathOf(handle))))
    sftp.on('FSETSTAT', (id, handle, attrs) => {
      this.#answer(id, () =>
        this.#do(id, { operation: 'setstat', path: this.#pathOf(handle), attributes: attributesOf(attrs) }),
      )
    })
    sftp.on('STAT', (id, path) => this.#answer(id, () => this.#stat(id, 'stat', path)))
    sftp.on('LSTAT', (id, path) => this.#answer(id, () => this.#stat(id, 'lstat', path)))
    sftp.on('SETSTAT', (id, path, attrs) => {
      this.#answer(id, () => this.#do(id, { operation: 'setstat', path, attributes: attributesOf(attrs) }))
    })
    sftp.on('OPENDIR', (id, path) => this.#answer(id, () => this.#list(id, path)))
    sftp.on('READDIR', (id, handle) => this.#answer(id, async () => this.#entries(id, handle)))
    sftp.on('REMOVE', (id, path) => this.#answer(id, () => this.#do(id, { operation: 'remove', path })))
    sftp.on('RMDIR', (id, path) => this.#answer(id, () => this.#do(id, { operation: 'rmdir', path })))
    sftp.on('MKDIR', (id, path, attrs) => {
      this.#answer(id, () => this.#do(id, { operation: 'mkdir', path, attributes: attributesOf(attrs) }))
    })
    sftp.on('RENAME', (id, path, to) =>
      this.#answer(id, () => this.#do(id, { operation: 'rename', path, to: canonical(to) })),
    )
    sftp.on('READLINK', (id, path) => this.#answer(id, () => this.#readlink(id, path)))
    sftp.on('SYMLINK', (id, path, to) => {
      const link = canonical(path)
      const base = link.slice(0, link.lastIndexOf('/') + 1)
      // Sent as it was judged: a link that says where it leads from the root.
      const absolute = to.startsWith('/') ? to : `${base}${to}`
      this.#answer(id, () => this.#do(id, { operation: 'link', path, to: canonical(absolute) }))
    })
    sftp.on('REALPATH', (id, path) => {
      this.#answer(id, async () => {
        const filename = climbed(path)
        sftp.name(id, [{ filename, longname: filename, attrs: {} as never }])
      })
    })
  }

  /** Ends every call of the channel. */
  #leave(): void {
    if (this.#gone.signal.aborted) return
    this.#gone.abort(new SallyportError('ERR_CANCELLED', 'The client went away.'))
    for (const handle of this.#handles.values()) if (handle.kind !== 'directory') handle.leave()
    this.#handles.clear()
    this.#sftp.end()
  }

  /** One read after the other, each when the client has taken what was read before. */
  #inTurn(run: () => Promise<void>): Promise<void> {
    const result = this.#reads.then(() => roomIn(this.#socket)).then(run)
    this.#reads = result.catch(() => undefined)
    return result
  }

  /** Runs what answers a request, and answers with what it throws. */
  #answer(id: number, run: () => Promise<unknown>): void {
    // A client that asks on and on without reading must not fill the memory of everybody.
    if (++this.#pending > REQUESTS_MAX || unsentAnswers(this.#sftp) > UNSENT_MAX) {
      this.#leave()
      return
    }
    const answered = async (): Promise<void> => {
      try {
        await run()
      } catch (error) {
        if (this.#gone.signal.aborted) return
        if (error instanceof TargetRefused) this.#sftp.status(id, STATUS[new Refusal(error.status).status])
        else if (error instanceof Refusal) this.#sftp.status(id, STATUS[error.status], error.message)
        else {
          const { code, message } = SallyportError.from(error)
          this.#sftp.status(id, DENIALS.test(code) ? STATUS.PERMISSION_DENIED : STATUS.FAILURE, message)
        }
      } finally {
        this.#pending--
      }
    }
    answered().catch(() => this.#leave())
  }

  async *#chunks(payload: Omit<SftpPayload, 'kind'>, more: Partial<Call> = {}): AsyncGenerator<Chunk> {
    const { session } = await this.#session
    yield* this.#deps.run({
      id: randomUUID(),
      session,
      target: this.#target,
      tool: 'ssh.sftp',
      payload: { kind: 'sftp', ...payload, path: canonical(payload.path) },
      signal: this.#gone.signal,
      hold: { waitMs: this.#deps.holdMs },
      ...more,
    })
  }

  /** Runs an operation to its end and returns what it showed. */
  async #run(payload: Omit<SftpPayload, 'kind'>): Promise<{ readonly entries: Entry[]; readonly isCut: boolean }> {
    const entries: Entry[] = []
    let isCut = false
    for await (const chunk of this.#chunks(payload)) {
      if (chunk.kind === 'data' && chunk.channel === 'rows') entries.push(...chunk.rows.map(entryOf))
      if (entries.length > ENTRIES_MAX) return { entries: entries.slice(0, ENTRIES_MAX), isCut: true }
      if (chunk.kind !== 'exit') continue
      isCut = chunk.truncated
      if (chunk.status !== 'OK') throw new Refusal(chunk.status)
    }
    return { entries, isCut }
  }

  async #do(id: number, payload: Omit<SftpPayload, 'kind'>): Promise<void> {
    await this.#run(payload)
    this.#sftp.status(id, STATUS.OK)
  }

  async #stat(id: number, operation: 'stat' | 'lstat', path: string): Promise<void> {
    const { entries } = await this.#run({ operation, path })
    this.#sftp.attrs(id, (entries[0]?.attributes ?? {}) as never)
  }

  async #readlink(id: number, path: string): Promise<void> {
    const { entries } = await this.#run({ operation: 'readlink', path })
    const filename = entries[0]?.name ?? ''
    this.#sftp.name(id, [{ filename, longname: filename, attrs: {} as never }])
  }

  async #list(id: number, path: string): Promise<void> {
    const { entries, isCut } = await this.#run({ operation: 'list', path })
    this.#sftp.handle(id, this.#keep({ kind: 'directory', path, entries, isCut }))
  }

  #entries(id: number, handle: Buffer): void {
    const directory = this.#handles.get(handle.toString('latin1'))
    if (directory?.kind !== 'directory') throw new Refusal('FAILURE', 'This is no open directory.')
    const some = directory.entries.splice(0, NAMES_MAX)
    if (some.length > 0) {
      const names = some.map(({ name, long, attributes }) => ({
        filename: name,
        longname: long,
        attrs: attributes as never,
      }))
      this.#sftp.name(id, names)
    } else if (directory.isCut) {
      throw new Refusal('FAILURE', 'The listing was cut at the limit that is set for it.')
    } else this.#sftp.status(id, STATUS.EOF)
  }

  async #open(id: number, path: string, flags: number, attrs: object): Promise<void> {
    const file = this.#openFile(canonical(path), flags, attributesOf(attrs))
    await file.opened()
    if (this.#gone.signal.aborted) return file.leave()
    this.#sftp.handle(id, this.#keep(file))
  }

  #openFile(path: string, flags: number, attributes: Attributes): OpenFile {
    const run = (payload: Omit<SftpPayload, 'kind'>, more: Partial<Call>) => this.#chunks(payload, more)
    const reads = (flags & 0x01) !== 0
    const writes = (flags & 0x02) !== 0
    if (reads === writes || (flags & ~0x3f) !== 0) {
      throw new Refusal('OP_UNSUPPORTED', 'A file is opened either to be read or to be written.')
    }
    if (reads) return new ReadFile(path, (more) => run({ operation: 'read', path }, more))
    const how = {
      append: (flags & 0x04) !== 0,
      create: (flags & 0x08) !== 0,
      truncate: (flags & 0x10) !== 0,
      exclusive: (flags & 0x20) !== 0,
    }
    const answering = (): void => togetherInTurn(this.#socket)
    return new WriteFile(path, (more) => run({ operation: 'write', path, flags: how, attributes }, more), answering)
  }

  async #close(id: number, handle: Buffer): Promise<void> {
    const name = handle.toString('latin1')
    const open = this.#handles.get(name)
    if (open === undefined) throw new Refusal('FAILURE', 'This is no open file.')
    this.#handles.delete(name)
    if (open.kind !== 'directory') await open.close()
    this.#sftp.status(id, STATUS.OK)
  }

  #keep(handle: Handle): Buffer {
    if (this.#handles.size >= HANDLES_MAX) {
      if (handle.kind !== 'directory') handle.leave()
      throw new Refusal('FAILURE', `One channel may have ${HANDLES_MAX} files open.`)
    }
    const name = String(++this.#count)
    this.#handles.set(name, handle)
    return Buffer.from(name, 'latin1')
  }

  #file(handle: Buffer): Handle | undefined {
    return this.#handles.get(handle.toString('latin1'))
  }

  #pathOf(handle: Buffer): string {
    const open = this.#file(handle)
    if (open === undefined) throw new Refusal('FAILURE', 'This is no open file.')
    return open.path
  }
}

/** What the target, or the door, answers instead of doing it. */
class Refusal extends Error {
  readonly status: keyof typeof STATUS

  constructor(status: string, message = '') {
    super(message)
    this.status = status in STATUS && status !== 'OK' ? (status as keyof typeof STATUS) : 'FAILURE'
  }
}

const DENIALS = /^ERR_(?:DENIED|FORBIDDEN|UNAUTHENTICATED|APPROVAL|LIMIT|POLICY)/u

/** Takes out what changes nothing. A path that climbs keeps its `..`, and is refused. */
function canonical(path: string): string {
  const segments = path.split('/').filter((segment) => segment !== '' && segment !== '.')
  return `/${segments.join('/')}`
}

/** What a client is told that a path means. It asks for that path then, and that one is judged. */
function climbed(path: string): string {
  const segments: string[] = []
  for (const segment of canonical(path).split('/').slice(1)) {
    if (segment === '..') segments.pop()
    else segments.push(segment)
  }
  return `/${segments.filter((segment) => segment !== '').join('/')}`
}
