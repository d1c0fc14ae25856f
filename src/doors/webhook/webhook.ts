/**
 * Tells people elsewhere that a ticket waits, and when it is over: one signed POST each, in the form Slack and what
 * imitates it take.
 *
 * It is news and nothing more. The message holds no word of the request, of the agent or of a result, nobody can answer
 * through it, and what its receiver says back is not read. Its link leads to the approval page and holds nothing but the
 * ticket's id: who follows it must sign in. A receiver that is down holds up no call.
 *
 * @packageDocumentation
 */
import { createHmac, randomUUID } from 'node:crypto'
import { setTimeout as sleep } from 'node:timers/promises'
import type { ApprovalEvent } from '../../approval/desk.ts'
import { visible } from '../../approval/escape.ts'

/** Where to post, and what with. */
export interface WebhookOptions {
  /** `https:`, or `http:` on loopback; the configuration makes sure of it. */
  readonly url: string
  /** Where the approval page is, as an origin. Without it messages name the command. */
  readonly pages?: string
  /** Reads the signing secret, for each message anew. */
  readonly secret: () => Promise<string>
  /** Told of a message that was given up. Never with a secret or the URL, which may be one. */
  readonly onLost: (lost: { readonly ticket: string; readonly why: string }) => void
  /** Milliseconds since the epoch. */
  readonly now: () => number
  /** Waits before each try after the first. */
  readonly delaysMs?: readonly number[]
}

/** The open webhook. */
export interface Webhook {
  /** Takes a move of a ticket; returns at once. */
  tell(event: Extract<ApprovalEvent, { kind: 'state' }>): void
  /** Gives up what is not delivered yet. */
  close(): Promise<void>
}

const DELAYS_MS: readonly number[] = [1_000, 5_000, 25_000]
const ANSWER_MS = 5_000
/** Messages on their way at once; more are given up, and that is said. */
const WAITING_MAX = 100

/** What is worth telling: that somebody should look, and that nobody needs to any more. */
const TOLD: ReadonlySet<string> = new Set(['pending', 'approved', 'denied', 'expired', 'cancelled', 'outcome_unknown'])

/** Opens the webhook. Whoever opens it closes it. */
export function openWebhook({ url, pages, secret, onLost, now, delaysMs = DELAYS_MS }: WebhookOptions): Webhook {
  const closing = new AbortController()
  const waiting = new Set<Promise<void>>()

  async function deliver(event: Parameters<Webhook['tell']>[0]): Promise<void> {
    const body = JSON.stringify(messageOf(event, pages))
    const id = randomUUID()
    let why = ''
    for (const delayMs of [0, ...delaysMs]) {
      try {
        if (delayMs > 0) await sleep(delayMs, undefined, { signal: closing.signal, ref: false })
        why = await post(body, id)
      } catch (error) {
        why = error instanceof Error ? error.name : 'failed'
      }
      if (why === '') return
      if (closing.signal.aborted) break
    }
    onLost({ ticket: event.ticket, why })
  }

  /** Returns '' once it was taken, else why not. */
  async function post(body: string, id: string): Promise<string> {
    const at = Math.floor(now() / 1_000)
    const response = await fetch(url, {
      method: 'POST',
      // A redirect would take the message to where nobody configured it to go.
      redirect: 'error',
      headers: {
        'content-type': 'application/json',
        'x-sallyport-delivery': id,
        'x-sallyport-signature': `t=${at},v1=${signatureOf(await secret(), at, body)}`,
      },
      body,
      signal: AbortSignal.any([closing.signal, AbortSignal.timeout(ANSWER_MS)]),
    })
    await response.body?.cancel()
    return response.ok ? '' : `status ${response.status}`
  }

  return {
    tell(event) {
      if (!TOLD.has(event.to) || closing.signal.aborted) return
      // Nobody was asked, so nobody needs to hear that it is over; what nobody knows the end of is another matter.
      if (event.isCovered === true && event.to !== 'outcome_unknown') return
      if (waiting.size >= WAITING_MAX) return onLost({ ticket: event.ticket, why: 'too many messages wait' })
      const delivery = deliver(event).finally(() => waiting.delete(delivery))
      waiting.add(delivery)
    },
    async close() {
      closing.abort()
      await Promise.allSettled(waiting)
    },
  }
}

/** HMAC-SHA-256 over `<seconds>.<body>`, in hex: a receiver checks it and refuses what is older than some minutes. */
export function signatureOf(secret: string, atSeconds: number, body: string): string {
  return createHmac('sha256', secret).update(`${atSeconds}.${body}`).digest('hex')
}

function messageOf(
  { ticket, to, by, requester, target, at }: Parameters<Webhook['tell']>[0],
  pages: string | undefined,
): object {
  const url = pages === undefined ? undefined : `${pages}/approvals/${encodeURIComponent(ticket)}`
  const look = url ?? `sallyport approvals show ${ticket}`
  const what =
    to === 'pending'
      ? `${plain(requester)} asks for approval of a call on ${plain(target)}. Look at it: ${look}`
      : `Ticket ${ticket} of ${plain(requester)} on ${plain(target)} is now ${to} (${plain(by)}).`
  return {
    text: what,
    ticket,
    state: to,
    requester: visible(requester),
    target: visible(target),
    at: new Date(at).toISOString(),
    ...(url && { url }),
  }
}

/** Names as they are: nothing in them is hidden, mentions a channel or makes a link (Slack's mrkdwn). */
function plain(name: string): string {
  return visible(name)
    .replaceAll('&', '&amp;')
    .replaceAll('<', '&lt;')
    .replaceAll('>', '&gt;')
    .replaceAll(/[*_~`\r\n]/gu, ' ')
}
