import { execFileSync } from 'node:child_process'
import { readdirSync, realpathSync } from 'node:fs'
import path from 'node:path'

/**
 * Every kubectl the tests run: the one on the path, and those named in `KUBECTL_BINARIES` (with colons between them).
 * Unless that is set, the oldest and the newest of `kubectl.<version>` beside the installed one, where some distributions
 * put several.
 */
export function kubectls(): readonly string[] {
  const named = process.env['KUBECTL_BINARIES']
  if (named !== undefined) return ['kubectl', ...named.split(':').filter((one) => one !== '')]
  try {
    const installed = realpathSync(execFileSync('sh', ['-c', 'command -v kubectl'], { encoding: 'utf8' }).trim())
    const beside = readdirSync(path.dirname(installed))
      .filter((name) => /^kubectl\.\d+\.\d+$/u.test(name))
      .sort((a, b) => a.localeCompare(b, 'en', { numeric: true }))
    const chosen = [...new Set([beside[0], beside.at(-1)])].filter((name) => name !== undefined)
    return ['kubectl', ...chosen.map((name) => path.join(path.dirname(installed), name))]
  } catch {
    return ['kubectl']
  }
}
