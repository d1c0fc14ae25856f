import type { Chunk } from '../core/chunk.ts'
import type { RecordDepth } from '../core/target.ts'
import type { AppendFile } from './append-file.ts'
import { encodeJson } from './format.ts'
import { RunningHash } from './running-hash.ts'

/** Where a call's frames lie in the sidecar. Frames of other calls may lie between them. */
export interface BulkRange {
  readonly file: string
  /** Offset of the call's first frame. */
  readonly offset: number
  /** Offset behind its last frame. */
  readonly end: number
  readonly frames: number
  /** Sum of the lengths of its frames. */
  readonly bytes: number
  /** SHA-256 over its frames, one after the other. */
  readonly sha256: string
}

/** What was shown and is not, or not wholly, in the sidecar. */
export interface BulkCut {
  readonly by: 'head' | 'digest' | 'failure'
  /** Frames shown, kept or not. */
  readonly frames: number
  readonly bytes: number
  /** SHA-256 over all frames as they would lie in the sidecar had all been kept. */
  readonly sha256: string
}

/** A sidecar with its name. */
export interface BulkFile {
  readonly name: string
  readonly file: AppendFile
}

/** Which frame of its call it is, and when it was recorded: milliseconds since 1970. */
interface Spot {
  readonly n: number
  readonly t: number
}

/** Where a frame lies and, when its payload was shortened, how long that was. */
interface FramePlace {
  readonly at: number
  readonly of: number | undefined
}

/**
 * Spells one chunk as it lies in a sidecar: a line of JSON that says what follows, the payload, a newline. A frame that
 * is not kept has no place, and is spelled only to be hashed.
 */
function frameOf(call: string, spot: Spot, chunk: Chunk, payload: Uint8Array, place?: FramePlace): Uint8Array {
  return Buffer.concat([Buffer.from(headOf(call, spot, chunk, payload, place)), payload, NEWLINE])
}

function headOf(call: string, { n, t }: Spot, chunk: Chunk, payload: Uint8Array, place?: FramePlace): string {
  const at = place === undefined ? '' : `"at":${place.at},`
  const channel = chunk.kind === 'data' ? `,"channel":"${chunk.channel}"` : ''
  const of = place?.of === undefined ? '' : `,"of":${place.of}`
  return `{${at}"call":${encodeJson(call)},"n":${n},"t":${t},"kind":"${chunk.kind}"${channel},"bytes":${payload.length}${of}}\n`
}

const NEWLINE = Buffer.from('\n')

/** The bytes a chunk is kept as: what came as bytes stays bytes, everything else is JSON. */
function payloadOf(chunk: Chunk): Uint8Array {
  if (chunk.kind !== 'data') {
    const { kind: _, ...rest } = chunk
    return Buffer.from(encodeJson(rest))
  }
  return chunk.channel === 'rows' ? Buffer.from(encodeJson(chunk.rows)) : chunk.bytes
}

/** Returns the longest beginning of a chunk's payload of at most `bytesMax`: whole rows, or any bytes. */
function beginningOf(chunk: Chunk, payload: Uint8Array, bytesMax: number): Uint8Array | undefined {
  if (chunk.kind !== 'data') return undefined
  if (chunk.channel !== 'rows') return bytesMax > 0 ? payload.subarray(0, bytesMax) : undefined
  const rows: string[] = []
  let length = 2
  for (const row of chunk.rows) {
    const text = encodeJson(row)
    length += Buffer.byteLength(text) + (rows.length > 0 ? 1 : 0)
    if (length > bytesMax) break
    rows.push(text)
  }
  return rows.length > 0 ? Buffer.from(`[${rows.join(',')}]`) : undefined
}

/**
 * The bulk of one call on its way to the sidecar: keeps as much as the target's depth says, and the hash of everything
 * that was shown.
 */
export class CallBulk {
  readonly #call: string
  readonly #keepMax: number
  readonly #depth: RecordDepth
  readonly #sidecar: () => BulkFile
  readonly #now: () => number
  /** Over every frame shown so far, kept or not; `#frames` and `#bytes` count the same frames. */
  readonly #shown = new RunningHash()
  #frames = 0
  #bytes = 0
  #next = 0
  #keptPayload = 0
  #kept: { readonly bulk: BulkFile; offset: number; end: number; frames: number; bytes: number } | undefined
  /** The kept frames' hash, once they are no longer all frames. */
  #keptHash: string | undefined
  #cut: BulkCut['by'] | undefined
  #failure: unknown
  #inFlight: Promise<void> | undefined

  /** @param now milliseconds since 1970. */
  constructor(call: string, depth: RecordDepth, sidecar: () => BulkFile, now: () => number) {
    this.#call = call
    this.#now = now
    this.#depth = depth
    this.#keepMax = depth === 'full' ? Infinity : depth === 'digest' ? 0 : depth.headBytes
    this.#sidecar = sidecar
  }

  /**
   * Records one chunk. Returns nothing when what is kept of it is in the file already; else resolves when it is.
   *
   * @throws SallyportError `ERR_RECORDING_FAILED`, as a rejection.
   */
  add(chunk: Chunk, sync: boolean): Promise<void> | undefined {
    if (this.#failure !== undefined) return Promise.reject(this.#failure)
    const spot: Spot = { n: this.#next++, t: this.#now() }
    const payload = payloadOf(chunk)
    if (this.#cut !== undefined) {
      this.#countUnkept(spot, chunk, payload)
      return undefined
    }
    // What the columns are called is no data: it is kept with any amount of it.
    const counted = chunk.kind === 'head' && this.#keepMax > 0 ? 0 : payload.length
    if (this.#keptPayload + counted <= this.#keepMax) {
      this.#keptPayload += counted
      return this.#keep(spot, chunk, payload, undefined, sync)
    }
    this.#cut = this.#depth === 'digest' ? 'digest' : 'head'
    const beginning = beginningOf(chunk, payload, this.#keepMax - this.#keptPayload)
    if (beginning !== undefined) return this.#keep(spot, chunk, beginning, payload, sync)
    // Of a call of which nothing is kept, nobody asks for the hash of what is.
    if (this.#kept !== undefined) this.#keptHash = this.#shown.hex()
    this.#countUnkept(spot, chunk, payload)
    return undefined
  }

  /** Resolves when no frame is on its way any more: only then can be said how many there are. */
  settled(): Promise<void> | undefined {
    return this.#inFlight
  }

  /** What the end entry says of the bulk. Called once, when it has settled and nothing is added any more. */
  summary(): { readonly bulk?: BulkRange; readonly cut?: BulkCut } {
    if (this.#frames === 0 && this.#cut === undefined) return {}
    const sha256 = this.#shown.hex()
    const cut = this.#cut && { by: this.#cut, frames: this.#frames, bytes: this.#bytes, sha256 }
    const kept = this.#kept
    return {
      ...(kept && {
        bulk: {
          file: kept.bulk.name,
          offset: kept.offset,
          end: kept.end,
          frames: kept.frames,
          bytes: kept.bytes,
          sha256: this.#keptHash ?? sha256,
        },
      }),
      ...(cut && { cut }),
    }
  }

  #count(frame: Uint8Array): void {
    this.#shown.update(frame)
    this.#frames++
    this.#bytes += frame.length
  }

  /** Counts a frame that is only hashed, without putting it together. */
  #countUnkept(spot: Spot, chunk: Chunk, payload: Uint8Array): void {
    const head = headOf(this.#call, spot, chunk, payload)
    const first = Buffer.from(head)
    this.#shown.update(first)
    this.#shown.update(payload)
    this.#shown.update(NEWLINE)
    this.#frames++
    this.#bytes += first.length + payload.length + NEWLINE.length
  }

  /** Writes one frame; `whole` is the payload it was shortened from. Hashes follow what is in the file. */
  #keep(
    spot: Spot,
    chunk: Chunk,
    payload: Uint8Array,
    whole: Uint8Array | undefined,
    sync: boolean,
  ): Promise<void> | undefined {
    const failed = (error: unknown): Promise<never> => {
      // What is not recorded is not shown: the call cannot go on, and its end entry says where it stopped.
      this.#failure = error
      this.#keptHash ??= this.#shown.hex()
      this.#cut = 'failure'
      return Promise.reject(error)
    }
    try {
      const bulk = this.#kept?.bulk ?? this.#sidecar()
      const frame = frameOf(this.#call, spot, chunk, payload, { at: bulk.file.next, of: whole?.length })
      const written = bulk.file.append(frame, {
        sync,
        onWritten: (offset) => {
          const end = offset + frame.length
          this.#kept ??= { bulk, offset, end, frames: 0, bytes: 0 }
          this.#kept.end = end
          this.#kept.frames++
          this.#kept.bytes += frame.length
          if (whole === undefined) {
            this.#count(frame)
          } else {
            this.#keptHash = this.#shown.hex(frame)
            this.#count(frameOf(this.#call, spot, chunk, whole))
          }
        },
      })
      if (written === undefined) return undefined
      this.#inFlight = written.catch(() => undefined)
      return written.catch(failed)
    } catch (error) {
      return failed(error)
    }
  }
}
