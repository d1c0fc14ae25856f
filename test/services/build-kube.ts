/**
 * Sees to it that a Kubernetes API server is on this machine; `test/setup/capabilities.mjs` asks. Ends with 0 when there
 * is one, with 3 when something has to be installed before one can be built, and with 1 when a build failed.
 */
import { buildKube, kubeBinaries, missingTools } from './kube-binaries.ts'

const LACKS_TOOLS = 3

const stop = new AbortController()
for (const name of ['SIGINT', 'SIGTERM', 'SIGHUP'] as const) {
  process.once(name, () => stop.abort(new Error(`stopped by ${name}`)))
}

try {
  process.exitCode = await provided()
} catch (error) {
  const [why = ''] = (error instanceof Error ? error.message : String(error)).split('\n', 1)
  console.error(`test set-up: kube-apiserver was not built: ${why}`)
  process.exitCode = 1
}

async function provided(): Promise<number> {
  if ((await kubeBinaries()).length > 0) return 0
  if (missingTools().length > 0) return LACKS_TOOLS
  await buildKube((what) => console.error(`test set-up: ${what}`), stop.signal)
  return (await kubeBinaries()).length > 0 ? 0 : 1
}
