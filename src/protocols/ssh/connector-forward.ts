/**
 * A connection from the target to somewhere else, on behalf of a client (`-L`, `-W`).
 *
 * @packageDocumentation
 */
import type { Client, ClientChannel } from 'ssh2'
import type { Call, Permit } from '../../core/call.ts'
import type { Chunk } from '../../core/chunk.ts'
import { SallyportError } from '../../core/errors.ts'
import { reasonOf } from './errors.ts'
import { roomIn, socketOf } from './library.ts'
import { drained, openChannel } from './open-channel.ts'
import type { SshOptions } from './options.ts'
import { ChannelOutput } from './output.ts'
import type { SshRequest } from './plan.ts'
import type { Lease } from './upstreams.ts'

type ForwardRequest = Extract<SshRequest, { kind: 'forward' }>

/** Carries bytes both ways until one side ends. */
export async function* runForward(
  call: Call,
  request: ForwardRequest,
  permit: Permit,
  lease: Lease,
): AsyncGenerator<Chunk, void, undefined> {
  const target = call.target.name
  const { signal, obligations, decision } = permit
  if (obligations.detect.length > 0) {
    // A duty that cannot be performed is a refusal: nobody knows what protocol these bytes are of.
    throw new SallyportError(
      'ERR_DENIED',
      `What comes from ${target} is searched for sensitive values, and a forwarded connection cannot be. Nothing was opened.`,
      {
        facts: { rules: decision.rules, construct: 'ssh.forward_masked', noEffect: true },
      },
    )
  }
  const { channel, output } = await openChannel(
    lease.client,
    { target, what: 'to connect there', isSaidAtOnce: true, signal },
    (done) => lease.client.forwardOut('127.0.0.1', 0, request.host, request.port, done),
    (opened) => ({ channel: opened, output: new ChannelOutput(opened, 'wire') }),
  )
  const stop = (): void => output.fail(reasonOf(signal))
  signal.addEventListener('abort', stop, { once: true })
  if (signal.aborted) stop()
  const sending = send(lease.client, channel, output, call)
  sending.catch((error: unknown) => output.fail(SallyportError.from(error)))
  const own = (call.target.options as SshOptions).bytesMax
  const bytesMax = Math.min(obligations.bytesMax ?? Number.POSITIVE_INFINITY, own ?? Number.POSITIVE_INFINITY)
  try {
    yield { kind: 'head' }
    let shown = 0
    for (let chunk = await output.next(); chunk !== undefined; chunk = await output.next()) {
      if (chunk.kind === 'data' && chunk.channel === 'wire') {
        shown += chunk.bytes.length
        if (shown > bytesMax) {
          yield { kind: 'exit', status: 'closed', truncated: true, truncatedBy: 'bytes' }
          return
        }
      }
      yield chunk
    }
    yield { kind: 'exit', status: 'closed', truncated: false }
  } finally {
    signal.removeEventListener('abort', stop)
    output.discard()
    channel.close()
  }
}

/** Sends what the client says, each piece after it was recorded. */
async function send(client: Client, channel: ClientChannel, output: ChannelOutput, call: Call): Promise<void> {
  for await (const bytes of call.input ?? []) {
    if (channel.destroyed || !channel.writable) return
    output.push({ kind: 'data', channel: 'stdin', bytes })
    await output.taken()
    if (!channel.writable) return
    if (!channel.write(bytes)) await drained(channel)
    await roomIn(socketOf(client))
  }
  if (channel.writable) channel.end()
}
