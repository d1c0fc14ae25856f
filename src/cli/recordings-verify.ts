import { readFile } from 'node:fs/promises'
import path from 'node:path'
import { loadConfig } from '../config.ts'
import { SallyportError } from '../core/errors.ts'
import { loadHeads, verify } from '../recording/index.ts'
import { EXIT } from './exit-code.ts'
import { openTerminal, printable } from './terminal.ts'

/** Options of `recordings verify`. */
export interface VerifyCommand {
  readonly config: string
  readonly key?: string
  readonly json?: boolean
}

/** Checks recordings offline: hashes, seals, checkpoints, missing files. Exit code 6 when anything is wrong. */
export async function recordingsVerify(directory: string | undefined, options: VerifyCommand): Promise<void> {
  const terminal = openTerminal(options)
  const config = directory === undefined ? loadConfig(options.config) : undefined
  const dir = config?.recordings.dir ?? path.resolve(directory ?? '.')
  const report = await verify(dir, {
    ...(options.key !== undefined && { publicKey: await readKey(options.key) }),
    ...(config !== undefined && { heads: await headsOf(config.stateDir) }),
  })
  if (!report.ok) process.exitCode = EXIT.unsound
  if (terminal.isJson) return terminal.json(report)
  for (const { file, line, reason, message } of report.problems) {
    const at = line === undefined ? file : `${file}:${line}`
    terminal.line(`${terminal.paint('red', '✗')} ${printable(`${at}: ${reason}: ${message}`)}`)
  }
  for (const { file, line, text } of report.notes) terminal.line(`  ${printable(`${file}:${line}: ${text}`)}`)
  const trust = report.isKeyTrusted ? '' : ' The key was the one beside them; --key takes one you keep yourself.'
  const open = report.open === 0 ? '' : ` ${report.open} of them ${report.open === 1 ? 'is' : 'are'} still open.`
  if (report.ok)
    terminal.line(
      `${terminal.paint('green', '✓')} ${report.files.length} files are as they were written.${open}${trust}`,
    )
  else terminal.note(`sallyport: ${report.problems.length} problems in ${dir}`)
}

/** How far the gateway's own journal had come. Whoever may not read its state verifies without, and so cannot see a cut tail. */
async function headsOf(stateDir: string): Promise<Awaited<ReturnType<typeof loadHeads>>> {
  try {
    return await loadHeads(stateDir)
  } catch (error) {
    if (error instanceof Error && 'code' in error && (error.code === 'ENOENT' || error.code === 'EACCES')) return []
    throw error
  }
}

async function readKey(file: string): Promise<string> {
  try {
    return await readFile(file, 'utf8')
  } catch (error) {
    throw new SallyportError('ERR_CONFIG_INVALID', `The key file ${file} cannot be read.`, { cause: error })
  }
}
