import type { FreezeFacts, FrozenSubject } from '../doors/admin/rooms.ts'
import { openAdminClient } from './admin-client.ts'
import { openTerminal } from './terminal.ts'
import type { RemoteOptions } from './token.ts'
import { durationMs } from './units.ts'

/** Stops every call of a principal, or on a target, on every instance; those under way are cancelled. */
export async function freeze(
  kind: FrozenSubject['kind'],
  name: string,
  options: RemoteOptions & { readonly reason: string; readonly for?: string },
): Promise<void> {
  const terminal = openTerminal(options)
  const client = await openAdminClient(options)
  const frozen = await client.post<FreezeFacts>('/v1/freezes', {
    kind,
    name,
    reason: options.reason,
    ...(options.for !== undefined && { for_ms: durationMs(options.for) }),
  })
  if (terminal.isJson) return terminal.json(frozen)
  terminal.line(`The ${kind} ${name} is frozen${frozen.until === undefined ? '' : ` until ${frozen.until}`}.`)
}

/** Lets calls through again, as far as the policy does. */
export async function unfreeze(kind: FrozenSubject['kind'], name: string, options: RemoteOptions): Promise<void> {
  const terminal = openTerminal(options)
  const client = await openAdminClient(options)
  const unfrozen = await client.post('/v1/unfreeze', { kind, name })
  if (terminal.isJson) terminal.json(unfrozen)
  else terminal.line(`The ${kind} ${name} is no longer frozen.`)
}

/** Lists what is frozen. */
export async function freezes(options: RemoteOptions): Promise<void> {
  const terminal = openTerminal(options)
  const client = await openAdminClient(options)
  const { freezes: all } = await client.get<{ readonly freezes: readonly FreezeFacts[] }>('/v1/freezes')
  if (terminal.isJson) {
    for (const frozen of all) terminal.json(frozen)
    return
  }
  terminal.table(
    ['KIND', 'NAME', 'BY', 'SINCE', 'UNTIL', 'REASON'],
    all.map(({ kind, name, by, since, until, reason }) => [kind, name, by, since, until ?? '-', reason]),
  )
}
