/** The real spine over the real HTTP protocol, with a recording kept in memory and names that mean what a test says. */
import { randomUUID } from 'node:crypto'
import type { RequestListener } from 'node:http'
import type { Approvals } from '../../src/approval/approvals.ts'
import type { Call, Session } from '../../src/core/call.ts'
import type { Chunk } from '../../src/core/chunk.ts'
import { SallyportError } from '../../src/core/errors.ts'
import type { Principal } from '../../src/core/principal.ts'
import type { SessionRecording } from '../../src/core/recording.ts'
import type { Target } from '../../src/core/target.ts'
import { govern, judge, type Rooms } from '../../src/gateway/gateway.ts'
import { createPermits, type PermitRooms } from '../../src/gateway/permits.ts'
import { previewOf } from '../../src/gateway/preview.ts'
import { createLimits } from '../../src/limits/limits.ts'
import { DETECTORS } from '../../src/masking/detectors/index.ts'
import { createMasking } from '../../src/masking/masking.ts'
import { loadPolicy } from '../../src/policy/load.ts'
import type { Policy } from '../../src/policy/policy.ts'
import { createHttp, HTTP_SETTINGS } from '../../src/protocols/http/index.ts'
import { createHttpListener, type HttpListenerDeps } from '../../src/protocols/http/listener.ts'
import { Slots } from '../../src/protocols/http/listener-slots.ts'
import { createUpgradeListener } from '../../src/protocols/http/listener-websocket.ts'
import { taxonomy } from '../../src/protocols/http/taxonomy.ts'
import { httpRequest } from '../../tools/http_request.ts'
import type { Answer } from '../../tools/answer.ts'

export const AGENT: Principal = { id: 'loop', kind: 'agent', groups: ['agents'], roles: ['caller'], owner: 'maria' }

/** The secret every target of these tests has. */
export const SECRET = 'sk_live/Secr3t+Value&=42'

/** The only token the door knows. */
export const TOKEN = 'spt_token_of_the_loop'

/** Requests of one caller the door takes at once. */
export const SLOTS = 32

export interface HttpKit {
  readonly target: Target
  /** Everything that was recorded, as text. */
  readonly recorded: () => string
  ask(args: Readonly<Record<string, unknown>>): Promise<Answer>
  failure(args: Readonly<Record<string, unknown>>): Promise<SallyportError>
  judged(args: Readonly<Record<string, unknown>>): ReturnType<typeof judge>
  /** As {@link HttpKit.judged}, of a whole call. */
  judgedCall(call: Call): ReturnType<typeof judge>
  /** What approvers would be shown of it beside the request. */
  preview(call: Call): ReturnType<typeof previewOf>
  /** The call the tool makes of its arguments. */
  of(args: Readonly<Record<string, unknown>>): Call
  run(call: Call): AsyncGenerator<Chunk, void, undefined>
  call(payload: unknown, more?: Partial<Call>): Call
  /** The HTTP door over the same gateway; {@link TOKEN} is who may come in. */
  readonly door: RequestListener
  /** What takes over a connection at that door. */
  readonly upgrade: ReturnType<typeof createUpgradeListener>
  /** Puts another policy in force. */
  reload(policy: string): void
  /** Errors nobody foresaw. */
  readonly faults: SallyportError[]
  close(): Promise<void>
}

const nobodyAnswers: Approvals['consent'] = async () => {
  throw new SallyportError('ERR_APPROVAL_PENDING', 'Nobody answers here.')
}

/** Builds a gateway's inside for one HTTP target. */
export function httpKit(options: {
  readonly settings: Readonly<Record<string, unknown>>
  readonly policy: string
  /** What names mean, one answer after the other; the last one stays. */
  readonly names?: Readonly<Record<string, readonly (readonly string[])[]>>
  /** What comes of asking persons; nobody answers unless this does. */
  readonly consent?: Approvals['consent']
  /** Milliseconds since the epoch; a time that stands still unless told. */
  readonly now?: () => number
  /** The credential of the target, in place of {@link SECRET}. */
  readonly secret?: string
  /** Whether a token still counts, and who is frozen; everybody's does, and nobody is. */
  readonly admitting?: Partial<Pick<PermitRooms, 'isCurrent' | 'barred'>>
}): HttpKit {
  const checked = HTTP_SETTINGS.schema.parse(options.settings)
  const target: Target = {
    name: 'service',
    protocol: 'http',
    labels: {},
    mode: 'enforce',
    record: 'full',
    ...HTTP_SETTINGS.finish(checked, (path) => path),
  }
  const loadedFrom = (rules: string): Policy => {
    const files = [{ path: 'test.yaml', text: `targets: [service]\n${rules}` }]
    const { policy: made, problems } = loadPolicy(files, {
      targets: [target],
      taxonomies: [taxonomy],
      detectors: [...DETECTORS.keys()],
    })
    if (made === undefined) throw new Error(JSON.stringify(problems))
    return made
  }
  let policy = loadedFrom(options.policy)
  const asked = new Map<string, number>()
  const http = createHttp(async (host) => {
    const answers = options.names?.[host] ?? []
    const turn = asked.get(host) ?? 0
    asked.set(host, turn + 1)
    return (answers[Math.min(turn, answers.length - 1)] ?? []).map((address) => ({
      address,
      family: address.includes(':') ? 6 : 4,
    }))
  })
  const entries: unknown[] = []
  const recording: SessionRecording = {
    begin: () => ({
      decided: async ({ decision, shown, reason }) => void entries.push({ decision, shown, reason }),
      approval: async (event) => void entries.push(event),
      shown: async (chunk) =>
        void entries.push(
          chunk.kind === 'data' && chunk.channel !== 'rows' ? Buffer.from(chunk.bytes).toString('utf8') : chunk,
        ),
      close: async (ending, error) => void entries.push({ ending, message: error?.message, facts: error?.facts }),
    }),
    refused: async () => undefined,
    close: async () => undefined,
  }
  const session: Session = { id: 's', principal: AGENT, door: 'test', recording, signal: new AbortController().signal }
  const rooms: Rooms = {
    protocols: { http },
    policy: () => policy,
    permits: createPermits({
      approvals: { consent: options.consent ?? nobodyAnswers },
      limits: createLimits({ now: () => 0 }),
      policyVersion: () => policy.version,
      isCurrent: async () => true,
      ...options.admitting,
    }),
    credentials: { read: async () => ({ user: 'robot', value: options.secret ?? SECRET }) },
    masking: createMasking({ hashKey: new Uint8Array(32) }),
    now: options.now ?? (() => 1_700_000_000_000),
  }
  const call = (payload: unknown, more: Partial<Call> = {}): Call => ({
    id: randomUUID(),
    session,
    target,
    tool: 'http_request',
    payload,
    signal: new AbortController().signal,
    hold: { waitMs: 0 },
    ...more,
  })
  const of = (args: Readonly<Record<string, unknown>>): Call =>
    call(httpRequest.read({ target: 'service', ...args }).payload)
  const ask: HttpKit['ask'] = (args) =>
    httpRequest.answer(govern(of(args), rooms), { target: 'service', bytesMax: 64 * 1024 * 1024, fence: '---' })
  const faults: SallyportError[] = []
  const deps: HttpListenerDeps = {
    authenticate: async (token) => {
      if (token === TOKEN) return AGENT
      throw new SallyportError('ERR_UNAUTHENTICATED', 'The token is not known.')
    },
    sessions: { join: async () => session },
    run: (one) => govern(one, rooms),
    // One of them speaks another protocol.
    target: (name) =>
      [target, { ...target, name: 'foreign', protocol: 'ssh' as const }].find((one) => one.name === name),
    holdMs: 10,
    slots: new Slots(SLOTS),
    onFault: (error) => faults.push(error),
  }
  return {
    target,
    faults,
    reload: (rules) => void (policy = loadedFrom(rules)),
    door: createHttpListener(deps),
    upgrade: createUpgradeListener(deps),
    recorded: () => JSON.stringify(entries),
    ask,
    async failure(args) {
      try {
        await ask(args)
      } catch (error) {
        if (error instanceof SallyportError) return error
        throw error
      }
      throw new Error('the call did not fail')
    },
    judged: (args) => judge(of(args), rooms),
    judgedCall: (one) => judge(one, rooms),
    async preview(one) {
      const secret = (): Promise<never> => Promise.reject(new Error('A preview of HTTP has no use for the secret.'))
      return previewOf(one, await judge(one, rooms), http, { policy, masking: rooms.masking, secret })
    },
    of,
    run: (one) => govern(one, rooms),
    call,
    close: () => http.close(),
  }
}
