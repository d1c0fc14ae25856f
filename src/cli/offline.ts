import { createClosers } from '../closers.ts'
import type { Config } from '../config.ts'
import type { Call, Judged } from '../core/call.ts'
import { SallyportError } from '../core/errors.ts'
import type { Principal } from '../core/principal.ts'
import type { SessionRecording } from '../core/recording.ts'
import { judge } from '../gateway/gateway.ts'
import { createMasking } from '../masking/masking.ts'
import type { Policy } from '../policy/policy.ts'
import { openProtocols } from '../main-protocols.ts'
import { openCredentials } from '../main-state.ts'
import { randomBytes, randomUUID } from 'node:crypto'
import { toolNamed } from '../../tools/index.ts'

/** Judges calls without a gateway: plans on the live catalog, decides, executes nothing, records nothing. */
export interface Offline {
  /** @throws SallyportError for what cannot be read or planned. */
  judge(call: OfflineCall, principal: Principal): Promise<Judged>
  close(): Promise<void>
}

/** A call as fixtures and lines spell it. */
export interface OfflineCall {
  readonly target: string
  readonly tool: string
  readonly arguments: Readonly<Record<string, unknown>>
  /** Addresses of hosts, judged in place of those DNS would give. */
  readonly resolve?: Readonly<Record<string, readonly string[]>>
}

/** Opens what judging takes: configuration and credentials. Never the state directory, which a gateway may have. */
export function openOffline(config: Config, policy: Policy): Offline {
  const closers = createClosers(() => undefined)
  const rooms = {
    protocols: openProtocols(closers),
    policy: () => policy,
    credentials: openCredentials(config),
    // Hashed values are not shown by these commands, so any key will do.
    masking: createMasking({ hashKey: randomBytes(32) }),
    now: Date.now,
  }
  const ended = new AbortController()
  closers.add('calls', () => ended.abort())

  return {
    async judge(asked, principal) {
      return judge(callOf(config, asked, principal, ended.signal), rooms, undefined, asked.resolve)
    },
    close: () => closers.close(),
  }
}

function callOf(config: Config, asked: OfflineCall, principal: Principal, signal: AbortSignal): Call {
  const tool = toolNamed(asked.tool)
  if (tool?.kind !== 'run') throw new SallyportError('ERR_UNKNOWN_TOOL', `No tool "${asked.tool}" runs anything.`)
  const { payload, reason } = tool.read({ ...asked.arguments, target: asked.target })
  const target = config.targets.find(({ name }) => name === asked.target)
  if (target === undefined) throw new SallyportError('ERR_UNKNOWN_TARGET', `There is no target "${asked.target}".`)
  if (target.protocol !== tool.protocol) {
    throw new SallyportError('ERR_INVALID_INPUT', `${asked.tool} is not for ${target.protocol} targets.`)
  }
  return {
    id: randomUUID(),
    session: { id: 'explain', principal, door: 'mcp', recording: NO_RECORDING, signal },
    target,
    tool: asked.tool,
    payload,
    signal,
    hold: { waitMs: 0 },
    ...(reason !== undefined && { reason }),
  }
}

/** Nothing is executed, so there is nothing to record; whoever tried would be told. */
const NO_RECORDING: SessionRecording = {
  begin() {
    throw new TypeError('an explained call is never run')
  },
  refused: async () => undefined,
  close: async () => undefined,
}
