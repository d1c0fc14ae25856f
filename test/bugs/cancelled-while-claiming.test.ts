/**
 * A call that was cancelled at the very moment its approval was claimed left its ticket `executing`, although nothing of it
 * ever ran: whoever asked for the same call again waited for a result that nobody was working on.
 */
import { expect, it } from 'vitest'
import type { Approvals } from '../../src/approval/approvals.ts'
import { SallyportError } from '../../src/core/errors.ts'
import { BOB } from '../approval/fakes.ts'
import { vote, world } from '../approval/kit.ts'
import { collect, kit } from '../gateway/kit.ts'

const HELD = `
targets: [box]
rules:
  - {id: ask, effect: require_approval, principals: [group:agents], actions: ["ssh.*"], resources: ["-"], approvers: {any_of: [group:dba], expires: 15m}}
`

it('C12: a call that is cancelled while it claims its approval has failed, and can be asked for again', async () => {
  const room = await (await world()).open()
  let isCancelling = true
  let ran = 0
  const approvals: Approvals = {
    ...room,
    async consent(call, judged, preview) {
      const consent = await room.consent(call, judged, preview)
      if (consent.kind !== 'granted') return consent
      return {
        ...consent,
        async claim(now) {
          const claimed = await consent.claim(now)
          // The client presses Ctrl-C while the store writes the claim.
          if (isCancelling) box.permits.cancel(() => true, new SallyportError('ERR_CANCELLED', 'The caller went away.'))
          return claimed
        },
      }
    },
  }
  const box = kit(
    {
      async *execute() {
        ran++
        yield { kind: 'exit', status: '0', truncated: false }
      },
    },
    { yaml: HELD, approvals },
  )
  const code = async (): Promise<string> => {
    const ended = await collect(box.run(box.call({ verb: 'ssh.exec' }))).catch((error: unknown) => error)
    return ended instanceof SallyportError ? ended.code : 'ran'
  }
  const approve = async (): Promise<string> => {
    const [ticket] = await room.inbox.pending(BOB)
    await vote(room, BOB, ticket?.id ?? '')
    return ticket?.id ?? ''
  }

  expect(await code()).toBe('ERR_APPROVAL_PENDING')
  const first = await approve()
  expect(await code()).toBe('ERR_CANCELLED')
  expect(ran).toBe(0)
  expect((await room.inbox.show(BOB, first)).state).toBe('failed')

  isCancelling = false
  expect(await code()).toBe('ERR_APPROVAL_PENDING')
  expect(await approve()).not.toBe(first)
  expect(await code()).toBe('ran')
  expect(ran).toBe(1)
})
