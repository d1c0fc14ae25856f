/** The approval page in a real browser: a person signs in, reads, approves, and the held call runs. */
import { chromium, type Browser, type Page } from 'playwright-core'
import { afterAll, beforeAll, describe, expect, it } from 'vitest'
import { has } from '../setup/needs.ts'
import { callTool, openWorld, type World } from './world.ts'

const CHROMIUM = '/usr/bin/chromium'
/** The end of all hope; every step waits for the page itself. */
const MS = 30_000

const POLICY = `
targets: [db]
rules:
  - {id: read, effect: allow, principals: [group:agents], actions: [sql.select], resources: ["-", public.orders]}
  - id: change
    effect: require_approval
    principals: [group:agents]
    actions: [sql.update]
    resources: [public.orders]
    when: part.has_where
    approvers: {any_of: [group:dba], count: 1, expires: 15m}
`
const SCHEMA = `CREATE TABLE public.orders (id integer PRIMARY KEY, note text, email text);
INSERT INTO public.orders VALUES (1, 'paid', 'ann@example.com'), (2, '<script>document.title = "owned"</script>', NULL);`

/** What an agent says to whoever reads it: markup, and characters that reorder. */
const REASON = '</div><script>document.title = "owned"</script><b>approved by security</b> \u202eesrever'

describe.runIf(has('chromium'))('the approval page in a browser', () => {
  let world: World
  let browser: Browser
  let agent: string
  let dba: string

  beforeAll(async () => {
    world = await openWorld({
      schema: SCHEMA,
      grants: 'GRANT SELECT, UPDATE ON public.orders TO $role',
      policy: POLICY,
      config: 'approvals: {hold: 60s}\n',
    })
    agent = await world.token({ principal: 'bot', kind: 'agent', owner: 'ana', groups: ['agents'], roles: ['caller'] })
    dba = await world.token({ principal: 'bob', kind: 'person', owner: 'bob', groups: ['dba'], roles: ['approver'] })
    browser = await chromium.launch({ executablePath: CHROMIUM, args: ['--no-sandbox', '--disable-gpu'] })
  })
  afterAll(async () => {
    await browser?.close()
    await world?.close()
  })

  async function openPage(options: Parameters<Browser['newContext']>[0] = {}): Promise<Page> {
    const context = await browser.newContext(options)
    context.setDefaultTimeout(MS)
    return context.newPage()
  }

  async function signIn(page: Page): Promise<void> {
    await page.getByLabel('Your Sallyport token').fill(dba)
    await page.getByRole('button', { name: 'Sign in' }).click()
    await page.getByRole('heading', { name: 'Approvals' }).waitFor()
  }

  const held = (sql: string, token = agent) =>
    callTool(world.mcpUrl, token, 'query_database', { target: 'db', sql, reason: REASON }, AbortSignal.timeout(2 * MS))

  /** Waits until a ticket is there; the list renews itself, but not within a test. */
  async function openTicket(page: Page): Promise<void> {
    await expect
      .poll(
        async () => {
          await page.goto(`${world.adminUrl}/approvals`)
          return page.getByText('Waiting for you').count()
        },
        { timeout: MS },
      )
      .toBe(1)
    await page.locator('td a').first().click()
    await page.getByRole('heading', { name: 'What would run' }).waitFor()
  }

  it('lets a person sign in, read the whole call, and approve it; the held call runs', async () => {
    const page = await openPage()
    const said: string[] = []
    page.on('console', (message) => void said.push(message.text()))
    await page.goto(`${world.adminUrl}/approvals`)
    await signIn(page)
    const call = held(`UPDATE public.orders SET note = 'sent' WHERE id < 3`)
    await openTicket(page)

    const text = await page.locator('main').innerText()
    for (const seen of [
      `UPDATE public.orders SET note = 'sent' WHERE id < 3`,
      'bot',
      'rule change',
      'Nobody checked them',
      '<U+202E>',
    ]) {
      expect(text).toContain(seen)
    }
    // What an agent and a row say is text, and the style is ours: its hash matches, and nothing else was refused.
    expect(text).toContain('<script>document.title = "owned"</script>')
    expect(await page.title()).toMatch(/^Ticket \S+ · Sallyport$/u)
    expect(await page.evaluate('getComputedStyle(document.body).margin')).toBe('0px')
    expect(said.filter((text) => text.includes('Content Security Policy'))).toEqual([])
    expect((await page.context().cookies()).map(({ httpOnly, sameSite }) => [httpOnly, sameSite])).toEqual([
      [true, 'Strict'],
    ])
    if (process.env['SALLYPORT_SHOTS'] !== undefined) await shots(page, process.env['SALLYPORT_SHOTS'])

    await page.getByLabel(/^Your reason/u).fill('agreed with the shop')
    await page.getByRole('button', { name: 'Approve this call' }).click()
    await page.getByText('approve at').waitFor()
    expect((await call).structuredContent).toMatchObject({ status: 'ok' })
    const { rows } = await world.db.admin.query('SELECT DISTINCT note FROM public.orders')
    expect(rows).toEqual([{ note: 'sent' }])
    // It closed here too.
    await page.reload()
    expect(await page.getByRole('button', { name: 'Approve this call' }).count()).toBe(0)
  })

  it('works without scripts and ends with the token', async () => {
    const page = await openPage({ javaScriptEnabled: false, viewport: { width: 360, height: 740 } })
    await page.goto(`${world.adminUrl}/approvals`)
    await signIn(page)
    const call = held(`UPDATE public.orders SET note = 'lost' WHERE id = 1`)
    await openTicket(page)
    await page.getByLabel(/^Your reason/u).fill('not today')
    await page.getByRole('button', { name: 'Deny' }).click()
    await page.getByText('deny at').waitFor()
    const refused = await call
    expect(refused.structuredContent).toMatchObject({ code: 'ERR_APPROVAL_REFUSED' })
    expect(refused.content[0]?.text).toContain('not today')

    const { tokens } = await world.operator.get<{ tokens: { id: string; principal: string }[] }>('/v1/tokens')
    await world.operator.post(`/v1/tokens/${tokens.find(({ principal }) => principal === 'bob')?.id}/revoke`)
    await page.goto(`${world.adminUrl}/approvals`)
    await page.getByRole('heading', { name: 'Sign in to answer approvals' }).waitFor()
    expect(await page.context().cookies()).toEqual([])
  })
})

/** Pictures for people who change the style, where `SALLYPORT_SHOTS` names a directory. */
async function shots(page: Page, directory: string): Promise<void> {
  for (const scheme of ['light', 'dark'] as const) {
    await page.emulateMedia({ colorScheme: scheme })
    for (const width of [1100, 360]) {
      await page.setViewportSize({ width, height: 740 })
      await page.screenshot({ path: `${directory}/ticket-${scheme}-${width}.png`, fullPage: true })
    }
  }
}
