/**
 * The log of the process: one JSON line per fact on file descriptor 2, because standard output belongs to the
 * protocols and commands.
 *
 * It holds names and numbers, never payloads, rows or secrets. That is a duty of whoever logs; the redaction here is
 * the second line.
 *
 * @packageDocumentation
 */
import { type DestinationStream, destination, type LogFn, type Logger, pino } from 'pino'
import { logError } from './log-error.ts'

/** How much is written. */
export type LogLevel = 'fatal' | 'error' | 'warn' | 'info' | 'debug' | 'silent'

/** The log as rooms use it: `log.info({ session, call, rule }, 'denied')`. */
export type Log = Logger

/** Keys whose values never belong in a log, wherever a library's object brings them along. */
const NEVER = [
  'authorization',
  'cookie',
  'credential',
  'hashKey',
  'headers',
  'params',
  'parameters',
  'passphrase',
  'password',
  'payload',
  'privateKey',
  'rows',
  'secret',
  'sql',
  'token',
  'value',
]

/**
 * Builds the log of the process. Writes are synchronous: what was logged before a crash is there.
 *
 * @param options.stream replaces file descriptor 2, for tests.
 */
export function createLog(options: { readonly level?: LogLevel; readonly stream?: DestinationStream } = {}): Log {
  return pino(
    {
      level: options.level ?? 'info',
      base: null,
      timestamp: () => `,"time":"${new Date().toISOString()}"`,
      formatters: { level: (label) => ({ level: label }) },
      // pino's own serializer copies message, stack and every property of an error; ours decides what is safe.
      serializers: { err: withoutData, error: withoutData },
      hooks: {
        logMethod(args, method) {
          method.apply(this, safeArguments(args))
        },
      },
      redact: { paths: NEVER.flatMap((key) => [key, `*.${key}`, `*.*.${key}`]), censor: '[REDACTED]' },
    },
    options.stream ?? standardError(),
  )
}

/** What waits for a full disk to have room again; what comes after it is dropped. */
const WAITING_BYTES_MAX = 1024 * 1024

/** A log that cannot be written must not end the process: the recordings, not it, are what nothing runs without. */
function standardError(): DestinationStream {
  const stream = destination({ fd: 2, sync: true, maxLength: WAITING_BYTES_MAX })
  stream.on('error', () => undefined)
  return stream
}

/**
 * Left alone, pino takes an error's message for the line's text when there is none, and writes whatever properties an
 * error under another key has (a PostgreSQL error has `detail`, with the row in it).
 */
function safeArguments(args: readonly unknown[]): Parameters<LogFn> {
  const [first, text, ...rest] = args
  const shown = rest.map(withoutData)
  if (first instanceof Error) return [{ err: logError(first) }, typeof text === 'string' ? text : 'error', ...shown]
  if (typeof first !== 'object' || first === null)
    return [String(first), ...(text === undefined ? [] : [withoutData(text)]), ...shown] as Parameters<LogFn>
  const facts = Object.fromEntries(Object.entries(first).map(([key, value]) => [key, withoutData(value)]))
  return [facts, typeof text === 'string' ? text : '', ...shown]
}

function withoutData(value: unknown): unknown {
  return value instanceof Error ? logError(value) : value
}
