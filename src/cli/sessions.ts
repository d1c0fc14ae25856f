import type { SessionFacts } from '../doors/admin/rooms.ts'
import { openAdminClient } from './admin-client.ts'
import { openTerminal } from './terminal.ts'
import type { RemoteOptions } from './token.ts'

/** Lists open sessions and what runs in them. */
export async function sessionsList(options: RemoteOptions): Promise<void> {
  const terminal = openTerminal(options)
  const client = await openAdminClient(options)
  const { sessions } = await client.get<{ readonly sessions: readonly SessionFacts[] }>('/v1/sessions')
  if (terminal.isJson) {
    for (const session of sessions) terminal.json(session)
    return
  }
  terminal.table(
    ['ID', 'PRINCIPAL', 'OWNER', 'DOOR', 'CALLS'],
    sessions.map(({ id, principal, owner, door, calls }) => [id, principal, owner, door, String(calls.length)]),
  )
}

/** Ends a session; its calls are cancelled. */
export async function sessionsKill(id: string, options: RemoteOptions): Promise<void> {
  const terminal = openTerminal(options)
  const client = await openAdminClient(options)
  const killed = await client.delete(`/v1/sessions/${encodeURIComponent(id)}`)
  if (terminal.isJson) terminal.json(killed)
  else terminal.line(`Session ${id} is ended.`)
}
