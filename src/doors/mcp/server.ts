/**
 * One MCP server: a fresh one for each session of the 2025 era, a fresh one for each request of the 2026 era. None is
 * ever shared between two clients.
 *
 * @packageDocumentation
 */
import { ResourceNotFoundError, Server } from '@modelcontextprotocol/server'
import type { ListToolsResult } from '@modelcontextprotocol/server'
import { TOOLS, type Tool } from '../../../tools/index.ts'
import { callerOf } from './caller.ts'
import { callTool } from './calls.ts'
import type { Cursors } from './cursors.ts'
import type { DoorLimits, McpDoorDeps } from './deps.ts'
import { isApprover, readResource, resourcesFor } from './resources.ts'

const INSTRUCTIONS = [
  'Sallyport stands between you and the targets it lists: it judges every call by policy, records it, and may mask',
  'values or ask a person first. Read the resource `policy://effective` to see what you may do and `targets://` for',
  'the targets. A `denied` answer names the rule: do not try to get around it by rewording the request.',
].join(' ')

const listed = ({ name, title, description, inputSchema, outputSchema, annotations }: Tool): Listed => ({
  name,
  title,
  description,
  inputSchema,
  outputSchema,
  annotations,
})

type Listed = ListToolsResult['tools'][number]

const TOOL_LIST: readonly Listed[] = TOOLS.filter(({ isForApprovers }) => isForApprovers !== true).map(listed)
const APPROVER_TOOL_LIST: readonly Listed[] = TOOLS.map(listed)

/** Makes a server that serves this door's tools and resources. */
export function createServer(deps: McpDoorDeps, limits: DoorLimits, cursors: Cursors): Server {
  const server = new Server(
    { name: 'sallyport', title: 'Sallyport', version: deps.version ?? '0.0.0' },
    {
      capabilities: { tools: {}, resources: { subscribe: true } },
      instructions: INSTRUCTIONS,
    },
  )
  server.setRequestHandler('tools/list', (_, ctx) => ({
    tools: [...(isApprover(callerOf(ctx).principal) ? APPROVER_TOOL_LIST : TOOL_LIST)],
  }))
  // Low level on purpose: the library's own argument check would refuse a call before anybody could record it.
  server.setRequestHandler('tools/call', (request, ctx) =>
    callTool(
      request.params,
      ctx,
      deps,
      limits,
      cursors,
      () => server.getClientCapabilities()?.elicitation?.form !== undefined,
    ),
  )
  server.setRequestHandler('resources/list', (_, ctx) => ({ resources: [...resourcesFor(callerOf(ctx).principal)] }))
  server.setRequestHandler('resources/templates/list', () => ({ resourceTemplates: [] }))
  server.setRequestHandler('resources/read', async (request, ctx) => {
    const text = await readResource(request.params.uri, callerOf(ctx).principal, deps)
    if (text === undefined) throw new ResourceNotFoundError(request.params.uri)
    return { contents: [{ uri: request.params.uri, mimeType: 'application/json', text }] }
  })
  return server
}
