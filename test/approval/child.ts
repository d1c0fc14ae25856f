// A gateway's approvals in a process of their own: asks, is approved, claims, "executes" by appending to a ledger that
// stands for the backend, ends; over and over, until it is killed. Calls it finds standing it asks for again first.
import { appendFileSync, openSync } from 'node:fs'
import { randomUUID } from 'node:crypto'
import { createApprovals } from '../../src/approval/create-approvals.ts'
import { SallyportError } from '../../src/core/errors.ts'
import { openState } from '../../src/store/state-dir.ts'
import { AGENT, BOB, call, EXIT, judged } from './fakes.ts'

const [directory = '', ledger = '', first = '0'] = process.argv.slice(2)
const say = (message: object): void => void process.send?.(message)
const state = await openState(directory)
const room = await createApprovals({
  ...state,
  now: Date.now,
  instance: randomUUID(),
  onEvent: () => undefined,
  onFault: () => undefined,
})
const backend = openSync(ledger, 'a')
for (const { id } of await room.inbox.list(AGENT, { all: true })) {
  const { request } = await room.inbox.show(AGENT, id)
  await attempt(request?.text ?? '')
}
for (let n = Number(first); ; n++) await attempt(`UPDATE orders SET n = ${n}`)

async function attempt(text: string): Promise<void> {
  const as = judged({ text })
  const asked = call({ hold: { waitMs: 0 } })
  try {
    let consent = await room.consent(asked, as).catch(approveIfPending)
    consent ??= await room.consent(asked, as)
    if (consent.kind === 'executed') return
    say({ claiming: text })
    const claim = await consent.claim(as)
    say({ claimed: text })
    appendFileSync(backend, `${text}\n`)
    await new Promise((resolve) => setImmediate(resolve))
    claim.shown(EXIT)
    await claim.end('done')
    say({ ended: text })
  } catch (error) {
    if (!(error instanceof SallyportError)) throw error
    say({ code: error.code, text })
  }
}

async function approveIfPending(error: unknown): Promise<undefined> {
  if (!(error instanceof SallyportError) || error.code !== 'ERR_APPROVAL_PENDING') throw error
  const ticket = error.facts.ticket ?? ''
  const { digest } = await room.inbox.show(BOB, ticket)
  await room.inbox.vote({ viewer: BOB, ticket, digest, decision: 'approve' })
}
