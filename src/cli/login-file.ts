import { chmod, mkdir, open, rename, rm } from 'node:fs/promises'
import { homedir } from 'node:os'
import path from 'node:path'
import { z } from 'zod'
import { SallyportError } from '../core/errors.ts'

/** What a person's machine keeps to reach a gateway (C17): a URL and a token, nothing else. */
export interface Login {
  readonly url?: string
  readonly token?: string
}

const schema = z.strictObject({ url: z.url().optional(), token: z.string().min(1).optional() })

/** `~/.config/sallyport/credentials`, or below `XDG_CONFIG_HOME`. */
export function loginFile(env: NodeJS.ProcessEnv = process.env): string {
  const base = env['XDG_CONFIG_HOME']
  return path.join(
    base !== undefined && path.isAbsolute(base) ? base : path.join(homedir(), '.config'),
    'sallyport/credentials',
  )
}

/**
 * Reads a login file. One that does not exist is an empty one.
 *
 * @throws SallyportError `ERR_CONFIG_INVALID` when others can read it, or it is not what we write.
 */
export async function readLogin(file: string): Promise<Login> {
  let text: string
  try {
    const handle = await open(file, 'r')
    try {
      const { mode } = await handle.stat()
      if ((mode & 0o077) !== 0) {
        throw new SallyportError('ERR_CONFIG_INVALID', `${file} can be read by others than you; run: chmod 600 ${file}`)
      }
      text = await handle.readFile('utf8')
    } finally {
      await handle.close()
    }
  } catch (error) {
    if (error instanceof SallyportError) throw error
    if (error instanceof Error && 'code' in error && error.code === 'ENOENT') return {}
    throw new SallyportError('ERR_CONFIG_INVALID', `${file} cannot be read.`, { cause: error })
  }
  try {
    const { url, token } = schema.parse(JSON.parse(text))
    return { ...(url !== undefined && { url }), ...(token !== undefined && { token }) }
  } catch {
    // What was wrong with it stays unsaid: the message would quote a token.
    throw new SallyportError('ERR_CONFIG_INVALID', `${file} must be JSON with "url" and "token".`)
  }
}

/** Writes a login file only its owner can read, whole or not at all. */
export async function writeLogin(file: string, login: Login): Promise<void> {
  const directory = path.dirname(file)
  await mkdir(directory, { recursive: true, mode: 0o700 })
  const beside = `${file}.new`
  await rm(beside, { force: true })
  const handle = await open(beside, 'wx', 0o600)
  try {
    await handle.writeFile(`${JSON.stringify(login, undefined, 2)}\n`)
  } finally {
    await handle.close()
  }
  await chmod(beside, 0o600)
  await rename(beside, file)
}
