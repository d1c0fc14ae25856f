import { makeOperator } from '../bootstrap.ts'
import { loadConfig } from '../config.ts'
import { openTerminal } from './terminal.ts'
import { durationMs } from './units.ts'

/** Options of `operator`. */
export interface OperatorOptions {
  readonly config: string
  readonly store?: string
  readonly expires: string
  readonly beginAnew?: boolean
  readonly json?: boolean
}

/** Makes the first operator, or after `--begin-anew` another first one, with the gateway stopped. */
export async function operator(name: string, options: OperatorOptions): Promise<void> {
  const terminal = openTerminal(options)
  const { token, facts } = await makeOperator(loadConfig(options.config, { store: options.store }), name, {
    beginAnew: options.beginAnew === true,
    expiresInMs: durationMs(options.expires),
  })
  if (terminal.isJson) return terminal.json({ token, ...facts })
  terminal.note(`Token ${facts.id} of the operator ${facts.principal}, until ${facts.expiresAt}. Shown this once:`)
  terminal.line(token)
}
