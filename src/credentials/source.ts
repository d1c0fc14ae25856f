import { z } from 'zod'

/** Where the secret of one target is read, per use. Holds no secret itself. */
export type CredentialSource = {
  /** The account at the backend, when the protocol has accounts. */
  readonly user?: string
} & (
  | { readonly kind: 'env'; readonly name: string }
  | { readonly kind: 'file'; readonly path: string }
  | { readonly kind: 'exec'; readonly argv: readonly string[]; readonly cwd: string; readonly timeoutMs: number }
  | { readonly kind: 'none' }
)

/** How long a command may take when the configuration does not say. */
export const EXEC_TIMEOUT_DEFAULT_MS = 10_000

/** Names of environment variables as POSIX has them (IEEE Std 1003.1, section 8.1), in either case. */
const ENV_NAME = /^[A-Za-z_][A-Za-z0-9_]*$/

const word = z
  .string()
  .min(1)
  .refine((text) => !text.includes('\0'), 'must not hold a NUL byte')

/** `credential:` of a target: an account, and exactly one place its secret is read from. */
export const credentialSchema = z
  .strictObject({
    user: word.optional(),
    env: z.string().regex(ENV_NAME, 'must be the name of an environment variable, not its value').optional(),
    file: word.optional(),
    exec: z.array(word).min(1, 'must name a program').optional(),
    timeout_seconds: z.number().positive().max(60).optional(),
  })
  .check((context) => {
    const { env, file, exec, timeout_seconds: timeout } = context.value
    const places = [env, file, exec].filter((place) => place !== undefined).length
    if (places > 1) {
      context.issues.push({ code: 'custom', message: 'has more than one of env, file and exec', input: context.value })
    }
    if (places === 0 && context.value.user === undefined) {
      context.issues.push({ code: 'custom', message: 'needs env, file or exec', input: context.value })
    }
    if (timeout !== undefined && exec === undefined) {
      context.issues.push({
        code: 'custom',
        message: 'belongs to exec',
        input: timeout,
        path: ['timeout_seconds'],
      })
    }
  })

/**
 * Turns a checked `credential:` block into the place it names.
 *
 * @param resolvePath makes a path of the configuration absolute.
 * @param cwd where commands run: the directory of the configuration file.
 */
export function credentialSource(
  block: z.output<typeof credentialSchema> | undefined,
  resolvePath: (path: string) => string,
  cwd: string,
): CredentialSource {
  const user = block?.user !== undefined ? { user: block.user } : {}
  if (block?.env !== undefined) return { ...user, kind: 'env', name: block.env }
  if (block?.file !== undefined) return { ...user, kind: 'file', path: resolvePath(block.file) }
  if (block?.exec !== undefined) {
    const seconds = block.timeout_seconds
    const timeoutMs = seconds === undefined ? EXEC_TIMEOUT_DEFAULT_MS : seconds * 1000
    return { ...user, kind: 'exec', argv: block.exec, cwd, timeoutMs }
  }
  return { ...user, kind: 'none' }
}
