/**
 * An interactive shell at the target. What is typed is recorded, and nothing in it is judged: a terminal's keystrokes
 * mean what the program behind it makes of them.
 *
 * @packageDocumentation
 */
import type { ClientChannel } from 'ssh2'
import type { Call, Permit } from '../../core/call.ts'
import type { Chunk } from '../../core/chunk.ts'
import { SallyportError } from '../../core/errors.ts'
import { lost, reasonOf } from './errors.ts'
import type { SshOptions } from './options.ts'
import { drained, openChannel } from './open-channel.ts'
import { ChannelOutput, type HeadChunk } from './output.ts'
import type { SshRequest } from './plan.ts'
import { readTyped } from './typed.ts'
import type { Lease } from './upstreams.ts'

type ShellRequest = Extract<SshRequest, { kind: 'shell' }>

/** How long the host has to end a terminal that was closed. */
const CLOSE_MS = 5_000

/** Runs a shell until it ends, or the call does. */
export async function* runShell(
  call: Call,
  request: ShellRequest,
  permit: Permit,
  lease: Lease,
): AsyncGenerator<Chunk, void, undefined> {
  const target = call.target.name
  const { signal } = permit
  const { term, columns: cols, rows } = request
  const { channel, output } = await openChannel(
    lease.client,
    { target, what: 'to open a terminal', signal },
    (done) => lease.client.shell({ term, cols, rows, width: 0, height: 0 }, done),
    (opened) => ({ channel: opened, output: new ChannelOutput(opened, 'pty') }),
  )
  const own = (call.target.options as SshOptions).bytesMax
  const bytesMax = Math.min(permit.obligations.bytesMax ?? Number.POSITIVE_INFINITY, own ?? Number.POSITIVE_INFINITY)
  const stop = (): void => output.fail(reasonOf(signal))
  signal.addEventListener('abort', stop, { once: true })
  if (signal.aborted) stop()
  const typing = type(channel, output, call)
  typing.catch((error: unknown) => output.fail(SallyportError.from(error)))
  try {
    yield sizeOf(request)
    let shown = 0
    for (let chunk = await output.next(); chunk !== undefined; chunk = await output.next()) {
      if (chunk.kind === 'head') {
        yield chunk
        continue
      }
      const isTyped = chunk.channel === 'stdin'
      const room = isTyped ? chunk.bytes.length : Math.min(chunk.bytes.length, bytesMax - shown)
      if (!isTyped) shown += room
      if (room > 0) yield { ...chunk, bytes: chunk.bytes.subarray(0, room) }
      if (room < chunk.bytes.length) {
        // A person cannot go on without seeing what happens.
        yield { kind: 'exit', status: 'SIGHUP', truncated: true, truncatedBy: 'bytes' }
        return
      }
    }
    if (output.ended === undefined) throw lost(target)
    const { code, signal: by } = output.ended
    yield {
      kind: 'exit',
      status: by === undefined ? String(code ?? 0) : `SIG${by.replace(/^SIG/u, '')}`,
      truncated: false,
    }
  } finally {
    signal.removeEventListener('abort', stop)
    output.discard()
    if (!output.isClosed) await hungUp(channel)
    channel.destroy()
  }
}

/** Closing the channel takes the terminal away: the host sends SIGHUP to what runs on it. */
async function hungUp(channel: ClientChannel): Promise<void> {
  const closed = new Promise<void>((resolve) => void channel.once('close', () => resolve()))
  channel.close()
  await Promise.race([closed, new Promise<void>((resolve) => void setTimeout(resolve, CLOSE_MS).unref())])
}

/** The size of the terminal, for whoever plays the recording. */
function sizeOf({ columns, rows }: { readonly columns: number; readonly rows: number }): HeadChunk {
  return { kind: 'head', attributes: { columns: String(columns), rows: String(rows) } }
}

/** Sends what is typed, each piece after it was recorded. */
async function type(channel: ClientChannel, output: ChannelOutput, call: Call): Promise<void> {
  for await (const piece of call.input ?? []) {
    if (channel.destroyed || !channel.writable) return
    const typed = readTyped(piece)
    if (typed.kind === 'window') {
      output.push(sizeOf(typed))
      channel.setWindow(typed.rows, typed.columns, 0, 0)
      continue
    }
    output.push({ kind: 'data', channel: 'stdin', bytes: typed.bytes })
    await output.taken()
    if (!channel.writable) return
    if (!channel.write(typed.bytes)) await drained(channel)
  }
  if (channel.writable) channel.end()
}
