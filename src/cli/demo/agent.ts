import { Client } from '@modelcontextprotocol/sdk/client/index.js'
import { StreamableHTTPClientTransport } from '@modelcontextprotocol/sdk/client/streamableHttp.js'
import { z } from 'zod'

/** An agent's side of the demo: a real MCP client over Streamable HTTP that holds a URL and a token, nothing else. */
export interface Agent {
  readonly query: (sql: string, options?: QueryOptions) => Promise<QueryAnswer>
  close(): Promise<void>
}

/** What an agent may add to a statement. */
export interface QueryOptions {
  readonly params?: readonly (string | number)[]
  readonly reason?: string
}

const answerSchema = z.looseObject({
  status: z.string(),
  code: z.string().optional(),
  reason: z.string().optional(),
  hint: z.string().optional(),
  rules: z.array(z.string()).optional(),
  ticket: z.string().optional(),
  retry_after_ms: z.number().optional(),
  columns: z.array(z.looseObject({ name: z.string(), masked: z.string().optional() })).optional(),
  masked: z.looseObject({ detectors: z.record(z.string(), z.number()).optional() }).optional(),
  rows: z.array(z.array(z.unknown())).optional(),
  row_count: z.number().optional(),
  command: z.string().optional(),
  truncated: z.boolean().optional(),
  replayed: z.boolean().optional(),
})

/** What came back, as the model gets it. */
export type QueryAnswer = z.output<typeof answerSchema>

/** A person is in the loop, so an answer may take a while. */
const ANSWER_MS = 30_000

/** Connects an agent. */
export async function connectAgent(url: string, token: string, target: string): Promise<Agent> {
  const client = new Client({ name: 'demo-agent', version: '1.0.0' })
  const transport = new StreamableHTTPClientTransport(new URL(url), {
    requestInit: { headers: { authorization: `Bearer ${token}` } },
  })
  await client.connect(transport)
  return {
    async query(sql, options = {}) {
      const result = await client.callTool(
        { name: 'query_database', arguments: { target, sql, ...options } },
        undefined,
        { timeout: ANSWER_MS },
      )
      return answerSchema.parse(result.structuredContent)
    },
    async close() {
      await transport.terminateSession().catch(() => undefined)
      await client.close()
    },
  }
}
