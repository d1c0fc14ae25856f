import { randomUUID } from 'node:crypto'
import type { Socket } from 'node:net'
import type { ServerChannel } from 'ssh2'
import type { Call, Session } from '../../core/call.ts'
import type { Chunk } from '../../core/chunk.ts'
import { SallyportError, type ErrorCode } from '../../core/errors.ts'
import type { Target } from '../../core/target.ts'
import { hiddenCharacter } from './characters.ts'
import { roomIn } from './library.ts'
import { scriptShell, wrapScript } from './listener-script.ts'
import type { Typing } from './typed.ts'
import { SCRIPT_CHARS_MAX } from './syntax.ts'

/** What a channel needs of the gateway. */
export interface ChannelDeps {
  readonly run: (call: Call) => AsyncIterable<Chunk>
  /** How long a call may wait for an approval while the client is connected. */
  readonly holdMs: number
}

/** What a client asked for on one channel. */
export interface Asked {
  readonly kind: 'exec' | 'script' | 'shell'
  readonly command: string
  /** What is typed besides keys: new sizes of the window. */
  readonly typing: Typing
  readonly pty?: { readonly term: string; readonly columns: number; readonly rows: number }
}

/** How the client is told that nothing ran (`126`: found, and not to be run), or that it was ended. */
const EXIT_BY_CODE: Readonly<Partial<Record<ErrorCode, number>>> = {
  ERR_TIMEOUT: 124,
  ERR_UPSTREAM_LOST: 255,
  ERR_UPSTREAM_UNREACHABLE: 255,
  ERR_UPSTREAM_AUTH: 255,
  ERR_UPSTREAM_REJECTED: 255,
  ERR_OUTCOME_UNKNOWN: 255,
  ERR_INTERNAL: 255,
}
const EXIT_DENIED = 126

/**
 * Runs what was asked for on a channel and tells the client how it ended. Never throws.
 *
 * @param gone aborted when the channel is closed; from the moment it was accepted, because a client may close it in the
 * same packet.
 */
export async function serveChannel(
  channel: ServerChannel,
  gone: AbortSignal,
  socket: Socket,
  asked: Asked,
  session: Session,
  target: Target,
  deps: ChannelDeps,
): Promise<void> {
  try {
    if (gone.aborted) return
    const call = await callOf(channel, asked, session, target, deps, gone)
    try {
      for await (const chunk of deps.run(call)) await show(channel, socket, chunk)
    } catch (error) {
      const again = withoutInput(call, error)
      if (again === undefined) throw error
      for await (const chunk of deps.run(again)) await show(channel, socket, chunk)
    }
    channel.end()
  } catch (error) {
    if (!gone.aborted) await refuse(channel, SallyportError.from(error))
  }
}

/**
 * The same call with nothing on its input, when that is what stands in the way of an approval: a client cannot say that
 * it has none, and nobody can approve what is still to come.
 */
function withoutInput(call: Call, error: unknown): Call | undefined {
  const isInput = error instanceof SallyportError && error.facts.construct === 'input.stream'
  if (!isInput || call.tool !== 'ssh.exec') return undefined
  const { input: _input, ...rest } = call
  return { ...rest, id: randomUUID(), payload: { ...(call.payload as object), stdin: '' } }
}

async function callOf(
  channel: ServerChannel,
  asked: Asked,
  session: Session,
  target: Target,
  { holdMs }: ChannelDeps,
  signal: AbortSignal,
): Promise<Call> {
  const input = inputOf(channel)
  const { pty } = asked
  const common = {
    id: randomUUID(),
    session,
    target,
    signal,
    hold: {
      waitMs: holdMs,
      onHeld: ({ ticket, approvers }: { readonly ticket: string; readonly approvers: readonly string[] }) => {
        channel.stderr.write(`sallyport: waiting for an approval by ${approvers.join(' or ')} (ticket ${ticket})\r\n`)
      },
    },
  }
  if (asked.kind === 'shell' && pty !== undefined) {
    return { ...common, tool: 'ssh.shell', payload: { kind: 'shell', ...pty }, input: asked.typing.pieces(input) }
  }
  const shell = asked.kind === 'script' ? 'bash' : scriptShell(asked.command)
  if (shell === undefined)
    return { ...common, tool: 'ssh.exec', payload: { kind: 'exec', command: asked.command }, input }
  // A shell that would read its commands from the client gets them as one text, after it was judged: what reads its own
  // script piece by piece can be made to skip a piece, and then means something else.
  const script = await scriptFrom(input, signal)
  return { ...common, tool: 'ssh.exec', payload: { kind: 'exec', command: wrapScript(shell, script), stdin: '' } }
}

async function scriptFrom(input: AsyncIterable<Uint8Array>, signal: AbortSignal): Promise<string> {
  const pieces: Uint8Array[] = []
  let size = 0
  for await (const piece of input) {
    if (signal.aborted) throw signal.reason
    size += piece.length
    if (size > SCRIPT_CHARS_MAX * 4) {
      throw new SallyportError('ERR_TOO_LARGE', `A script on standard input may have ${SCRIPT_CHARS_MAX} characters.`)
    }
    pieces.push(piece)
  }
  const text = Buffer.concat(pieces)
  if (!Buffer.from(text.toString('utf8'), 'utf8').equals(text)) {
    throw new SallyportError('ERR_INVALID_INPUT', 'A script on standard input must be UTF-8.')
  }
  return text.toString('utf8')
}

/** What the client sends, pulled. Leaving it unread makes the client wait, and leaves the channel open. */
export function inputOf(channel: ServerChannel): AsyncIterable<Uint8Array> {
  return channel.iterator({ destroyOnReturn: false }) as AsyncIterable<Uint8Array>
}

async function show(channel: ServerChannel, socket: Socket, chunk: Chunk): Promise<void> {
  await roomIn(socket)
  switch (chunk.kind) {
    case 'data':
      if (chunk.channel === 'rows' || chunk.channel === 'stdin') return
      return write(channel, chunk.channel === 'stderr' ? channel.stderr : channel, chunk.bytes)
    case 'notice':
      return write(channel, channel.stderr, Buffer.from(`sallyport: ${visible(chunk.text)}\r\n`))
    case 'exit': {
      if (chunk.truncated) channel.stderr.write('sallyport: the output was cut at the limit the policy sets\r\n')
      const { status, truncated } = chunk
      if (status.startsWith('SIG')) channel.exit(status.slice(3))
      else channel.exit(truncated && status === '0' ? EXIT_DENIED : Number(status) & 0xff)
      return
    }
    default:
  }
}

/** Writes with back-pressure: while the client does not read, nothing more is pulled from the target. */
export function write(
  channel: ServerChannel,
  stream: ServerChannel | ServerChannel['stderr'],
  bytes: Uint8Array,
): Promise<void> {
  if (channel.destroyed || stream.write(bytes)) return Promise.resolve()
  return new Promise((resolve) => {
    const over = (): void => {
      stream.removeListener('drain', over)
      channel.removeListener('close', over)
      resolve()
    }
    stream.once('drain', over)
    channel.once('close', over)
  })
}

async function refuse(channel: ServerChannel, error: SallyportError): Promise<void> {
  const { code, facts } = error
  const rules = facts.rules === undefined || facts.rules.length === 0 ? '' : ` [${facts.rules.join(', ')}]`
  const hint = facts.hint === undefined ? '' : `\r\nsallyport: ${visible(facts.hint)}`
  await write(channel, channel.stderr, Buffer.from(`sallyport: ${visible(error.message)}${rules}${hint}\r\n`))
  channel.exit(EXIT_BY_CODE[code] ?? EXIT_DENIED)
  channel.end()
}

/** One line without anything a terminal would obey. */
function visible(text: string): string {
  const line = text.replaceAll(/[\t\n\r]/gu, ' ')
  return hiddenCharacter(line) === undefined ? line : line.replaceAll(/[^\u0020-\u007e]/gu, '?')
}
