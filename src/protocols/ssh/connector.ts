/**
 * Runs what was planned, and only that (C1).
 *
 * @packageDocumentation
 */
import { randomBytes } from 'node:crypto'
import type { Client, ClientChannel } from 'ssh2'
import type { Call, Permit } from '../../core/call.ts'
import type { BytesChunk, Chunk } from '../../core/chunk.ts'
import { SallyportError } from '../../core/errors.ts'
import { quoteWord } from './characters.ts'
import { lost, reasonOf, refused } from './errors.ts'
import { roomIn, socketOf } from './library.ts'
import { drained, openChannel } from './open-channel.ts'
import type { SshOptions } from './options.ts'
import { ChannelOutput } from './output.ts'
import type { SshRequest } from './plan.ts'
import { marker, Starter } from './starter.ts'
import type { Lease } from './upstreams.ts'

type ExecRequest = Extract<SshRequest, { kind: 'exec' }>

/** How long a stopped command has to end by itself. */
const TERM_MS = 1_500
/** How long the host has to carry out an order, and then to say that the command is gone. */
const KILL_MS = 10_000

/** Runs one command and yields its output as it comes. */
export async function* runCommand(
  call: Call,
  request: ExecRequest,
  permit: Permit,
  lease: Lease,
): AsyncGenerator<Chunk, void, undefined> {
  const target = call.target.name
  refuseUnmaskable(request, permit, target)
  const options = call.target.options as SshOptions
  const signal = limited(permit.signal, request.timeoutMs)
  const nonce = randomBytes(12).toString('hex')
  const starter = new Starter(nonce)
  const line = commandLine(request.command, options.shell, nonce)
  const { channel, output } = await openChannel(
    lease.client,
    { target, what: 'to run a command', signal: signal.signal },
    (done) => lease.client.exec(line, { env: request.env, allowHalfOpen: true }, done),
    (opened) => ({
      channel: opened,
      output: new ChannelOutput(opened, 'stdout', (bytes) => starter.strip(bytes)),
    }),
  ).catch((error: unknown) => {
    signal.end()
    throw error
  })
  const bytesMax = least(permit.obligations.bytesMax, options.bytesMax, request.bytesMax)
  const stop = (): void => output.fail(reasonOf(signal.signal))
  let isOver = false
  signal.signal.addEventListener('abort', stop, { once: true })
  if (signal.signal.aborted) stop()
  const feeding = feed(lease.client, channel, call, request, permit)
  feeding.catch((error: unknown) => output.fail(SallyportError.from(error)))
  try {
    let shown = 0
    let isCut = false
    for (let chunk = await output.next(); chunk !== undefined; chunk = await output.next()) {
      if (chunk.kind === 'head') continue
      const { bytes } = chunk
      const room = Math.min(bytes.length, bytesMax - shown)
      shown += room
      // What does not fit is read and dropped: a command must not end half-way because its output is not wanted.
      isCut ||= room < bytes.length
      if (room > 0) yield { ...chunk, bytes: bytes.subarray(0, room) } satisfies BytesChunk
    }
    isOver = true
    if (output.ended === undefined) throw lost(target)
    if (!starter.hasStarted) throw refused(target, `to start ${options.shell}; set shell to the path of bash there`)
    const { code, signal: by } = output.ended
    yield {
      kind: 'exit',
      status: by === undefined ? String(code ?? 0) : `SIG${by.replace(/^SIG/u, '')}`,
      truncated: isCut,
      ...(isCut && { truncatedBy: 'bytes' as const }),
    }
  } finally {
    signal.end()
    signal.signal.removeEventListener('abort', stop)
    if (!isOver) {
      output.discard()
      await endCommand(lease.client, channel, output, starter)
    }
    channel.destroy()
  }
}

/**
 * A duty that cannot be performed is a refusal: these programs wait for answers within a line that detectors hold back
 * until it ends, and bytes replaced in the middle would break their frames.
 */
function refuseUnmaskable({ protocol }: ExecRequest, { obligations, decision }: Permit, target: string): void {
  if (protocol === undefined || obligations.detect.length === 0) return
  throw new SallyportError(
    'ERR_DENIED',
    `The output of ${target} is searched for sensitive values, and ${protocol} speaks a binary protocol that cannot be. Nothing was run.`,
    {
      facts: {
        rules: decision.rules,
        construct: 'ssh.binary_protocol',
        hint: 'Copy over SFTP (scp without -O, or sftp), or as text (cat), which is masked.',
        noEffect: true,
      },
    },
  )
}

/**
 * What the login shell is given. It first says its process id, which becomes that of bash and of the command's process
 * group: so what runs can be ended. Bash reads no start-up file and takes no function from the environment (`-p`).
 */
function commandLine(command: string, shell: string, nonce: string): string {
  return `echo ${marker(nonce)}$$; exec ${shell} --noprofile --norc -p -c ${quoteWord(command)}`
}

/** Sends the input. One that nobody has seen is not sent to a call that somebody approved (C11). */
async function feed(
  client: Client,
  channel: ClientChannel,
  call: Call,
  request: ExecRequest,
  permit: Permit,
): Promise<void> {
  if (request.stdin !== undefined) channel.write(request.stdin)
  const isApproved = permit.decision.effect === 'require_approval'
  if (call.input !== undefined && !isApproved) {
    for await (const bytes of call.input) {
      if (channel.destroyed || !channel.writable) return
      if (!channel.write(bytes)) await drained(channel)
      await roomIn(socketOf(client))
    }
  }
  if (channel.writable) channel.end()
}

/** Ends a command and everything in its process group: first it is asked, then it is made to. */
async function endCommand(
  client: Client,
  channel: ClientChannel,
  output: ChannelOutput,
  starter: Starter,
): Promise<void> {
  // It ended by itself, and its process id may be that of another by now.
  if (output.isClosed) return
  const closed = new Promise<void>((resolve) => void channel.once('close', () => resolve()))
  // It may have begun although its process id is still on the way.
  await Promise.race([starter.started, closed, delay(TERM_MS)])
  const { pid } = starter
  if (pid !== undefined) {
    await Promise.race([kill(client, `kill -TERM -- -${pid}`), delay(TERM_MS)])
    await Promise.race([closed, delay(TERM_MS)])
    await Promise.race([kill(client, `kill -KILL -- -${pid}`), delay(KILL_MS)])
    // The host closes the channel when the command is gone and nothing holds its output any more.
    await Promise.race([closed, delay(KILL_MS)])
  }
  channel.close()
}

function kill(client: Client, command: string): Promise<void> {
  return new Promise((resolve) => {
    try {
      client.exec(command, (error, channel) => {
        if (error !== undefined && error !== null) return resolve()
        channel.on('close', () => resolve())
        channel.resume()
        channel.stderr.resume()
      })
    } catch {
      // The connection is gone, and with it what we could have done.
      resolve()
    }
  })
}

function delay(ms: number): Promise<void> {
  return new Promise((resolve) => void setTimeout(resolve, ms).unref())
}

/** The permit's signal, and the time the caller gives the call itself. */
function limited(signal: AbortSignal, timeoutMs: number | undefined): { readonly signal: AbortSignal; end(): void } {
  if (timeoutMs === undefined) return { signal, end: () => undefined }
  const own = new AbortController()
  const timer = setTimeout(() => {
    own.abort(
      new SallyportError('ERR_TIMEOUT', `The command ran longer than the ${timeoutMs} ms you gave it and was ended.`),
    )
  }, timeoutMs)
  return { signal: AbortSignal.any([signal, own.signal]), end: () => clearTimeout(timer) }
}

function least(...limits: readonly (number | undefined)[]): number {
  return limits.reduce<number>((least, limit) => Math.min(least, limit ?? least), Number.POSITIVE_INFINITY)
}
