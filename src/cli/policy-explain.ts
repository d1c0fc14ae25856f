import { createReadStream } from 'node:fs'
import { loadConfig } from '../config.ts'
import { SallyportError } from '../core/errors.ts'
import type { Principal, PrincipalKind } from '../core/principal.ts'
import { explainJsonl } from '../policy/explain-jsonl.ts'
import { explain, type Explanation } from '../policy/explain.ts'
import { openOffline, type Offline, type OfflineCall } from './offline.ts'
import { policyOf } from './policy-check.ts'
import { openTerminal, printable, type Terminal } from './terminal.ts'
import { words } from './units.ts'

/** Options of `policy explain`. */
export interface ExplainOptions {
  readonly config: string
  /** A file of calls; `true` or `-` reads standard input. */
  readonly jsonl?: string | true
  readonly principal?: string
  readonly kind: string
  readonly group?: readonly string[]
  readonly target?: string
  readonly sql?: string
  /** A tool and its arguments as JSON, for what no shorter option spells. */
  readonly tool?: string
  readonly arguments?: string
  readonly method?: string
  readonly path?: string
  readonly url?: string
  readonly body?: string
  /** `host=address`, each. */
  readonly resolve?: readonly string[]
  readonly json?: boolean
}

/** Decides calls as a gateway would now, with each target's live catalog, and executes nothing. */
export async function policyExplain(options: ExplainOptions): Promise<void> {
  const config = loadConfig(options.config)
  const { policy } = await policyOf(config)
  const offline = openOffline(config, policy)
  try {
    if (options.jsonl !== undefined) return await explainLines(options.jsonl, offline)
    const { principal, ...asked } = required(options)
    const { plan } = await offline.judge(asked, principal)
    const target = config.targets.find((candidate) => candidate.name === asked.target)
    if (target === undefined) throw new SallyportError('ERR_UNKNOWN_TARGET', `There is no target "${asked.target}".`)
    const { action, refused } = plan
    const session = { id: 'explain', door: 'mcp' }
    const question = { principal, target, session, action, now: Date.now() }
    const explanation = explain(policy, { ...question, ...(refused !== undefined && { refused }) })
    const terminal = openTerminal(options)
    if (terminal.isJson) terminal.json({ ...explanation, action })
    else show(terminal, explanation)
  } finally {
    await offline.close()
  }
}

async function explainLines(source: string | true, offline: Offline): Promise<void> {
  const terminal = openTerminal()
  const input = source === true || source === '-' ? process.stdin : createReadStream(source)
  const answers = explainJsonl(input as AsyncIterable<Uint8Array>, {
    principalOf: ({ id, kind, groups }) => caller(id, kind, groups),
    judge: async (line, principal) => {
      const { decision, plan } = await offline.judge(line, principal)
      return { decision, action: plan.action }
    },
  })
  for await (const answer of answers) terminal.line(answer)
}

function required(options: ExplainOptions): OfflineCall & { readonly principal: Principal } {
  const { principal, kind, group, target } = options
  const asked = askedOf(options)
  if (principal === undefined || target === undefined || asked === undefined) {
    throw invalid(
      'Name --principal, --target and what is asked: --sql, or --path or --url, or --tool and --arguments; or give --jsonl.',
    )
  }
  if (!isKind(kind)) throw invalid('A kind is agent, person or service.')
  const resolve = resolveOf(options.resolve ?? [])
  return {
    principal: caller(principal, kind, words(group)),
    target,
    ...asked,
    ...(resolve !== undefined && { resolve }),
  }
}

/** The call the options spell; `undefined` when they spell none, or more than one. */
function askedOf(options: ExplainOptions): Pick<OfflineCall, 'tool' | 'arguments'> | undefined {
  const { sql, tool, arguments: given, method, path, url, body } = options
  const isHttp = [method, path, url, body].some((one) => one !== undefined)
  if ([sql !== undefined, isHttp, tool !== undefined].filter(Boolean).length !== 1) return undefined
  if (sql !== undefined) return { tool: 'query_database', arguments: { sql } }
  if (tool !== undefined) return { tool, arguments: argumentsOf(given) }
  const named = { method, path, url, body: body === undefined ? undefined : jsonOf(body) }
  return {
    tool: 'http_request',
    arguments: Object.fromEntries(Object.entries(named).filter(([, value]) => value !== undefined)),
  }
}

function argumentsOf(text = '{}'): Readonly<Record<string, unknown>> {
  const value = jsonOf(text)
  if (typeof value === 'object' && value !== null && !Array.isArray(value)) return { ...value }
  throw invalid('--arguments must be a JSON object.')
}

/** A value where the text is JSON, the text itself where it is not. */
function jsonOf(text: string): unknown {
  try {
    return JSON.parse(text)
  } catch {
    return text
  }
}

function resolveOf(pairs: readonly string[]): Readonly<Record<string, readonly string[]>> | undefined {
  if (pairs.length === 0) return undefined
  const addresses = new Map<string, string[]>()
  for (const pair of pairs) {
    const [, host = '', address = ''] = /^([^=]+)=(.+)$/u.exec(pair) ?? []
    if (host === '') throw invalid('--resolve takes host=address.')
    addresses.set(host, [...(addresses.get(host) ?? []), address])
  }
  return Object.fromEntries(addresses)
}

function invalid(message: string): SallyportError {
  return new SallyportError('ERR_INVALID_INPUT', message)
}

function isKind(kind: string): kind is PrincipalKind {
  return kind === 'agent' || kind === 'person' || kind === 'service'
}

function caller(id: string, kind: PrincipalKind, groups: readonly string[]): Principal {
  return { id, kind, groups, roles: ['caller'], owner: id }
}

function show(terminal: Terminal, { decision, parts }: Explanation): void {
  const style = { allow: 'green', deny: 'red', require_approval: 'yellow' } as const
  terminal.line(`${terminal.paint(style[decision.effect], decision.effect)}  ${printable(decision.reason)}`)
  if (decision.hint !== undefined) terminal.line(`  hint: ${printable(decision.hint)}`)
  for (const part of parts) {
    terminal.line(`  ${part.effect}  ${printable(`${part.verb} on ${part.resource}`)}`)
    for (const { rule, effect, source, outcome, why } of [...part.rules, ...part.near]) {
      const said =
        outcome === 'matched' ? `says ${effect}` : outcome === 'failed' ? 'fails' : `does not match: ${outcome}`
      terminal.line(`    ${printable(`${rule} (${source}) ${said}${why === undefined ? '' : `: ${why}`}`)}`)
    }
  }
}
