import { randomBytes } from 'node:crypto'
import fs from 'node:fs'
import { SallyportError } from '../core/errors.ts'

/** The system calls a recording is written with. A seam, so that tests can make each of them fail by itself. */
export interface Disk {
  /** Creates a file that must not exist and returns its descriptor. */
  create(path: string): number
  /** Opens an existing file for appending. Never follows a link. */
  reopen(path: string): number
  /** Writes at the end; may write less than it was given. */
  write(fd: number, bytes: Uint8Array): number
  /** The same in the thread pool, for writes long enough to be felt by others. */
  writeLater(fd: number, bytes: Uint8Array): Promise<number>
  sync(fd: number): Promise<void>
  truncate(fd: number, length: number): void
  size(fd: number): number
  close(fd: number): void
  remove(path: string): void
  /** Makes the names in a folder durable. */
  syncFolder(path: string): Promise<void>
  /** Throws unless `bytes` more fit into the folder. */
  probe(folder: string, bytes: number): void
}

const APPEND = fs.constants.O_WRONLY | fs.constants.O_APPEND | fs.constants.O_NOFOLLOW

/** The real thing. Files are readable by their owner only. */
export const disk: Disk = {
  create: (path) => fs.openSync(path, APPEND | fs.constants.O_CREAT | fs.constants.O_EXCL, 0o600),
  reopen: (path) => fs.openSync(path, APPEND),
  write: (fd, bytes) => fs.writeSync(fd, bytes),
  writeLater: (fd, bytes) =>
    new Promise((resolve, reject) => {
      fs.write(fd, bytes, (error, written) => (error === null ? resolve(written) : reject(error)))
    }),
  sync: (fd) =>
    new Promise((resolve, reject) => {
      fs.fdatasync(fd, (error) => (error === null ? resolve() : reject(error)))
    }),
  truncate: (fd, length) => fs.ftruncateSync(fd, length),
  size: (fd) => fs.fstatSync(fd).size,
  close: (fd) => fs.closeSync(fd),
  remove: (path) => fs.unlinkSync(path),
  async syncFolder(path) {
    const handle = await fs.promises.open(path, fs.constants.O_RDONLY | fs.constants.O_DIRECTORY)
    try {
      await handle.sync()
    } finally {
      await handle.close()
    }
  },
  probe(folder, bytes) {
    const path = `${folder}/.probe-${randomBytes(8).toString('hex')}`
    const fd = disk.create(path)
    try {
      writeAll(disk, fd, Buffer.alloc(bytes))
    } finally {
      fs.closeSync(fd)
      fs.unlinkSync(path)
    }
  },
}

/** Writes all of `bytes`; a short write is followed by another, which then says why. */
export function writeAll(disk: Disk, fd: number, bytes: Uint8Array): void {
  for (let done = 0; done < bytes.length;) {
    const written = disk.write(fd, done === 0 ? bytes : bytes.subarray(done))
    if (written === 0) throw Object.assign(new Error('nothing was written'), { code: 'ENOSPC' })
    done += written
  }
}

/** The same in the thread pool. */
export async function writeAllLater(disk: Disk, fd: number, bytes: Uint8Array): Promise<void> {
  for (let done = 0; done < bytes.length;) {
    const written = await disk.writeLater(fd, done === 0 ? bytes : bytes.subarray(done))
    if (written === 0) throw Object.assign(new Error('nothing was written'), { code: 'ENOSPC' })
    done += written
  }
}

/** Returns the errno name of an error, such as `ENOSPC`. */
export function errnoOf(error: unknown): string {
  if (error instanceof SallyportError) return errnoOf(error.cause)
  const code = error instanceof Error && 'code' in error ? error.code : undefined
  return typeof code === 'string' ? code : 'unknown'
}

const FIX: Readonly<Record<string, string>> = {
  ENOSPC: 'The disk that holds the recordings is full. Free space on it',
  EDQUOT: 'The disk quota of the recordings is used up. Free space or raise the quota',
  EFBIG: 'A file size limit stops the recordings from growing. Raise the limit (ulimit -f) of the gateway',
  EROFS: 'The file system of the recordings is mounted read-only. Mount it writable',
  EACCES: 'The gateway may not write to the folder of the recordings. Correct its owner and permissions',
  EPERM: 'The gateway may not write to the folder of the recordings. Correct its owner and permissions',
  EMFILE: 'The gateway has too many open files to record another session. Raise its limit (ulimit -n)',
  ENFILE: 'The system has too many open files to record another session. Raise its limit',
  EIO: 'The disk that holds the recordings reports errors. Replace or repair it',
  ENOTDIR: 'The folder of the recordings cannot be used: a part of its path is not a folder. Correct the setting',
  ENOENT: 'The folder of the recordings is gone. Create it',
}

/**
 * Turns a failed write into the error callers see: what is wrong and what to do, without a path. Nothing that cannot
 * be recorded may run (C15), so the text also says that calls are refused until then.
 */
export function recordingFailed(error: unknown): SallyportError {
  if (error instanceof SallyportError) return error
  const errno = errnoOf(error)
  const fix = FIX[errno] ?? `The recording could not be written (${errno}). See the log of the gateway`
  return new SallyportError('ERR_RECORDING_FAILED', `${fix}; what cannot be recorded is refused until then.`, {
    detail: error instanceof Error ? error.message : String(error),
    cause: error,
  })
}
