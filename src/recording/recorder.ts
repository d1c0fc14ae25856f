/**
 * Recordings: what every call was, why it was let through or not, and what came back, written before it happens and
 * verifiable afterwards. `recordings/README.md` is the format; read `format.ts`, then `chain-file.ts` for how a line
 * gets into a file, `journal.ts` for how files are kept track of, `verify.ts` for how all of it is checked.
 *
 * This room never sees a raw payload but to fingerprint it: requests come as {@link Judged} `shown`, results masked.
 *
 * @packageDocumentation
 */
import fs from 'node:fs/promises'
import path from 'node:path'
import type { ActionClass } from '../core/action.ts'
import { SallyportError } from '../core/errors.ts'
import type { SessionRecording } from '../core/recording.ts'
import { createSpace } from './context.ts'
import type { Fsync, RecorderContext, RecorderLog } from './context.ts'
import { disk as realDisk, recordingFailed } from './disk.ts'
import type { Disk } from './disk.ts'
import { INSTANCE_NAME } from './format.ts'
import { Journal } from './journal.ts'
import type { AdministrativeAct } from './journal.ts'
import { loadSigner } from './keys.ts'
import { recoverInstance } from './recover.ts'
import type { Recovery } from './recover.ts'
import { SessionLog } from './session-log.ts'
import type { RecordedSession } from './session-log.ts'
import { RecordedCalls } from './session-recording.ts'

/** What a recorder is made from. */
export interface RecorderOptions {
  /** The recordings folder. */
  readonly dir: string
  /** The state directory: signing key and journal head. The caller holds its lock, so nobody else writes here. */
  readonly stateDir: string
  /** This gateway's name: lower-case letters, digits and dashes. Its files lie in the folder of that name. */
  readonly instance: string
  /** Key for the fingerprints of payloads that cannot be shown. */
  readonly payloadKey: Uint8Array
  /** The class of a verb, from the taxonomies. A verb it does not know counts as state-changing. */
  readonly classOf: (verb: string) => ActionClass | undefined
  /** Milliseconds since the epoch. */
  readonly now: () => number
  readonly log: RecorderLog
  /** Version of the policy in force, for the headers. */
  readonly policyVersion?: () => string | undefined
  /** Default `writes`. */
  readonly fsync?: Fsync
  /** Default 10 s. */
  readonly checkpointEveryMs?: number
  /** How long a session's end waits for its calls to end. Default 10 s. */
  readonly closeWaitMs?: number
  /** Tests make single system calls fail with it. */
  readonly disk?: Disk
}

/** Records the sessions and the administration of one gateway. */
export interface Recorder {
  /**
   * Seals what an earlier run left open and starts this run's journal (C16). Called by the first `open` or `admin` if
   * not before; done once.
   *
   * @throws SallyportError `ERR_RECORDING_FAILED`, `ERR_CONFIG_INVALID`.
   */
  recover(): Promise<Recovery>
  /** Opens the recording of a new session. @throws SallyportError `ERR_RECORDING_FAILED`. */
  open(session: RecordedSession): Promise<SessionRecording>
  /** Records an administrative act before it takes effect. @throws SallyportError `ERR_RECORDING_FAILED`. */
  admin(act: AdministrativeAct): Promise<void>
  /** Signs a checkpoint now, besides the regular ones. */
  checkpoint(): Promise<void>
  /** Seals every open session and the journal. Safe to call twice. */
  close(): Promise<void>
}

const CHECKPOINT_EVERY_MS = 10_000
const CLOSE_WAIT_MS = 10_000

/** Builds the recorder. Touches no file before `recover`. @throws SallyportError `ERR_CONFIG_INVALID`. */
export function createRecorder(options: RecorderOptions): Recorder {
  if (!INSTANCE_NAME.test(options.instance)) {
    throw new SallyportError(
      'ERR_CONFIG_INVALID',
      'The name of the instance must be lower-case letters, digits and dashes, at most 63.',
    )
  }
  const open = new Set<SessionRecording>()
  let started: Promise<Started> | undefined
  let closed: Promise<void> | undefined

  function ready(): Promise<Started> {
    if (closed !== undefined) return Promise.reject(shuttingDown())
    return start()
  }

  function start(): Promise<Started> {
    started ??= startRecorder(options).catch((error: unknown) => {
      // Tried again by the next caller: a full disk at the start need not end the process.
      started = undefined
      throw recordingFailed(error)
    })
    return started
  }

  return {
    recover: async () => (await ready()).recovery,

    async open(session) {
      const { context, journal } = await ready()
      const full = context.space.check()
      if (full !== undefined) throw full
      const log = await SessionLog.open(context, journal, session)
      const recording = new RecordedCalls(context, log, () => open.delete(recording))
      open.add(recording)
      return recording
    },

    async admin(act) {
      const { journal } = await ready()
      await journal.admin(act)
    },

    async checkpoint() {
      const { journal } = await ready()
      await journal.checkpoint()
    },

    close() {
      closed ??= (async () => {
        if (started === undefined) return
        const { journal, timer } = await started
        clearInterval(timer)
        await Promise.all([...open].map((recording) => recording.close()))
        await journal.close()
      })()
      return closed
    },
  }
}

interface Started {
  readonly context: RecorderContext
  readonly journal: Journal
  readonly recovery: Recovery
  readonly timer: NodeJS.Timeout
}

async function startRecorder(options: RecorderOptions): Promise<Started> {
  const { dir, stateDir, instance, log } = options
  const disk = options.disk ?? realDisk
  const folder = path.join(dir, instance)
  await fs.mkdir(folder, { recursive: true, mode: 0o700 })
  const signer = await loadSigner(stateDir, dir)
  const context: RecorderContext = {
    disk,
    folder,
    instance,
    signer,
    payloadKey: options.payloadKey,
    now: options.now,
    fsync: options.fsync ?? 'writes',
    classOf: options.classOf,
    policyVersion: options.policyVersion ?? (() => undefined),
    log,
    space: createSpace(disk, folder, log),
    closeWaitMs: options.closeWaitMs ?? CLOSE_WAIT_MS,
  }
  const recovery = await recoverInstance(context, stateDir)
  const journal = await Journal.start(context, stateDir, recovery.previous, recovery.lastName)
  for (const sealed of recovery.deferred) await journal.sealed(sealed)
  for (const file of recovery.unbegun) await journal.cut({ reason: 'never_begun', ...file })
  for (const gap of recovery.gaps) {
    log.error(gap, 'The recordings of an earlier run are not complete')
    await journal.gap(gap)
  }
  const timer = setInterval(() => {
    journal.checkpoint().catch((error: unknown) => log.error({ err: error }, 'A checkpoint could not be recorded'))
  }, options.checkpointEveryMs ?? CHECKPOINT_EVERY_MS)
  timer.unref()
  return { context, journal, recovery, timer }
}

function shuttingDown(): SallyportError {
  return new SallyportError('ERR_SHUTTING_DOWN', 'The gateway is shutting down.')
}
