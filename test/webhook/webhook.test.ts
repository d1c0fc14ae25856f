import { once } from 'node:events'
import { createServer } from 'node:http'
import type { AddressInfo } from 'node:net'
import { afterEach, describe, expect, it } from 'vitest'
import { openWebhook, signatureOf, type Webhook, type WebhookOptions } from '../../src/doors/webhook/webhook.ts'

interface Received {
  readonly headers: Readonly<Record<string, unknown>>
  readonly body: string
}

const closers: (() => Promise<unknown>)[] = []
afterEach(async () => {
  for (const close of closers.splice(0).toReversed()) await close()
})

/** A receiver that answers with these statuses in turn, then 200. */
async function open(statuses: readonly number[] = [], more: Partial<WebhookOptions> = {}) {
  const received: Received[] = []
  const lost: string[] = []
  const answers = [...statuses]
  const server = createServer((request, response) => {
    let body = ''
    request.setEncoding('utf8')
    request.on('data', (piece: string) => (body += piece))
    request.on('end', () => {
      received.push({ headers: request.headers, body })
      response.writeHead(answers.shift() ?? 200, { location: '/elsewhere' }).end('<answer>')
    })
  })
  server.listen(0, '127.0.0.1')
  await once(server, 'listening')
  const { port } = server.address() as AddressInfo
  const webhook: Webhook = openWebhook({
    url: `http://127.0.0.1:${port}/hook`,
    secret: async () => 'shared secret',
    onLost: ({ ticket, why }) => void lost.push(`${ticket}: ${why}`),
    now: () => 1_700_000_000_000,
    delaysMs: [1, 1],
    ...more,
  })
  closers.push(async () => {
    server.closeAllConnections()
    server.close()
  })
  closers.push(() => webhook.close())
  return { webhook, received, lost }
}

const event = (to: 'pending' | 'approved' | 'executing', ticket = 't1') =>
  ({ kind: 'state', at: 0, ticket, to, by: 'bob', requester: '<!channel> *loop*', target: 'shop-db' }) as const

describe('the webhook of approvals', () => {
  it('tells nothing of calls that nobody was asked about, but for an outcome nobody knows', async () => {
    const { webhook, received } = await open()
    const covered = { ...event('approved', 'covered'), isCovered: true } as const
    webhook.tell(covered)
    webhook.tell({ ...covered, to: 'cancelled' })
    webhook.tell({ ...covered, to: 'outcome_unknown', ticket: 'last' })
    await expect.poll(() => received.length).toBe(1)
    expect(JSON.parse(received[0]?.body ?? '{}')).toMatchObject({ ticket: 'last' })
  })

  it('leads to the approval page with nothing but the id of the ticket, where there is an address for it', async () => {
    const { webhook, received } = await open([], { pages: 'https://approve.example' })
    webhook.tell(event('pending', 't/1?x=<y>'))
    await expect.poll(() => received.length).toBe(1)
    const { url, text } = JSON.parse(received[0]?.body ?? '{}') as { url?: string; text?: string }
    expect(url).toBe('https://approve.example/approvals/t%2F1%3Fx%3D%3Cy%3E')
    expect(text).toContain(url)
  })

  it('says that a ticket waits, signed, and nothing of what it asks', async () => {
    const { webhook, received } = await open()
    webhook.tell(event('pending'))
    await expect.poll(() => received.length).toBe(1)
    const [{ headers, body } = { headers: {}, body: '' }] = received
    expect(headers['x-sallyport-signature']).toBe(
      `t=1700000000,v1=${signatureOf('shared secret', 1_700_000_000, body)}`,
    )
    const message = JSON.parse(body) as { text: string }
    expect(Object.keys(message)).toEqual(['text', 'ticket', 'state', 'requester', 'target', 'at'])
    expect(message.text).toContain('sallyport approvals show t1')
    // No name pings a channel or makes a link.
    expect(message.text).not.toMatch(/[<*]/u)
  })

  it('makes visible what is hidden in a name, wherever it stands', async () => {
    const { webhook, received } = await open()
    webhook.tell({ ...event('pending'), requester: 'loop\u202Egro', target: 'db\u001b[2J\n' })
    await expect.poll(() => received.length).toBe(1)
    const message = JSON.parse(received[0]?.body ?? '{}') as { text: string; requester: string; target: string }
    expect(message).toMatchObject({ requester: 'loop<U+202E>gro', target: 'db<U+001B>[2J<U+000A>' })
    expect(message.text).toContain('loop&lt;U+202E&gt;gro')
    expect(message.text).not.toMatch(/\p{C}/u)
  })

  it('tells what ends a ticket, and not what only moves it', async () => {
    const { webhook, received } = await open()
    webhook.tell(event('executing', 't0'))
    webhook.tell(event('approved'))
    await expect.poll(() => received.length).toBe(1)
    expect(received[0]?.body).toContain('is now approved')
  })

  it('tries again some times, the same message by the same name, and then says that it gave up', async () => {
    const { webhook, received, lost } = await open([500, 503])
    webhook.tell(event('pending'))
    await expect.poll(() => received.length).toBe(3)
    expect(new Set(received.map(({ headers }) => headers['x-sallyport-delivery'])).size).toBe(1)
    const other = await open([500, 500, 500])
    other.webhook.tell(event('pending'))
    await expect.poll(() => other.lost).toEqual(['t1: status 500'])
    expect(other.received).toHaveLength(3)
    expect(lost).toEqual([])
  })

  it('follows no redirect', async () => {
    const { webhook, received, lost } = await open([302, 302, 302])
    webhook.tell(event('pending'))
    await expect.poll(() => lost.length).toBe(1)
    expect(received).toHaveLength(3)
  })

  it('sends nothing it cannot sign', async () => {
    const { webhook, received, lost } = await open([], { secret: () => Promise.reject(new Error('no secret here')) })
    webhook.tell(event('pending'))
    await expect.poll(() => lost).toEqual(['t1: Error'])
    expect(received).toEqual([])
  })

  it('ends at once, whatever is still on its way', async () => {
    const { webhook, lost } = await open([500], { delaysMs: [3_600_000] })
    webhook.tell(event('pending'))
    await webhook.close()
    expect(lost).toHaveLength(1)
  })
})
