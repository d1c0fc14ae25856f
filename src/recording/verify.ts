/**
 * Verifies a folder of recordings, offline, with nothing but the public key.
 *
 * What it proves: every file an instance ever entered in its journals is there, whole, in order and as it was written;
 * every seal and checkpoint is signed by the key. What it cannot prove: that nothing was cut off the end of a run that
 * is not sealed yet, behind its last checkpoint, by somebody who owns the host. A head kept elsewhere closes that gap up
 * to the moment it was taken.
 *
 * @packageDocumentation
 */
import type { KeyObject } from 'node:crypto'
import fs from 'node:fs/promises'
import path from 'node:path'
import { SallyportError } from '../core/errors.ts'
import { INSTANCE_NAME } from './format.ts'
import type { InstanceHead } from './head.ts'
import { KEYS_FOLDER, publicKeysOf } from './keys.ts'
import type { FileReport, Problem, Report } from './report.ts'
import { verifyInstance } from './verify-instance.ts'

/** What to verify with. */
export interface VerifyOptions {
  /** Public keys in PEM form, from a place the recordings' keeper cannot write to. Default: those beside the recordings. */
  readonly publicKey?: string | readonly string[]
  /** Heads of journals kept elsewhere, such as the one in the state directory. */
  readonly heads?: readonly InstanceHead[]
  /** Demands that nothing is open: for archives of gateways that were stopped. */
  readonly isClosed?: boolean
}

/** Verifies the recordings in `dir`. @throws SallyportError `ERR_CONFIG_INVALID`, `ERR_RECORDING_INVALID`. */
export async function verify(dir: string, options: VerifyOptions = {}): Promise<Report> {
  const given = typeof options.publicKey === 'string' ? [options.publicKey] : options.publicKey
  const problems: Problem[] = []
  const files: FileReport[] = []
  const notes: { file: string; line: number; text: string }[] = []
  const beside = await keysBeside(dir, problems)
  const keys: ReadonlyMap<string, KeyObject> = given === undefined ? beside : publicKeysOf(given)
  const instances = await instancesOf(dir)
  for (const { instance, file } of options.heads ?? []) {
    if (instances.includes(instance)) continue
    problems.push({
      file: `${instance}/${file}`,
      reason: 'missing',
      message: 'a head was given for this instance, and it is gone',
    })
  }
  for (const instance of instances) {
    await verifyInstance({
      folder: path.join(dir, instance),
      instance,
      keys,
      heads: (options.heads ?? []).filter((head) => head.instance === instance),
      isClosed: options.isClosed === true,
      problem: ({ file, ...problem }) => void problems.push({ file: `${instance}/${file}`, ...problem }),
      file: ({ file, ...report }) => void files.push({ file: `${instance}/${file}`, ...report }),
      note: ({ file, ...note }) => void notes.push({ file: `${instance}/${file}`, ...note }),
    })
  }
  if (files.length === 0) {
    // Fail closed: an empty or wrong folder must not read as "everything is in order".
    problems.push({ file: '.', reason: 'empty', message: 'there are no recordings in this folder' })
  }
  return {
    ok: problems.length === 0,
    files,
    problems,
    notes,
    open: files.filter(({ status }) => status === 'open').length,
    isKeyTrusted: given !== undefined,
  }
}

/** Names of the instances that recorded into `dir`. @throws SallyportError `ERR_RECORDING_INVALID`. */
export async function instancesOf(dir: string): Promise<readonly string[]> {
  try {
    const entries = await fs.readdir(dir, { withFileTypes: true })
    return entries
      .filter((entry) => entry.isDirectory() && INSTANCE_NAME.test(entry.name) && entry.name !== KEYS_FOLDER)
      .map((entry) => entry.name)
      .sort()
  } catch (error) {
    throw new SallyportError(
      'ERR_RECORDING_INVALID',
      'The recordings folder cannot be read. Check its path and permissions.',
      {
        cause: error,
      },
    )
  }
}

async function keysBeside(dir: string, problems: Problem[]): Promise<ReadonlyMap<string, KeyObject>> {
  const folder = path.join(dir, KEYS_FOLDER)
  const names = await fs.readdir(folder).catch(() => [])
  const keys = new Map<string, KeyObject>()
  for (const name of names.filter((name) => name.endsWith('.pem'))) {
    const id = name.slice(0, -'.pem'.length)
    try {
      const text = await fs.readFile(path.join(folder, name), 'utf8')
      const key = publicKeysOf([text]).get(id)
      if (key?.export({ type: 'spki', format: 'pem' }) !== text) throw new Error('another key')
      keys.set(id, key)
    } catch {
      problems.push({ file: `${KEYS_FOLDER}/${name}`, reason: 'altered', message: 'this is not the key its name says' })
    }
  }
  return keys
}
