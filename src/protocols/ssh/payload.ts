import { z } from 'zod'

const text = z.string().max(1024 * 1024)

/** A variable a client asks to be set at the target. */
const env = z.record(z.string().max(128), z.string().max(4096))

const count = z.int().min(0).optional()

/** What tools and the listener hand to the planner. */
const payload = z.discriminatedUnion('kind', [
  z.strictObject({
    kind: z.literal('exec'),
    /** The words of one command, or a whole command line; exactly one of them. */
    argv: z.array(text).min(1).max(1024).optional(),
    command: text.optional(),
    /** Input that is known before the command runs. */
    stdin: text.optional(),
    max_bytes: z.int().min(1).optional(),
    timeout_ms: z.int().min(1).optional(),
    env: env.optional(),
  }),
  z.strictObject({
    kind: z.literal('shell'),
    term: z.string().max(64),
    columns: z.int().min(0).max(10_000),
    rows: z.int().min(0).max(10_000),
    env: env.optional(),
  }),
  z.strictObject({
    kind: z.literal('sftp'),
    operation: z.enum([
      'stat',
      'lstat',
      'readlink',
      'list',
      'read',
      'write',
      'remove',
      'rmdir',
      'rename',
      'mkdir',
      'setstat',
      'link',
    ]),
    path: z.string().max(4096),
    /** The new name, or where a link leads. */
    to: z.string().max(4096).optional(),
    /** How a file is opened to be written. */
    flags: z
      .strictObject({ append: z.boolean(), create: z.boolean(), truncate: z.boolean(), exclusive: z.boolean() })
      .optional(),
    /** What a file is given: mode, owner, length, times in seconds. */
    attributes: z
      .strictObject({ mode: count, uid: count, gid: count, size: count, atime: count, mtime: count })
      .optional(),
  }),
  z.strictObject({ kind: z.literal('forward'), host: z.string().max(255), port: z.int().min(1).max(65_535) }),
])

/** A request as it came from a tool or a client. */
export type SshPayload = z.output<typeof payload>

/** A file operation. */
export type SftpPayload = Extract<SshPayload, { kind: 'sftp' }>

/** Reads a payload, or returns `undefined`: then nobody can say what it means. */
export function readPayload(raw: unknown): SshPayload | undefined {
  const read = payload.safeParse(raw)
  return read.success ? read.data : undefined
}
