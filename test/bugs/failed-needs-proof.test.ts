/**
 * A ticket said `failed`, which invites a second run, of calls that may have taken effect: of one that a freeze stopped
 * half-way, because the freeze's own error is a denial; of one whose backend had done it and then answered with something
 * that could not be read; and it said `done` of one that its client had closed before anything of it ran.
 */
import { describe, expect, it } from 'vitest'
import { SallyportError } from '../../src/core/errors.ts'
import { BOB, call, judged, OLGA } from '../approval/fakes.ts'
import { claimed, granted, vote, world } from '../approval/kit.ts'
import { collect, kit } from '../gateway/kit.ts'

const HELD = `
targets: [box]
rules:
  - {id: ask, effect: require_approval, principals: [group:agents], actions: ["ssh.*"], resources: ["-"], approvers: {any_of: [group:dba], expires: 15m}}
`
const frozen = (): SallyportError => new SallyportError('ERR_DENIED', 'The principal loop is frozen by olga: enough.')

describe('C12: what became of a call that was approved', () => {
  it('is unknown when a freeze stopped it while its backend was at work', async () => {
    const room = await (await world()).open()
    const box = kit(
      {
        async *execute(_call, _plan, { signal }) {
          // The command runs at the host by now.
          expect(box.permits.cancel(() => true, frozen())).toBe(1)
          yield* []
          throw signal.reason
        },
      },
      { yaml: HELD, approvals: room },
    )
    const once = async (): Promise<SallyportError> =>
      SallyportError.from(await collect(box.run(box.call({ verb: 'ssh.exec' }))).catch((error: unknown) => error))
    expect((await once()).code).toBe('ERR_APPROVAL_PENDING')
    const [ticket] = await room.inbox.pending(BOB)
    await vote(room, BOB, ticket?.id ?? '')
    expect((await once()).code).toBe('ERR_DENIED')
    expect((await room.inbox.show(BOB, ticket?.id ?? '')).state).toBe('outcome_unknown')
    expect((await once()).code).toBe('ERR_OUTCOME_UNKNOWN')
  })

  it.each([
    ['its backend said no, which may have come after the effect', {}, 'outcome_unknown'],
    ['its protocol says that nothing is left of it', { noEffect: true as const }, 'failed'],
  ])('when %s', async (_, facts, state) => {
    const place = await world()
    const room = await place.open()
    const { ticket, claim } = await claimed(place, room)
    await claim.end('failed', new SallyportError('ERR_UPSTREAM_REJECTED', 'The answer cannot be read.', { facts }))
    expect((await room.inbox.show(OLGA, ticket)).state).toBe(state)
  })

  it.each([
    ['closed by its client', false, 'done', undefined, 'failed'],
    ['out of time', false, 'failed', 'ERR_TIMEOUT', 'failed'],
    ['its connection lost', false, 'failed', 'ERR_UPSTREAM_LOST', 'failed'],
    ['closed by its client', true, 'done', undefined, 'outcome_unknown'],
    ['out of time', true, 'failed', 'ERR_TIMEOUT', 'outcome_unknown'],
  ] as const)('where a proof comes before the effect: %s, proof noted: %s', async (_, isNoted, ending, code, state) => {
    const place = await world()
    const room = await place.open()
    const ticket = await place.file(room)
    await vote(room, BOB, ticket)
    const proving = { ...judged(), proves: true as const }
    const claim = await (await granted(room.consent(call(), proving))).claim(proving)
    if (isNoted) await claim.prove?.({ kind: 'postgres.xid', xid: '7' })
    await claim.end(ending, code === undefined ? undefined : new SallyportError(code, 'x'))
    expect((await room.inbox.show(OLGA, ticket)).state).toBe(state)
  })
})
