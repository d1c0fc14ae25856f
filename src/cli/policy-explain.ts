import { createReadStream } from 'node:fs'
import { loadConfig } from '../config.ts'
import { SallyportError } from '../core/errors.ts'
import type { Principal, PrincipalKind } from '../core/principal.ts'
import { explainJsonl } from '../policy/explain-jsonl.ts'
import { explain, type Explanation } from '../policy/explain.ts'
import { openOffline, type Offline } from './offline.ts'
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
  readonly json?: boolean
}

/** Decides calls as a gateway would now, with each target's live catalog, and executes nothing. */
export async function policyExplain(options: ExplainOptions): Promise<void> {
  const config = loadConfig(options.config)
  const { policy } = await policyOf(config)
  const offline = openOffline(config, policy)
  try {
    if (options.jsonl !== undefined) return await explainLines(options.jsonl, offline)
    const { principal, target: name, sql } = required(options)
    const judged = await offline.judge({ target: name, tool: 'query_database', arguments: { sql } }, principal)
    const target = config.targets.find((candidate) => candidate.name === name)
    if (target === undefined) throw new SallyportError('ERR_UNKNOWN_TARGET', `There is no target "${name}".`)
    const session = { id: 'explain', door: 'mcp' }
    const explanation = explain(policy, { principal, target, session, action: judged.plan.action, now: Date.now() })
    const terminal = openTerminal(options)
    if (terminal.isJson) terminal.json({ ...explanation, action: judged.plan.action })
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

function required(options: ExplainOptions) {
  const { principal, kind, group, target, sql } = options
  if (principal === undefined || target === undefined || sql === undefined) {
    throw new SallyportError('ERR_INVALID_INPUT', 'Name --principal, --target and --sql, or give --jsonl.')
  }
  if (!isKind(kind)) throw new SallyportError('ERR_INVALID_INPUT', 'A kind is agent, person or service.')
  return { principal: caller(principal, kind, words(group)), target, sql }
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
