/** The protocol with a real sshd behind it, run through the spine with a policy, permits and masks. */
import { readFileSync } from 'node:fs'
import type { Call, Ending, Session } from '../../src/core/call.ts'
import type { Chunk } from '../../src/core/chunk.ts'
import { SallyportError } from '../../src/core/errors.ts'
import type { Principal } from '../../src/core/principal.ts'
import type { SessionRecording } from '../../src/core/recording.ts'
import type { Target } from '../../src/core/target.ts'
import { govern, type Rooms } from '../../src/gateway/gateway.ts'
import { createPermits } from '../../src/gateway/permits.ts'
import { createLimits } from '../../src/limits/limits.ts'
import { createMasking } from '../../src/masking/masking.ts'
import { DETECTORS } from '../../src/masking/detectors/index.ts'
import { loadPolicy } from '../../src/policy/load.ts'
import { createSsh } from '../../src/protocols/ssh/index.ts'
import { endpointOf, sshOptions, sshSchema, type SshOptions } from '../../src/protocols/ssh/options.ts'
import { taxonomy } from '../../src/protocols/ssh/taxonomy.ts'
import type { TestSshd } from '../services/sshd.ts'

export const AGENT: Principal = { id: 'loop', kind: 'agent', groups: ['agents'], roles: ['caller'], owner: 'maria' }

export const ALLOW_ALL = `
targets: [box]
rules:
  - {id: all, effect: allow, principals: [group:agents], actions: ["ssh.*", "ssh.sftp.*"], resources: ["**"]}
`

/** What a run of one command came to. */
export interface Ran {
  readonly stdout: string
  readonly stderr: string
  readonly exit: Extract<Chunk, { kind: 'exit' }> | undefined
  readonly error: SallyportError | undefined
  readonly chunks: readonly Chunk[]
}

export interface SshKit {
  readonly target: Target
  readonly rooms: Rooms
  readonly session: Session
  readonly endings: Ending[]
  /** What was recorded: one value for each call that ended, its output put together by channel. */
  readonly recorded: unknown[]
  call(payload: unknown, more?: Partial<Call>): Call
  run(payload: unknown, more?: Partial<Call>): Promise<Ran>
  close(): Promise<void>
}

/** A target that is enforced and recorded in full. */
export function sshTarget(name: string, options: SshOptions): Target {
  return {
    name,
    protocol: 'ssh',
    labels: {},
    mode: 'enforce',
    record: 'full',
    endpoint: endpointOf(options),
    options,
  }
}

/** @param now the limits' clock, in milliseconds. */
export function sshKit(
  sshd: TestSshd,
  yaml = ALLOW_ALL,
  more: Partial<Record<string, unknown>> = {},
  now: () => number = () => performance.now(),
): SshKit {
  const options: SshOptions = sshOptions(
    sshSchema.parse({ host: '127.0.0.1', port: sshd.port, user: sshd.user, host_keys: [sshd.fingerprint], ...more }),
  )
  const target = sshTarget('box', options)
  const { policy, problems } = loadPolicy([{ path: 'test.yaml', text: yaml }], {
    targets: [target],
    taxonomies: [taxonomy],
    detectors: [...DETECTORS.keys()],
  })
  if (policy === undefined) throw new Error(JSON.stringify(problems))
  const endings: Ending[] = []
  const recorded: unknown[] = []
  const recording: SessionRecording = {
    begin: () => {
      const events: unknown[] = []
      const output: Record<string, string> = {}
      return {
        decided: async ({ decision, shown, isReduced, reason }) =>
          void events.push({ decision, shown, isReduced, reason }),
        approval: async (event) => void events.push(event),
        shown: async (chunk) => {
          if (chunk.kind !== 'data') events.push(chunk)
          else if ('bytes' in chunk) output[chunk.channel] = `${output[chunk.channel] ?? ''}${latin1(chunk.bytes)}`
          else events.push(chunk.rows)
        },
        close: async (ending, error) => {
          endings.push(ending)
          recorded.push({ events, output, ending, code: error?.code, message: error?.message, facts: error?.facts })
        },
      }
    },
    refused: async ({ tool, target, error }) => void recorded.push({ tool, target, code: error.code }),
    close: async () => undefined,
  }
  const ended = new AbortController()
  const session: Session = { id: 's', principal: AGENT, door: 'test', recording, signal: ended.signal }
  const ssh = createSsh()
  const secret = readFileSync(sshd.keyFile, 'utf8')
  const rooms: Rooms = {
    protocols: { ssh },
    policy: () => policy,
    permits: createPermits({
      approvals: { consent },
      limits: createLimits({ now }),
      policyVersion: () => policy.version,
      isCurrent: async () => true,
    }),
    credentials: { read: async () => ({ value: secret }) },
    masking: createMasking({ hashKey: new Uint8Array(32) }),
    now: Date.now,
  }
  let count = 0
  const self: SshKit = {
    target,
    rooms,
    session,
    endings,
    recorded,
    call: (payload, extra = {}) => ({
      id: `c${count++}`,
      session,
      target,
      tool: 'test',
      payload,
      signal: new AbortController().signal,
      hold: { waitMs: 0 },
      ...extra,
    }),
    async run(payload, extra) {
      const chunks: Chunk[] = []
      let error: SallyportError | undefined
      try {
        for await (const chunk of govern(self.call(payload, extra), rooms)) chunks.push(chunk)
      } catch (caught) {
        error = caught as SallyportError
      }
      const text = (channel: string): string =>
        Buffer.concat(
          chunks.flatMap((c) => (c.kind === 'data' && c.channel === channel && 'bytes' in c ? [c.bytes] : [])),
        ).toString()
      const exit = chunks.find((chunk): chunk is Extract<Chunk, { kind: 'exit' }> => chunk.kind === 'exit')
      return { stdout: text('stdout'), stderr: text('stderr'), exit, error, chunks }
    },
    async close() {
      ended.abort()
      await ssh.close()
    },
  }
  return self
}

/** Nobody answers here; a call whose input is still to come cannot even be asked for, as at the real desk. */
async function consent(call: Call): Promise<never> {
  throw call.input === undefined
    ? new SallyportError('ERR_APPROVAL_PENDING', 'Nobody answers here.')
    : new SallyportError('ERR_DENIED', 'Nobody can see its input.', { facts: { construct: 'input.stream' } })
}

function latin1(bytes: Uint8Array): string {
  return Buffer.from(bytes).toString('latin1')
}
