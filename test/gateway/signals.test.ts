/** What ends a live call, and that nothing of it stays behind in what outlives it. */
import { getEventListeners } from 'node:events'
import { describe, expect, it, vi } from 'vitest'
import type { Call, Session } from '../../src/core/call.ts'
import { SallyportError } from '../../src/core/errors.ts'
import { createSessions } from '../../src/gateway/sessions.ts'
import { AGENT, codeOf, collect, kit, rows } from './kit.ts'

function hanging(): { script: Parameters<typeof kit>[0]; running: Promise<void> } {
  let started = (): void => undefined
  const running = new Promise<void>((resolve) => (started = resolve))
  return {
    running,
    script: {
      async *execute(_call, _plan, permit) {
        yield rows(0, 1)
        started()
        await new Promise((_, reject) => {
          permit.signal.addEventListener('abort', () => reject(permit.signal.reason as Error))
        })
      },
    },
  }
}

function owned(call: Call, session: AbortController, own: AbortController): Call {
  const replaced: Session = { ...call.session, signal: session.signal }
  return { ...call, session: replaced, signal: own.signal }
}

describe('the signal of a call', () => {
  it.each(['session', 'own'] as const)('C2: ends the running call when its %s signal aborts', async (which) => {
    const { script, running } = hanging()
    const gateway = kit(script)
    const controllers = { session: new AbortController(), own: new AbortController() }
    const call = owned(gateway.call({ verb: 'ssh.exec' }), controllers.session, controllers.own)
    const ended = codeOf(collect(gateway.run(call)))
    await running
    controllers[which].abort(new SallyportError('ERR_UNAUTHENTICATED', 'The session was ended.'))
    expect(await ended).toBe('ERR_UNAUTHENTICATED')
  })

  it('is followed by as many calls of one session as run at once, and nobody takes that for a leak', async () => {
    const warned = vi.spyOn(process, 'emitWarning').mockImplementation(() => undefined)
    const gateway = kit({
      async *execute(_call, _plan, permit) {
        yield rows(0, 1)
        await new Promise((_, reject) => {
          permit.signal.addEventListener('abort', () => reject(permit.signal.reason as Error))
        })
      },
    })
    const { recording } = gateway.call({ verb: 'ssh.exec' }).session
    const sessions = createSessions({ open: async () => recording })
    const session = await sessions.join({ principal: AGENT, door: 'test' })
    const running = Array.from({ length: 30 }, () => gateway.run({ ...gateway.call({ verb: 'ssh.exec' }), session }))
    try {
      await Promise.all(running.map((run) => run.next()))
      expect(getEventListeners(session.signal, 'abort').length).toBe(1)
      expect(warned).not.toHaveBeenCalled()
    } finally {
      await Promise.all(running.map((run) => run.return()))
      await sessions.close()
      warned.mockRestore()
    }
  })

  it('leaves nothing in the session when it ends, fails, is denied or is left, but the one listener of all', async () => {
    const session = new AbortController()
    const own = new AbortController()
    let fails = false
    const signals: AbortSignal[] = []
    const gateway = kit({
      async *execute(_call, _plan, permit) {
        signals.push(permit.signal)
        yield rows(0, 1)
        if (fails) throw new Error('it failed')
        yield rows(1, 1)
      },
    })
    const run = () => gateway.run(owned(gateway.call({ verb: 'ssh.exec' }), session, own))
    await collect(run())
    fails = true
    expect(await codeOf(collect(run()))).toBe('ERR_INTERNAL')
    const left = run()
    await left.next()
    await left.return()
    gateway.setPolicy('targets: [box]\nrules: []\n')
    expect(await codeOf(collect(run()))).toBe('ERR_DENIED')
    expect(getEventListeners(session.signal, 'abort').length).toBe(1)
    expect(getEventListeners(own.signal, 'abort').length).toBe(1)
    session.abort()
    own.abort()
    // Whoever had stayed behind would be aborted now.
    expect(signals.map(({ aborted }) => aborted)).toEqual([false, false, false])
  })

  it('reads no secret for a call whose connection was made before, and reads it when one must be made after all', async () => {
    let reads = 0
    let mustConnect = false
    const gateway = kit({
      async *execute() {
        yield rows(0, 1)
      },
    })
    const protocol = gateway.rooms.protocols.ssh
    if (protocol === undefined) throw new Error('no protocol')
    const credentials = {
      read: async () => {
        reads++
        return { value: 'secret' }
      },
    }
    const seen: string[] = []
    const rooms = (isConnected: boolean) => ({
      ...gateway.rooms,
      credentials,
      protocols: {
        ssh: {
          ...protocol,
          isConnected: () => isConnected,
          async *execute(...[, , , secret, read]: Parameters<typeof protocol.execute>) {
            seen.push(secret.value)
            if (mustConnect) seen.push((await read?.())?.value ?? '')
            yield rows(0, 1)
          },
        },
      },
    })
    const { govern } = await import('../../src/gateway/gateway.ts')
    await collect(govern(gateway.call({ verb: 'ssh.exec' }), rooms(true)))
    expect({ reads, seen }).toEqual({ reads: 0, seen: [''] })
    mustConnect = true
    await collect(govern(gateway.call({ verb: 'ssh.exec' }), rooms(true)))
    mustConnect = false
    expect({ reads, seen }).toEqual({ reads: 1, seen: ['', '', 'secret'] })
    await collect(govern(gateway.call({ verb: 'ssh.exec' }), rooms(false)))
    expect(seen.at(-1)).toBe('secret')
  })
})
