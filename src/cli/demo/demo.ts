import { adminClient } from '../admin-client.ts'
import { openTerminal, type Terminal } from '../terminal.ts'
import { connectAgent } from './agent.ts'
import { printClientConfig } from './client-config.ts'
import { DEMO_TARGET } from './policy.ts'
import { prove } from './proof.ts'
import { openSetting, type Setting } from './setting.ts'
import { openStage } from './stage.ts'
import { play } from './story.ts'

/** Plays the demo and ends, or with `keep` leaves the same set-up running for a client of yours. */
export async function demo(options: { readonly keep?: boolean }): Promise<void> {
  const terminal = openTerminal()
  // Other commands end when nobody reads them any more; this one has a database and files to put away first.
  process.stdout.removeAllListeners('error').on('error', () => undefined)
  const interrupted = onInterrupt()
  terminal.line(terminal.paint('bold', 'Sallyport: an agent, a database, and the door between them'))
  terminal.line(terminal.paint('dim', 'Starting a private PostgreSQL and a gateway …'))
  const setting = await openSetting({ keep: options.keep === true })
  try {
    if (options.keep === true) await keepRunning(terminal, setting, interrupted)
    else await Promise.race([playAll(terminal, setting), interrupted.then(() => process.exit(130))])
  } finally {
    await setting.close()
  }
}

async function playAll(terminal: Terminal, setting: Setting): Promise<void> {
  const stage = openStage(terminal)
  const { gateway, tokens, truth } = setting
  const agent = await connectAgent(gateway.urls.mcp, tokens.agent, DEMO_TARGET)
  try {
    await play({ stage, agent, approver: adminClient(gateway.urls.admin, tokens.approver), truth })
  } finally {
    await agent.close()
  }
  // Sealed recordings are what an auditor gets.
  await gateway.close()
  await prove(stage, setting.config.recordings.dir, setting.dir)
  terminal.line('')
  terminal.line(terminal.paint('bold', 'That is all. Nothing is left running, and no file is left.'))
  terminal.line('Try it with your own client: npm start')
}

async function keepRunning(terminal: Terminal, setting: Setting, interrupted: Promise<void>): Promise<void> {
  await printClientConfig(terminal, setting)
  terminal.line(
    `\n${terminal.paint('green', 'Running')} until Ctrl-C. Everything it wrote is in ${setting.dir} and goes with it.`,
  )
  await interrupted
  terminal.line('\nEnding …')
}

/** Resolves at the first SIGINT, SIGTERM or SIGHUP. */
function onInterrupt(): Promise<void> {
  return new Promise((resolve) => {
    for (const signal of ['SIGINT', 'SIGTERM', 'SIGHUP'] as const) process.once(signal, () => resolve())
  })
}
