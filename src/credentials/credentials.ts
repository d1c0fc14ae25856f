/**
 * Backend secrets. Imported by value only from `gateway/`, `main.ts`, `main-state.ts` and `config.ts`.
 *
 * A secret is read when it is used and kept nowhere here: rotating it needs no restart, and a heap dump of an idle
 * gateway holds none. What is never done: logging one, putting one into an error, or handing one to a shell.
 *
 * @packageDocumentation
 */
import type { Secret } from '../core/call.ts'
import { SallyportError } from '../core/errors.ts'
import type { Target } from '../core/target.ts'
import { readSecretFile, type Reading } from './read-file.ts'
import { runCommand } from './run-command.ts'
import type { CredentialSource } from './source.ts'

/** Backend secrets, by target. */
export interface Credentials {
  /**
   * Reads the target's secret anew: from the environment, a file or a command.
   *
   * @throws SallyportError `ERR_CREDENTIAL_MISSING`, naming where it was looked for and never what was found.
   */
  read(target: Target): Promise<Secret>

  /**
   * Looks whether the target's secret is where it should be, for a warning before anybody calls: the message `read` would
   * throw, or `undefined`. A command is not run for it, because it may ask somebody or write a log.
   */
  problem(target: Target): Promise<string | undefined>
}

/**
 * Builds the credentials of one gateway.
 *
 * @param sources where to look, by target name.
 * @param env the environment to read; the process's own unless a caller has another.
 */
export function createCredentials(
  sources: ReadonlyMap<string, CredentialSource>,
  env: NodeJS.ProcessEnv = process.env,
): Credentials {
  return {
    async read(target) {
      const source = sources.get(target.name)
      // Fail closed: a target nobody configured has no credential, not an empty one.
      if (source === undefined) throw missing(target, 'none is configured')
      const reading = await look(source, env)
      if ('missing' in reading) throw missing(target, reading.missing)
      return { ...(source.user !== undefined && { user: source.user }), value: reading.value }
    },

    async problem(target) {
      if (sources.get(target.name)?.kind === 'exec') return undefined
      try {
        await this.read(target)
        return undefined
      } catch (error) {
        return SallyportError.from(error).message
      }
    },
  }
}

/**
 * Reads a secret of the gateway itself, such as the password of its store.
 *
 * @param what names it in messages: "password of the shared store".
 * @throws SallyportError `ERR_CREDENTIAL_MISSING`, naming where it was looked for and never what was found.
 */
export async function readSecret(
  what: string,
  source: CredentialSource,
  env: NodeJS.ProcessEnv = process.env,
): Promise<string> {
  const reading = await look(source, env)
  if ('value' in reading) return reading.value
  throw new SallyportError('ERR_CREDENTIAL_MISSING', `There is no ${what}: ${reading.missing}.`)
}

async function look(source: CredentialSource, env: NodeJS.ProcessEnv): Promise<Reading> {
  if (source.kind === 'file') return readSecretFile(source.path)
  if (source.kind === 'exec') return runCommand({ ...source, env })
  if (source.kind === 'env') {
    const value = env[source.name]
    if (value === undefined) return { missing: `environment variable ${source.name} is not set` }
    return value === '' ? { missing: `environment variable ${source.name} is empty` } : { value }
  }
  // An account without a secret: backends that trust the connection itself, such as a peer-authenticated socket.
  source.kind satisfies 'none'
  return { value: '' }
}

function missing(target: Target, why: string): SallyportError {
  return new SallyportError('ERR_CREDENTIAL_MISSING', `The credential of target ${target.name} is missing: ${why}.`)
}
