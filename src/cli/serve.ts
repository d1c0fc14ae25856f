import { loadConfig } from '../config.ts'
import { start } from '../main.ts'
import { createLog, type Log } from '../telemetry/log.ts'
import { collectLessOften } from './collector.ts'
import { EXIT } from './exit-code.ts'

/** Runs a gateway until SIGTERM or SIGINT. SIGHUP reads policies, key and certificate again. */
export async function serve(options: { readonly config: string; readonly store?: string }): Promise<void> {
  collectLessOften()
  const config = loadConfig(options.config, { store: options.store })
  const log = createLog({ level: config.log.level })
  watchFaults(log)
  // Before anything is open: a signal that comes during the start must not kill what is half built.
  const signals = listenForSignals()
  const gateway = await start(config, { log })
  signals.onReload(() => void gateway.reload())
  if (process.stdout.isTTY) {
    const { mcp, admin, http, postgres, ssh, kubernetes } = gateway.urls
    const others = Object.entries({ HTTP: http, PostgreSQL: postgres, SSH: ssh, Kubernetes: kubernetes })
    const doors = [['Agents', mcp], ['People', admin], ...others].flatMap(([name, url]) =>
      url === undefined ? [] : [`${name}: ${url}`],
    )
    process.stdout.write(`Sallyport is ready. ${doors.join('   ')}\n`)
  }
  await signals.stopped
  await gateway.close()
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

/** The first SIGTERM or SIGINT asks for an end, a second one ends the process at once. */
function listenForSignals(): { readonly stopped: Promise<void>; onReload(listener: () => void): void } {
  let reload: () => void = () => undefined
  let stop: () => void = () => undefined
  const stopped = new Promise<void>((resolve) => (stop = resolve))
  let isStopping = false
  const onStop = (): void => {
    if (isStopping) process.exit(EXIT.failed)
    isStopping = true
    stop()
  }
  process.on('SIGTERM', onStop)
  process.on('SIGINT', onStop)
  process.on('SIGHUP', () => reload())
  return { stopped, onReload: (listener) => (reload = listener) }
}
