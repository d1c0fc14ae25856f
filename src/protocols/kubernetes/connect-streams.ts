/**
 * Opens the streams of a remote command or a forwarded port at an API server: over WebSocket where it can, over SPDY/3.1
 * where the server is older than what the command needs.
 *
 * @packageDocumentation
 */
import { openSpdy, openSpdyPort } from './connect-spdy.ts'
import { openWebSocket } from './connect-websocket.ts'
import type { OpenStreams, StreamRefusal, StreamRequest } from './connect-stream-types.ts'
import { V4, V5, type Frame } from './streams/channels.ts'

/**
 * Opens the streams of `exec` and `attach`.
 *
 * Opening is running: once a server took the upgrade nothing is tried a second time. So a command that reads standard
 * input asks for version 5 alone, which can end it; a server without it refuses, and is then asked over SPDY.
 *
 * @throws SallyportError `ERR_UPSTREAM_UNREACHABLE`, `ERR_UPSTREAM_LOST`
 */
export async function openStreams(request: StreamRequest): Promise<OpenStreams | StreamRefusal> {
  const opened = await openWebSocket(request, request.channels.stdin ? [V5] : [V5, V4])
  if (opened.kind === 'open' || !isAboutProtocol(opened.status)) return opened
  return openSpdy(request)
}

/**
 * Opens the streams of a forwarded port: channel 0 carries the bytes, channel 1 what went wrong.
 *
 * @throws SallyportError `ERR_UPSTREAM_UNREACHABLE`, `ERR_UPSTREAM_LOST`
 */
export async function openPort(request: StreamRequest): Promise<OpenStreams | StreamRefusal> {
  const ports = request.url.searchParams.getAll('ports')
  const [port] = ports
  if (port !== undefined && ports.length === 1) {
    const url = new URL(request.url)
    url.searchParams.delete('ports')
    // Over SPDY one direction can end while the other goes on; over a WebSocket the end of one is the end of both.
    const opened = await openSpdyPort({ ...request, url }, port)
    if (opened.kind === 'open' || !isAboutProtocol(opened.status)) return opened
  }
  const opened = await openWebSocket(request, [V4])
  return opened.kind === 'open' ? { ...opened, frames: () => afterPorts(opened.frames()) } : opened
}

/** The first message on each channel only repeats the number of the port, in two bytes. */
async function* afterPorts(frames: AsyncIterable<Frame>): AsyncGenerator<Frame, void, undefined> {
  const begun = new Set<number>()
  for await (const frame of frames) {
    if (begun.has(frame.channel)) yield frame
    else begun.add(frame.channel)
  }
}

/** Statuses by which API servers and kubelets refuse a protocol they do not speak, before anything runs. */
function isAboutProtocol(status: number): boolean {
  return status === 400 || status === 403 || status === 426 || status === 500 || status === 501
}
