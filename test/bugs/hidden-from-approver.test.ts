/**
 * Detectors searched the statement as one text, so an agent could write what a detector takes for the beginning of a
 * secret, and the rest of the statement was shown neither to the approver nor to the recording.
 */
import { afterAll, beforeAll, describe, expect, it } from 'vitest'
import { callTool, openWorld, type ToolResult, type World } from '../e2e/world.ts'
import { AGENT, DBA, notesWorld } from './kit.ts'

/** What of a statement is neither the inside of a constant nor of a comment to the end of its line. */
function skeleton(sql: string): string {
  return sql.replaceAll(/--[^\n]*/gu, '--').replaceAll(/'[^']*'/gu, "''")
}

describe('a statement with something in it that looks like a secret', () => {
  let world: World
  let agent: string
  let dba: string
  const query = (sql: string, params?: readonly string[]): Promise<ToolResult> =>
    callTool(world.mcpUrl, agent, 'query_database', { target: 'db', sql, ...(params !== undefined && { params }) })

  beforeAll(async () => {
    world = await openWorld(
      notesWorld(
        'masks: [{detect: [bearer, private_key, password_assignment, credit_card, email], transform: redact}]',
      ),
    )
    agent = await world.token(AGENT)
    dba = await world.token(DBA)
  })
  afterAll(() => world?.close())

  it.each([
    "UPDATE ledger SET body = 'x' WHERE id = 1 /* authorization: */ OR id > 0",
    "UPDATE ledger SET body = 'x' WHERE id = 1 OR body <> '-----BEGIN PRIVATE KEY-----' OR '' <> '-----END PRIVATE KEY-----'",
    "UPDATE ledger SET body = 'password=' WHERE id = 1 OR id > 0 OR body = 'password=a'",
    "UPDATE ledger SET body = 'x' WHERE id = 1 OR id > 0 -- */ -----BEGIN RSA PRIVATE KEY-----\n OR id > 1",
    "UPDATE ledger SET body = 'x' WHERE id = 4111111111111111",
  ])('C14: nobody is asked about less than all of it: %s', async (sql) => {
    const answer = await query(sql)
    const { status, ticket } = answer.structuredContent ?? {}
    const asked =
      status === 'pending_approval'
        ? await world.admin(dba).get<{ request: { text: string } }>(`/v1/approvals/${ticket}`)
        : undefined
    // Either a person sees every word of it, or nobody is asked.
    expect(asked === undefined ? status : skeleton(asked.request.text)).toBe(
      asked === undefined ? 'denied' : skeleton(sql),
    )
  })

  it('C10: hides the value alone where that is enough, and asks', async () => {
    const answer = await query(
      "UPDATE ledger SET body = 'Bearer abcdef1234567890abcd' WHERE id = 1 AND body <> 'a@b.example'",
    )
    expect(answer.structuredContent).toMatchObject({ status: 'pending_approval' })
    const shown = await world
      .admin(dba)
      .get<{ request: { text: string } }>(`/v1/approvals/${answer.structuredContent?.ticket}`)
    expect(shown.request.text).toMatch(
      /^UPDATE ledger SET body = '[^']*REDACTED[^']*' WHERE id = 1 AND body <> '[^']*REDACTED[^']*'$/u,
    )
  })

  it('C14: parameters are the way to ask about such values', async () => {
    const answer = await query('UPDATE ledger SET body = $1 WHERE id = 1', ['authorization: Basic cGFzczp3b3Jk'])
    expect(answer.structuredContent).toMatchObject({ status: 'pending_approval' })
  })

  it('C10: the recording keeps every word of it and no value', async () => {
    const sql =
      "UPDATE notes SET body = 'harmless' /* authorization: */ WHERE id = 2 AND body <> 'hunter2-not-recorded'"
    expect((await query(sql)).structuredContent).toMatchObject({ status: 'ok' })
    const auditor = await world.token({ principal: 'ada', kind: 'person', owner: 'ada', roles: ['auditor'] })
    const { sessions } = await world.operator.get<{ sessions: { id: string }[] }>('/v1/sessions')
    let text = ''
    for (const { id } of sessions) {
      for await (const piece of world.admin(auditor).text(`/v1/recordings/${id}`)) text += piece
    }
    expect(text).toContain("UPDATE notes SET body = '•' WHERE id = • AND body <> '•'")
    expect(text).not.toContain('hunter2')
  })
})
