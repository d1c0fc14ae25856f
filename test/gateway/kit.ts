/**
 * What the spine's tests stand on: a protocol whose upstream is a script, and a recording kept in memory. Policy,
 * permits and limits are the real ones.
 */
import type { Approvals } from '../../src/approval/approvals.ts'
import type { Part, Taxonomy } from '../../src/core/action.ts'
import type {
  Call,
  Ending,
  Judged,
  Permit,
  Plan,
  PlanContext,
  PlanRefusal,
  Protocol,
  Session,
} from '../../src/core/call.ts'
import type { Chunk } from '../../src/core/chunk.ts'
import type { ColumnMask } from '../../src/core/decision.ts'
import { SallyportError } from '../../src/core/errors.ts'
import type { Principal } from '../../src/core/principal.ts'
import type { SessionRecording } from '../../src/core/recording.ts'
import type { Target } from '../../src/core/target.ts'
import { govern, type Rooms } from '../../src/gateway/gateway.ts'
import { createPermits, type PermitRooms, type Permits } from '../../src/gateway/permits.ts'
import { createLimits } from '../../src/limits/limits.ts'
import { createMasking } from '../../src/masking/masking.ts'
import { loadPolicy } from '../../src/policy/load.ts'
import type { Policy } from '../../src/policy/policy.ts'

/** A protocol small enough to read: every payload is `{verb, on}` and its upstream is whatever the test scripts. */
export interface Script {
  execute(call: Call, plan: Plan, permit: Permit): AsyncIterable<Chunk>
}

export const TAXONOMY: Taxonomy = {
  protocol: 'ssh',
  prefix: 'ssh',
  verbs: ['exec', 'shell', 'copy', 'fetch'].map((verb) => ({
    verb: `ssh.${verb}`,
    class: 'exec',
    summary: verb,
    attributes: { words: { type: 'int', summary: 'How many.' } },
  })),
  actionAttributes: {},
  bundles: {},
}

export const TARGET: Target = {
  name: 'box',
  protocol: 'ssh',
  labels: {},
  mode: 'enforce',
  record: 'full',
  endpoint: 'box:22',
  options: {},
}

export const AGENT: Principal = { id: 'loop', kind: 'agent', groups: ['agents'], roles: ['caller'], owner: 'maria' }

/** Rules of the tests that need none of their own. */
export const ALLOW_ALL = `
targets: [box]
rules:
  - {id: all, effect: allow, principals: [group:agents], actions: ["ssh.*"], resources: ["-"]}
`

export function policyOf(yaml: string): Policy {
  const loaded = loadPolicy([{ path: 'test.yaml', text: yaml }], { targets: [TARGET], taxonomies: [TAXONOMY] })
  if (loaded.policy === undefined) throw new Error(JSON.stringify(loaded.problems))
  return loaded.policy
}

/** What the recording of one call came to. */
export interface Recorded {
  readonly call: Call
  readonly judged: Judged[]
  readonly shown: Chunk[]
  ending?: Ending
  error?: SallyportError | undefined
}

export interface Kit {
  readonly rooms: Rooms
  readonly permits: Permits
  readonly recorded: Recorded[]
  readonly session: Session
  /** A call in the one session. */
  call(payload: { verb: string; on?: string }, more?: Partial<Call>): Call
  run(call: Call): AsyncGenerator<Chunk, void, undefined>
  setPolicy(yaml: string): void
  masks: readonly ColumnMask[]
  /** What the plans of this world are refused for. */
  refused?: PlanRefusal
}

/** No approval ever comes: for tests that do not ask. */
const NO_APPROVALS: Approvals = {
  consent: () => Promise.reject(new SallyportError('ERR_APPROVAL_PENDING', 'Nobody answers here.')),
}

export function kit(
  script: Script,
  options: {
    yaml?: string
    approvals?: Approvals
    now?: () => number
    isCurrent?: () => Promise<boolean>
    more?: Partial<PermitRooms>
  } = {},
): Kit {
  let policy = policyOf(options.yaml ?? ALLOW_ALL)
  const recorded: Recorded[] = []
  const now = options.now ?? ((): number => 1_700_000_000_000)
  const recording: SessionRecording = {
    begin(call) {
      const record: Recorded = { call, judged: [], shown: [] }
      recorded.push(record)
      return {
        decided: async (judged) => void record.judged.push(judged),
        approval: async () => undefined,
        shown: async (chunk) => void record.shown.push(chunk),
        close: async (ending, error) => {
          record.ending = ending
          record.error = error
        },
      }
    },
    refused: async () => undefined,
    close: async () => undefined,
  }
  const session: Session = { id: 's', principal: AGENT, door: 'test', recording, signal: new AbortController().signal }
  const self: Kit = {
    recorded,
    session,
    masks: [],
    permits: createPermits({
      approvals: options.approvals ?? NO_APPROVALS,
      limits: createLimits({ now }),
      policyVersion: () => policy.version,
      isCurrent: options.isCurrent ?? (async () => true),
      ...options.more,
    }),
    get rooms() {
      return rooms
    },
    call: (payload, more = {}) => ({
      id: `c${recorded.length}`,
      session,
      target: TARGET,
      tool: 'test',
      payload,
      signal: new AbortController().signal,
      hold: { waitMs: 0 },
      ...more,
    }),
    run: (call) => govern(call, rooms),
    setPolicy(yaml) {
      policy = policyOf(yaml)
    },
  }
  const protocol: Protocol = {
    name: 'ssh',
    plan: async (call: Call, context: PlanContext): Promise<Plan> => {
      const { verb, on } = call.payload as { verb: string; on?: string }
      const part: Part = {
        verb,
        resource: on === undefined ? { type: 'none' } : { type: 'argv', argv: [on] },
        attributes: { words: 1 },
      }
      return {
        action: { parts: [part], attributes: {} },
        exact: { verb, on: on ?? null },
        shown: { text: verb },
        masks: context.masks,
        ...(self.refused !== undefined && { refused: self.refused }),
      }
    },
    execute: (call, plan, permit) => script.execute(call, plan, permit),
    close: async () => undefined,
  }
  const rooms: Rooms = {
    protocols: { ssh: protocol },
    policy: () => policy,
    permits: self.permits,
    credentials: { read: async () => ({ value: 'unused' }) },
    masking: createMasking({ hashKey: new Uint8Array(32) }),
    now,
  }
  return self
}

export function rows(from: number, count: number): Chunk {
  return { kind: 'data', channel: 'rows', rows: Array.from({ length: count }, (_, index) => [String(from + index)]) }
}

export async function collect(source: AsyncIterable<Chunk>): Promise<Chunk[]> {
  const chunks: Chunk[] = []
  for await (const chunk of source) chunks.push(chunk)
  return chunks
}

/** The code a promise is rejected with. */
export async function codeOf(promise: Promise<unknown>): Promise<string> {
  try {
    await promise
  } catch (error) {
    if (error instanceof SallyportError) return error.code
    throw error
  }
  return 'resolved'
}
