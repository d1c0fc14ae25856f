/** The protocol with a real sshd behind it, run through the spine with a policy, permits and masks. */
import { readFileSync } from 'node:fs'
import type { Call, Ending, Session } from '../../src/core/call.ts'
import type { Chunk } from '../../src/core/chunk.ts'
import type { SallyportError } from '../../src/core/errors.ts'
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
  call(payload: unknown, more?: Partial<Call>): Call
  run(payload: unknown, more?: Partial<Call>): Promise<Ran>
  close(): Promise<void>
}

export function sshKit(sshd: TestSshd, yaml = ALLOW_ALL, more: Partial<Record<string, unknown>> = {}): SshKit {
  const options: SshOptions = sshOptions(
    sshSchema.parse({ host: '127.0.0.1', port: sshd.port, user: sshd.user, host_keys: [sshd.fingerprint], ...more }),
  )
  const target: Target = {
    name: 'box',
    protocol: 'ssh',
    labels: {},
    mode: 'enforce',
    record: 'full',
    endpoint: endpointOf(options),
    options,
  }
  const { policy, problems } = loadPolicy([{ path: 'test.yaml', text: yaml }], {
    targets: [target],
    taxonomies: [taxonomy],
    detectors: [...DETECTORS.keys()],
  })
  if (policy === undefined) throw new Error(JSON.stringify(problems))
  const endings: Ending[] = []
  const recording: SessionRecording = {
    begin: () => ({
      decided: async () => undefined,
      approval: async () => undefined,
      shown: async () => undefined,
      close: async (ending) => void endings.push(ending),
    }),
    refused: async () => undefined,
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
      approvals: { consent: () => Promise.reject(new Error('nobody answers')) },
      limits: createLimits({ now: () => performance.now() }),
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
