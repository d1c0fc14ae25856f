import type { SessionFacts } from '../doors/admin/rooms.ts'
import { openAdminClient } from './admin-client.ts'
import { openTerminal } from './terminal.ts'
import type { RemoteOptions } from './token.ts'

/** Lists open sessions and what runs in them. */
export async function sessionsList(options: RemoteOptions): Promise<void> {
  const terminal = openTerminal(options)
  const client = await openAdminClient(options)
  const { sessions, unheard } = await client.get<SessionList>('/v1/sessions')
  if (terminal.isJson) {
    for (const session of sessions) terminal.json(session)
    return noteUnheard()
  }
  const isShared = sessions.some(({ instance }) => instance !== undefined)
  terminal.table(
    ['ID', 'PRINCIPAL', 'OWNER', 'DOOR', 'CALLS', ...(isShared ? ['INSTANCE'] : [])],
    sessions.map(({ id, principal, owner, door, calls, instance }) => {
      const facts = [id, principal, owner, door, String(calls.length)]
      return instance === undefined ? facts : [...facts, instance]
    }),
  )
  noteUnheard()

  function noteUnheard(): void {
    if (unheard.length === 0) return
    terminal.note(`Not listed are the sessions of ${unheard.join(', ')}: no answer came in time.`)
  }
}

interface SessionList {
  readonly sessions: readonly SessionFacts[]
  readonly unheard: readonly string[]
}

/** Ends a session; its calls are cancelled. */
export async function sessionsKill(id: string, options: RemoteOptions): Promise<void> {
  const terminal = openTerminal(options)
  const client = await openAdminClient(options)
  const said = await client.delete<{ killed: string } | { asked: string; unheard: readonly string[] }>(
    `/v1/sessions/${encodeURIComponent(id)}`,
  )
  if (terminal.isJson) terminal.json(said)
  else if ('killed' in said) terminal.line(`Session ${id} is ended.`)
  else {
    process.exitCode = 1
    terminal.line(`No instance that answered has session ${id}. Not heard: ${said.unheard.join(', ')}.`)
    terminal.line('If one of them has it, it ends it as soon as it can be reached.')
  }
}
