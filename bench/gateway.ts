/** A gateway as a process of its own, for benchmarks. */
import { spawn, type ChildProcess } from 'node:child_process'
import { once } from 'node:events'
import { createInterface } from 'node:readline'
import { fileURLToPath } from 'node:url'
import { adminClient } from '../src/cli/admin-client.ts'

const CLI = fileURLToPath(new URL('../dist/src/cli.js', import.meta.url))

/** A gateway that is open, and the token of an agent it knows: `loop`, of the group `agents`. */
export interface ServedGateway {
  readonly child: ChildProcess
  readonly pid: number
  /** Addresses of its doors. */
  readonly doors: Readonly<Record<string, string>>
  readonly token: string
}

/**
 * Serves the `sallyport.yaml` of a directory. Whoever asked for it ends the child.
 *
 * @param flags for Node, such as those of its profiler.
 */
export async function serveGateway(dir: string, flags: readonly string[] = []): Promise<ServedGateway> {
  const operator = spawn(process.execPath, [CLI, 'operator', 'olga', '--json'], {
    cwd: dir,
    stdio: ['ignore', 'pipe', 'inherit'],
  })
  const { token: operatorToken } = JSON.parse(await firstLine(operator, () => true)) as { token: string }
  await ended(operator)
  const child = spawn(process.execPath, [...flags, CLI, 'serve'], { cwd: dir, stdio: ['ignore', 'ignore', 'pipe'] })
  try {
    const doors = JSON.parse(await firstLine(child, (text) => text.includes('"mcp"'))) as Record<string, string>
    child.stderr?.resume()
    const { token } = await adminClient(doors['admin'] ?? '', operatorToken).post<{ token: string }>('/v1/tokens', {
      principal: 'loop',
      kind: 'agent',
      owner: 'sam',
      groups: ['agents'],
      roles: ['caller'],
      expires_in_ms: 3_600_000,
    })
    return { child, pid: child.pid ?? 0, doors, token }
  } catch (error) {
    await end(child)
    throw error
  }
}

/** The first line of a process's output that is what is looked for. */
export async function firstLine(child: ChildProcess, is: (line: string) => boolean): Promise<string> {
  const source = child.stdout ?? child.stderr
  if (source === null) throw new Error('The process has no output.')
  for await (const line of createInterface(source)) if (is(line)) return line
  throw new Error('The process ended before it was ready.')
}

/** Ends a process and waits until it has. */
export async function end(child: ChildProcess): Promise<void> {
  if (child.exitCode !== null || child.signalCode !== null) return
  child.kill('SIGTERM')
  await ended(child)
}

async function ended(child: ChildProcess): Promise<void> {
  if (child.exitCode === null && child.signalCode === null) await once(child, 'exit')
}
