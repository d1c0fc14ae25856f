/** `query_database` end to end: a gateway process, a real PostgreSQL, and nothing but its doors. */
import { afterAll, beforeAll, describe, expect, it } from 'vitest'
import { shopSql } from '../../src/cli/demo/shop.ts'
import { callTool, openWorld, type ToolResult, type World } from './world.ts'

const POLICY = `
targets: [db]
rules:
  - id: read
    effect: allow
    principals: [group:agents]
    actions: [sql.select, sql.explain]
    resources: ["-", public.customers, public.orders, public.products]
    limits: {rows: 20}
  - id: change
    effect: require_approval
    principals: [group:agents]
    actions: [sql.update]
    resources: [public.orders]
    when: part.has_where
    approvers: {any_of: [group:dba], count: 1, expires: 15m}
  - id: reprice
    effect: require_approval
    principals: [group:agents]
    actions: [sql.update]
    resources: [public.products]
    approvers: {any_of: [group:dba], covers: {same_statement: true, for: 10m, uses: 4}}
masks:
  - {columns: [public.customers.ssn, public.customers.card], transform: redact}
  - {detect: [email], transform: redact}
`

describe('query_database, end to end', () => {
  let world: World
  let agent: string
  let second: string
  let dba: string
  const query = (sql: string, more: object = {}, token = agent): Promise<ToolResult> =>
    callTool(world.mcpUrl, token, 'query_database', { target: 'db', sql, ...more })

  beforeAll(async () => {
    world = await openWorld({
      schema: shopSql(),
      grants:
        'GRANT USAGE ON SCHEMA public, internal TO $role; GRANT ALL ON ALL TABLES IN SCHEMA public, internal TO $role; GRANT ALL ON ALL SEQUENCES IN SCHEMA public TO $role',
      policy: POLICY,
      config: 'approvals: {hold: 100ms}\n',
    })
    agent = await world.token({ principal: 'loop', kind: 'agent', owner: 'sam', groups: ['agents'], roles: ['caller'] })
    second = await world.token({
      principal: 'loop-2',
      kind: 'agent',
      owner: 'sam',
      groups: ['agents'],
      roles: ['caller'],
    })
    dba = await world.token({
      principal: 'maria',
      kind: 'person',
      owner: 'maria',
      groups: ['dba'],
      roles: ['approver', 'caller'],
    })
  })
  afterAll(() => world?.close())

  it('answers a read and says what was cut and masked', async () => {
    const result = await query('SELECT id, name, ssn, card FROM customers ORDER BY id')
    expect(result.isError ?? false).toBe(false)
    expect(result.structuredContent).toMatchObject({ status: 'ok', truncated: true })
    expect(result.structuredContent?.rows).toHaveLength(20)
    expect(JSON.stringify(result)).not.toMatch(/\d{3}-\d{2}-\d{4}/u)
  })

  it('C9: shows no masked value in any form of the question', async () => {
    const { rows } = await world.db.admin.query<{ ssn: string | null; card: string | null }>(
      'SELECT ssn, card FROM customers',
    )
    const secrets = rows.flatMap(({ ssn, card }) => [ssn ?? [], card ?? []].flat())
    expect(secrets.length).toBeGreaterThan(50)
    const questions = [
      'SELECT * FROM customers',
      'SELECT reverse(ssn) FROM customers',
      'SELECT ssn::int FROM customers',
      'SELECT json_agg(c) FROM customers c',
      "SELECT string_agg(ssn, ',') FROM public.customers",
      'SELECT c FROM customers c',
      'SELECT ssn FROM customers UNION SELECT card FROM customers',
      'WITH customers AS (SELECT * FROM customers) SELECT ssn FROM customers',
      "EXPLAIN (VERBOSE) SELECT ssn FROM customers WHERE ssn > '5'",
      "SELECT most_common_vals FROM pg_stats WHERE tablename = 'customers'",
      'SELECT * FROM customer_view',
      "SELECT query_to_xml('select ssn from customers', true, false, '')",
      'TABLE customers',
    ]
    for (const sql of questions) {
      const answer = JSON.stringify(await query(sql))
      for (const secret of secrets) expect(answer.includes(secret), `${sql} shows a masked value`).toBe(false)
      for (const secret of secrets)
        expect(answer.includes(secret.split('').toReversed().join('')), `${sql} shows one backwards`).toBe(false)
    }
    expect(world.output).not.toContain(secrets[0])
  })

  it('C10: finds what stands in free text', async () => {
    const result = await query("SELECT note FROM orders WHERE note LIKE '%@%' LIMIT 5")
    expect(JSON.stringify(result)).not.toContain('@')
    expect(result.structuredContent).toMatchObject({ status: 'ok' })
  })

  it('C3: denies what no rule names, naming the table and nothing internal', async () => {
    const result = await query('SELECT * FROM internal.audit_log')
    expect(result.isError).toBe(true)
    expect(result.structuredContent).toMatchObject({ status: 'denied' })
    expect(JSON.stringify(result)).toContain('internal.audit_log')
    expect(JSON.stringify(result)).not.toMatch(/127\.0\.0\.1|stack|node_modules|password/u)
  })

  it('C1: does not run a second statement hidden behind the first', async () => {
    for (const sql of [
      'SELECT 1; DELETE FROM orders',
      'SELECT 1;\n--\nDROP TABLE orders',
      'COMMIT; DROP TABLE orders',
    ]) {
      expect((await query(sql)).isError, `${sql} ran`).toBe(true)
    }
    expect((await world.db.admin.query('SELECT count(*)::int AS n FROM orders')).rows).toEqual([{ n: 300 }])
  })

  it('C12: holds an UPDATE until another person agrees, runs it once, and then shows the stored answer', async () => {
    const sql = 'UPDATE orders SET note = $1 WHERE id = $2'
    const held = await query(sql, { params: ['held', 7], reason: 'the customer asked' })
    expect(held.structuredContent).toMatchObject({ status: 'pending_approval' })
    const ticket = String(held.structuredContent?.ticket)
    const shown = await world.admin(dba).get<{ digest: string }>(`/v1/approvals/${ticket}`)
    await world.admin(dba).post(`/v1/approvals/${ticket}/vote`, { decision: 'approve', digest: shown.digest })
    const done = await callTool(world.mcpUrl, agent, 'approval_status', { ticket, wait_ms: 5000 })
    expect(done.structuredContent).toMatchObject({ status: 'ok' })
    await world.db.admin.query('UPDATE orders SET note = NULL WHERE id = 7')
    const again = await query(sql, { params: ['held', 7], reason: 'the customer asked' })
    expect(again.structuredContent).toMatchObject({ status: 'ok', replayed: true })
    expect((await world.db.admin.query('SELECT note FROM orders WHERE id = 7')).rows).toEqual([{ note: null }])
  })

  it('C14: shows approvers what would change, and asks them again when that is something else by then', async () => {
    const sql = 'UPDATE orders SET note = $1 WHERE total > $2 AND id <= 3'
    const params = ['large', '0']
    const review = async (ticket: string) => {
      type Seen = { digest: string; follows?: string; preview?: { sections: { title: string; table?: object }[] } }
      const seen = await world.admin(dba).get<Seen>(`/v1/approvals/${ticket}`)
      await world.admin(dba).post(`/v1/approvals/${ticket}/vote`, { decision: 'approve', digest: seen.digest })
      return seen
    }
    const first = String((await query(sql, { params })).structuredContent?.ticket)
    const before = await review(first)
    expect(before.preview?.sections[0]).toMatchObject({ title: 'UPDATE public.orders: 3 rows' })
    await world.db.admin.query('UPDATE orders SET total = -1 WHERE id = 2')
    const again = await callTool(world.mcpUrl, agent, 'approval_status', { ticket: first, wait_ms: 0 })
    expect(again.structuredContent).toMatchObject({ status: 'pending_approval' })
    const second = String(again.structuredContent?.ticket)
    expect(await review(second)).toMatchObject({
      follows: first,
      preview: { sections: [{ title: 'UPDATE public.orders: 2 rows' }] },
    })
    const done = await callTool(world.mcpUrl, agent, 'approval_status', { ticket: second, wait_ms: 5000 })
    expect(done.structuredContent).toMatchObject({ status: 'ok' })
    const { rows } = await world.db.admin.query(`SELECT id FROM orders WHERE note = 'large' ORDER BY id`)
    expect(rows).toEqual([{ id: 1 }, { id: 3 }])
  })

  it('covers other parameters of one statement, as often as the rule says and for no more rows', async () => {
    interface Seen {
      readonly digest: string
      readonly covers?: { readonly id: string; readonly text: string; readonly used: number }
    }
    const admin = world.admin(dba)
    const seen = (ticket: string): Promise<Seen> => admin.get<Seen>(`/v1/approvals/${ticket}`)
    const sql = 'UPDATE products SET name = $1 WHERE id = $2 OR id < $3'
    const ask = async (text: string, params?: readonly string[]): Promise<string> => {
      const { structuredContent } = await query(text, params === undefined ? {} : { params })
      return String(structuredContent?.status)
    }
    const first = String((await query(sql, { params: ['a', '1', '0'] })).structuredContent?.ticket)
    const { digest, covers } = await seen(first)
    expect(covers?.text).toContain('this statement with any other parameters: 4 calls in all, within 10 min')
    await admin.post(`/v1/approvals/${first}/vote`, { decision: 'approve', digest, covers: covers?.id })
    expect(await ask(sql, ['a', '1', '0'])).toBe('ok')
    expect(await ask(sql, ['b', '2', '0'])).toBe('ok')
    // The approver saw one row; the last parameter would make it three.
    expect(await ask(sql, ['all', '1', '4'])).toBe('pending_approval')
    expect(await ask(sql.replace('<', '>'), ['all', '1', '0'])).toBe('pending_approval')
    for (const attack of [
      `UPDATE products SET name = 'c' WHERE id = 3 OR id < 0`,
      `UPDATE products SET name = $1`,
      `UPDATE products SET name = $1 WHERE true`,
    ]) {
      expect(await ask(attack, attack.includes('$1') ? ['c'] : [])).toBe('pending_approval')
    }
    expect(await ask(sql, ['c', '3', '0'])).toBe('ok')
    expect(await ask(sql, ['d', '4', '0'])).toBe('ok')
    expect(await ask(sql, ['e', '5', '0'])).toBe('pending_approval')
    const { rows } = await world.db.admin.query(
      'SELECT id, name FROM products WHERE id <= 5 AND length(name) = 1 ORDER BY id',
    )
    expect(rows.map(({ name }: { name: string }) => name)).toEqual(['a', 'b', 'c', 'd'])
    expect((await seen(first)).covers?.used).toBe(4)
  })

  it('C11: an approval for one value is none for another, nor for another principal', async () => {
    const sql = 'UPDATE orders SET note = $1 WHERE id = $2'
    const held = await query(sql, { params: ['a', 8] })
    const ticket = String(held.structuredContent?.ticket)
    const shown = await world.admin(dba).get<{ digest: string }>(`/v1/approvals/${ticket}`)
    await world.admin(dba).post(`/v1/approvals/${ticket}/vote`, { decision: 'approve', digest: shown.digest })
    expect((await query(sql, { params: ['a', 9] })).structuredContent).toMatchObject({ status: 'pending_approval' })
    expect((await query(sql, { params: ['a', 8] }, second)).structuredContent).toMatchObject({
      status: 'pending_approval',
    })
    const stolen = await callTool(world.mcpUrl, second, 'approval_status', { ticket })
    expect(stolen.isError).toBe(true)
  })

  it('C13: the requester cannot agree to its own call, nor can an agent', async () => {
    const sam = await world.token({
      principal: 'sam',
      kind: 'person',
      owner: 'sam',
      groups: ['dba'],
      roles: ['caller'],
    })
    const held = await query('UPDATE orders SET note = $1 WHERE id = $2', { params: ['own', 10] })
    const ticket = String(held.structuredContent?.ticket)
    for (const token of [agent, sam]) {
      await expect(
        world.admin(token).post(`/v1/approvals/${ticket}/vote`, { decision: 'approve', digest: 'x' }),
      ).rejects.toMatchObject({ code: expect.stringMatching(/FORBIDDEN|UNKNOWN_TICKET/u) as unknown })
    }
  })

  it('C17: a revoked token opens nothing any more', async () => {
    const made = await world.operator.post<{ token: string; id: string }>('/v1/tokens', {
      principal: 'short',
      kind: 'agent',
      owner: 'sam',
      groups: ['agents'],
      roles: ['caller'],
      expires_in_ms: 3_600_000,
    })
    expect((await query('SELECT 1', {}, made.token)).structuredContent).toMatchObject({ status: 'ok' })
    await world.operator.post(`/v1/tokens/${made.id}/revoke`)
    await expect(query('SELECT 1', {}, made.token)).rejects.toThrow(/401/u)
  })

  it('describes what the caller may read, with its masks', async () => {
    const result = await callTool(world.mcpUrl, agent, 'describe_target', { target: 'db' })
    const text = JSON.stringify(result.structuredContent)
    expect(text).toContain('customers')
    expect(text).not.toContain('audit_log')
    expect(text).toMatch(/"ssn"[^}]*redact/u)
  })

  it('leaves a recording that verifies, with every call in it', async () => {
    await world.stop()
    const verified = await world.run(['recordings', 'verify'])
    expect(verified.stderr + verified.stdout).toMatch(/as they were written/u)
    expect(verified.code).toBe(0)
  })
})
