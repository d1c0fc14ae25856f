import { spawn } from 'node:child_process'
import { codeOf, SECRET_BYTES_MAX, secretOf, type Reading } from './read-file.ts'

/** What a credential command is told of our environment; everything else may hold secrets of other targets. */
const ENV_PASSED = ['PATH', 'HOME', 'USER', 'LANG', 'LC_ALL', 'TZ', 'TMPDIR'] as const

/**
 * Runs a command without a shell and takes its standard output for the secret.
 *
 * Standard error goes nowhere, because such tools like to quote what they fetched. The command leads a process group of
 * its own, so that ending it ends what it started.
 */
export function runCommand(command: {
  readonly argv: readonly string[]
  readonly cwd: string
  readonly timeoutMs: number
  readonly env: NodeJS.ProcessEnv
}): Promise<Reading> {
  const [program = '', ...args] = command.argv
  // Arguments may hold a secret of their own (a role id, a key name); only the program is ever named.
  const place = `command ${program}`
  return new Promise((resolve) => {
    const child = spawn(program, args, {
      cwd: command.cwd,
      env: minimalEnv(command.env),
      shell: false,
      detached: true,
      windowsHide: true,
      stdio: ['ignore', 'pipe', 'ignore'],
    })
    const chunks: Buffer[] = []
    let length = 0
    let settled = false

    const settle = (reading: Reading): void => {
      if (settled) return
      settled = true
      clearTimeout(timer)
      resolve(reading)
    }
    const abandon = (why: string): void => {
      if (settled) return
      endGroup(child.pid)
      child.stdout.destroy()
      settle({ missing: `${place} ${why}` })
    }
    const timer = setTimeout(() => abandon(`did not answer within ${command.timeoutMs} ms`), command.timeoutMs)

    child.stdout.on('data', (chunk: Buffer) => {
      length += chunk.length
      if (length > SECRET_BYTES_MAX) abandon(`gave more than ${SECRET_BYTES_MAX} bytes`)
      else chunks.push(chunk)
    })
    child.on('error', (error) => settle({ missing: `${place} cannot be run (${codeOf(error)})` }))
    child.on('close', (code, signal) => {
      if (code === 0) settle(secretOf(Buffer.concat(chunks), place))
      else settle({ missing: `${place} ended with ${signal ?? `exit code ${code ?? 'unknown'}`}` })
    })
  })
}

function minimalEnv(env: NodeJS.ProcessEnv): NodeJS.ProcessEnv {
  return Object.fromEntries(ENV_PASSED.flatMap((name) => (env[name] === undefined ? [] : [[name, env[name]]])))
}

function endGroup(pid: number | undefined): void {
  if (pid === undefined) return
  try {
    process.kill(-pid, 'SIGKILL')
  } catch {
    // The group is gone already, which is what we want.
  }
}
