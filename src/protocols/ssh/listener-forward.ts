import { randomUUID } from 'node:crypto'
import type { Socket } from 'node:net'
import type { ServerChannel } from 'ssh2'
import type { Call, Session } from '../../core/call.ts'
import { SallyportError } from '../../core/errors.ts'
import type { Target } from '../../core/target.ts'
import { inputOf, write, type ChannelDeps } from './listener-channel.ts'
import { roomIn } from './library.ts'

/** Where a client wants to go (RFC 4254, section 7.2). */
export interface Wanted {
  readonly destIP: string
  readonly destPort: number
}

/**
 * Answers a client that wants to be connected to somewhere behind the target: when a rule names that place. Nothing is
 * accepted before the target has connected. Never throws.
 */
export async function serveForward(
  { accept, reject }: { readonly accept: () => ServerChannel; readonly reject: () => void },
  socket: Socket,
  { destIP: host, destPort: port }: Wanted,
  session: Session,
  target: Target,
  deps: ChannelDeps,
): Promise<void> {
  const gone = new AbortController()
  const leave = (): void => gone.abort(new SallyportError('ERR_CANCELLED', 'The client went away.'))
  socket.once('close', leave)
  let channel: ServerChannel | undefined
  let begun: (channel: ServerChannel) => void = () => undefined
  const opened = new Promise<ServerChannel>((resolve) => (begun = resolve))
  const call: Call = {
    id: randomUUID(),
    session,
    target,
    tool: 'ssh.forward',
    payload: { kind: 'forward', host, port },
    input: inputWhen(opened),
    signal: gone.signal,
    hold: { waitMs: deps.holdMs, refused: 'A connection cannot wait for an approval.' },
  }
  try {
    for await (const chunk of deps.run(call)) {
      if (chunk.kind === 'head' && channel === undefined) {
        channel = accept()
        channel.on('error', leave)
        channel.once('close', leave)
        begun(channel)
      } else if (chunk.kind === 'data' && chunk.channel === 'wire' && channel !== undefined) {
        await roomIn(socket)
        await write(channel, channel, chunk.bytes)
      }
    }
    channel?.removeListener('close', leave)
    channel?.end()
  } catch {
    // What was refused stands in the recording; the client has no place to show it.
    if (channel === undefined) reject()
    else channel.close()
  } finally {
    socket.removeListener('close', leave)
  }
}

/** What the client sends, once there is somewhere to send it. */
async function* inputWhen(opened: Promise<ServerChannel>): AsyncGenerator<Uint8Array, void, undefined> {
  yield* inputOf(await opened)
}
