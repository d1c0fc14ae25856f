import type { PolicyStatus } from '../doors/admin/rooms.ts'
import { openAdminClient } from './admin-client.ts'
import { openTerminal } from './terminal.ts'
import type { RemoteOptions } from './token.ts'

/** Says which policy a running gateway decides by, and what is wrong with newer files. */
export async function policyStatus(options: RemoteOptions): Promise<void> {
  const client = await openAdminClient(options)
  show(options, await client.get<PolicyStatus>('/v1/policy'))
}

/** Makes a running gateway read its files again. Bad files keep the old policy in force. */
export async function policyReload(options: RemoteOptions): Promise<void> {
  const client = await openAdminClient(options)
  show(options, await client.post<PolicyStatus>('/v1/policy/reload'))
}

function show(options: RemoteOptions, status: PolicyStatus): void {
  const terminal = openTerminal(options)
  if (terminal.isJson) return terminal.json(status)
  terminal.line(`Policy ${status.version}: ${status.rules} rules from ${status.directory}, since ${status.loadedAt}.`)
  if (status.problem !== undefined) terminal.line(`Newer files were not taken: ${status.problem}`)
}
