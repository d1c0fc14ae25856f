import type { TicketView } from '../../approval/view.ts'
import type { AdminClient } from '../admin-client.ts'
import type { Agent, QueryAnswer } from './agent.ts'
import type { Stage } from './stage.ts'

/** Who and what takes part. */
export interface Cast {
  readonly stage: Stage
  readonly agent: Agent
  /** Maria, a database administrator: another person than the agent's owner. */
  readonly approver: AdminClient
  /** Asks the database itself, past the gateway, as its owner: what is true there. */
  readonly truth: (sql: string) => Promise<string>
}

/** Something did not go as the demo says it does. */
export class DemoBroken extends Error {
  constructor(what: string) {
    super(`The demo did not go as it should: ${what}.`)
    this.name = 'DemoBroken'
  }
}

/** The calls of the story; one per minute more than the policy's rate of 8/min allows, counted with those before. */
const LOOP_MAX = 12

const READ_CUSTOMERS = 'SELECT id, name, email, ssn, card, plan FROM public.customers ORDER BY id LIMIT 4'
const READ_ORDERS = 'SELECT id, customer_id, status, total FROM public.orders ORDER BY id'
const HIDDEN_DELETE = `WITH old AS (DELETE FROM public.orders WHERE status = 'delivered' RETURNING id)
SELECT count(*) FROM old`
const HIDDEN_DROP = `DO $$ BEGIN EXECUTE 'DR' || 'OP TABLE public.orders'; END $$`
const TAKE_STOCK = 'UPDATE public.products SET stock = stock + $1 WHERE id = $2'
const STOCK_OF_7 = 'SELECT stock FROM public.products WHERE id = 7'
const ADDED = 25

/** Plays all scenes. @throws DemoBroken when one does not go as it should. */
export async function play(cast: Cast): Promise<void> {
  await maskedRead(cast)
  await limitedRead(cast)
  await hiddenDestruction(cast)
  await heldUpdate(cast)
  await loop(cast)
}

async function maskedRead({ stage, agent, truth }: Cast): Promise<void> {
  stage.scene(
    'A read, with masked columns',
    'ssn and card are masked where PostgreSQL reads them, e-mail addresses wherever they show up in a result.',
  )
  const answer = await ask(stage, agent, READ_CUSTOMERS)
  expect(answer.status === 'ok', 'the read was not allowed', answer)
  const hidden = (await truth("SELECT string_agg(concat_ws(',', ssn, card, email), ',') FROM public.customers")).split(
    ',',
  )
  const shown = JSON.stringify(answer)
  expect(
    hidden.every((value) => !shown.includes(value)),
    'a value that should be masked came through',
    undefined,
  )
  showRows(stage, answer)
  const masked = answer.columns?.flatMap((column) => (column.masked === undefined ? [] : [column.name])) ?? []
  const found = Object.entries(answer.masked?.detectors ?? {}).map(([detector, count]) => `${count} × ${detector}`)
  stage.outcome(
    'good',
    `Allowed by the rule read-customers-and-orders. Masked: ${masked.join(', ')}; found in text: ${found.join(', ')}.`,
  )
}

async function limitedRead({ stage, agent }: Cast): Promise<void> {
  stage.scene('A read of everything, cut to what the policy gives', 'The rule that allows it also says: 20 rows.')
  const answer = await ask(stage, agent, READ_ORDERS)
  expect(
    answer.status === 'ok' && answer.truncated === true && answer.rows?.length === 20,
    'the limit did not hold',
    answer,
  )
  showRows(stage, answer)
  stage.outcome('good', 'Allowed, and cut after 20 rows; the agent is told so (truncated: true).')
}

async function hiddenDestruction({ stage, agent, truth }: Cast): Promise<void> {
  stage.scene(
    'Destruction in disguise',
    "What a statement does is read from PostgreSQL's own grammar, not from its first word.",
  )
  const before = await truth('SELECT count(*) FROM public.orders')
  for (const sql of [HIDDEN_DELETE, HIDDEN_DROP]) {
    const answer = await ask(stage, agent, sql)
    expect(answer.status === 'denied', 'a destructive statement was not denied', answer)
    const hint = answer.hint === undefined ? [] : [`hint to the agent: ${answer.hint}`]
    stage.outcome('stopped', `Denied: ${answer.reason ?? ''}`, hint)
  }
  const after = await truth('SELECT count(*) FROM public.orders')
  expect(before === after, 'orders are missing', undefined)
  stage.remark(`The table still has its ${after} orders.`)
}

async function heldUpdate({ stage, agent, approver, truth }: Cast): Promise<void> {
  stage.scene(
    'A change that a second person must agree to',
    "The agent's owner cannot be that person. The agreement is for exactly this statement with these values, once.",
  )
  const before = Number(await truth(STOCK_OF_7))
  const decided = answerTicket(stage, approver)
  const [answer] = await Promise.all([
    ask(stage, agent, TAKE_STOCK, [ADDED, 7], 'Delivery 4711 arrived with 25 pieces.'),
    decided,
  ])
  expect(answer.status === 'ok' && answer.replayed !== true, 'the approved change did not run', answer)
  stage.outcome('good', `Ran after approval: ${answer.command ?? ''}.`)
  const once = Number(await truth(STOCK_OF_7))
  expect(once === before + ADDED, `the stock is ${once} instead of ${before + ADDED}`, undefined)
  stage.remark(`In the database: stock ${before} → ${once}.`)

  const again = await ask(stage, agent, TAKE_STOCK, [ADDED, 7], 'Delivery 4711 arrived with 25 pieces.')
  expect(again.status === 'ok' && again.replayed === true, 'the same call was not replayed', again)
  const still = Number(await truth(STOCK_OF_7))
  expect(still === once, 'one approval ran twice', undefined)
  stage.outcome('good', 'The same call again gets the stored answer (replayed: true); nothing runs twice.', [
    `In the database: stock is still ${still}.`,
  ])
}

/** What Maria does meanwhile, at the admin door, with her own token. */
async function answerTicket(stage: Stage, approver: AdminClient): Promise<void> {
  const watching = new AbortController()
  const timer = setTimeout(() => watching.abort(), 20_000)
  try {
    for await (const ticket of approver.events<TicketView>('/v1/approvals/watch', watching.signal)) {
      if (ticket.state !== 'pending') continue
      stage.outcome(
        'waits',
        `Held. Ticket ${ticket.id} waits for ${ticket.requirements.flatMap(({ anyOf }) => anyOf).join(', ')}.`,
      )
      stage.does(
        'Maria sees',
        [
          ticket.request?.text ?? '',
          ...(ticket.request?.params ?? []).map((value, i) => `$${i + 1} = ${String(value)}`),
        ].join('\n'),
      )
      if (ticket.agentSays !== undefined) stage.does('the agent says', JSON.stringify(ticket.agentSays))
      stage.does('Maria', `sallyport approvals approve ${ticket.id}`)
      await approver.post(`/v1/approvals/${encodeURIComponent(ticket.id)}/vote`, {
        decision: 'approve',
        digest: ticket.digest,
        reason: 'The delivery note says 25.',
      })
      return
    }
    throw new DemoBroken('no ticket came to be approved')
  } finally {
    clearTimeout(timer)
    watching.abort()
  }
}

async function loop({ stage, agent }: Cast): Promise<void> {
  stage.scene('An agent that does not stop', 'The rule for stock allows 8 calls a minute.')
  for (let call = 1; call <= LOOP_MAX; call++) {
    const answer = await agent.query('SELECT id, name, stock FROM public.products WHERE id = $1', { params: [call] })
    if (answer.status === 'ok') continue
    expect(answer.status === 'limited', 'the loop met something else than its limit', answer)
    stage.does('agent', `SELECT id, name, stock FROM public.products WHERE id = $1   (again and again, ${call} times)`)
    stage.outcome('stopped', `Stopped: ${answer.reason ?? ''}`)
    return
  }
  throw new DemoBroken('the rate limit did not hold')
}

async function ask(
  stage: Stage,
  agent: Agent,
  sql: string,
  params?: readonly (string | number)[],
  reason?: string,
): Promise<QueryAnswer> {
  const values = params === undefined ? '' : `\n${params.map((value, i) => `$${i + 1} = ${value}`).join(', ')}`
  stage.does('agent', `${sql}${values}`)
  return agent.query(sql, { ...(params !== undefined && { params }), ...(reason !== undefined && { reason }) })
}

function showRows(stage: Stage, answer: QueryAnswer): void {
  const rows = answer.rows ?? []
  const more = rows.length > 4 ? `… ${rows.length} rows came back` : undefined
  stage.rows(answer.columns?.map(({ name }) => name) ?? [], rows, more)
}

function expect(holds: boolean, otherwise: string, answer: QueryAnswer | undefined): asserts holds {
  if (holds) return
  const came = answer === undefined ? '' : ` (it answered ${answer.status}: ${answer.reason ?? 'without a reason'})`
  throw new DemoBroken(`${otherwise}${came}`)
}
