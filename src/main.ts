/**
 * The process: builds every room from the configuration, opens the doors last, and ends it all in reverse.
 *
 * Nothing is decided here; this is only who knows whom. Read `gateway/gateway.ts` for what happens to a call.
 *
 * @packageDocumentation
 */
import { randomUUID } from 'node:crypto'
import { createApprovals, type ApprovalRoom } from './approval/create-approvals.ts'
import type { Ticket } from './approval/ticket.ts'
import { createClosers, type Closers } from './closers.ts'
import type { Config } from './config.ts'
import { createControl, type Control } from './control/control.ts'
import { sharePolicies, type SharedPolicies } from './control/policies.ts'
import type { Proven } from './core/call.ts'
import { readSecret, type Credentials } from './credentials/credentials.ts'
import type { SessionDesk } from './doors/admin/rooms.ts'
import { openWebhook, type Webhook } from './doors/webhook/webhook.ts'
import type { Rooms } from './gateway/gateway.ts'
import { createPermits } from './gateway/permits.ts'
import { createSessions, type Sessions } from './gateway/sessions.ts'
import { createBrowserSessions, type BrowserSessions } from './identity/browser-sessions.ts'
import { createIdentity, type Identity } from './identity/identity.ts'
import { classOf, knownOf } from './known.ts'
import { createLimits, createSharedLimits } from './limits/limits.ts'
import { createLoops } from './limits/loops.ts'
import { endCredential, endUnstoppable, recheck } from './main-ends.ts'
import { openProtocols } from './main-protocols.ts'
import { recordApproval, recordIdentity, recover } from './main-records.ts'
import { instanceOf, openCredentials, openStateOf, warnOfCredentials } from './main-state.ts'
import { openDoors, type Doors } from './main-doors.ts'
import { openSessionDesk } from './main-sessions.ts'
import { WIRE_TOOLS } from './main-postgres.ts'
import { KUBERNETES_TOOL } from './protocols/kubernetes/listener-attempt.ts'
import { createMasking } from './masking/masking.ts'
import type { Policy } from './policy/policy.ts'
import { formatProblems } from './policy/problem.ts'
import { watchPolicies, type PolicySource } from './policy/watch.ts'
import type { PostgresProtocol } from './protocols/postgres/protocol.ts'
import { createRecorder, type Recorder } from './recording/index.ts'
import { elapsedClock } from './store/elapsed.ts'
import { createLog, type Log } from './telemetry/log.ts'
import { createMetrics, type Metrics } from './telemetry/metrics.ts'
import { createTraffic, type Traffic } from './traffic.ts'
import { toolNamed } from '../tools/index.ts'

/** A running gateway. */
export interface Gateway {
  readonly urls: Doors['urls']
  /** Reads policies, key and certificate again. What cannot be read stays as it is and is said in the log. */
  reload(): Promise<void>
  /** Takes nothing new, lets running calls end for a bounded time, then ends everything. Safe to call twice. */
  close(): Promise<void>
}

/** What may be chosen at a start besides the configuration. */
export interface StartOptions {
  readonly log?: Log
  /** How long running calls may still take at the end. */
  readonly drainMs?: number
}

/** Everything built, as the doors need it. */
export interface Building {
  readonly config: Config
  readonly rooms: Rooms
  /** Opens the backend connections of wire clients. */
  readonly postgres: PostgresProtocol
  readonly sessions: Sessions
  readonly identity: Identity
  readonly browsers: BrowserSessions
  readonly policies: PolicySource
  /** Told after another policy came into force. */
  readonly policyListeners: ((policy: Policy) => void)[]
  readonly policyState: PolicyState
  readonly approvals: ApprovalRoom
  readonly control: Control
  readonly sessionDesk: SessionDesk
  /** Whether the store answers and the policy in force everywhere is in force here. */
  readonly isShareable: () => Promise<boolean>
  readonly recorder: Recorder
  readonly metrics: Metrics
  readonly traffic: Traffic
  /** What the host key of the SSH door is made of. */
  readonly sshSeed: Uint8Array
  /** Of the Kubernetes door's certificate, where the configuration names none. */
  readonly kubernetesSeed: Uint8Array
  readonly log: Log
}

/** What is known of the policy files besides the policy. */
export interface PolicyState {
  loadedAt: number
  /** Why newer files were not taken. */
  problem: string | undefined
  /** Counts loads, whatever caused them. */
  onLoad: (isGood: boolean) => void
}

const DRAIN_MS = 10_000

/**
 * Starts a gateway. When it returns, what an earlier run left open is settled and both doors are open; when it throws,
 * nothing is left open.
 *
 * @throws SallyportError `ERR_CONFIG_INVALID`, `ERR_POLICY_INVALID`, `ERR_STATE_LOCKED`, `ERR_STORE_FAILED`,
 * `ERR_RECORDING_FAILED`
 */
export async function start(config: Config, options: StartOptions = {}): Promise<Gateway> {
  const log = options.log ?? createLog({ level: config.log.level })
  const closers = createClosers((room, error) => log.error({ err: error, room }, 'a room did not close cleanly'))
  try {
    const building = await build(config, log, closers)
    await warnOfCredentials(config, log)
    const doors = await openDoors(building, closers)
    log.info({ ...doors.urls, targets: config.targets.length }, 'the doors are open')
    return gatewayOf(building, doors, closers, options.drainMs ?? DRAIN_MS)
  } catch (error) {
    await closers.close()
    throw error
  }
}

/** Builds the rooms from the ground up: what keeps state first, what calls others last. */
async function build(config: Config, log: Log, closers: Closers): Promise<Building> {
  const awayListeners: ((isAway: boolean) => void)[] = []
  const state = await openStateOf(config, log, (isAway) => {
    for (const listener of awayListeners) listener(isAway)
  })
  // What instances share expires by one clock, that of their store; what this one records has the time of its own machine.
  const now = (): number => state.store.time()
  closers.add('state', () => state.close())
  const credentials = openCredentials(config)
  const masking = createMasking({ hashKey: state.keys.mask })
  const protocols = openProtocols(closers)

  const onFault =
    (what: string) =>
    (error: unknown): void =>
      log.error({ err: error }, what)
  let shared: SharedPolicies | undefined
  const policyListeners: ((policy: Policy) => void)[] = []
  const policyState: PolicyState = { loadedAt: now(), problem: undefined, onLoad: () => undefined }
  const policies = await watchPolicies({
    directory: config.policiesDir,
    known: knownOf(config.targets),
    onPolicy: (policy, _previous, from) => {
      log.info({ policy: policy.version, rules: policy.rules.length, from }, 'another policy is in force')
      if (from === 'own files') void shared?.publish().catch(onFault('the others were not told of a policy'))
      policyState.loadedAt = now()
      for (const listener of policyListeners) listener(policy)
    },
    onTaken: () => {
      policyState.problem = undefined
      policyState.onLoad(true)
    },
    onProblems: (problems) => {
      policyState.onLoad(false)
      policyState.problem = formatProblems(problems)
      log.error({ problems: policyState.problem }, 'the policy files were not taken; the policy in force stays')
    },
    onWarnings: (warnings) => log.warn({ warnings: formatProblems(warnings) }, 'the policy may not mean what it says'),
  })
  closers.add('policies', () => policies.close())
  if (state.store.isShared) {
    shared = await sharePolicies({
      store: state.store,
      policy: policies,
      onRefused: (policy) =>
        log.error({ policy }, 'the policy of the other instances cannot be taken; nothing is decided'),
      onFault: onFault('the policy of the other instances was not looked at'),
    })
    closers.add('shared policy', () => shared?.close())
  }

  const recorder = createRecorder({
    dir: config.recordings.dir,
    stateDir: config.stateDir,
    instance: instanceOf(state.ownKeys),
    payloadKey: state.ownKeys.derive('recording'),
    classOf,
    now: Date.now,
    log,
    policyVersion: () => policies.current().version,
    fsync: config.recordings.fsync,
  })
  closers.add('recorder', () => recorder.close())
  await recover(recorder, log)

  const identity = createIdentity({
    store: state.store,
    now,
    onEvent: (event) => recordIdentity(event, recorder),
    saltKey: state.keys.derive('scram'),
  })
  closers.add('identity', () => identity.close())
  const held = new Set<string>()
  const instance = randomUUID()
  const webhook = webhookOf(config, log)
  if (webhook !== undefined) closers.add('webhook', () => webhook.close())
  const approvals = await createApprovals({
    store: state.store,
    keys: state.keys,
    now,
    instance,
    onEvent: async (event) => {
      if (event.kind !== 'state') return recordApproval(event, recorder)
      if (event.to === 'pending') held.add(event.ticket)
      else held.delete(event.ticket)
      webhook?.tell(event)
    },
    // Who may no longer approve has not approved.
    approverNow: async ({ approver }) => identity.current(approver.credentialId),
    outcomeOf: (ticket) => outcomeOf(ticket, config, protocols, credentials),
    onFault: (error) => log.error({ err: error }, 'the upkeep of approvals failed and is tried again'),
    settings: { resultMs: config.approvals.pickUpMs },
  })
  closers.add('approvals', () => approvals.close())

  const monotonic = (): number => performance.now()
  const limits = state.store.isShared
    ? createSharedLimits({
        now: monotonic,
        store: state.store,
        instance,
        elapsed: elapsedClock(),
        isCounted: ({ session, target }) => policies.current().limitsConcurrency(session.principal, target),
      })
    : createLimits({ now: monotonic })
  closers.add('limits', () => limits.close())
  const permits = createPermits({
    approvals,
    limits,
    policyVersion: () => policies.current().version,
    isCurrent: async ({ credentialId }) => (await identity.current(credentialId)) !== undefined,
    loops: createLoops({ now: monotonic }),
    suspend: async ({ session }, by, reason, forMs) => {
      await recorder.admin({ by, act: 'suspend', subject: session.principal.id, facts: { reason, for_ms: forMs } })
      await control.suspend({ kind: 'principal', name: session.principal.id }, by, reason, forMs)
    },
    barred: async ({ session, target }) =>
      (await control.barred(session.principal.id, target.name)) ?? (await shared?.stale()),
  })
  if (config.store !== undefined) awayListeners.push(endUnstoppable(permits, config.store.liveMaxMs))
  policyListeners.push((policy) => recheck(policy, permits, now))
  const sessions = createSessions(
    recorder,
    (session) => permits.live().some(({ call }) => call.session === session),
    (error) => log.error({ err: error }, 'a session did not close cleanly'),
  )
  closers.add('sessions', () => sessions.close())
  const control = createControl({
    store: state.store,
    now,
    onFreeze: ({ kind, name }, why) => {
      permits.cancel(({ session, target }) => (kind === 'principal' ? session.principal.id : target.name) === name, why)
      // What persons agreed to before a freeze is asked about again after it.
      const whose = kind === 'principal' ? { requestedBy: name } : { target: name }
      approvals
        .uncover(whose, 'gateway', `the ${kind} ${name} was frozen`)
        .catch(onFault('a freeze ended no approvals'))
    },
    onFault: onFault('a freeze was not carried out'),
  })
  closers.add('control', () => control.close())
  const sessionDesk = await openSessionDesk({
    store: state.store,
    sessions,
    permits,
    now,
    instance,
    name: instanceOf(state.ownKeys),
    onFault: onFault('what an operator asked of all instances was not answered'),
  })
  closers.add('session desk', () => sessionDesk.close())
  identity.onRevoked((id) => endCredential(id, sessions, permits))
  const metrics = createMetrics({
    isTool: (name) => toolNamed(name) !== undefined || WIRE_TOOLS.includes(name) || name === KUBERNETES_TOOL,
    isTarget: (name) => config.targets.some((target) => target.name === name),
    live: () => permits.live().length,
    held: () => held.size,
    sessions: () => sessions.list().length,
  })
  policyState.onLoad = (isGood) => metrics.policyLoaded({ isGood })
  const traffic = createTraffic(metrics)
  const rooms: Rooms = {
    protocols,
    policy: () => policies.current(),
    permits,
    credentials,
    masking,
    now,
    onDecision: (call, decision, seconds) => traffic.decided(call, decision, seconds),
  }
  return {
    config,
    rooms,
    postgres: protocols.postgres,
    sessions,
    identity,
    browsers: createBrowserSessions({ store: state.store, identity, now }),
    policies,
    policyListeners,
    policyState,
    approvals,
    control,
    sessionDesk,
    isShareable: async () => {
      try {
        return (await control.barred('-', '-')) === undefined && (await shared?.stale()) === undefined
      } catch {
        return false
      }
    },
    recorder,
    metrics,
    traffic,
    sshSeed: state.keys.derive('ssh-host-key'),
    kubernetesSeed: state.keys.derive('kubernetes-door-certificate'),
    log,
  }
}

/** How long a backend may take to say what became of a call. */
const OUTCOME_MS = 10_000

/** Asks the backend of a call what became of it, if it is still the one that ran it. */
async function outcomeOf(
  { target: name, proof }: Ticket,
  config: Config,
  protocols: Rooms['protocols'],
  credentials: Credentials,
): Promise<Proven> {
  const target = config.targets.find((candidate) => candidate.name === name)
  // Another database has other transactions under the same ids.
  if (target === undefined || proof === undefined || target.endpoint !== proof.endpoint) return 'unknown'
  const protocol = protocols[target.protocol]
  if (protocol?.outcome === undefined) return 'unknown'
  return protocol.outcome(target, proof, await credentials.read(target), AbortSignal.timeout(OUTCOME_MS))
}

/** How people elsewhere hear of tickets, when the configuration says where. */
function webhookOf({ approvals: { webhook }, adminUrl }: Config, log: Log): Webhook | undefined {
  if (webhook === undefined) return undefined
  return openWebhook({
    url: webhook.url,
    ...(adminUrl !== undefined && { pages: adminUrl }),
    secret: () => readSecret('secret of approvals.webhook', webhook.secret),
    onLost: (lost) => log.warn(lost, 'the approval webhook did not take a message; it was given up'),
    now: Date.now,
  })
}

function gatewayOf(building: Building, doors: Doors, closers: Closers, drainMs: number): Gateway {
  const { policies, log } = building
  let closed: Promise<void> | undefined
  return {
    urls: doors.urls,
    async reload() {
      await policies.reload()
      await doors.reloadTls().catch((error: unknown) => log.error({ err: error }, 'key or certificate were not taken'))
    },
    close() {
      closed ??= (async () => {
        log.info({ running: building.rooms.permits.live().length }, 'closing: no new call is taken')
        await doors.drain(drainMs)
        await closers.close()
        log.info({}, 'closed')
      })()
      return closed
    },
  }
}
