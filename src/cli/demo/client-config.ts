import { chmod, writeFile } from 'node:fs/promises'
import path from 'node:path'
import { fileURLToPath } from 'node:url'
import type { Terminal } from '../terminal.ts'
import type { Setting } from './setting.ts'

/** Prints what a client needs to use the running demo, ready to paste, and how a person approves. */
export async function printClientConfig(terminal: Terminal, setting: Setting): Promise<void> {
  const { gateway, tokens, dir } = setting
  const approver = await keepToken(dir, 'maria', tokens.approver)
  const operator = await keepToken(dir, 'olga', tokens.operator)
  const heading = (text: string): void => terminal.line(`\n${terminal.paint('bold', text)}`)
  const http = { url: gateway.urls.mcp, headers: { Authorization: `Bearer ${tokens.agent}` } }
  const [command, ...args] = commandLine()
  const stdio = {
    command,
    args: [...args, 'mcp'],
    env: { SALLYPORT_URL: gateway.urls.mcp, SALLYPORT_TOKEN: tokens.agent },
  }

  heading('Claude Code')
  terminal.line(
    `claude mcp add --transport http sallyport ${http.url} --header "Authorization: ${http.headers.Authorization}"`,
  )
  terminal.line('or through the stdio bridge:')
  terminal.line(
    `claude mcp add sallyport --env SALLYPORT_URL=${http.url} --env SALLYPORT_TOKEN=${tokens.agent} -- ${stdio.command} ${stdio.args.join(' ')}`,
  )
  heading('VS Code (.vscode/mcp.json)')
  print(terminal, { servers: { sallyport: { type: 'http', ...http } } })
  terminal.line('or through the stdio bridge:')
  print(terminal, { servers: { sallyport: { type: 'stdio', ...stdio } } })
  heading('Cursor (.cursor/mcp.json)')
  print(terminal, { mcpServers: { sallyport: http } })
  terminal.line('or through the stdio bridge:')
  print(terminal, { mcpServers: { sallyport: stdio } })

  const cli = [command, ...args].join(' ')
  const as = (file: string): string => `SALLYPORT_ADMIN_URL=${gateway.urls.admin} SALLYPORT_TOKEN=$(cat ${file}) ${cli}`
  heading('Then ask your agent')
  terminal.line('"Which products are low on stock? Add 20 pieces to the lowest." The change waits for Maria:')
  heading('Approve as Maria')
  terminal.line(`${as(approver)} approvals watch`)
  terminal.line(`${as(approver)} approvals approve <ticket>`)
  heading('Look around as the operator')
  terminal.line(`${as(operator)} sessions list`)
  terminal.line(`${cli} recordings verify ${setting.config.recordings.dir}`)
  terminal.line(`The policy is ${path.join(setting.config.policiesDir, 'shop.yaml')}; edit it while this runs.`)
}

/** The token goes into a file of its own, so that it stands in no command line. */
async function keepToken(dir: string, name: string, token: string): Promise<string> {
  const file = path.join(dir, `${name}.token`)
  await writeFile(file, `${token}\n`, { mode: 0o600 })
  await chmod(file, 0o600)
  return file
}

/** How this very command line was started, for others to start it the same way. */
function commandLine(): readonly [string, ...string[]] {
  const cli = fileURLToPath(new URL(import.meta.url.endsWith('.ts') ? '../../cli.ts' : '../../cli.js', import.meta.url))
  return [process.execPath, ...process.execArgv, cli]
}

function print(terminal: Terminal, value: unknown): void {
  terminal.line(JSON.stringify(value, undefined, 2))
}
