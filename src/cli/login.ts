import { SallyportError } from '../core/errors.ts'
import { ADMIN_URL_DEFAULT, adminClient } from './admin-client.ts'
import { loginFile, writeLogin } from './login-file.ts'
import { openTerminal } from './terminal.ts'

/** More than any token. */
const TOKEN_CHARS_MAX = 1024

/** Reads a token from standard input, checks it at the gateway and keeps it in a file only its owner can read. */
export async function login(options: { readonly url?: string; readonly json?: boolean }): Promise<void> {
  const terminal = openTerminal(options)
  const url = options.url ?? process.env['SALLYPORT_ADMIN_URL'] ?? ADMIN_URL_DEFAULT
  if (process.stdin.isTTY) terminal.note('Paste the token and press Enter:')
  const token = await firstLine()
  const client = adminClient(url, token)
  const { id, roles } = await client.get<{ readonly id: string; readonly roles: readonly string[] }>('/v1/whoami')
  const file = loginFile()
  await writeLogin(file, { url: client.url, token })
  if (terminal.isJson) terminal.json({ id, roles, url: client.url, file })
  else terminal.line(`You are ${id} (${roles.join(', ')}) at ${client.url}. The token is kept in ${file}.`)
}

async function firstLine(): Promise<string> {
  let text = ''
  process.stdin.setEncoding('utf8')
  for await (const piece of process.stdin) {
    text += String(piece)
    if (text.includes('\n') || text.length > TOKEN_CHARS_MAX) break
  }
  const token = (text.split('\n')[0] ?? '').trim()
  if (token === '' || token.length > TOKEN_CHARS_MAX) {
    throw new SallyportError('ERR_INVALID_INPUT', 'Standard input held no token.')
  }
  return token
}
