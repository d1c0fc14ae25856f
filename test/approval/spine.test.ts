import { describe, expect, it } from 'vitest'
import type { ApprovalRoom } from '../../src/approval/create-approvals.ts'
import type { Chunk } from '../../src/core/chunk.ts'
import type { Principal } from '../../src/core/principal.ts'
import { codeOf, collect, kit, type Kit, rows } from '../gateway/kit.ts'
import { vote, world, type World } from './kit.ts'

const EXIT: Chunk = { kind: 'exit', status: '0', truncated: false }
const PETER: Principal = { id: 'peter', kind: 'person', owner: 'peter', groups: ['sre'], roles: ['approver'] }

const ASK = rule('require_approval', 'approvers: {any_of: [group:sre], count: 1, expires: 15m}')
const ASK_TWO = rule('require_approval', 'approvers: {any_of: [group:sre], count: 2, expires: 15m}')
const DENY = rule('deny', 'reason: Not today.')

function rule(effect: string, rest: string): string {
  return `
targets: [box]
rules:
  - {id: r, effect: ${effect}, principals: [group:agents], actions: ["ssh.*"], resources: ["-"], ${rest}}
`
}

interface Spine {
  readonly place: World
  readonly room: ApprovalRoom
  readonly gateway: Kit
  readonly ran: () => number
  /** Asks once and returns the ticket it now waits under. */
  readonly ask: () => Promise<string>
}

async function spine(upstream?: () => AsyncIterable<Chunk>): Promise<Spine> {
  const place = await world()
  const room = await place.open()
  let runs = 0
  const gateway = kit(
    {
      async *execute() {
        runs++
        yield* upstream === undefined ? [rows(0, 2), EXIT] : upstream()
      },
    },
    { yaml: ASK, approvals: room, now: () => place.clock.now },
  )
  return {
    place,
    room,
    gateway,
    ran: () => runs,
    async ask() {
      expect(await codeOf(collect(gateway.run(gateway.call({ verb: 'ssh.exec' }))))).toBe('ERR_APPROVAL_PENDING')
      return (await room.inbox.pending(PETER)).at(-1)?.id ?? ''
    },
  }
}

describe('an approved call through the spine', () => {
  it('C12: runs once when it is asked again after consent, and is answered from the store after that', async () => {
    const { room, gateway, ran, ask } = await spine()
    const ticket = await ask()
    expect(ran()).toBe(0)
    await vote(room, PETER, ticket)
    const again = (): Promise<Chunk[]> => collect(gateway.run(gateway.call({ verb: 'ssh.exec' })))
    expect(await again()).toMatchObject([rows(0, 2), { kind: 'exit', status: '0' }])
    expect(await again()).toMatchObject([rows(0, 2), { kind: 'exit', status: '0', replayed: true }])
    expect(ran()).toBe(1)
  })

  it('C13: is denied when the policy denies by now, although it was approved', async () => {
    const { room, gateway, ran, ask } = await spine()
    await vote(room, PETER, await ask())
    gateway.setPolicy(DENY)
    expect(await codeOf(collect(gateway.run(gateway.call({ verb: 'ssh.exec' }))))).toBe('ERR_DENIED')
    expect(ran()).toBe(0)
  })

  it('C13: needs a new approval when the policy asks for more persons by now', async () => {
    const { room, gateway, ran, ask } = await spine()
    const ticket = await ask()
    await vote(room, PETER, ticket)
    gateway.setPolicy(ASK_TWO)
    expect(await codeOf(collect(gateway.run(gateway.call({ verb: 'ssh.exec' }))))).toBe('ERR_APPROVAL_STALE')
    expect(await ask()).not.toBe(ticket)
    expect(ran()).toBe(0)
  })

  it('C12: leaves an unknown outcome when its caller goes away before the backend said how it ended', async () => {
    const { room, gateway, ran, ask } = await spine(async function* () {
      yield rows(0, 1)
      yield rows(1, 1)
      yield EXIT
    })
    const ticket = await ask()
    await vote(room, PETER, ticket)
    for await (const chunk of gateway.run(gateway.call({ verb: 'ssh.exec' }))) if (chunk.kind === 'data') break
    expect((await room.inbox.show(PETER, ticket)).state).toBe('outcome_unknown')
    expect(await codeOf(collect(gateway.run(gateway.call({ verb: 'ssh.exec' }))))).toBe('ERR_OUTCOME_UNKNOWN')
    expect(ran()).toBe(1)
  })

  it('C12: two callers of the same approved call at once: one runs, the other gets its result', async () => {
    const { room, gateway, ran, ask } = await spine()
    await vote(room, PETER, await ask())
    const both = await Promise.all(
      [1, 2].map(() => collect(gateway.run(gateway.call({ verb: 'ssh.exec' }, { hold: { waitMs: 20_000 } })))),
    )
    expect(both.map((chunks) => chunks.filter(({ kind }) => kind === 'data'))).toEqual([[rows(0, 2)], [rows(0, 2)]])
    expect(ran()).toBe(1)
  })
})
