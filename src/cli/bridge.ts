/**
 * The stdio bridge: what an MCP client starts on the agent's machine. It holds a URL and a token and nothing else (C17):
 * messages from standard input go to the gateway as they are, what comes back goes to standard output. It understands of
 * a message only what the transport needs: is it a request, which era of the protocol, is it a cancellation.
 *
 * Nothing but protocol messages ever reaches standard output; whatever there is to say goes to standard error.
 *
 * @packageDocumentation
 */
import { readFileSync, statSync } from 'node:fs'
import type { Readable, Writable } from 'node:stream'
import type { JSONRPCMessage } from '@modelcontextprotocol/client'
import { SallyportError } from '../core/errors.ts'
import { createRelay } from './bridge-relay.ts'
import { readLines } from './bridge-lines.ts'

/** Where the bridge leads, and what it is connected to. */
export interface BridgeOptions {
  /** MCP endpoint of the gateway. Without it, `SALLYPORT_URL` says it. */
  readonly url?: string
  /** Without it, `SALLYPORT_TOKEN` holds it or `SALLYPORT_TOKEN_FILE` names its file. Never an argument of the command. */
  readonly token?: string
  readonly stdin?: Readable
  readonly stdout?: Writable
  readonly stderr?: Writable
  readonly env?: NodeJS.ProcessEnv
  /** Ends the bridge. */
  readonly signal?: AbortSignal
}

/** The endpoint of a gateway that runs here with its defaults. */
const URL_DEFAULT = 'http://127.0.0.1:7400/mcp'

/** A line longer than this is no message of a sane client. */
const LINE_BYTES_MAX = 4 * 1024 * 1024

/** How long requests that are still open may take to end after standard input did. */
const GRACE_MS = 2000

/**
 * Relays until standard input ends or `signal` aborts. A gateway that is away, or comes back as another process, ends
 * single requests, never the bridge.
 *
 * @throws SallyportError `ERR_CONFIG_INVALID` (URL or token unusable)
 */
export async function runBridge(options: BridgeOptions = {}): Promise<void> {
  const env = options.env ?? process.env
  const stdin = options.stdin ?? process.stdin
  const stdout = options.stdout ?? process.stdout
  const stderr = options.stderr ?? process.stderr
  const url = endpointOf(options.url ?? env['SALLYPORT_URL'] ?? URL_DEFAULT)
  const token = tokenReader(options.token, env)
  token() // what is wrong with it is said now, not at the first request
  const stop = new AbortController()
  const end = (): void => stop.abort()
  options.signal?.addEventListener('abort', end, { once: true })
  stdout.once('error', end)
  const run = env['SALLYPORT_RUN']
  const relay = createRelay({
    url,
    token,
    ...(run !== undefined && run !== '' && { run }),
    write: (message) => stdout.write(`${JSON.stringify(message)}\n`),
    say: (text) => void stderr.write(`sallyport: ${text}\n`),
  })
  try {
    if (options.signal?.aborted === true) return
    for await (const line of readLines(stdin, LINE_BYTES_MAX, stop.signal)) {
      if (line === undefined) relay.refuse('Parse error: the line is too long.')
      else if (line.trim() !== '') accept(line)
    }
    if (!stop.signal.aborted) await relay.settle(GRACE_MS)
  } finally {
    options.signal?.removeEventListener('abort', end)
    stdout.removeListener('error', end)
    await relay.close()
  }

  function accept(line: string): void {
    let message: unknown
    try {
      message = JSON.parse(line)
    } catch {
      relay.refuse('Parse error: the line is not valid JSON.')
      return
    }
    if (typeof message !== 'object' || message === null) relay.refuse('Parse error: the line is no JSON-RPC message.')
    else relay.send(message as JSONRPCMessage | JSONRPCMessage[])
  }
}

/** Checks where a token may be sent: encrypted, or not beyond this machine. */
function endpointOf(text: string): URL {
  let url: URL
  try {
    url = new URL(text)
  } catch {
    throw invalid('The gateway URL is not a URL, such as https://gateway.example/mcp.')
  }
  if (url.username !== '' || url.password !== '') throw invalid('The gateway URL must not hold a user or password.')
  if (url.protocol === 'http:' && !isLoopback(url.hostname)) {
    throw invalid('Plain http would send the token readable over the network. Use https, or a gateway on this machine.')
  }
  if (url.protocol !== 'https:' && url.protocol !== 'http:') throw invalid('The gateway URL must begin with https://.')
  if (url.pathname === '/') url.pathname = '/mcp'
  url.hash = ''
  return url
}

function isLoopback(hostname: string): boolean {
  // The URL parser has already turned every spelling of an IPv4 address into four decimal numbers.
  return hostname === 'localhost' || hostname === '[::1]' || /^127\.\d+\.\d+\.\d+$/.test(hostname)
}

/** Returns what reads the token. A file is read each time, so that a new token is used without a restart. */
function tokenReader(given: string | undefined, env: NodeJS.ProcessEnv): () => string {
  const token = given ?? env['SALLYPORT_TOKEN']
  if (token !== undefined && token !== '') return () => checked(token, 'SALLYPORT_TOKEN')
  const path = env['SALLYPORT_TOKEN_FILE']
  if (path !== undefined && path !== '') return () => checked(readPrivate(path), 'the file of SALLYPORT_TOKEN_FILE')
  throw invalid('Set SALLYPORT_TOKEN to a token, or SALLYPORT_TOKEN_FILE to the file that holds one.')
}

function readPrivate(path: string): string {
  try {
    const { mode } = statSync(path)
    if (process.platform !== 'win32' && (mode & 0o077) !== 0) {
      throw invalid('The file of SALLYPORT_TOKEN_FILE can be read by others on this machine: chmod 600 it.')
    }
    return readFileSync(path, 'utf8').trim()
  } catch (error) {
    if (error instanceof SallyportError) throw error
    throw invalid('The file of SALLYPORT_TOKEN_FILE cannot be read.')
  }
}

function checked(token: string, from: string): string {
  if (!/^[A-Za-z0-9._~+/=-]+$/.test(token)) throw invalid(`What ${from} holds is not a token.`)
  return token
}

function invalid(message: string): SallyportError {
  return new SallyportError('ERR_CONFIG_INVALID', message)
}
