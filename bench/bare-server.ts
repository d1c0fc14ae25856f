/**
 * The plain peer of `query_database`: an MCP tool on the same SDK, the same HTTP stack and the same driver that runs the
 * query with nothing in between. What it costs is what anybody pays for MCP over HTTP; the gateway is measured against it.
 */
import { toNodeHandler } from '@modelcontextprotocol/node'
import { createMcpHandler, McpServer } from '@modelcontextprotocol/server'
import { createMcpExpressApp } from '@modelcontextprotocol/express'
import { Pool } from 'pg'
import * as z from 'zod/v4'

const url = process.env['BENCH_DATABASE_URL']
if (url === undefined) throw new Error('BENCH_DATABASE_URL is not set')
const pool = new Pool({ connectionString: url, max: 10 })

const handler = createMcpHandler(() => {
  const server = new McpServer({ name: 'bare', version: '0' })
  server.registerTool(
    'query',
    {
      description: 'Runs a query.',
      inputSchema: z.object({ sql: z.string(), params: z.array(z.unknown()).optional() }),
    },
    async ({ sql, params }) => {
      const result = await pool.query({ text: sql, values: params ?? [], rowMode: 'array' })
      const structured = { columns: result.fields.map(({ name }) => name), rows: result.rows as unknown[][] }
      return { content: [{ type: 'text', text: JSON.stringify(structured) }], structuredContent: structured }
    },
  )
  return server
})

const app = createMcpExpressApp()
const mcp = toNodeHandler(handler)
app.all('/mcp', (request, response) => void mcp(request, response, request.body))
const listener = app.listen(0, '127.0.0.1', () => {
  const address = listener.address()
  if (address !== null && typeof address === 'object') console.log(String(address.port))
})
process.once('SIGTERM', () => {
  listener.close()
  listener.closeAllConnections()
  void pool.end()
})
