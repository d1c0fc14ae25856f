import { fork, type ChildProcess } from 'node:child_process'
import { once } from 'node:events'
import { mkdtemp, rm } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import path from 'node:path'
import { afterAll } from 'vitest'

const made: string[] = []
afterAll(async () => {
  for (const directory of made.splice(0)) await rm(directory, { recursive: true, force: true })
})

/** Makes a directory that is removed after the tests of the file. */
export async function temporaryDirectory(): Promise<string> {
  const directory = await mkdtemp(path.join(tmpdir(), 'sallyport-'))
  made.push(directory)
  return directory
}

/** A child process that speaks over IPC. */
export interface Child {
  readonly process: ChildProcess
  /** Resolves with the next message; rejects when the child ends without one. */
  message(): Promise<Record<string, unknown>>
  kill(): Promise<void>
}

/** Starts a TypeScript file as a process of its own. */
export function start(file: string, ...args: string[]): Child {
  const child = fork(file, args, { execArgv: ['--import', 'tsx'], stdio: ['ignore', 'ignore', 'inherit', 'ipc'] })
  const queue: Record<string, unknown>[] = []
  const wanted: ((message: Record<string, unknown> | undefined) => void)[] = []
  child.on('message', (message: Record<string, unknown>) => {
    const next = wanted.shift()
    if (next === undefined) queue.push(message)
    else next(message)
  })
  child.on('exit', () => {
    for (const next of wanted.splice(0)) next(undefined)
  })
  return {
    process: child,
    message: () =>
      new Promise((resolve, reject) => {
        const ready = queue.shift()
        if (ready !== undefined) return resolve(ready)
        wanted.push((message) => (message === undefined ? reject(new Error('the child ended')) : resolve(message)))
      }),
    async kill() {
      if (child.exitCode !== null || child.signalCode !== null) return
      const exited = once(child, 'exit')
      child.kill('SIGKILL')
      await exited
    },
  }
}
