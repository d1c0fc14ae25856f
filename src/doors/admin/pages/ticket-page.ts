import type { TicketView } from '../../../approval/view.ts'
import { type Html, html, lines } from './html.ts'

/** Whether a person may do something to the ticket from its page. */
export interface TicketForm {
  /** Of the session, so that no other site can send this form. */
  readonly token: string
  /** Whether the viewer's role is to answer at all. */
  readonly mayVote: boolean
}

/** One ticket whole: an approver must never agree to what was cut away. */
export function ticketBody(ticket: TicketView, form: TicketForm): Html {
  return html`<h1>Ticket ${ticket.id}</h1>
    <p><b>${ticket.state}</b>${isOpen(ticket) && html` <span class="soft">until ${ticket.expiresAt}</span>`}</p>
    ${warnings(ticket)} ${who(ticket)}
    <h2>What would run</h2>
    ${request(ticket)} ${ticket.preview !== undefined && preview(ticket.preview)} ${reach(ticket)} ${claim(ticket)}
    ${demands(ticket)} ${isOpen(ticket) ? answer(ticket, form) : end(ticket, form)} ${past(ticket)}
    <p class="soft">Digest <span class="text">${ticket.digest}</span></p>`
}

function isOpen({ state }: TicketView): boolean {
  return state === 'pending' || state === 'approved'
}

function warnings({ follows, unresolved }: TicketView): readonly Html[] {
  return [
    ...(follows === undefined
      ? []
      : [
          html`<p class="beware">Asked again: what ${follows} had shown was no longer so when the call was to run.</p>`,
        ]),
    ...unresolved.map(
      (other) =>
        html`<p class="beware">The same call ran as ${other}, and nobody knows yet whether it took effect.</p>`,
    ),
  ]
}

function who(ticket: TicketView): Html {
  const { requester } = ticket
  const actsFor = requester.actsFor === undefined ? undefined : html`, acting for <bdi>${requester.actsFor}</bdi>`
  return html`<dl>
    <dt>Asked by</dt>
    <dd>
      <bdi>${requester.id}</bdi>
      <span class="soft">(${requester.kind} of <bdi>${requester.owner}</bdi>${actsFor})</span>
    </dd>
    <dt>On</dt>
    <dd><bdi>${ticket.target}</bdi> <span class="soft">(${ticket.protocol}, through ${ticket.tool})</span></dd>
    <dt>Actions</dt>
    <dd><bdi>${ticket.verbs.join(', ')}</bdi></dd>
    <dt>Held because</dt>
    <dd><bdi>${ticket.decisionReason}</bdi></dd>
    <dt>Rules</dt>
    <dd>${ticket.rules.join(', ')} <span class="soft">(policy ${ticket.policyVersion.slice(0, 12)})</span></dd>
    <dt>Asked at</dt>
    <dd>${ticket.createdAt}</dd>
  </dl>`
}

function request({ request: asked }: TicketView): Html {
  if (asked === undefined) return html`<p class="soft">The request was erased.</p>`
  const { params = [] } = asked
  return html`<pre>${lines(asked.text)}</pre>
    ${
      params.length > 0 &&
      table(
        ['Parameter', 'Value'],
        params.map((value, at) => [`$${at + 1}`, value]),
      )
    }`
}

function preview({ sections, missing }: NonNullable<TicketView['preview']>): Html {
  const isEmpty = sections.length === 0 && missing === undefined
  return html`<h2>What it would change</h2>
    ${isEmpty && html`<p>Nothing would change.</p>`}
    ${sections.map(
      ({ title, text, table: sample, more }) =>
        html`<h3><bdi>${title}</bdi></h3>
          ${text !== undefined && html`<pre>${lines(text)}</pre>`}
          ${sample !== undefined && table(sample.columns, sample.rows)}
          ${more !== undefined && html`<p class="soft">… and ${more} more that are not shown</p>`}`,
    )}
    ${missing !== undefined && html`<p class="beware">${missing}</p>`}`
}

/** How far an approval reaches beyond this call, or reached. */
function reach({ covers, coveredBy, state }: TicketView): Html | undefined {
  if (coveredBy !== undefined) {
    return html`<p class="beware">
      Nobody was asked about this call: the approval of <a href="/approvals/${coveredBy}">${coveredBy}</a> covers it.
    </p>`
  }
  if (covers === undefined) return undefined
  const { text, used, uses, isInForce, ended } = covers
  const now = isInForce ? 'in force' : (ended ?? (state === 'pending' ? 'not agreed to' : 'over'))
  return html`<h2>What an approval covers</h2>
    <p class="beware">${text}</p>
    <p class="soft">${used} of ${uses} so far; <bdi>${now}</bdi></p>`
}

function table(columns: readonly string[], rows: readonly (readonly (string | null)[])[]): Html {
  return html`<div class="scroll">
    <table>
      <thead>
        <tr>
          ${columns.map((name) => html`<th scope="col"><span class="text">${name}</span></th>`)}
        </tr>
      </thead>
      <tbody>
        ${rows.map(
          (row) =>
            html`<tr>
              ${row.map(cell)}
            </tr>`,
        )}
      </tbody>
    </table>
  </div>`
}

function cell(value: string | null): Html {
  return value === null
    ? html`<td><span class="null">NULL</span></td>`
    : html`<td><span class="text">${value}</span></td>`
}

function claim({ agentSays, requester }: TicketView): Html | undefined {
  if (agentSays === undefined) return undefined
  return html`<h2>What <bdi>${requester.id}</bdi> says</h2>
    <div class="claim">
      <p class="soft">The requester’s own words. Nobody checked them.</p>
      <div class="text">${agentSays}</div>
    </div>`
}

function demands({ requirements, votes }: TicketView): Html {
  return html`<h2>Who must agree</h2>
    <ul>
      ${requirements.map(
        ({ rule, anyOf, count, reasonRequired, selfConfirm, by, isMet }) =>
          html`<li>
            ${count} of
            ${anyOf.join(', ')}${reasonRequired && ', with a reason'}${selfConfirm === true && ', or the requester at its own client'}
            <span class="soft">(rule ${rule})</span>:
            ${isMet ? 'done' : `${by.length} so far`}${by.length > 0 && `, by ${by.join(', ')}`}
          </li>`,
      )}
    </ul>
    ${votes.map(
      ({ by, decision, reason, at }) =>
        html`<p>
          <bdi>${by}</bdi>: ${decision}
          <span class="soft">at ${at}</span>${reason !== undefined && html`<br /><bdi>${reason}</bdi>`}
        </p>`,
    )}`
}

function answer(ticket: TicketView, { token, mayVote }: TicketForm): Html {
  if (!mayVote) return html`<p class="soft">Answering needs the role approver.</p>`
  if (!ticket.mayAnswer) return html`<p class="beware">You cannot answer: <bdi>${ticket.whyNot}</bdi></p>`
  const isNeeded = ticket.requirements.some(({ reasonRequired }) => reasonRequired)
  return html`<form method="post" action="/approvals/${ticket.id}">
    <input type="hidden" name="form" value="${token}" />
    <input type="hidden" name="digest" value="${ticket.digest}" />
    <label for="reason">Your reason (${isNeeded ? 'the policy wants one' : 'optional'})</label>
    <textarea id="reason" name="reason" rows="3" maxlength="2000" autocomplete="off"></textarea>
    ${ticket.covers !== undefined && html`<input type="hidden" name="covers" value="${ticket.covers.id}" />`}
    <div class="acts">
      ${
        ticket.state === 'pending' &&
        html`<button class="yes" name="decision" value="approve">
          Approve this call${ticket.covers !== undefined && ' only'}
        </button>`
      }
      ${
        ticket.state === 'pending' &&
        ticket.covers !== undefined &&
        html`<button class="yes" name="decision" value="approve-all">Approve all that it covers</button>`
      }
      <button class="no" name="decision" value="deny">Deny</button>
    </div>
  </form>`
}

/** Its own call was claimed; what its approval goes on covering can still be ended. */
function end(ticket: TicketView, { token, mayVote }: TicketForm): Html | undefined {
  if (!mayVote || ticket.covers?.mayEnd !== true) return undefined
  return html`<form method="post" action="/approvals/${ticket.id}">
    <input type="hidden" name="form" value="${token}" />
    <input type="hidden" name="digest" value="${ticket.digest}" />
    <label for="reason">Your reason</label>
    <textarea id="reason" name="reason" rows="3" maxlength="2000" autocomplete="off"></textarea>
    <div class="acts">
      <button class="no" name="decision" value="deny">End what it covers</button>
    </div>
  </form>`
}

function past({ outcome, history }: TicketView): Html {
  const said = [outcome?.code, outcome?.message, outcome?.resolvedBy && `said ${outcome.resolvedBy}`, outcome?.reason]
  return html`${
      outcome !== undefined &&
      html`<h2>Outcome</h2>
        <p><bdi>${said.filter(Boolean).join(': ')}</bdi></p>`
    }
    <h2>History</h2>
    <ul>
      ${history.map(
        ({ at, to, by, why }) =>
          html`<li>
            <span class="soft">${at}</span> ${to}, <bdi>${by}</bdi>${why !== undefined && html`: <bdi>${why}</bdi>`}
          </li>`,
      )}
    </ul>`
}
