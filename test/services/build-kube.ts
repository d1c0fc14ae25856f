/** Fails unless a Kubernetes API server is on this machine afterwards; `test/setup/capabilities.mjs` asks. */
import { buildKube, kubeBinaries } from './kube-binaries.ts'

try {
  if ((await kubeBinaries()).length === 0) await buildKube((what) => console.error(`test set-up: ${what}`))
  if ((await kubeBinaries()).length === 0) process.exitCode = 1
} catch (error) {
  console.error(error)
  process.exitCode = 1
}
