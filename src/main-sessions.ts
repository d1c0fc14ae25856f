import { leaseOf } from './approval/desk.ts'
import { openRollCall, type RollCall } from './control/roll-call.ts'
import { SallyportError } from './core/errors.ts'
import type { SessionDesk, SessionFacts } from './doors/admin/rooms.ts'
import type { Permits } from './gateway/permits.ts'
import type { Sessions } from './gateway/sessions.ts'
import type { Store } from './store/store.ts'

/** Sessions that one instance tells another of, and characters of each of their calls. */
const TOLD_MAX = 1_000
const TEXT_CHARS_MAX = 500

/** What the sessions of all instances are built from. */
export interface SessionDeskOptions {
  readonly store: Store
  readonly sessions: Sessions
  readonly permits: Permits
  readonly now: () => number
  /** Unique to this run. */
  readonly instance: string
  /** What operators know this instance by. */
  readonly name: string
  readonly onFault: (error: unknown) => void
}

/** The sessions that operators see and end, of this instance and of all that share its store. */
export async function openSessionDesk(options: SessionDeskOptions): Promise<SessionDesk & { close(): Promise<void> }> {
  const { store, sessions, name } = options
  const others = store.isShared ? await rollCall(options) : undefined
  return {
    async list() {
      const own = factsOf(options)
      if (others === undefined) return { sessions: own, unheard: [] }
      const { sessions: theirs, unheard } = await others.sessions()
      return { sessions: [...own.map((facts) => ({ ...facts, instance: name })), ...theirs], unheard }
    },
    async kill(id, { id: by }) {
      if (await ended(sessions, id, by)) return { isKilled: true, unheard: [] }
      return (await others?.kill(id, by)) ?? { isKilled: false, unheard: [] }
    },
    close: async () => others?.close(),
  }
}

function rollCall(options: SessionDeskOptions): Promise<RollCall<SessionFacts>> {
  const { store, sessions, name } = options
  return openRollCall<SessionFacts>({
    ...options,
    isAlive: async (instance) => (await store.leaseHolder(leaseOf(instance))) !== undefined,
    sessions: () =>
      factsOf(options)
        .slice(0, TOLD_MAX)
        .map((facts) => ({ ...facts, instance: name, calls: facts.calls.map(shortened) })),
    onKill: (session, by) => ended(sessions, session, by),
  })
}

async function ended(sessions: Sessions, id: string, by: string): Promise<boolean> {
  const why = new SallyportError('ERR_CANCELLED', `The session was ended by the operator ${by}.`)
  return (await sessions.end((session) => session.id === id, why)) > 0
}

function factsOf({ sessions, permits }: Pick<SessionDeskOptions, 'sessions' | 'permits'>): readonly SessionFacts[] {
  const live = permits.live()
  return sessions.list().map((session) => ({
    id: session.id,
    principal: session.principal.id,
    owner: session.principal.owner,
    door: session.door,
    ...(session.run !== undefined && { run: session.run }),
    calls: live
      .filter(({ call }) => call.session === session)
      .map(({ call, judged }) => ({
        id: call.id,
        tool: call.tool,
        target: call.target.name,
        text: judged.shown.text,
        ...(judged.plan.masking !== undefined && { masking: judged.plan.masking }),
      })),
  }))
}

/** What another instance is told of a call: it says how much it leaves out. */
function shortened(call: SessionFacts['calls'][number]): SessionFacts['calls'][number] {
  const left = call.text.length - TEXT_CHARS_MAX
  if (left <= 0) return call
  return { ...call, text: `${call.text.slice(0, TEXT_CHARS_MAX)}… (${left} more characters)` }
}
