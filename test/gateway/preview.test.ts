import { describe, expect, it } from 'vitest'
import type { ApprovalRoom } from '../../src/approval/create-approvals.ts'
import type { Permit } from '../../src/core/call.ts'
import type { Chunk } from '../../src/core/chunk.ts'
import { SallyportError } from '../../src/core/errors.ts'
import type { Preview, PreviewContext } from '../../src/core/preview.ts'
import type { Principal } from '../../src/core/principal.ts'
import { vote, world } from '../approval/kit.ts'
import { codeOf, collect, kit, type Kit } from './kit.ts'

const HELD = `
targets: [box]
rules:
  - id: ask
    effect: require_approval
    principals: [group:agents]
    actions: ["ssh.*"]
    resources: ["-"]
    approvers: {any_of: [group:dba], count: 1, expires: 15m}
masks:
  - {detect: [email], transform: redact, unless: [group:agents]}
`
const BOB: Principal = { id: 'bob', kind: 'person', groups: ['dba'], roles: ['approver'], owner: 'bob' }
const EXIT: Chunk = { kind: 'exit', status: '0', truncated: false }

/** A protocol that previews what `next` says and runs unless told that its guard no longer holds. */
interface Bench {
  readonly room: ApprovalRoom
  readonly kit: Kit
  readonly permits: Permit[]
  readonly asked: PreviewContext[]
  preview: () => Promise<Preview>
  holds: (guard: string | undefined) => boolean
}

async function bench(): Promise<Bench> {
  const room = await (await world()).open()
  const self: Omit<Bench, 'kit'> = {
    room,
    permits: [],
    asked: [],
    preview: async () => ({ sections: [] }),
    holds: () => true,
  }
  const made = kit(
    {
      async *execute(_call, _plan, permit) {
        self.permits.push(permit)
        if (!self.holds(permit.guard)) {
          throw new SallyportError('ERR_APPROVAL_STALE', 'Other rows now.', {
            facts: { noEffect: true, askAgain: true },
          })
        }
        yield EXIT
      },
    },
    { yaml: HELD, approvals: room },
  )
  const ssh = made.rooms.protocols.ssh
  if (ssh !== undefined) {
    ssh.preview = (_call, _plan, context) => {
      self.asked.push(context)
      return self.preview()
    }
  }
  return Object.assign(self, { kit: made })
}

const opened = async (room: ApprovalRoom) => {
  for await (const offer of room.inbox.offers(BOB, new AbortController().signal)) {
    if (offer.kind === 'open') return offer.ticket
  }
  throw new Error('nothing was offered')
}

describe('C14: a preview', () => {
  it('is worked out before anybody is asked, and once for all who ask the same', async () => {
    const b = await bench()
    b.preview = async () => ({ sections: [{ title: '3 rows', text: 'a\u202eb' }], guard: 'g1' })
    const call = () => b.kit.call({ verb: 'ssh.exec' })
    expect(await codeOf(collect(b.kit.run(call())))).toBe('ERR_APPROVAL_PENDING')
    expect(await codeOf(collect(b.kit.run(call())))).toBe('ERR_APPROVAL_PENDING')
    expect(b.asked).toHaveLength(1)
    const [ticket] = await b.room.inbox.pending(BOB)
    expect(ticket?.preview).toEqual({ sections: [{ title: '3 rows', text: 'a<U+202E>b' }] })
    await vote(b.room, BOB, ticket?.id ?? '')
    await collect(b.kit.run(call()))
    expect(b.permits.map(({ guard }) => guard)).toEqual(['g1'])
    expect(b.asked).toHaveLength(1)
  })

  it('keeps a guard over as much as a protocol compares', async () => {
    const b = await bench()
    // What the longest guard of a PostgreSQL preview comes to.
    const guard = 'g'.repeat(30_000)
    b.preview = async () => ({ sections: [{ title: '3 rows' }], guard })
    await codeOf(collect(b.kit.run(b.kit.call({ verb: 'ssh.exec' }))))
    const [ticket] = await b.room.inbox.pending(BOB)
    expect(ticket?.preview).toEqual({ sections: [{ title: '3 rows' }] })
    await vote(b.room, BOB, ticket?.id ?? '')
    await collect(b.kit.run(b.kit.call({ verb: 'ssh.exec' })))
    expect(b.permits.map((permit) => permit.guard)).toEqual([guard])
  })

  it('is not asked of a call that is allowed, and gives no guard to it', async () => {
    const b = await bench()
    b.kit.setPolicy(HELD.replace('require_approval', 'allow').replace(/ {4}approvers.*\n/, ''))
    await collect(b.kit.run(b.kit.call({ verb: 'ssh.exec' })))
    expect(b.asked).toHaveLength(0)
    expect(b.permits.map(({ guard }) => guard)).toEqual([undefined])
  })

  it('C10: is masked for approvers as for anybody, whatever its caller may see', async () => {
    const b = await bench()
    b.preview = async () => ({
      sections: [{ title: 'of a@example.com', table: { columns: ['who'], rows: [['b@example.com'], [null]] } }],
      missing: 'c@example.com is left out.',
    })
    await codeOf(collect(b.kit.run(b.kit.call({ verb: 'ssh.exec' }))))
    const [ticket] = await b.room.inbox.pending(BOB)
    expect(ticket?.preview?.sections[0]?.table?.rows[1]).toEqual([null])
    expect(JSON.stringify(ticket?.preview)).not.toContain('example')
  })

  it('that fails is said to be missing, masked, and persons are asked without it', async () => {
    const b = await bench()
    b.preview = async () => {
      throw new SallyportError('ERR_UPSTREAM_REJECTED', 'Duplicate key a@example.com.')
    }
    await codeOf(collect(b.kit.run(b.kit.call({ verb: 'ssh.exec' }))))
    const [ticket] = await b.room.inbox.pending(BOB)
    expect(ticket?.preview?.missing).toMatch(/^There is no preview: Duplicate key/)
    expect(ticket?.preview?.missing).not.toContain('example')
  })

  it('leaves nothing out without saying how much', async () => {
    const b = await bench()
    const row = ['x'.repeat(600)]
    b.preview = async () => ({
      sections: [
        { title: 'lines', text: Array.from({ length: 405 }, (_, n) => String(n)).join('\n') },
        { title: 'rows', table: { columns: ['c'], rows: Array.from({ length: 23 }, () => row) }, more: 4 },
      ],
    })
    await codeOf(collect(b.kit.run(b.kit.call({ verb: 'ssh.exec' }))))
    const [ticket] = await b.room.inbox.pending(BOB)
    const [lines, rows] = ticket?.preview?.sections ?? []
    expect([lines?.more, rows?.more]).toEqual([5, 7])
    expect(rows?.table?.rows[0]?.[0]).toMatch(/… \(100 more characters\)$/)
  })
})

describe('C14: a guard that no longer holds', () => {
  it('uses up the grant and asks again, with a new preview, while the caller goes on waiting', async () => {
    const b = await bench()
    let found = 'before'
    b.preview = async () => ({ sections: [{ title: found }], guard: found })
    b.holds = (guard) => guard === found
    const result = collect(b.kit.run(b.kit.call({ verb: 'ssh.exec' }, { hold: { waitMs: 60_000 } })))
    const first = await opened(b.room)
    found = 'after'
    await vote(b.room, BOB, first.id)
    const second = await opened(b.room)
    expect(second).toMatchObject({ follows: first.id, votes: [], preview: { sections: [{ title: 'after' }] } })
    expect((await b.room.inbox.show(BOB, first.id)).state).toBe('failed')
    await vote(b.room, BOB, second.id)
    expect(await result).toEqual([EXIT])
    expect(b.permits.map(({ guard }) => guard)).toEqual(['before', 'after'])
  })

  it('asks three times and then tells the caller, with nothing run', async () => {
    const b = await bench()
    b.holds = () => false
    const result = codeOf(collect(b.kit.run(b.kit.call({ verb: 'ssh.exec' }, { hold: { waitMs: 60_000 } }))))
    for (let asked = 0; asked < 3; asked++) await vote(b.room, BOB, (await opened(b.room)).id)
    expect(await result).toBe('ERR_APPROVAL_STALE')
  })
})
