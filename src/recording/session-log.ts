import path from 'node:path'
import { SallyportError } from '../core/errors.ts'
import type { Principal } from '../core/principal.ts'
import { AppendFile } from './append-file.ts'
import type { BulkFile } from './bulk-file.ts'
import { ChainFile } from './chain-file.ts'
import type { EntryOptions } from './chain-file.ts'
import type { RecorderContext } from './context.ts'
import { recordingFailed } from './disk.ts'
import { FORMAT, partName, sessionStem } from './format.ts'
import type { EntryType, Head } from './format.ts'
import type { Journal, Watched } from './journal.ts'

/** Whose recording it is. */
export interface RecordedSession {
  readonly id: string
  readonly principal: Principal
  readonly door: string
  readonly run?: string
}

/**
 * The files of one session: its entries, and its sidecars with the bulk. Usually one of each; a file that breaks and
 * cannot be repaired is left as it is and continued in the next, which names the last good line.
 */
export class SessionLog implements Watched {
  readonly #context: RecorderContext
  readonly #journal: Journal
  readonly #session: RecordedSession
  readonly #stem: string
  readonly #startedAtMs: number
  readonly #bulks: BulkFile[] = []
  #part = 0
  #chain: ChainFile | undefined
  #goingOn: Promise<ChainFile> | undefined
  #seal: 'none' | 'wanted' | 'written' | 'entered' = 'none'
  #calls = 0
  #completing: Promise<void> = Promise.resolve()

  private constructor(context: RecorderContext, journal: Journal, session: RecordedSession) {
    this.#context = context
    this.#journal = journal
    this.#session = session
    this.#startedAtMs = context.now()
    this.#stem = sessionStem(this.#startedAtMs, session.id)
  }

  /** Creates a session's file and enters it in the journal. @throws SallyportError `ERR_RECORDING_FAILED`. */
  static async open(context: RecorderContext, journal: Journal, session: RecordedSession): Promise<SessionLog> {
    const log = new SessionLog(context, journal, session)
    await log.#goOn()
    return log
  }

  get head(): Head {
    return this.#current.head
  }

  /** Appends one entry. @throws SallyportError `ERR_RECORDING_FAILED`. */
  append(type: EntryType, body: object | string, options: EntryOptions = {}): Promise<void> | undefined {
    // An entry behind the seal would belong to nothing; whoever comes so late learns that it is not recorded.
    if (this.#seal !== 'none') return Promise.reject(sealedAlready())
    if (type === 'decision') this.#calls++
    return this.#write(type, body, this.#context.fsync === 'always' ? { ...options, sync: true } : options)
  }

  /** The sidecar to write bulk to; made when the first is needed. @throws SallyportError `ERR_RECORDING_FAILED`. */
  bulk(): BulkFile {
    if (this.#seal !== 'none') throw sealedAlready()
    const last = this.#bulks.at(-1)
    if (last !== undefined && !last.file.isDead) return last
    const { disk, folder } = this.#context
    const name = partName(this.#stem, this.#bulks.length + 1, 'bulk')
    try {
      const bulk = { name, file: new AppendFile(disk, disk.create(path.join(folder, name)), () => undefined) }
      this.#bulks.push(bulk)
      return bulk
    } catch (error) {
      const failure = recordingFailed(error)
      this.#context.space.failed(failure)
      throw failure
    }
  }

  async sync(): Promise<void> {
    for (const { file } of this.#bulks) await file.sync()
    await this.#current.sync()
    if (this.#bulks.length > 0) await this.#context.disk.syncFolder(this.#context.folder)
  }

  /** Signs the end of the file and enters it in the journal. What fails is tried again with the next checkpoint. */
  async seal(): Promise<void> {
    if (this.#seal === 'none') this.#seal = 'wanted'
    await this.retry()
  }

  /** One at a time: a checkpoint and the end of the session may both come here, and there is one seal. */
  retry(): Promise<void> {
    this.#completing = this.#completing.then(() => this.#complete())
    return this.#completing
  }

  async #complete(): Promise<void> {
    try {
      if (this.#seal === 'none') await this.#settle()
      if (this.#seal === 'wanted') await this.#writeSeal()
      if (this.#seal === 'written') await this.#enterSeal()
    } catch (error) {
      this.#context.log.error({ err: error, session: this.#session.id }, 'A recording could not be completed yet')
    }
  }

  get #current(): ChainFile {
    if (this.#chain === undefined) throw new Error('the session log is not open')
    return this.#chain
  }

  async #settle(): Promise<void> {
    if (this.#current.isDead) await this.#goOnOnce()
    await this.#current.settle()
  }

  async #writeSeal(): Promise<void> {
    for (const { file } of this.#bulks) await file.sync()
    const bulk = this.#bulks.map(({ name, file }) => ({
      file: name,
      length: file.length,
      // Behind `length` there may be a rest that could not be cut off; it belongs to nothing.
      ...(file.isDead && { broken: true }),
    }))
    const body = { ending: 'closed', key: this.#context.signer.keyId, calls: this.#calls, bulk }
    await this.#write('seal', body, { isSigned: true, sync: this.#context.fsync !== 'off' })
    this.#seal = 'written'
    for (const { file } of this.#bulks) await file.close()
  }

  async #enterSeal(): Promise<void> {
    await this.#journal.sealed({ session: this.#session.id, head: this.head, ending: 'closed' })
    this.#seal = 'entered'
    await this.#current.close()
  }

  #write(type: EntryType, body: object | string, options: EntryOptions): Promise<void> | undefined {
    const chain = this.#current
    const written =
      chain.isDead || this.#goingOn !== undefined
        ? this.#goOnOnce().then((next) => next.append(type, body, options))
        : chain.append(type, body, options)
    return written?.catch((error: unknown) => {
      const failure = recordingFailed(error)
      this.#context.space.failed(failure)
      throw failure
    })
  }

  #goOnOnce(): Promise<ChainFile> {
    this.#goingOn ??= this.#goOn().finally(() => {
      this.#goingOn = undefined
    })
    return this.#goingOn
  }

  /** Starts the next file: the first one, or the one after a file that broke. */
  async #goOn(): Promise<ChainFile> {
    const { disk, folder, signer, now, fsync } = this.#context
    const broken = this.#chain
    const name = partName(this.#stem, ++this.#part, 'jsonl')
    const file = path.join(folder, name)
    let chain: ChainFile | undefined
    try {
      const from = broken?.continuation
      chain = new ChainFile({ disk, fd: disk.create(file), name, signer, now, isNew: true, ...(from && { from }) })
      const isSynced = fsync !== 'off'
      await chain.append('open', this.#header(name, broken?.head), { sync: isSynced })
      if (isSynced) await disk.syncFolder(folder)
      const { id, principal } = this.#session
      // INVARIANT: no call is recorded in a file the journal does not know; such a file could be removed unseen.
      await this.#journal.session({ session: id, principal, head: chain.head }, this)
    } catch (error) {
      const failure = recordingFailed(error)
      this.#context.space.failed(failure)
      await chain?.close().catch(() => undefined)
      if (chain !== undefined) remove(this.#context, file)
      throw failure
    }
    this.#chain = chain
    if (broken !== undefined) {
      this.#context.log.warn(
        { session: this.#session.id, from: broken.name, to: name },
        'A broken recording file is continued',
      )
      this.#journal.forget(broken.name)
      await broken.close().catch(() => undefined)
    }
    return chain
  }

  #header(name: string, continues: Head | undefined): object {
    const { id, principal, door, run } = this.#session
    const { instance, signer, policyVersion } = this.#context
    return {
      format: FORMAT,
      file: name,
      kind: 'session',
      instance,
      session: id,
      part: this.#part,
      ...(continues && { continues }),
      principal: {
        id: principal.id,
        kind: principal.kind,
        owner: principal.owner,
        acts_for: principal.actsFor,
        groups: principal.groups,
        roles: principal.roles,
        credential: principal.credentialId,
      },
      door,
      run,
      started_at: new Date(this.#startedAtMs).toISOString(),
      policy_version: policyVersion(),
      key: signer.keyId,
      journal: this.#journal.name,
      checkpoint: this.#journal.checkpointHash,
    }
  }
}

function remove(context: RecorderContext, file: string): void {
  try {
    context.disk.remove(file)
  } catch (error) {
    context.log.warn({ err: error }, 'An unused recording file could not be removed')
  }
}

function sealedAlready(): SallyportError {
  return new SallyportError('ERR_RECORDING_FAILED', 'The recording of this session is sealed; open a new session.')
}
