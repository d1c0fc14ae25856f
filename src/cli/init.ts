import { existsSync } from 'node:fs'
import { mkdir, writeFile } from 'node:fs/promises'
import { userInfo } from 'node:os'
import path from 'node:path'
import { makeOperator } from '../bootstrap.ts'
import { loadConfig } from '../config.ts'
import { SallyportError } from '../core/errors.ts'
import { ADMIN_URL_DEFAULT } from './admin-client.ts'
import { loginFile, writeLogin } from './login-file.ts'
import { openTerminal } from './terminal.ts'

/** Options of `init`. */
export interface InitOptions {
  readonly config: string
  readonly operator?: string
  readonly save?: boolean
}

const CONFIG = `# Sallyport. Everything it may say: docs/configuration.md
listen:
  mcp: 127.0.0.1:7400
  admin: 127.0.0.1:7401

state: .sallyport
recordings: {dir: recordings}
policies: policies

targets: {}
# A PostgreSQL database looks like this:
#
# targets:
#   shop-db:
#     protocol: postgres
#     host: db.internal
#     database: shop
#     credential: {user: sallyport_agent, file: secrets/shop-db}
`

const POLICY = `# What callers may do. Nothing is allowed that no rule allows. See docs/policies.md
#
# targets: [shop-db]
#
# rules:
#   - id: read-orders
#     effect: allow
#     principals: [group:agents]
#     actions: [sql.select]
#     resources: [public.orders]
#     limits: {rows: 500, timeout: 10s, rate: 60/min}
#
#   - id: changes-need-a-person
#     effect: require_approval
#     principals: [group:agents]
#     actions: [sql.update]
#     resources: [public.orders]
#     approvers: {any_of: [group:dba], count: 1, expires: 15m}
rules: []
`

/** Writes a configuration and a first policy, and makes the first operator. Overwrites nothing. */
export async function init(options: InitOptions): Promise<void> {
  const terminal = openTerminal()
  const file = path.resolve(options.config)
  const policy = path.join(path.dirname(file), 'policies', 'starter.yaml')
  const state = path.join(path.dirname(file), '.sallyport')
  for (const existing of [file, policy, state]) {
    if (!existsSync(existing)) continue
    throw new SallyportError('ERR_CONFIG_INVALID', `${existing} is there already, and nothing is overwritten.`, {
      facts: { hint: 'Use an empty directory; "sallyport operator <name>" makes only a first operator.' },
    })
  }
  await mkdir(path.dirname(policy), { recursive: true })
  await writeFile(file, CONFIG, { flag: 'wx' })
  await writeFile(policy, POLICY, { flag: 'wx' })
  const { token, facts } = await makeOperator(loadConfig(file), options.operator ?? userInfo().username.toLowerCase())
  terminal.note(`Wrote ${file} and ${policy}.`)
  if (options.save === true) {
    await writeLogin(loginFile(), { url: ADMIN_URL_DEFAULT, token })
    terminal.note(`The token of the operator ${facts.principal} is kept in ${loginFile()}.`)
  } else {
    terminal.note(
      `This is the token of the operator ${facts.principal}, until ${facts.expiresAt}. It is shown this once:`,
    )
    terminal.line(token)
    terminal.note('Keep it: sallyport login')
  }
  terminal.note('Next: name a target in the configuration, allow something in the policy, then: sallyport serve')
}
