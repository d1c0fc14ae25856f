import type { Client, ClientChannel } from 'ssh2'
import { lost, reasonOf, refused, unsent } from './errors.ts'
import { channelsOpened, onReceived } from './library.ts'

/** How the library says that a channel is open, or that the host refused it. */
export type Opened = (error: Error | null | undefined, channel: ClientChannel) => void

/** How long a host has to answer once the call was stopped. */
const ANSWER_MS = 5_000

/** What a channel is opened for. */
export interface Wanted {
  readonly target: string
  /** What the host was asked for, for the refusal: `to run a command`. */
  readonly what: string
  /** Whether asking for the channel says already what it is for; otherwise that follows once the host opened it. */
  readonly isSaidAtOnce?: boolean
  readonly signal: AbortSignal
}

/**
 * Opens a channel and hands it over, also when the signal was aborted while the host was asked: whoever gets it then ends
 * what it began.
 *
 * @param ask asks the library for it.
 * @param take is called before anything else of the connection is read: what is told of the channel comes perhaps with
 * the same packet of the network, its end included, and whoever begins to listen later never hears of it.
 * @throws SallyportError `ERR_UPSTREAM_REJECTED`, `ERR_UPSTREAM_LOST`, `ERR_UPSTREAM_UNREACHABLE` when the connection
 * broke before the host was told what is wanted, or why the signal was aborted.
 */
export function openChannel<T>(
  client: Client,
  { target, what, isSaidAtOnce = false, signal }: Wanted,
  ask: (done: Opened) => void,
  take: (channel: ClientChannel) => T,
): Promise<T> {
  return new Promise((resolve, reject) => {
    if (signal.aborted) return reject(reasonOf(signal))
    let late: NodeJS.Timeout | undefined
    let isGivenUp = false
    const giveUp = (): void => {
      isGivenUp = true
      reject(reasonOf(signal))
    }
    // The host may have begun already what can only be ended once it answered.
    const abort = (): void => void (late = setTimeout(giveUp, ANSWER_MS).unref())
    signal.addEventListener('abort', abort, { once: true })
    const before = channelsOpened(client)
    // One that was opened since may be that of another call. Fail closed: then it counts as ours.
    const isNothingSaid = (): boolean => !isSaidAtOnce && channelsOpened(client) === before
    const closed = (): void => reject(isNothingSaid() ? unsent(target) : lost(target))
    client.once('close', closed)
    const over = (): void => {
      clearTimeout(late)
      client.removeListener('close', closed)
      signal.removeEventListener('abort', abort)
    }
    try {
      ask((error, channel) => {
        over()
        if (error !== undefined && error !== null) return reject(refused(target, what, error))
        // Nobody is left who would end what the host begins only now.
        if (isGivenUp) return void channel.destroy()
        bound(client, channel)
        resolve(take(channel))
      })
    } catch (cause) {
      over()
      // The library throws before it sends anything.
      reject(unsent(target, cause))
    }
  })
}

/** Output of one channel that may wait to be read; a host that keeps to the window it was given sends less. */
const UNREAD_MAX = 6 * 1024 * 1024

/** The library takes whatever a host sends, also beyond the window it was given; nobody's memory is for that. */
function bound(client: Client, channel: ClientChannel): void {
  const stop = onReceived(client, () => {
    if (channel.readableLength + channel.stderr.readableLength > UNREAD_MAX) client.destroy()
  })
  channel.once('close', stop)
}

/** Resolves when the channel takes more, or will never. */
export function drained(channel: ClientChannel): Promise<void> {
  return new Promise((resolve) => {
    const done = (): void => {
      channel.removeListener('drain', done)
      channel.removeListener('close', done)
      resolve()
    }
    channel.once('drain', done)
    channel.once('close', done)
  })
}
