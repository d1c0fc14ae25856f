/**
 * The exclusive lock of a state directory, freed by the kernel when its holder dies.
 *
 * Node 20 has no flock(2), a lock file with a process id in it goes stale, and ids are reused. What the kernel does tell
 * everybody about a process is whether somebody still listens on a Unix socket: after kill -9 a connect fails with
 * ECONNREFUSED, at once and for good. So every contender listens on a socket of its own, under a name never used again:
 *
 * 1. listen under a hidden name, then rename to the visible one: a visible socket that refuses is therefore dead, never
 *    "not listening yet";
 * 2. look at all other visible sockets; remove the dead ones (safe, because names are never reused);
 * 3. no other lives: the lock is ours. A holder lives: give up. Another contender lives: the higher name gives up, the
 *    lower waits until the higher is gone.
 *
 * Everybody shows its own socket before it looks at the others, so of two contenders at least one sees the other, and
 * both cannot pass step 3. A stopped process keeps its lock: whoever does not answer counts as alive.
 *
 * The directory must be on a file system of this machine: sockets do not reach across hosts. Several instances on several
 * machines share a database, not a directory.
 *
 * @packageDocumentation
 */
import { randomBytes } from 'node:crypto'
import { closeSync, openSync } from 'node:fs'
import { mkdir, readdir, rename, rm } from 'node:fs/promises'
import { connect, createServer, type Server } from 'node:net'
import path from 'node:path'
import { SallyportError } from '../core/errors.ts'
import { errnoOf } from './store.ts'

/** A held lock. */
export interface StateLock {
  /** Lets the next process in. Safe to call twice. */
  release(): Promise<void>
}

const ANSWER_MS = 2_000
const CONTEST_MS = 10_000
const VISIBLE = '.sock'

/**
 * Locks a directory for this process.
 *
 * @throws SallyportError `ERR_STATE_LOCKED`, naming the process that has it.
 */
export async function lockDirectory(directory: string): Promise<StateLock> {
  const sockets = path.join(directory, 'lock')
  await mkdir(sockets, { recursive: true, mode: 0o700 })
  const name = `${randomBytes(8).toString('hex')}${VISIBLE}`
  let state: 'starting' | 'holds' = 'starting'
  const address = shortAddress(sockets)
  const server = createServer((socket) => {
    socket.on('error', () => undefined)
    socket.end(`${state} ${process.pid}\n`)
  })
  const release = async (): Promise<void> => {
    await rm(path.join(sockets, name), { force: true })
    await closed(server)
    address.close()
  }
  try {
    await listening(server, address.of(`${name}.new`))
    // Trouble with one question (too many open files) must not end the process; who gets no answer takes us for alive.
    server.on('error', () => undefined)
    server.unref()
    await rename(path.join(sockets, `${name}.new`), path.join(sockets, name))
    await contest(directory, sockets, name, address.of)
    state = 'holds'
  } catch (error) {
    await release()
    if (error instanceof SallyportError) throw error
    throw new SallyportError('ERR_STATE_LOCKED', `${directory} cannot be locked (${errnoOf(error)}).`, { cause: error })
  }
  return { release }
}

/** Returns when no other contender or holder lives. */
async function contest(
  directory: string,
  sockets: string,
  own: string,
  addressOf: (name: string) => string,
): Promise<void> {
  const deadline = Date.now() + CONTEST_MS
  for (;;) {
    let rivals = 0
    for (const name of await readdir(sockets)) {
      if (name === own || !name.endsWith(VISIBLE)) continue
      const answer = await ask(addressOf(name))
      if (answer === 'dead') {
        await rm(path.join(sockets, name), { force: true })
        continue
      }
      if (answer === 'hung up' && Date.now() <= deadline) {
        // It is just letting go, or has too much to do: the next look tells.
        rivals++
        continue
      }
      // Fail closed: silence and answers we do not understand count as a holder.
      if (!answer.startsWith('starting ') || name < own || Date.now() > deadline) throw locked(directory, answer)
      rivals++
    }
    if (rivals === 0) return
    await new Promise((resolve) => setTimeout(resolve, 10))
  }
}

/** Asks the process behind a socket for its state; `dead` when nobody listens, `hung up` when it ended without a word. */
function ask(address: string): Promise<string> {
  return new Promise((resolve) => {
    const socket = connect(address)
    let answer = ''
    let isSilent = false
    const timer = setTimeout(() => {
      isSilent = true
      socket.destroy()
    }, ANSWER_MS)
    socket.setEncoding('latin1')
    socket.on('data', (text: string) => {
      answer += text
      if (answer.length > 100) socket.destroy()
    })
    socket.on('error', (error) => {
      if (['ECONNREFUSED', 'ENOENT'].includes(errnoOf(error))) answer = 'dead'
    })
    socket.on('close', () => {
      clearTimeout(timer)
      resolve(answer === '' && !isSilent ? 'hung up' : answer)
    })
  })
}

function locked(directory: string, answer: string): SallyportError {
  const pid = /^(?:starting|holds) (\d+)\n$/.exec(answer)?.[1]
  const holder = pid === undefined ? 'another process, which does not answer' : `process ${pid}`
  return new SallyportError(
    'ERR_STATE_LOCKED',
    `The state directory ${directory} is in use by ${holder}. Stop it, or give this gateway a state directory of its own.`,
  )
}

function listening(server: Server, address: string): Promise<void> {
  return new Promise((resolve, reject) => {
    server.once('error', reject)
    server.listen(address, () => {
      server.off('error', reject)
      resolve()
    })
  })
}

function closed(server: Server): Promise<void> {
  return new Promise((resolve) => server.close(() => resolve()))
}

/**
 * A socket's path may have about a hundred bytes (`sun_path`, unix(7)). On Linux a long one is reached through an open
 * descriptor of its directory.
 */
function shortAddress(directory: string): { readonly of: (name: string) => string; readonly close: () => void } {
  const fits = Buffer.byteLength(directory) + 40 < 100
  if (fits || process.platform !== 'linux') return { of: (name) => path.join(directory, name), close: () => undefined }
  let descriptor: number | undefined = openSync(directory, 'r')
  return {
    of: (name) => `/proc/self/fd/${descriptor}/${name}`,
    close: () => {
      if (descriptor !== undefined) closeSync(descriptor)
      descriptor = undefined
    },
  }
}
