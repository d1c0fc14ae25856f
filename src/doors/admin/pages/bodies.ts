import type { TicketView } from '../../../approval/view.ts'
import { type Html, html } from './html.ts'

/** What waits for the viewer first, then the rest they may see. */
export function listBody(tickets: readonly TicketView[]): Html {
  const waits = ({ state, mayAnswer }: TicketView): boolean => state === 'pending' && mayAnswer
  const own = tickets.filter(waits)
  const others = tickets.filter((ticket) => !waits(ticket))
  return html`<h1>Approvals</h1>
    ${own.length === 0 ? html`<p>No ticket waits for you.</p>` : tableOf('Waiting for you', own)}
    ${others.length > 0 && tableOf('Not over, but not for you to answer now', others)}
    <p class="soft">This page renews itself.</p>`
}

function tableOf(title: string, tickets: readonly TicketView[]): Html {
  return html`<h2>${title}</h2>
    <div class="scroll">
      <table>
        <thead>
          <tr>
            <th scope="col">Ticket</th>
            <th scope="col">Asked by</th>
            <th scope="col">On</th>
            <th scope="col">State</th>
          </tr>
        </thead>
        <tbody>
          ${tickets.map(rowOf)}
        </tbody>
      </table>
    </div>`
}

function rowOf({ id, requester, target, verbs, state, expiresAt }: TicketView): Html {
  return html`<tr>
    <td><a href="/approvals/${id}">${id}</a></td>
    <td>
      <bdi>${requester.id}</bdi> <span class="soft">(of <bdi>${requester.owner}</bdi>)</span>
    </td>
    <td>
      <bdi>${target}</bdi><br /><span class="soft"><bdi>${verbs.join(', ')}</bdi></span>
    </td>
    <td>${state}<br /><span class="soft">until ${expiresAt}</span></td>
  </tr>`
}

/** @param ticket where to go on to. */
export function signInBody(ticket: string | undefined, problem?: string): Html {
  return html`<h1>Sign in to answer approvals</h1>
    ${problem !== undefined && html`<p class="beware">${problem}</p>`}
    <form method="post" action="/sign-in">
      ${ticket !== undefined && html`<input type="hidden" name="ticket" value="${ticket}" />`}
      <label for="token">Your Sallyport token</label>
      <input id="token" name="token" type="password" autocomplete="current-password" required maxlength="1024" />
      <div class="acts"><button>Sign in</button></div>
    </form>
    <p class="soft">You stay signed in for an hour at most, and no longer than your token is good.</p>`
}

/** @param back where the reader can go on from, a path of ours. */
export function problemBody(title: string, message: string, back: string): Html {
  return html`<h1>${title}</h1>
    <p class="beware"><bdi>${message}</bdi></p>
    <p><a href="${back}">Look at it again</a></p>`
}

/** Comes before a page when another site led here: the browser sends our cookie only to what we asked for ourselves. */
export function stepBody(path: string): Html {
  return html`<p><a href="${path}">Go on</a></p>`
}
