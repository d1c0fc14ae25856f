import { readFile } from 'node:fs/promises'
import { SallyportError } from '../core/errors.ts'
import type { TokenFacts } from '../identity/token.ts'
import { openAdminClient } from './admin-client.ts'
import { openTerminal, type Terminal } from './terminal.ts'
import { durationMs, words } from './units.ts'

/** What every command that speaks with a gateway takes. */
export interface RemoteOptions {
  readonly url?: string
  readonly json?: boolean
}

/** Options of `token create`. */
export interface TokenCreateOptions extends RemoteOptions {
  readonly kind: string
  readonly owner: string
  readonly group?: readonly string[]
  readonly role?: readonly string[]
  readonly actsFor?: string
  /** A file with a public key. */
  readonly sshKey?: string
  readonly expires: string
}

/** Makes a token and prints it once. */
export async function tokenCreate(principal: string, options: TokenCreateOptions): Promise<void> {
  const terminal = openTerminal(options)
  const client = await openAdminClient(options)
  const roles = words(options.role)
  const made = await client.post<TokenFacts & { readonly token: string }>('/v1/tokens', {
    principal,
    kind: options.kind,
    owner: options.owner,
    groups: words(options.group),
    roles: roles.length === 0 ? ['caller'] : roles,
    ...(options.actsFor !== undefined && { acts_for: options.actsFor }),
    ...(options.sshKey !== undefined && { ssh_key: await readPublicKey(options.sshKey) }),
    expires_in_ms: durationMs(options.expires),
  })
  if (terminal.isJson) return terminal.json(made)
  // The token alone goes to standard output, so that a script can catch it and nobody has to cut it out.
  terminal.note(`Token ${made.id} of ${made.principal}, until ${made.expiresAt}. It is shown this once:`)
  terminal.line(made.token)
  if (made.state !== 'active') {
    terminal.note(`It is ${made.state}: another approver runs "sallyport token confirm ${made.id}" first.`)
  }
}

async function readPublicKey(file: string): Promise<string> {
  try {
    return await readFile(file, 'utf8')
  } catch (error) {
    throw new SallyportError('ERR_INVALID_INPUT', `The public key ${file} cannot be read.`, { cause: error })
  }
}

/** Lists tokens, without the tokens. */
export async function tokenList(options: RemoteOptions): Promise<void> {
  const terminal = openTerminal(options)
  const client = await openAdminClient(options)
  const { tokens } = await client.get<{ readonly tokens: readonly TokenFacts[] }>('/v1/tokens')
  if (terminal.isJson) {
    for (const token of tokens) terminal.json(token)
    return
  }
  terminal.table(
    ['ID', 'PRINCIPAL', 'KIND', 'OWNER', 'ROLES', 'GROUPS', 'STATE', 'EXPIRES'],
    tokens.map((token) => [
      token.id,
      token.principal,
      token.kind,
      token.owner,
      token.roles.join(','),
      token.groups.join(','),
      token.state,
      token.expiresAt,
    ]),
  )
}

/** Ends a token, its sessions and their calls. */
export async function tokenRevoke(id: string, options: RemoteOptions): Promise<void> {
  const client = await openAdminClient(options)
  const facts = await client.post<TokenFacts>(`/v1/tokens/${encodeURIComponent(id)}/revoke`)
  told(openTerminal(options), facts, `Token ${id} is revoked; what it had open is ended.`)
}

/** Agrees, as an approver, to an approver's token somebody else made (C13). */
export async function tokenConfirm(id: string, options: RemoteOptions): Promise<void> {
  const client = await openAdminClient(options)
  const facts = await client.post<TokenFacts>(`/v1/tokens/${encodeURIComponent(id)}/confirm`)
  told(openTerminal(options), facts, `Token ${id} is ${facts.state}.`)
}

function told(terminal: Terminal, facts: TokenFacts, sentence: string): void {
  if (terminal.isJson) terminal.json(facts)
  else terminal.line(sentence)
}
