import { mkdir, readdir, readFile, rm } from 'node:fs/promises'
import path from 'node:path'
import { syncDirectory, writeDurably } from './durable-file.ts'
import { type Blobs, checkId, errnoOf, storeFailed } from './store.ts'

/** Keeps blobs as files of one directory, each replaced whole. */
export async function fileBlobs(directory: string): Promise<Blobs> {
  await mkdir(directory, { recursive: true, mode: 0o700 })
  await syncDirectory(path.dirname(directory))
  // What a crash left half-written was never promised to anybody.
  for (const name of await readdir(directory)) {
    if (name.endsWith('.tmp')) await rm(path.join(directory, name), { force: true })
  }
  const fileOf = (name: string): string => path.join(directory, `${checkId(name)}.blob`)
  return {
    async put(name, bytes) {
      try {
        await writeDurably(fileOf(name), bytes)
      } catch (error) {
        throw storeFailed(error, 'store a payload')
      }
    },
    async get(name) {
      try {
        return await readFile(fileOf(name))
      } catch (error) {
        if (errnoOf(error) === 'ENOENT') return undefined
        throw storeFailed(error, 'read a payload')
      }
    },
    async remove(name) {
      try {
        await rm(fileOf(name), { force: true })
      } catch (error) {
        throw storeFailed(error, 'erase a payload')
      }
    },
    async list() {
      const names = await readdir(directory)
      return names.filter((name) => name.endsWith('.blob')).map((name) => name.slice(0, -'.blob'.length))
    },
  }
}
