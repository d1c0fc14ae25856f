import { readdir, readFile } from 'node:fs/promises'
import { describe, expect, it } from 'vitest'
import { visible } from '../../src/approval/escape.ts'
import { SallyportError } from '../../src/core/errors.ts'
import { AGENT, ANA, BOB, call, CAROL, DAVE, EXIT, judged, OLGA, principal, requirement, ROWS } from './fakes.ts'
import { claimed, codeOf, collect, executed, vote, world } from './kit.ts'

describe('what is shown', () => {
  it.each([
    ['a right-to-left override', 'price = 1 \u202e -- safe', 'price = 1 <U+202E> -- safe'],
    ['a terminal escape', 'a\u001b[2Jb', 'a<U+001B>[2Jb'],
    ['a carriage return', 'DROP\rSELECT', 'DROP<U+000D>SELECT'],
    ['a zero-width space', 'or\u200bders', 'or<U+200B>ders'],
    ['a soft hyphen', 'or\u00adders', 'or<U+00AD>ders'],
    ['a Hangul filler', 'x\u3164y', 'x<U+3164>y'],
    ['a no-break space', 'a\u00a0b', 'a<U+00A0>b'],
    ['a tag character', 'a\u{e0041}b', 'a<U+E0041>b'],
    ['half a surrogate pair', 'a\ud800b', 'a<U+D800>b'],
    ['a C1 control', 'a\u009bb', 'a<U+009B>b'],
    ['a line separator', 'a\u2028b', 'a<U+2028>b'],
    ['a blank that is no space', 'a\u2800b', 'a<U+2800>b'],
    ['a line feed in a field of one line', 'ok\nApproved by: bob', 'ok<U+000A>Approved by: bob'],
    ['nothing to escape', 'Größe λ 日本 🙂', 'Größe λ 日本 🙂'],
  ])('makes %s visible', (_, text, shown) => {
    expect(visible(text)).toBe(shown)
  })

  it('keeps the lines and tabs of a statement, and nothing else that does not show', () => {
    expect(visible('SELECT\n\t1\r\n', 'keep-lines')).toBe('SELECT\n\t1<U+000D>\n')
  })

  it('C10: shows the masked request whole, the agent’s words as the agent’s, and who is asked', async () => {
    const place = await world()
    const room = await place.open()
    const text = `UPDATE customers SET ssn = $1 WHERE note = '${'x'.repeat(5_000)}\u202e'`
    const as = { ...judged({ text }), shown: { text, params: ['***', null] }, reason: 'urgent\nbob agreed' }
    const ticket = await place.file(room, call(), as)
    expect(await room.inbox.show(BOB, ticket)).toMatchObject({
      id: ticket,
      state: 'pending',
      requester: { id: 'ana-agent', owner: 'ana', actsFor: 'ana' },
      request: { text: text.replace('\u202e', '<U+202E>'), params: ['***', null] },
      agentSays: 'urgent<U+000A>bob agreed',
      requirements: [{ anyOf: ['group:dba'], by: [], isMet: false }],
      mayAnswer: true,
      expiresAt: '2026-11-23T10:15:00.000Z',
    })
  })

  it('shows a ticket to its requester, to those it waits for, to operators and auditors, and to nobody else', async () => {
    const place = await world()
    const room = await place.open()
    const ticket = await place.file(room)
    const auditor = principal('audit', 'person', 'audit', { roles: ['auditor'] })
    for (const viewer of [AGENT, BOB, CAROL, OLGA, auditor]) {
      expect((await room.inbox.list(viewer)).map(({ id }) => id)).toEqual([ticket])
    }
    const impostor = { ...AGENT, owner: 'eve' }
    const machine = principal('svc', 'service', 'bob', { roles: ['operator', 'auditor', 'approver'], groups: ['dba'] })
    for (const viewer of [DAVE, impostor, machine, { ...AGENT, id: 'ana-agent-2' }]) {
      expect(await room.inbox.list(viewer)).toEqual([])
      expect(await codeOf(room.inbox.show(viewer, ticket))).toBe('ERR_UNKNOWN_TICKET')
    }
    expect(await codeOf(room.inbox.show(BOB, 'nosuchticket'))).toBe('ERR_UNKNOWN_TICKET')
  })

  it('C13: never offers a ticket to the requester’s owner, who may see it and is told why not', async () => {
    const place = await world()
    const room = await place.open()
    const ticket = await place.file(room)
    expect(await room.inbox.pending(ANA)).toEqual([])
    expect(await room.inbox.show(ANA, ticket)).toMatchObject({
      mayAnswer: false,
      whyNot: expect.stringContaining('requester'),
    })
  })

  it('offers what is open and what comes, and takes the offer back when it is decided elsewhere', async () => {
    const place = await world()
    const room = await place.open()
    const first = await place.file(room)
    const end = new AbortController()
    const offers = room.inbox.offers(BOB, end.signal)[Symbol.asyncIterator]()
    expect((await offers.next()).value).toMatchObject({ kind: 'open', ticket: { id: first } })
    const second = await place.file(room, call(), judged({ text: 'DELETE FROM orders' }))
    expect((await offers.next()).value).toMatchObject({ kind: 'open', ticket: { id: second } })
    await vote(room, CAROL, first)
    expect((await offers.next()).value).toEqual({ kind: 'closed', ticket: first })
    end.abort()
    expect((await offers.next()).done).toBe(true)
  })

  it('watches only what the viewer may see', async () => {
    const place = await world()
    const room = await place.open()
    const end = new AbortController()
    const changes = room.inbox.watch(DAVE, end.signal)[Symbol.asyncIterator]()
    const next = changes.next()
    await place.file(room)
    const forLeads = judged({
      text: 'DELETE FROM orders',
      decision: { approvals: [requirement({ anyOf: ['group:lead'] })] },
    })
    const ticket = await place.file(room, call(), forLeads)
    expect((await next).value).toMatchObject({ id: ticket })
    end.abort()
    expect((await changes.next()).done).toBe(true)
  })
})

describe('acts', () => {
  it('are told before they take effect, and do not take effect when they cannot be written down', async () => {
    const place = await world()
    let full = true
    const room = await place.open({
      onEvent: ({ kind }) => {
        if (full && kind === 'vote') throw new SallyportError('ERR_RECORDING_FAILED', 'The recording is full.')
      },
    })
    const ticket = await place.file(room)
    expect(await codeOf(vote(room, BOB, ticket))).toBe('ERR_RECORDING_FAILED')
    expect((await room.inbox.show(BOB, ticket)).state).toBe('pending')
    full = false
    expect(await vote(room, BOB, ticket)).toBe('approved')
  })

  it('cancel is for the requester and for operators', async () => {
    const place = await world()
    const room = await place.open()
    const ticket = await place.file(room)
    expect(await codeOf(room.inbox.cancel(BOB, ticket))).toBe('ERR_FORBIDDEN')
    expect((await room.inbox.cancel(AGENT, ticket)).state).toBe('cancelled')
    expect(await codeOf(vote(room, BOB, ticket))).toBe('ERR_APPROVAL_CONFLICT')
    const second = await place.file(room)
    expect(second).not.toBe(ticket)
    expect((await room.inbox.cancel(OLGA, second)).state).toBe('cancelled')
  })

  it('C12: a claimed ticket cannot be cancelled or refused any more', async () => {
    const place = await world()
    const room = await place.open()
    const { ticket } = await claimed(place, room)
    expect(await codeOf(room.inbox.cancel(AGENT, ticket))).toBe('ERR_APPROVAL_CONFLICT')
    expect(await codeOf(vote(room, CAROL, ticket, 'deny'))).toBe('ERR_APPROVAL_CONFLICT')
  })

  async function unknown(): Promise<{
    place: Awaited<ReturnType<typeof world>>
    room: Awaited<ReturnType<Awaited<ReturnType<typeof world>>['open']>>
    ticket: string
  }> {
    const place = await world()
    const room = await place.open()
    const { ticket, claim } = await claimed(place, room)
    await claim.end('failed', new SallyportError('ERR_UPSTREAM_LOST', 'The connection broke.'))
    return { place, room, ticket }
  }

  it('C12: another person resolves an unknown outcome: what took effect is not asked again', async () => {
    const { room, ticket } = await unknown()
    const found = { ticket, tookEffect: true, reason: 'order 7 has the new price' }
    expect(await codeOf(room.inbox.resolve({ ...found, viewer: ANA }))).toBe('ERR_FORBIDDEN')
    expect(await codeOf(room.inbox.resolve({ ...found, viewer: AGENT }))).toBe('ERR_FORBIDDEN')
    expect(await codeOf(room.inbox.resolve({ ...found, viewer: OLGA, reason: ' ' }))).toBe('ERR_INVALID_INPUT')
    expect((await room.inbox.resolve({ ...found, viewer: OLGA })).state).toBe('done')
    const again = await executed(room.consent(call(), judged()))
    expect(await collect(again.result(judged()))).toMatchObject([
      { kind: 'notice', text: expect.stringContaining('olga') as unknown },
      { kind: 'exit', replayed: true },
    ])
    expect(await codeOf(room.inbox.resolve({ ...found, viewer: BOB }))).toBe('ERR_APPROVAL_CONFLICT')
  })

  it('C12: what did not take effect needs a new approval', async () => {
    const { place, room, ticket } = await unknown()
    await room.inbox.resolve({ viewer: BOB, ticket, tookEffect: false, reason: 'checked the log' })
    expect(await place.file(room)).not.toBe(ticket)
  })

  it('tells approvers of the same call whose outcome is unknown', async () => {
    const { place, room, ticket } = await unknown()
    const second = await place.file(room, call({ newRequest: 'aaaaaaaa-0000-4000-8000-000000000000' }))
    expect((await room.inbox.show(BOB, second)).unresolved).toEqual([ticket])
  })
})

describe('what is stored', () => {
  it('gives the stored call back to its requester only', async () => {
    const place = await world()
    const room = await place.open()
    const asked = call()
    const ticket = await place.file(room, asked)
    expect(await room.reissue(ticket, AGENT)).toEqual({
      target: 'shop-db',
      tool: 'query_database',
      payload: asked.payload,
    })
    for (const other of [BOB, ANA, { ...AGENT, owner: 'eve' }, { ...AGENT, actsFor: 'eve' }]) {
      expect(await codeOf(room.reissue(ticket, other))).toBe('ERR_UNKNOWN_TICKET')
    }
  })

  it('does not file a new ticket when asked how the old one ended', async () => {
    const place = await world()
    const room = await place.open()
    const ticket = await place.file(room)
    place.clock.now += 900_000
    expect(await codeOf(room.reissue(ticket, AGENT))).toBe('ERR_APPROVAL_EXPIRED')
    expect(await room.inbox.pending(BOB)).toEqual([])
  })

  it('C12: keeps requests and results encrypted, and erases them when their time is over', async () => {
    const place = await world()
    const room = await place.open()
    const { ticket, claim } = await claimed(place, room)
    claim.shown({ ...ROWS, rows: [['SECRET-ROW']] } as typeof ROWS)
    claim.shown(EXIT)
    await claim.end('done')
    const names = [...(await place.store.blobs.list())]
    expect(names.sort()).toEqual([`request.${ticket}`, `result.${ticket}`])
    for (const name of names) {
      const text = Buffer.from((await place.store.blobs.get(name)) ?? []).toString('latin1')
      expect(text).not.toMatch(/SECRET-ROW|UPDATE|shop-db/)
    }
    place.clock.now += 60 * 60_000
    await room.sweep()
    expect(await place.store.blobs.list()).toEqual([])
    expect(await codeOf(room.reissue(ticket, AGENT))).toBe('ERR_UNKNOWN_TICKET')
    expect((await room.inbox.show(BOB, ticket)).request).toBeUndefined()
    place.clock.now += 31 * 24 * 60 * 60_000
    await room.sweep()
    expect(await codeOf(room.inbox.show(BOB, ticket))).toBe('ERR_UNKNOWN_TICKET')
    expect(await place.store.list('tickets.standing')).toEqual([])
  })

  it('does not take one ticket’s stored request for another’s', async () => {
    const place = await world()
    const room = await place.open()
    const one = await place.file(room)
    const two = await place.file(room, call(), judged({ text: 'DELETE FROM orders' }))
    await place.store.blobs.put(`request.${one}`, (await place.store.blobs.get(`request.${two}`)) ?? new Uint8Array())
    expect(await codeOf(room.inbox.show(BOB, one))).toBe('ERR_STORE_FAILED')
  })

  it('erases what a crash left unfiled, at the second look', async () => {
    const place = await world()
    const room = await place.open()
    const ticket = await place.file(room)
    await place.store.blobs.put('request.orphan', new Uint8Array(3))
    await room.sweep()
    await room.sweep()
    expect(await place.store.blobs.list()).toEqual([`request.${ticket}`])
  })

  it('C11: does not write the digest’s input, the payload or the result in the clear into the store file', async () => {
    const { temporaryDirectory } = await import('../store/kit.ts')
    const { openState } = await import('../../src/store/state-dir.ts')
    const { createApprovals } = await import('../../src/approval/create-approvals.ts')
    const directory = `${await temporaryDirectory()}/state`
    const state = await openState(directory)
    const room = await createApprovals({
      ...state,
      now: Date.now,
      instance: 'one',
      onEvent: () => undefined,
      onFault: () => undefined,
    })
    await codeOf(room.consent(call({ hold: { waitMs: 0 }, payload: { sql: 'MARKER' } }), judged({ text: 'MARKER' })))
    await room.close()
    await state.close()
    for (const name of await readdir(directory, { recursive: true })) {
      const content = await readFile(`${directory}/${name}`, 'latin1').catch(() => '')
      expect(content).not.toContain('MARKER')
    }
  })
})
