import { describe, expect, it } from 'vitest'
import type { ApprovalRoom } from '../../src/approval/create-approvals.ts'
import { createLoops } from '../../src/limits/loops.ts'
import type { Chunk } from '../../src/core/chunk.ts'
import { SallyportError } from '../../src/core/errors.ts'
import { BOB, CAROL } from '../approval/fakes.ts'
import { collect, errorOf, vote, world } from '../approval/kit.ts'
import { kit, type Kit } from './kit.ts'

const EXIT: Chunk = { kind: 'exit', status: 'done', truncated: false }
const RULE = '  - {id: all, effect: allow, principals: [group:agents], actions: [ssh.exec], resources: ["**"]}'
const BUDGET = `targets: [box]
rules:
${RULE}
budgets:
  - {id: day, per: [principal], actions: [ssh.exec], max: 2, window: 1h, on_exceed: require_approval, approvers: {any_of: [group:dba]}}
`
const LOOP = (how: string): string => `targets: [box]
rules:
${RULE}
loops:
  - {id: stuck, actions: ["ssh.*"], window: 10m, repeats: {warn: 2, stop: 3}, suspend: 1m, ${how}}
`

async function place(yaml: string) {
  const clock = { now: 1_700_000_000_000 }
  const room = await (await world()).open({ now: () => clock.now })
  let ran = 0
  const suspended: string[] = []
  const frozen = new Map<string, SallyportError>()
  const self: Kit = kit(
    {
      async *execute() {
        ran++
        yield EXIT
      },
    },
    {
      yaml,
      approvals: room,
      now: () => clock.now,
      more: {
        loops: createLoops({ now: () => clock.now }),
        suspend: async ({ session }, by, reason) => {
          suspended.push(`${session.principal.id} ${by} ${reason}`)
          frozen.set(session.principal.id, new SallyportError('ERR_DENIED', 'It is frozen.'))
        },
        barred: async ({ session }) => frozen.get(session.principal.id),
      },
    },
  )
  const run = (on: string): Promise<Chunk[]> => collect(self.run(self.call({ verb: 'ssh.exec', on })))
  return { clock, room, run, ran: () => ran, suspended, frozen, recorded: self.recorded }
}

async function ticketOf(room: ApprovalRoom, call: Promise<unknown>): Promise<string> {
  const { code, facts } = await errorOf(call)
  expect(code).toBe('ERR_APPROVAL_PENDING')
  await room.inbox.show(BOB, facts.ticket ?? '')
  return facts.ticket ?? ''
}

describe('a budget whose excess persons may agree to', () => {
  it('lets calls through without a word while there is room, and then asks', async () => {
    const { room, run, ran } = await place(BUDGET)
    await run('a')
    await run('b')
    expect(await room.inbox.pending(BOB)).toEqual([])
    const ticket = await ticketOf(room, run('c'))
    expect(ran()).toBe(2)
    expect((await room.inbox.show(BOB, ticket)).decisionReason).toContain('budget:day')
    await vote(room, BOB, ticket)
    await run('c')
    expect(ran()).toBe(3)
  })

  it('asks whom the budget names, and nobody else', async () => {
    const { room, run } = await place(BUDGET.replace('group:dba', 'group:lead'))
    await run('a')
    await run('b')
    const { facts } = await errorOf(run('c'))
    const ticket = facts.ticket ?? ''
    await expect(vote(room, BOB, ticket)).rejects.toMatchObject({ code: 'ERR_UNKNOWN_TICKET' })
    expect(await vote(room, CAROL, ticket)).toBe('approved')
  })

  it('C12: runs what was asked about once, also when there is room again by the time it is picked up', async () => {
    const { clock, room, run, ran } = await place(BUDGET)
    await run('a')
    await run('b')
    const ticket = await ticketOf(room, run('c'))
    await vote(room, BOB, ticket)
    await run('c')
    clock.now += 3_600_000 - 1_000
    expect((await run('c')).at(-1)).toMatchObject({ kind: 'exit', replayed: true })
    expect(ran()).toBe(3)
  })
})

describe('a caller that goes in circles', () => {
  it('is warned in the result, suspended with the reason, and barred until that is over', async () => {
    const { run, ran, suspended } = await place(LOOP('on_stop: suspend'))
    expect(await run('a')).toEqual([EXIT])
    expect(await run('a')).toMatchObject([
      { kind: 'notice', text: expect.stringContaining('2 times') as unknown },
      EXIT,
    ])
    const stopped = await errorOf(run('a'))
    expect(stopped).toMatchObject({ code: 'ERR_DENIED', facts: { rules: ['loop:stuck'], retryAfterMs: 60_000 } })
    expect(stopped.message).toContain('this very call came 3 times')
    expect(suspended).toHaveLength(1)
    expect((await errorOf(run('something else'))).message).toBe('It is frozen.')
    expect(ran()).toBe(2)
  })

  it('is told of the freeze when an operator stopped it before the loop breaker could', async () => {
    const { run, frozen, suspended } = await place(LOOP('on_stop: suspend'))
    for (let n = 0; n < 2; n++) await run('-')
    frozen.set('loop', new SallyportError('ERR_DENIED', 'It is frozen until an operator lifts it.'))
    expect((await errorOf(run('-'))).message).toBe('It is frozen until an operator lifts it.')
    expect(suspended).toEqual([])
  })

  it('is not stopped again by what it met while it was suspended', async () => {
    const { run, frozen, suspended } = await place(LOOP('errors: {warn: 2, stop: 3}'))
    for (let n = 0; n < 3; n++) await run('a').catch(() => undefined)
    for (let n = 0; n < 9; n++) await errorOf(run(`b${n}`))
    frozen.clear()
    expect(await run('c')).toEqual([EXIT])
    expect(suspended).toHaveLength(1)
  })

  it('is warned and stopped when all it meets is a denial', async () => {
    const { run, suspended } = await place(LOOP('errors: {warn: 2, stop: 3}').replace('[ssh.exec]', '[ssh.shell]'))
    const errors = [await errorOf(run('a')), await errorOf(run('b')), await errorOf(run('c')), await errorOf(run('d'))]
    expect(errors.map(({ facts }) => facts.hint?.includes('failed in the same way') === true)).toEqual([
      false,
      false,
      true,
      false,
    ])
    expect(suspended).toEqual(['loop loop:stuck the last 3 calls failed in the same way (ERR_DENIED)'])
  })

  it('asks a person instead, where the policy says so', async () => {
    const { room, run, ran } = await place(LOOP('on_stop: require_approval, approvers: {any_of: [group:dba]}'))
    await run('a')
    await run('a')
    const ticket = await ticketOf(room, run('a'))
    expect(ran()).toBe(2)
    await vote(room, BOB, ticket)
    await run('a')
    expect(ran()).toBe(3)
  })
})
