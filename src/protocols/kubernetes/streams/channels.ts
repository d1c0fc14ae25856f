/**
 * The channels of `exec`, `attach` and `port-forward`: what Kubernetes calls the remote command protocol, version 4 and 5.
 *
 * A message is a byte that names the channel, and what is sent on it. The same form carries a call's input and output
 * through the gateway, whatever the client and the API server speak.
 *
 * @packageDocumentation
 */

/** Channels of a remote command. In version 5 `close` is followed by the channel whose sender is done. */
export const CHANNEL = { stdin: 0, stdout: 1, stderr: 2, error: 3, resize: 4, close: 255 } as const

/** Versions spoken, the better one first. Version 4 knows no end of standard input. */
export const V5 = 'v5.channel.k8s.io'
export const V4 = 'v4.channel.k8s.io'

/** Longest message that is read: more than any client or server sends at once. */
export const MESSAGE_BYTES_MAX = 4 * 1024 * 1024

/** One message. */
export interface Frame {
  readonly channel: number
  readonly bytes: Uint8Array
}

/** Spells a frame as one piece. */
export function writeFrame(channel: number, bytes: Uint8Array): Buffer {
  return Buffer.concat([Buffer.of(channel), bytes])
}

/** Reads one back; `undefined` for a piece without a channel. */
export function readFrame(piece: Uint8Array): Frame | undefined {
  const channel = piece[0]
  return channel === undefined ? undefined : { channel, bytes: piece.subarray(1) }
}

/** The frame that ends standard input. */
export const STDIN_END: Uint8Array = Buffer.of(CHANNEL.close, CHANNEL.stdin)

/** Whether a frame ends standard input. */
export function isStdinEnd({ channel, bytes }: Frame): boolean {
  return channel === CHANNEL.close && bytes.length === 1 && bytes[0] === CHANNEL.stdin
}
