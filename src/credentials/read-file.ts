import { closeSync, constants, fstatSync, openSync, readSync } from 'node:fs'

/** More than any key or password needs; a bigger file is the wrong file. */
export const SECRET_BYTES_MAX = 64 * 1024

/** The secret, or one clause that says why there is none. The clause never holds what was read. */
export type Reading = { readonly value: string } | { readonly missing: string }

/**
 * Reads a secret from a file only its owner can read.
 *
 * Synchronous on purpose: it is a few bytes that the kernel has at hand, and the four system calls cost a tenth of what
 * handing each of them to another thread does, on every call a caller makes.
 */
export function readSecretFile(path: string): Reading {
  let descriptor: number
  try {
    // Without O_NONBLOCK, opening a FIFO would wait for a writer for ever.
    descriptor = openSync(path, constants.O_RDONLY | constants.O_NONBLOCK)
  } catch (error) {
    return { missing: `file ${path} cannot be opened (${codeOf(error)})` }
  }
  try {
    const stat = fstatSync(descriptor)
    if (!stat.isFile()) return { missing: `${path} is not a regular file` }
    // Fail closed: a secret that others can read is already no secret, and using it would hide that.
    if ((stat.mode & 0o077) !== 0) {
      return { missing: `file ${path} can be read by others than its owner; run: chmod 600 ${path}` }
    }
    const likely = readUpTo(descriptor, Math.min(stat.size, SECRET_BYTES_MAX) + 1)
    // As many bytes as there was room for: it has grown since, or the file system says no sizes.
    const isAll = likely.length <= stat.size
    return secretOf(isAll ? likely : readUpTo(descriptor, SECRET_BYTES_MAX + 1), `file ${path}`)
  } catch (error) {
    return { missing: `file ${path} cannot be read (${codeOf(error)})` }
  } finally {
    closeSync(descriptor)
  }
}

/** Reads from the beginning of a file, at most so many bytes. */
function readUpTo(descriptor: number, bytesMax: number): Uint8Array {
  const buffer = Buffer.alloc(bytesMax)
  let length = 0
  while (length < bytesMax) {
    const count = readSync(descriptor, buffer, length, bytesMax - length, length)
    if (count === 0) break
    length += count
  }
  return buffer.subarray(0, length)
}

const UTF8 = new TextDecoder('utf-8', { fatal: true, ignoreBOM: true })

/** Decodes what a file or command gave: UTF-8, one trailing newline removed, because editors add one. */
export function secretOf(bytes: Uint8Array, place: string): Reading {
  if (bytes.length > SECRET_BYTES_MAX) return { missing: `${place} gave more than ${SECRET_BYTES_MAX} bytes` }
  let text: string
  try {
    text = UTF8.decode(bytes)
  } catch {
    return { missing: `${place} gave something that is not UTF-8 text` }
  }
  const value = text.replace(/\r?\n$/, '')
  if (value === '') return { missing: `${place} is empty` }
  if (value.includes('\0')) return { missing: `${place} gave a NUL byte` }
  return { value }
}

/** The system's word for a failure: `ENOENT`, `EACCES`. */
export function codeOf(error: unknown): string {
  return error instanceof Error && 'code' in error && typeof error.code === 'string' ? error.code : 'unknown error'
}
