/**
 * What a client may set in its start-up packet. Everything that decides what a statement means is pinned by the gateway;
 * of the rest only what is on this list is passed on, and anything else is refused by name.
 *
 * @packageDocumentation
 */
import { SallyportError } from '../../../core/errors.ts'

/** Settings of the start-up packet, as far as they go on to the backend. */
export interface StartupSettings {
  readonly user: string
  readonly database: string
  /** Start-up settings for the backend. */
  readonly settings: Readonly<Record<string, string>>
  /** Protocol options (`_pq_.…`) nobody here knows. */
  readonly unknownOptions: readonly string[]
}

/** By lower-case name, the name the backend is given. */
const ALLOWED: ReadonlyMap<string, string> = new Map(
  [
    'application_name',
    'DateStyle',
    'TimeZone',
    'IntervalStyle',
    'extra_float_digits',
    'statement_timeout',
    'lock_timeout',
    'idle_in_transaction_session_timeout',
    'client_min_messages',
  ].map((name) => [name.toLowerCase(), name]),
)

const UTF8_NAMES: ReadonlySet<string> = new Set(['utf8', 'utf-8', 'unicode'])
const NAME = /^[A-Za-z_][A-Za-z0-9_.]{0,62}$/u
const VALUE_CHARS_MAX = 256

/**
 * Reads the parameters of a start-up packet.
 *
 * @throws SallyportError `ERR_INVALID_INPUT`, with the SQLSTATE the client is to see.
 */
export function readParameters(parameters: ReadonlyMap<string, string>, timeoutMaxMs: number): StartupSettings {
  const user = parameters.get('user') ?? ''
  if (user === '') throw refused('28000', 'No user is named in the start-up packet.')
  const settings: Record<string, string> = {}
  const unknownOptions: string[] = []
  for (const [name, value] of parameters) {
    if (name === 'user' || name === 'database') continue
    if (name.startsWith('_pq_.')) unknownOptions.push(name)
    else if (name === 'replication') refuseReplication(value)
    else if (name === 'options') for (const [key, word] of readOptions(value)) take(settings, key, word, timeoutMaxMs)
    else take(settings, name, value, timeoutMaxMs)
  }
  return { user, database: parameters.get('database') ?? user, settings, unknownOptions }
}

function refuseReplication(value: string): void {
  if (/^(?:false|off|no|0)$/iu.test(value)) return
  throw refused('0A000', 'This gateway serves no replication connections.')
}

function take(settings: Record<string, string>, name: string, value: string, timeoutMaxMs: number): void {
  if (!NAME.test(name)) throw refused('42704', 'A start-up parameter has a name that cannot be one.')
  const lower = name.toLowerCase()
  if (lower === 'client_encoding') {
    if (UTF8_NAMES.has(value.toLowerCase())) return
    throw refused('0A000', 'This gateway speaks UTF8 only; set client_encoding (PGCLIENTENCODING) to UTF8.')
  }
  const known = ALLOWED.get(lower)
  if (known === undefined) {
    throw refused(
      '42501',
      `The start-up parameter ${name} may not be set by a client; the gateway pins it or leaves it out.`,
    )
  }
  if (value.length > VALUE_CHARS_MAX) throw refused('22023', `The start-up parameter ${name} is too long.`)
  if (lower === 'statement_timeout') checkTimeout(value, timeoutMaxMs)
  settings[known] = value
}

/** A client may ask for less time than the target's, never for more. */
function checkTimeout(value: string, maxMs: number): void {
  const [, digits = '', unit = 'ms'] = /^\s*(\d{1,9})\s*(ms|s|min)?\s*$/u.exec(value) ?? []
  const ms = Number(digits) * (unit === 's' ? 1000 : unit === 'min' ? 60_000 : 1)
  if (digits === '' || ms === 0 || ms > maxMs) {
    throw refused('22023', `statement_timeout must be a time of at most ${maxMs} ms on this target.`)
  }
}

/** Takes `-c name=value` and `--name=value` apart, as the server would: a backslash keeps what follows it. */
function readOptions(options: string): readonly (readonly [string, string])[] {
  const words = options.match(/(?:\\.|[^\\\s])+/gu)?.map((word) => word.replace(/\\(.)/gu, '$1')) ?? []
  const settings: (readonly [string, string])[] = []
  for (let at = 0; at < words.length; at++) {
    const word = words[at] ?? ''
    const text = word === '-c' ? words[++at] : /^(?:--|-c)(.+)$/u.exec(word)?.[1]
    const [, name, value] = /^([^=]+)=(.*)$/u.exec(text ?? '') ?? []
    if (name === undefined || value === undefined) {
      throw refused('42501', 'Of the start-up parameter options only "-c name=value" is understood.')
    }
    settings.push([name.replaceAll('-', '_'), value])
  }
  return settings
}

function refused(sqlstate: string, message: string): SallyportError {
  return new SallyportError('ERR_INVALID_INPUT', message, { facts: { sqlstate } })
}
