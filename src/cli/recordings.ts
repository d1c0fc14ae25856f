import type { RecordingFacts } from '../doors/admin/rooms.ts'
import { openAdminClient } from './admin-client.ts'
import { openTerminal } from './terminal.ts'
import type { RemoteOptions } from './token.ts'

/** Lists the recordings of a running gateway. */
export async function recordingsList(options: RemoteOptions): Promise<void> {
  const terminal = openTerminal(options)
  const client = await openAdminClient(options)
  const { recordings } = await client.get<{ readonly recordings: readonly RecordingFacts[] }>('/v1/recordings')
  if (terminal.isJson) {
    for (const recording of recordings) terminal.json(recording)
    return
  }
  terminal.table(
    ['SESSION', 'PRINCIPAL', 'OWNER', 'DOOR', 'STARTED', 'SEALED', 'BYTES'],
    recordings.map(({ session, kind, principal = '', owner = '', door = '', startedAt, isSealed, bytes }) => {
      return [session ?? `(${kind})`, principal, owner, door, startedAt, isSealed ? 'yes' : 'no', String(bytes)]
    }),
  )
}

/** Prints one as a transcript. The gateway has made everything in it harmless to a terminal. */
export async function recordingsShow(
  session: string,
  options: RemoteOptions & { readonly results?: string },
): Promise<void> {
  const terminal = openTerminal(options)
  const client = await openAdminClient(options)
  const query = options.results === undefined ? '' : `?results=${encodeURIComponent(options.results)}`
  let rest = ''
  for await (const piece of client.text(`/v1/recordings/${encodeURIComponent(session)}${query}`)) {
    const lines = (rest + piece).split('\n')
    rest = lines.pop() ?? ''
    for (const line of lines) {
      if (terminal.isJson) terminal.json({ line })
      else terminal.line(line)
    }
  }
}
