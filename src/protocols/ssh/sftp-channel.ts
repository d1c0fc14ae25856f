import type { Client, SFTPWrapper } from 'ssh2'
import { SallyportError } from '../../core/errors.ts'
import { lost, reasonOf, refused, unsent } from './errors.ts'

/** Opens the file transfer subsystem on a connection. No file is named yet, so whatever goes wrong changed nothing. */
export function openSftp(client: Client, target: string, signal: AbortSignal): Promise<SFTPWrapper> {
  return new Promise((resolve, reject) => {
    const abort = (): void => reject(reasonOf(signal))
    if (signal.aborted) return abort()
    signal.addEventListener('abort', abort, { once: true })
    const closed = (): void => reject(unsent(target))
    client.once('close', closed)
    const over = (): void => {
      client.removeListener('close', closed)
      signal.removeEventListener('abort', abort)
    }
    try {
      client.sftp((error, sftp) => {
        over()
        if (error !== undefined && error !== null) return reject(refused(target, 'to transfer files over SFTP', error))
        sftp.on('error', () => undefined)
        if (signal.aborted) sftp.end()
        resolve(sftp)
      })
    } catch (cause) {
      over()
      reject(unsent(target, cause))
    }
  })
}

/** How a target answers a request it does not carry out, by the numbers of the protocol (draft-ietf-secsh-filexfer-02, section 7). */
export const STATUS = {
  OK: 0,
  EOF: 1,
  NO_SUCH_FILE: 2,
  PERMISSION_DENIED: 3,
  FAILURE: 4,
  OP_UNSUPPORTED: 8,
} as const

/** The target did not do what it was asked for, and said so. */
export class SftpStatus extends Error {
  readonly status: keyof typeof STATUS

  constructor(code: number) {
    super('the target refused')
    const found = Object.entries(STATUS).find(([, number]) => number === code)
    this.status = (found?.[0] ?? 'FAILURE') as keyof typeof STATUS
  }
}

/** Runs one request. @throws SftpStatus when the target says no; SallyportError when it cannot be asked. */
export function ask<T>(
  target: string,
  signal: AbortSignal,
  send: (done: (error: Error | null | undefined, result?: T) => void) => void,
): Promise<T> {
  return new Promise((resolve, reject) => {
    const abort = (): void => reject(reasonOf(signal))
    if (signal.aborted) return abort()
    signal.addEventListener('abort', abort, { once: true })
    const done = (error: Error | null | undefined, result?: T): void => {
      signal.removeEventListener('abort', abort)
      if (error === undefined || error === null) return resolve(result as T)
      const code: unknown = 'code' in error ? error.code : undefined
      reject(typeof code === 'number' ? new SftpStatus(code) : lost(target, error))
    }
    try {
      send(done)
    } catch (cause) {
      done(cause instanceof SallyportError ? cause : new Error('the channel is closed', { cause }))
    }
  })
}
