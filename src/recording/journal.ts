import path from 'node:path'
import type { Principal } from '../core/principal.ts'
import { ChainFile } from './chain-file.ts'
import type { RecorderContext } from './context.ts'
import { recordingFailed } from './disk.ts'
import { FORMAT, journalAfter } from './format.ts'
import type { Head } from './format.ts'
import { saveHead } from './head.ts'

/** A file of a session, as the journal watches it. */
export interface Watched {
  readonly head: Head
  sync(): Promise<void>
  /** Writes what an earlier failure left unwritten: ends of calls, the seal. */
  retry(): Promise<void>
}

/** How a session's file ended. */
export interface Sealed {
  readonly session: string
  readonly head: Head
  readonly ending: 'closed' | 'crashed'
}

/** An act at the gateway itself. `facts` hold names and numbers, no secret. */
export interface AdministrativeAct {
  /** The principal's id. */
  readonly by: string
  /** What was done: `login`, `policy.reload`, `token.create`, `approval.vote`, `recording.read` … */
  readonly act: string
  /** What it was done to. */
  readonly subject?: string
  readonly facts?: Readonly<Record<string, unknown>>
}

/**
 * The instance's own file, one for each run: which sessions' files exist, how far they had come at each checkpoint, how
 * they ended, and what was administered. Each journal names the end of the one before, so that none can go missing.
 */
export class Journal {
  readonly #context: RecorderContext
  readonly #stateDir: string
  readonly #watched = new Map<string, { readonly file: Watched; seq: number }>()
  #chain: ChainFile
  #checkpointHash: string
  #checkpointing: Promise<void> | undefined
  #isChanged = false
  #replacing: Promise<void> | undefined

  private constructor(context: RecorderContext, stateDir: string, chain: ChainFile) {
    this.#context = context
    this.#stateDir = stateDir
    this.#chain = chain
    this.#checkpointHash = chain.head.hash
  }

  /** Starts the journal of this run. `previous` is where the last one ended; `lastName` the last one known of. */
  static async start(
    context: RecorderContext,
    stateDir: string,
    previous: Head | undefined,
    lastName: string | undefined,
  ): Promise<Journal> {
    const chain = await startChain(context, journalAfter(lastName), previous, false)
    await saveHead(stateDir, context.instance, chain.head)
    return new Journal(context, stateDir, chain)
  }

  get name(): string {
    return this.#chain.name
  }

  /** Hash of the newest checkpoint, for the headers of new sessions: they were made after it. */
  get checkpointHash(): string {
    return this.#checkpointHash
  }

  /** Enters the file of a session; from here on it can no longer disappear unseen. `head` is its header line. */
  async session(
    entry: { readonly session: string; readonly principal: Principal; readonly head: Head },
    file: Watched,
  ): Promise<void> {
    const { session, principal, head } = entry
    await this.#append('session', { file: head.file, session, hash: head.hash, principal: principal.id }, this.#durable)
    this.#watched.set(head.file, { file, seq: head.seq })
  }

  /** Enters how a session's file ended. */
  async sealed({ session, head, ending }: Sealed): Promise<void> {
    await this.#append('sealed', { session, head, ending })
    this.#watched.delete(head.file)
  }

  /** Stops watching a file that is continued in another one. */
  forget(file: string): void {
    this.#watched.delete(file)
  }

  /** Records an administrative act; it is durable when this resolves. @throws SallyportError `ERR_RECORDING_FAILED`. */
  async admin(act: AdministrativeAct): Promise<void> {
    await this.#append('admin', { by: act.by, act: act.act, subject: act.subject, facts: act.facts }, this.#durable)
  }

  async cut(facts: object): Promise<void> {
    await this.#append('cut', facts, this.#durable)
  }

  async gap(facts: object): Promise<void> {
    await this.#append('gap', facts, this.#durable)
  }

  /** Signs how far every file has come. Does nothing when nothing happened since the last one. */
  checkpoint(): Promise<void> {
    this.#checkpointing ??= this.#checkpoint().finally(() => {
      this.#checkpointing = undefined
    })
    return this.#checkpointing
  }

  /** Seals the journal, or leaves it to the next start when a session's file could not be sealed. */
  async close(): Promise<void> {
    await this.checkpoint()
    if (this.#watched.size > 0) {
      this.#context.log.warn({ files: this.#watched.size }, 'Some recordings could not be sealed; the next start will')
    } else {
      const body = { ending: 'closed', key: this.#context.signer.keyId }
      await this.#append('seal', body, { isSigned: true, ...this.#durable })
    }
    await this.#chain.close()
    await saveHead(this.#stateDir, this.#context.instance, this.#chain.head)
  }

  get #durable(): { readonly sync: boolean } {
    return { sync: this.#context.fsync !== 'off' }
  }

  async #checkpoint(): Promise<void> {
    await this.#chain.settle()
    for (const { file } of this.#watched.values()) await file.retry()
    const changed = [...this.#watched].filter(([, watched]) => watched.file.head.seq > watched.seq)
    if (changed.length === 0 && !this.#isChanged) return
    const heads = changed.map(([, watched]) => watched.file.head)
    if (this.#context.fsync !== 'off') {
      // INVARIANT: a checkpoint on the device names no line that is not: else a power cut would look like tampering.
      for (const [, { file }] of changed) await file.sync()
    }
    const body = { key: this.#context.signer.keyId, heads }
    await this.#append('checkpoint', body, { isSigned: true, ...this.#durable })
    this.#isChanged = false
    this.#checkpointHash = this.#chain.head.hash
    for (const [index, [, watched]] of changed.entries()) watched.seq = heads[index]?.seq ?? watched.seq
    await saveHead(this.#stateDir, this.#context.instance, this.#chain.head)
  }

  async #append(...entry: Parameters<ChainFile['append']>): Promise<void> {
    if (this.#chain.isDead) await this.#replace()
    this.#isChanged = true
    try {
      await this.#chain.append(...entry)
    } catch (error) {
      const failure = recordingFailed(error)
      this.#context.space.failed(failure)
      throw failure
    }
  }

  /** Goes on in a new journal when the file is broken and cannot be repaired. */
  #replace(): Promise<void> {
    this.#replacing ??= (async () => {
      const broken = this.#chain
      this.#chain = await startChain(this.#context, journalAfter(broken.name), broken.head, true)
      await broken.close().catch(() => undefined)
      await saveHead(this.#stateDir, this.#context.instance, this.#chain.head)
    })().finally(() => {
      this.#replacing = undefined
    })
    return this.#replacing
  }
}

async function startChain(
  context: RecorderContext,
  name: string,
  previous: Head | undefined,
  continues: boolean,
): Promise<ChainFile> {
  const { disk, folder, instance, signer, now } = context
  const startedAt = now()
  try {
    const chain = new ChainFile({ disk, fd: disk.create(path.join(folder, name)), name, signer, now, isNew: true })
    const body = {
      format: FORMAT,
      file: name,
      kind: 'journal',
      instance,
      started_at: new Date(startedAt).toISOString(),
      key: signer.keyId,
      previous: previous ?? null,
      ...(continues && { continues }),
    }
    await chain.append('open', body, { sync: context.fsync !== 'off' })
    if (context.fsync !== 'off') await disk.syncFolder(folder)
    return chain
  } catch (error) {
    throw recordingFailed(error)
  }
}
