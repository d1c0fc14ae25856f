import { constants } from 'node:fs'
import { open, rename, rm } from 'node:fs/promises'
import path from 'node:path'

/**
 * Replaces a file so that a crash at any moment leaves either the old content or the new, never a mixture: the new
 * content is written beside it, synced, renamed over it, and then the directory is synced, because the rename itself
 * lives in the directory (rename(2), fsync(2)).
 *
 * After an error the old file is still in place, with one exception: when only the last sync failed, the new content may
 * or may not survive a power loss. Callers must treat the write as failed; what they then find at the next start is a
 * state that was asked for, never one that was not.
 */
export async function writeDurably(file: string, content: string | Uint8Array): Promise<void> {
  const temporary = `${file}.tmp`
  try {
    const handle = await open(temporary, constants.O_WRONLY | constants.O_CREAT | constants.O_TRUNC, 0o600)
    try {
      await handle.writeFile(content)
      await handle.sync()
    } finally {
      await handle.close()
    }
    await rename(temporary, file)
  } catch (error) {
    // A half-written file would hold space on a disk that is perhaps full. That it cannot be removed changes nothing.
    await rm(temporary, { force: true }).catch(() => undefined)
    throw error
  }
  await syncDirectory(path.dirname(file))
}

/** Makes names added to or removed from a directory durable. */
export async function syncDirectory(directory: string): Promise<void> {
  const handle = await open(directory, constants.O_RDONLY | constants.O_DIRECTORY)
  try {
    await handle.sync()
  } finally {
    await handle.close()
  }
}
