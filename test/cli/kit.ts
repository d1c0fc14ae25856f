import { spawn } from 'node:child_process'
import { existsSync } from 'node:fs'
import { fileURLToPath } from 'node:url'

/** What a command did. */
export interface Ran {
  readonly code: number | null
  readonly stdout: string
  readonly stderr: string
}

/** How to run one. */
export interface RunOptions {
  readonly cwd?: string
  readonly env?: Readonly<Record<string, string>>
  readonly input?: string
}

const CLI = fileURLToPath(new URL('../../dist/src/cli.js', import.meta.url))

/** Runs the command line as its own process, with nothing of our environment but what it needs to start. */
export function sallyport(args: readonly string[], options: RunOptions = {}): Promise<Ran> {
  const child = start(args, options)
  const output = { stdout: '', stderr: '' }
  child.stdout.setEncoding('utf8').on('data', (piece: string) => (output.stdout += piece))
  child.stderr.setEncoding('utf8').on('data', (piece: string) => (output.stderr += piece))
  child.stdin.on('error', () => undefined)
  child.stdin.end(options.input ?? '')
  return new Promise((resolve, reject) => {
    child.once('error', reject)
    child.once('close', (code) => resolve({ code, ...output }))
  })
}

/** Starts the command line and leaves it running; whoever starts it ends it. */
export function start(args: readonly string[], options: RunOptions = {}) {
  if (!existsSync(CLI)) throw new Error('There is no build. Run: npm run build')
  return spawn(process.execPath, [CLI, ...args], {
    cwd: options.cwd ?? '/',
    env: { PATH: process.env['PATH'], HOME: '/nonexistent', ...options.env },
    stdio: ['pipe', 'pipe', 'pipe'],
  })
}
