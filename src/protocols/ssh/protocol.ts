/**
 * SSH as the spine sees it: requests are planned without asking anybody, and run on connections that belong to the
 * caller's session.
 *
 * @packageDocumentation
 */
import type { Call, Permit, Protocol, Secret } from '../../core/call.ts'
import type { Chunk } from '../../core/chunk.ts'
import { SallyportError } from '../../core/errors.ts'
import { runForward } from './connector-forward.ts'
import { runSftp } from './connector-sftp.ts'
import { runShell } from './connector-shell.ts'
import { runCommand } from './connector.ts'
import { isUnsent, reasonOf } from './errors.ts'
import type { SshOptions } from './options.ts'
import { planSsh, type SshPlan } from './plan.ts'
import { previewOf } from './preview.ts'
import { withoutValues } from './shown.ts'
import { Upstreams } from './upstreams.ts'

/** SSH for the spine. Ends its connections with `close()`. */
export function createSsh(): Protocol<SshPlan> {
  const upstreams = new Upstreams()

  async function* run(
    call: Call,
    plan: SshPlan,
    permit: Permit,
    secret: Secret,
  ): AsyncGenerator<Chunk, void, undefined> {
    const { request } = plan
    for (;;) {
      const lease = await upstreams.take(call.session, call.target, secret, permit.signal)
      let isBroken = true
      try {
        if (request.kind === 'exec') yield* runCommand(call, request, permit, lease)
        else if (request.kind === 'shell') yield* runShell(call, request, permit, lease)
        else if (request.kind === 'sftp') yield* runSftp(call, request, permit, lease)
        else if (request.kind === 'forward') yield* runForward(call, request, permit, lease)
        else throw notRunnable()
        isBroken = false
        return
      } catch (error) {
        // Whatever was met on the way, an aborted call ends with why it was aborted.
        if (permit.signal.aborted) throw reasonOf(permit.signal)
        // A kept connection that had died is given up, and the call that only found it dead begins on the next one.
        if (!lease.isKept || !isUnsent(error)) throw error
      } finally {
        lease.release(isBroken)
      }
    }
  }

  return {
    name: 'ssh',

    async plan(call, context) {
      const { user, shell } = call.target.options as SshOptions
      return planSsh(call.payload, {
        options: { user, shell },
        masks: context.masks,
        hasInput: call.input !== undefined,
      })
    },

    withoutValues,

    preview: async (_call, plan) => previewOf(plan),

    execute: run,

    async close() {
      upstreams.close()
    },
  }
}

function notRunnable(): SallyportError {
  return new SallyportError('ERR_INVALID_INPUT', 'This request has no form that can be run.')
}
