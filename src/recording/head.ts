import fs from 'node:fs/promises'
import path from 'node:path'
import { z } from 'zod'
import { SallyportError } from '../core/errors.ts'
import type { Head } from './format.ts'
import { writeDurably } from './keys.ts'

const headSchema = z.strictObject({
  file: z.string(),
  seq: z.int().nonnegative(),
  hash: z.string().regex(/^[0-9a-f]{64}$/),
})

/** A journal's head and whose it is. */
export interface InstanceHead extends Head {
  readonly instance: string
}

/** Keeps, outside the recordings, how far the journal has come: a journal that was cut or removed shows at the next start. */
export async function saveHead(stateDir: string, instance: string, head: Head): Promise<void> {
  const { file, seq, hash } = head
  await writeDurably(fileOf(stateDir, instance), `${JSON.stringify({ file, seq, hash })}\n`)
}

/**
 * Reads how far the journal had come, `undefined` before the first start.
 *
 * @throws SallyportError `ERR_CONFIG_INVALID` when the file is damaged.
 */
export async function loadHead(stateDir: string, instance: string): Promise<InstanceHead | undefined> {
  const file = fileOf(stateDir, instance)
  let text: string
  try {
    text = await fs.readFile(file, 'utf8')
  } catch (error) {
    if (error instanceof Error && 'code' in error && error.code === 'ENOENT') return undefined
    throw error
  }
  try {
    return { instance, ...headSchema.parse(JSON.parse(text)) }
  } catch (error) {
    throw new SallyportError(
      'ERR_CONFIG_INVALID',
      `${path.basename(file)} in the state directory is damaged. Restore it, or move it away; then recordings that went missing before now can no longer be noticed by it.`,
      { cause: error },
    )
  }
}

/**
 * Reads the heads of every instance that keeps its state in `stateDir`.
 *
 * @throws SallyportError `ERR_CONFIG_INVALID` when one is damaged.
 */
export async function loadHeads(stateDir: string): Promise<readonly InstanceHead[]> {
  const names = await fs.readdir(stateDir)
  const instances = names.flatMap((name) => /^recording-head-(.+)\.json$/.exec(name)?.[1] ?? [])
  const heads = await Promise.all(instances.sort().map((instance) => loadHead(stateDir, instance)))
  return heads.filter((head) => head !== undefined)
}

function fileOf(stateDir: string, instance: string): string {
  return path.join(stateDir, `recording-head-${instance}.json`)
}
