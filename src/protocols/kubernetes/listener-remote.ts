import type { Chunk } from '../../core/chunk.ts'
import { SallyportError } from '../../core/errors.ts'
import { statusObject } from './listener-errors.ts'
import type { KubeRequest } from './request.ts'
import { CHANNEL, isStdinEnd, writeFrame, type Frame } from './streams/channels.ts'
import type { Pieces } from './streams/pieces.ts'

/** The client's end of a remote command. */
export interface AcceptRemote {
  /** Resolves when the client takes more. */
  write(channel: 'stdout' | 'stderr', bytes: Uint8Array): Promise<void>
  /** Says how the command ended, and ends the connection. */
  finish(status: object): Promise<void>
  /** Ends the connection without a word: what is incomplete must not look complete. */
  destroy(): void
}

/** Passes what a command says to its client, and how it ended. */
export async function serveRemote(
  chunks: AsyncIterator<Chunk>,
  client: AcceptRemote,
  { tty = false }: KubeRequest,
): Promise<void> {
  try {
    for (;;) {
      const next = await chunks.next()
      if (next.done === true) throw lost()
      const chunk = next.value
      if (chunk.kind === 'exit') {
        // The call ends before its client hears of it: what is left suspended would be recorded as abandoned.
        while ((await chunks.next()).done !== true);
        await client.finish(chunk.truncated ? statusObject(truncated()) : exitStatus(Number(chunk.status)))
        return
      }
      if (chunk.kind !== 'data') continue
      if (chunk.channel === 'stdout' || (chunk.channel === 'stderr' && tty)) await client.write('stdout', chunk.bytes)
      else if (chunk.channel === 'stderr') await client.write('stderr', chunk.bytes)
    }
  } catch (cause) {
    // Once there are streams, their own end is the only place to say it.
    await client.finish(statusObject(SallyportError.from(cause))).catch(() => client.destroy())
  }
}

/** How the API server tells an exit code (`k8s.io/apimachinery`, `remotecommand`). */
function exitStatus(code: number): object {
  const base = { kind: 'Status', apiVersion: 'v1', metadata: {} }
  if (code === 0) return { ...base, status: 'Success' }
  return {
    ...base,
    status: 'Failure',
    reason: 'NonZeroExitCode',
    message: `command terminated with non-zero exit code: exit status ${code}`,
    details: { causes: [{ reason: 'ExitCode', message: String(code) }] },
  }
}

/**
 * Takes a frame of the client into the call's input, if it is one the request asked for. What was not asked for was not
 * judged: whoever sends it gets no further.
 *
 * @throws SallyportError `ERR_INVALID_INPUT`
 */
export async function takeInput(frame: Frame, input: Pieces, { stdin, tty }: KubeRequest): Promise<void> {
  if (frame.channel === CHANNEL.stdin && stdin === true) {
    if (frame.bytes.length > 0) await input.push(writeFrame(frame.channel, frame.bytes))
  } else if (frame.channel === CHANNEL.resize && tty === true) await input.push(resized(frame.bytes))
  else if (isStdinEnd(frame)) input.end()
  else if (frame.bytes.length > 0) {
    throw new SallyportError('ERR_INVALID_INPUT', `The request asked for no channel ${frame.channel}.`)
  }
}

const SIZE_BYTES_MAX = 256
const SIZE_MAX = 10_000

/** A size of a window, in the words of the protocol and nothing else. */
function resized(bytes: Uint8Array): Uint8Array {
  let size: unknown
  try {
    size = bytes.length > SIZE_BYTES_MAX ? undefined : JSON.parse(Buffer.from(bytes).toString('utf8'))
  } catch {
    size = undefined
  }
  if (typeof size !== 'object' || size === null) {
    throw new SallyportError('ERR_INVALID_INPUT', 'The size of the window cannot be read.')
  }
  const side = (name: string): number => {
    const value = Number((size as Readonly<Record<string, unknown>>)[name] ?? 0)
    return Number.isFinite(value) ? Math.min(Math.max(0, Math.trunc(value)), SIZE_MAX) : 0
  }
  return writeFrame(CHANNEL.resize, Buffer.from(JSON.stringify({ Width: side('Width'), Height: side('Height') })))
}

function truncated(): SallyportError {
  return new SallyportError('ERR_UPSTREAM_REJECTED', 'The output is larger than policy allows; the rest was left out.')
}

function lost(): SallyportError {
  return new SallyportError('ERR_UPSTREAM_LOST', 'The command ended without saying how.')
}
