/**
 * What an SSH request means, and exactly what will be sent. Pure: parses, and asks nobody.
 *
 * @packageDocumentation
 */
import type { Account, Action, Part } from '../../core/action.ts'
import type { Canonical, Plan, ShownRequest } from '../../core/call.ts'
import type { ColumnMask } from '../../core/decision.ts'
import { quoteWords } from './characters.ts'
import { unknownPart } from './findings.ts'
import type { SshOptions } from './options.ts'
import { readPayload, type SftpPayload, type SshPayload } from './payload.ts'
import { binaryProtocol } from './binary-protocol.ts'
import { destinationOf, forwardParts } from './plan-forward.ts'
import { sftpParts } from './plan-sftp.ts'
import type { Attributes } from './sftp-rows.ts'
import { findCommands } from './walk.ts'

/** What is sent upstream. Made here from the payload, once; the connector sees nothing else of the request. */
export type SshRequest =
  | {
      readonly kind: 'exec'
      readonly command: string
      readonly stdin?: string
      readonly bytesMax?: number
      readonly timeoutMs?: number
      readonly env: Env
      /** The program in it that speaks a binary protocol, if there is one. */
      readonly protocol?: string
    }
  | {
      readonly kind: 'shell'
      readonly term: string
      readonly columns: number
      readonly rows: number
      readonly env: Env
    }
  | {
      readonly kind: 'sftp'
      readonly operation: SftpPayload['operation']
      readonly path: string
      readonly to?: string
      readonly flags?: NonNullable<SftpPayload['flags']>
      readonly attributes?: Attributes
    }
  | { readonly kind: 'forward'; readonly host: string; readonly port: number }
  | { readonly kind: 'nothing' }

type Env = Readonly<Record<string, string>>

/** A planned SSH request. */
export interface SshPlan extends Plan {
  readonly request: SshRequest
}

/** What planning depends on besides the payload. */
export interface PlanInput {
  readonly options: Pick<SshOptions, 'user' | 'shell'>
  readonly masks: readonly ColumnMask[]
  /** Whether the caller sends input while the call runs. */
  readonly hasInput: boolean
}

/** Plans one request. What it cannot understand is `ssh.unknown`, and still says exactly what would be sent. */
export function planSsh(raw: unknown, input: PlanInput): SshPlan {
  const payload = readPayload(raw)
  if (payload === undefined) return nothing('The request has no form that is understood.', input)
  const account: Account = { name: input.options.user, isLogin: true }
  switch (payload.kind) {
    case 'exec':
      return planExec(payload, account, input)
    case 'shell':
      return planShell(payload, account, input)
    case 'sftp':
      return planSftp(payload, account, input)
    default:
      return planForward(payload, input)
  }
}

function planExec(payload: Extract<SshPayload, { kind: 'exec' }>, account: Account, input: PlanInput): SshPlan {
  const { argv, command, max_bytes: bytesMax, timeout_ms: timeoutMs, env = {} } = payload
  // No input and input that is empty are one thing to a command, so they are one to an approval (C11).
  const stdin = payload.stdin === '' ? undefined : payload.stdin
  if ((argv === undefined) === (command === undefined)) {
    return nothing('A command is given either as its words or as one text.', input)
  }
  // Words are quoted and then read like any other text: what is judged is what the remote shell will read.
  const text = command ?? quoteWords(argv ?? [])
  const findings = findCommands(text, account, 'bash')
  const protocol = binaryProtocol(findings.parts)
  const request: SshRequest = {
    kind: 'exec',
    command: text,
    env,
    ...(protocol !== undefined && { protocol }),
    ...(stdin !== undefined && { stdin }),
    ...(bytesMax !== undefined && { bytesMax }),
    ...(timeoutMs !== undefined && { timeoutMs }),
  }
  return {
    action: actionOf([...findings.parts, ...envParts(env)], 'exec', input.hasInput || stdin !== undefined),
    exact: {
      kind: 'exec',
      command: text,
      shell: input.options.shell,
      stdin: stdin ?? null,
      env,
      ...accountOf(account),
    },
    shown: shownText(text, stdin, env),
    masks: input.masks,
    request,
  }
}

function planShell(payload: Extract<SshPayload, { kind: 'shell' }>, account: Account, input: PlanInput): SshPlan {
  const { term, columns, rows, env = {} } = payload
  const part: Part = {
    verb: 'ssh.shell',
    resource: { type: 'none' },
    attributes: { user: account.name },
    account,
  }
  return {
    action: actionOf([part, ...envParts(env)], 'shell', true),
    exact: { kind: 'shell', env, ...accountOf(account) },
    shown: { text: 'interactive shell' },
    masks: input.masks,
    request: { kind: 'shell', term, columns, rows, env },
  }
}

function planSftp(payload: SftpPayload, account: Account, input: PlanInput): SshPlan {
  const { operation, path, to, flags, attributes } = payload
  const given = Object.entries(attributes ?? {}).filter((entry): entry is [string, number] => entry[1] !== undefined)
  const how = Object.entries(flags ?? {}).flatMap(([name, isSet]) => (isSet ? [name] : []))
  const words = [
    ...[path, ...(to === undefined ? [] : [to])].map((each) => JSON.stringify(each)),
    ...how,
    ...given.map(([name, value]) => `${name}=${name === 'mode' ? value.toString(8) : value}`),
  ]
  return {
    action: actionOf(sftpParts(payload, account), 'sftp', input.hasInput),
    exact: {
      kind: 'sftp',
      operation,
      path,
      to: to ?? null,
      flags: how,
      attributes: Object.fromEntries(given),
      ...accountOf(account),
    },
    shown: { text: `sftp ${operation} ${words.join(' ')}` },
    masks: input.masks,
    request: {
      kind: 'sftp',
      operation,
      path,
      ...(to !== undefined && { to }),
      ...(flags !== undefined && { flags }),
      attributes: Object.fromEntries(given),
    },
  }
}

function planForward(payload: Extract<SshPayload, { kind: 'forward' }>, input: PlanInput): SshPlan {
  const { port } = payload
  const destination = destinationOf(payload.host, port)
  // What is sent is the spelling that was judged.
  const host = destination?.host ?? payload.host
  return {
    action: actionOf(forwardParts(payload.host, port), 'forward', true),
    exact: { kind: 'forward', host, port },
    shown: { text: `forward to ${destination?.name ?? `${JSON.stringify(host)} port ${port}`}` },
    masks: input.masks,
    request: destination === undefined ? { kind: 'nothing' } : { kind: 'forward', host, port },
  }
}

/** No variable reaches the target: each may load code there, or change what a command means. */
function envParts(env: Env): readonly Part[] {
  const [name] = Object.keys(env)
  return name === undefined
    ? []
    : [unknownPart([`It sets the environment variable ${JSON.stringify(name).slice(0, 64)}.`])]
}

function nothing(reason: string, { masks }: PlanInput): SshPlan {
  return {
    action: actionOf([unknownPart([reason])], 'exec', false),
    exact: null,
    shown: { text: '[a request that is not understood]' },
    masks,
    request: { kind: 'nothing' },
  }
}

function actionOf(parts: readonly Part[], kind: string, hasInput: boolean): Action {
  return { parts, attributes: { kind, has_input: hasInput } }
}

function accountOf({ name }: Account): { readonly [key: string]: Canonical } {
  return { user: name }
}

/** The request as it was written. Input and environment belong to it: an approver must see them. */
function shownText(text: string, stdin: string | undefined, env: Env): ShownRequest {
  const names = Object.entries(env).map(([name, value]) => `${name}=${value}`)
  const params = [...(stdin === undefined ? [] : [stdin]), ...names]
  return { text, ...(params.length > 0 && { params }) }
}
