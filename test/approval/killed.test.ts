import { readFile } from 'node:fs/promises'
import path from 'node:path'
import { describe, expect, it } from 'vitest'
import type { Ticket } from '../../src/approval/ticket.ts'
import { createApprovals } from '../../src/approval/create-approvals.ts'
import { openState } from '../../src/store/state-dir.ts'
import { start, temporaryDirectory } from '../store/kit.ts'
import { AGENT } from './fakes.ts'

describe('approvals of a gateway that is killed', () => {
  /*
   * Goal: whatever the moment of death, no claim runs twice and none is forgotten. Method: real processes on one state
   * directory, killed at moments spread between claim and end; the "backend" is a file each execution appends to.
   */
  it('C12: at any moment, each claim is executed at most once, and executions + outcome_unknown cover all claims', async () => {
    const directory = path.join(await temporaryDirectory(), 'state')
    const ledger = path.join(await temporaryDirectory(), 'ledger')
    for (let round = 0; round < 14; round++) {
      const child = start(path.join(import.meta.dirname, 'child.ts'), directory, ledger, String(round * 1_000))
      const claims = 1 + (round % 3)
      let kind = 'claimed'
      for (let seen = 0; seen < claims;) {
        const message = await child.message()
        kind = round % 2 === 0 ? 'claiming' : 'claimed'
        if (kind in message) seen++
      }
      // The next events follow within a millisecond or two: spinning spreads the deaths over them.
      const until = performance.now() + (round % 5) * 0.7
      while (performance.now() < until);
      await child.kill()
    }

    const state = await openState(directory)
    const room = await createApprovals({
      ...state,
      now: Date.now,
      instance: 'last',
      onEvent: () => undefined,
      onFault: () => undefined,
    })
    const executed = (await readFile(ledger, 'utf8')).trim().split('\n')
    expect(new Set(executed).size).toBe(executed.length)

    const tickets = (await state.store.list<Ticket>('tickets')).map(({ value }) => value)
    expect(tickets.filter((ticket) => ticket.state === 'executing')).toEqual([])
    const texts = async (...states: Ticket['state'][]): Promise<string[]> => {
      const chosen = tickets.filter(({ state: where }) => states.includes(where))
      return Promise.all(chosen.map(async ({ id }) => (await room.inbox.show(AGENT, id)).request?.text ?? ''))
    }
    const done = await texts('done')
    const unknown = await texts('outcome_unknown')
    expect(unknown.length).toBeGreaterThan(0)
    // What is `done` was executed; what was executed is `done` or `outcome_unknown`; nothing else was.
    expect(done.filter((text) => !executed.includes(text))).toEqual([])
    expect(executed.filter((text) => !done.includes(text) && !unknown.includes(text))).toEqual([])
    expect(new Set([...done, ...unknown]).size).toBe(done.length + unknown.length)
    await room.close()
    await state.close()
  })
})
