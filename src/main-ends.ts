/**
 * What ends calls that run: another policy, a store that stays away, a token that is no more.
 *
 * @packageDocumentation
 */
import { SallyportError } from './core/errors.ts'
import type { Permits } from './gateway/permits.ts'
import type { Sessions } from './gateway/sessions.ts'
import { decide } from './policy/decide.ts'
import type { Policy } from './policy/policy.ts'

/** C2: what runs is decided again when the policy changes, and cancelled when it would not be let through now. */
export function recheck(policy: Policy, permits: Permits, now: () => number): void {
  permits.recheck((call, judged) => {
    const { principal, id, door, run } = call.session
    return {
      decision: decide(policy, {
        principal,
        target: call.target,
        session: { id, door, ...(run !== undefined && { run }) },
        action: judged.plan.action,
        now: now(),
      }),
      masks: policy.masksFor(principal, call.target),
    }
  })
}

/**
 * While the shared store is away, no freeze, no end of a session and no other policy can reach what runs here. Fail
 * closed: after a while it is ended.
 */
export function endUnstoppable(permits: Permits, liveMaxMs: number): (isAway: boolean) => void {
  const why = new SallyportError(
    'ERR_STORE_FAILED',
    'The call was ended, because its gateway could not reach its shared store for too long: nobody could have stopped it.',
  )
  let timer: NodeJS.Timeout | undefined
  return (isAway) => {
    clearInterval(timer)
    if (isAway) timer = setInterval(() => permits.cancel(() => true, why), liveMaxMs).unref()
  }
}

/** How long callers have to read why their calls ended, before their session ends too. */
const LAST_WORDS_MS = 500

/**
 * A token that was revoked or ran out ends what it started: its calls at once, its sessions when their callers could
 * read why. No door lets it begin anything in between, because each authenticates every request.
 */
export function endCredential(id: string, sessions: Sessions, permits: Permits): void {
  const why = new SallyportError('ERR_UNAUTHENTICATED', 'The token of this call was revoked or has expired.')
  permits.cancel(({ session }) => session.principal.credentialId === id, why)
  setTimeout(() => {
    permits.cancel(({ session }) => session.principal.credentialId === id, why)
    void sessions.end(({ principal }) => principal.credentialId === id, why)
  }, LAST_WORDS_MS).unref()
}
