import { loadConfig } from '../config.ts'
import { start, type Gateway } from '../main.ts'
import { createLog, type Log } from '../telemetry/log.ts'
import { EXIT } from './exit-code.ts'

/** Runs a gateway until SIGTERM or SIGINT. SIGHUP reads policies, key and certificate again. */
export async function serve(options: { readonly config: string }): Promise<void> {
  const config = loadConfig(options.config)
  const log = createLog({ level: config.log.level })
  watchFaults(log)
  const gateway = await start(config, { log })
  if (process.stdout.isTTY) {
    process.stdout.write(`Sallyport is ready. Agents: ${gateway.urls.mcp}   People: ${gateway.urls.admin}\n`)
  }
  process.on('SIGHUP', () => void gateway.reload())
  await ended(gateway)
}

/**
 * A request that failed in a way nobody foresaw must not end the process for all others. A throw nobody caught at all
 * leaves state nobody knows: the process ends, and the next start settles what was open (C16).
 */
function watchFaults(log: Log): void {
  process.on('unhandledRejection', (error) => log.error({ err: error }, 'a fault was not handled; the gateway goes on'))
  process.on('uncaughtException', (error) => {
    log.fatal({ err: error }, 'a fault nobody caught; the gateway ends')
    process.exit(EXIT.failed)
  })
}

/** Closes at the first signal; a second one ends the process at once. */
function ended(gateway: Gateway): Promise<void> {
  return new Promise((resolve, reject) => {
    let isClosing = false
    const stop = (): void => {
      if (isClosing) process.exit(EXIT.failed)
      isClosing = true
      gateway.close().then(resolve, reject)
    }
    process.on('SIGTERM', stop)
    process.on('SIGINT', stop)
  })
}
