/**
 * Reads policy files from a directory. The one place, with `watch.ts`, where this room touches the disk.
 *
 * @packageDocumentation
 */
import { open, readdir, stat } from 'node:fs/promises'
import { join, relative, sep } from 'node:path'
import { compare, type Problem } from './problem.ts'
import { FILE_LENGTH_MAX, type SourceFile } from './yaml.ts'

/** What a directory holds: policies, or fixtures beside them. */
export interface PolicyFiles {
  readonly files: readonly SourceFile[]
  readonly fixtures: readonly SourceFile[]
  /** The directory and those in it, for watching. */
  readonly directories: readonly string[]
  /** What could not be read. Nothing may be loaded then: the unread file may hold a deny. */
  readonly problems: readonly Problem[]
  /** Whether the directory itself is not there. */
  readonly isMissing: boolean
}

/** More files than any operator keeps; the bound keeps a wrong path (`/`) from being read for minutes. */
const FILES_MAX = 1000
const DEPTH_MAX = 8

/** Reads every `*.yaml` and `*.yml` under a directory; `*.test.yaml` are fixtures. Paths are relative to `base`. */
export async function readPolicyFiles(directory: string, base = directory): Promise<PolicyFiles> {
  const found: Found = { files: [], fixtures: [], directories: [], problems: [] }
  const isMissing = await isAbsent(directory)
  if (!isMissing) await walk(directory, base, 0, found)
  const byPath = (a: SourceFile, b: SourceFile): number => compare(a.path, b.path)
  return { ...found, files: found.files.sort(byPath), fixtures: found.fixtures.sort(byPath), isMissing }
}

interface Found {
  readonly files: SourceFile[]
  readonly fixtures: SourceFile[]
  readonly directories: string[]
  readonly problems: Problem[]
}

async function walk(directory: string, base: string, depth: number, found: Found): Promise<void> {
  const shown = relative(base, directory).split(sep).join('/') || '.'
  if (depth > DEPTH_MAX)
    return void found.problems.push(problem(shown, `Directories are nested more than ${DEPTH_MAX} deep.`))
  found.directories.push(directory)
  let entries: readonly string[]
  try {
    entries = await readdir(directory)
  } catch (error) {
    return void found.problems.push(problem(shown, `The directory cannot be read: ${codeOf(error)}.`))
  }
  for (const name of [...entries].sort(compare)) {
    // Hidden entries are editors' and mounts' own (`.#file`, `..data`); what they show stands beside them.
    if (name.startsWith('.')) continue
    await visit(join(directory, name), base, depth, found)
  }
}

async function visit(path: string, base: string, depth: number, found: Found): Promise<void> {
  const shown = relative(base, path).split(sep).join('/')
  const isPolicy = /\.ya?ml$/.test(path)
  try {
    const entry = await stat(path)
    if (entry.isDirectory()) return await walk(path, base, depth + 1, found)
    if (!isPolicy) return
    // Opening a FIFO would wait for a writer for ever, and every later reload with it.
    if (!entry.isFile()) return void found.problems.push(problem(shown, 'This is not a file.'))
    if (found.files.length + found.fixtures.length >= FILES_MAX) {
      return void found.problems.push(problem(shown, `There are more than ${FILES_MAX} policy files.`))
    }
    const list = /\.test\.ya?ml$/.test(path) ? found.fixtures : found.files
    list.push({ path: shown, text: await readBounded(path) })
  } catch (error) {
    if (isPolicy) found.problems.push(problem(shown, `The file cannot be read: ${codeOf(error)}.`))
  }
}

/** Reads a file as strict UTF-8, at most one character more than the parser takes. */
async function readBounded(path: string): Promise<string> {
  const handle = await open(path, 'r')
  try {
    const size = (await handle.stat()).size
    const buffer = Buffer.alloc(Math.min(size, FILE_LENGTH_MAX + 1))
    let length = 0
    while (length < buffer.length) {
      const { bytesRead } = await handle.read(buffer, length, buffer.length - length, length)
      if (bytesRead === 0) break
      length += bytesRead
    }
    return new TextDecoder('utf-8', { fatal: true }).decode(buffer.subarray(0, length))
  } finally {
    await handle.close()
  }
}

async function isAbsent(directory: string): Promise<boolean> {
  try {
    return !(await stat(directory)).isDirectory()
  } catch (error) {
    // Only what is surely not there is missing; what cannot be looked at is a problem, which the walk reports.
    return codeOf(error) === 'ENOENT' || codeOf(error) === 'ENOTDIR'
  }
}

function problem(path: string, message: string): Problem {
  return { path, line: 1, column: 1, message }
}

function codeOf(error: unknown): string {
  if (error instanceof TypeError) return 'it is not UTF-8'
  const code = (error as { readonly code?: unknown }).code
  return typeof code === 'string' ? code : 'unknown error'
}
