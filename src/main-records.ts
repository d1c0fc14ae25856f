/**
 * What is recorded besides calls: what persons and operators did, and how an earlier run was left.
 *
 * @packageDocumentation
 */
import type { ApprovalEvent } from './approval/desk.ts'
import type { IdentityEvent } from './identity/identity.ts'
import type { Recorder } from './recording/index.ts'
import type { Log } from './telemetry/log.ts'

/** C16: what an earlier run left open is sealed before anything new is recorded. */
export async function recover(recorder: Recorder, log: Log): Promise<void> {
  const { sealed, gaps } = await recorder.recover()
  if (sealed.length > 0)
    log.warn({ sessions: sealed.length }, 'an earlier run had crashed; its recordings are sealed now')
  for (const { reason, file, message } of gaps) log.error({ reason, file }, `a recording is not as it was: ${message}`)
}

/** What happens to tokens is recorded before it takes effect. */
export async function recordIdentity({ kind, by, token, outcome }: IdentityEvent, recorder: Recorder): Promise<void> {
  await recorder.admin({
    by: by?.id ?? 'host',
    act: kind,
    ...(token !== undefined && { subject: token.id }),
    facts: {
      outcome,
      ...(by !== undefined && { owner: by.owner }),
      ...(token !== undefined && {
        principal: token.principal,
        of: token.owner,
        roles: token.roles,
        groups: token.groups,
      }),
    },
  })
}

/** Persons' acts are recorded before they take effect, whichever door they came through. */
export async function recordApproval(
  event: Exclude<ApprovalEvent, { kind: 'state' }>,
  recorder: Recorder,
): Promise<void> {
  await recorder.admin({
    by: event.by.id,
    act: `approval.${event.kind}`,
    subject: event.ticket,
    facts: {
      owner: event.by.owner,
      what: event.what,
      ...('why' in event && { why: event.why }),
      ...('reason' in event && event.reason !== undefined && { reason: event.reason }),
    },
  })
}
