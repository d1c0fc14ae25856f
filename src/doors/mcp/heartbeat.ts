/** Tells a client, again and again, that its call is alive. */
export interface Heartbeat {
  /** Says it now, and with these words from now on. */
  say(message: string): void
  /** Says nothing any more: progress after the result is a protocol error. */
  stop(): void
}

/**
 * Starts to beat. Each beat carries a larger number than the one before, as the protocol demands.
 *
 * @param send one progress notification; whether it arrives is the connection's business, so its failure is ignored.
 */
export function startHeartbeat(
  everyMs: number,
  message: string,
  send: (progress: number, message: string) => Promise<void>,
): Heartbeat {
  let progress = 0
  let words = message
  const beat = (): void => {
    progress++
    // A client that went away is noticed by its stream; a lost beat is not worth an error.
    send(progress, words).catch(() => undefined)
  }
  const timer = setInterval(beat, everyMs)
  timer.unref()
  return {
    say(next) {
      words = next
      beat()
    },
    stop: () => clearInterval(timer),
  }
}
