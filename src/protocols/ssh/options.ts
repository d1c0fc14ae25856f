import { z } from 'zod'
import { durationMs, sizeBytes } from '../shared/measure.ts'

/** Settings of one SSH target, complete. Holds no secret: password or key come as a `Secret`. */
export interface SshOptions {
  readonly host: string
  readonly port: number
  /** The account the gateway logs in as. */
  readonly user: string
  /** SHA-256 fingerprints of the host's keys, as `ssh-keygen -l` prints them. None: nothing is trusted. */
  readonly hostKeys: readonly string[]
  /** What the secret is. */
  readonly auth: 'key' | 'password'
  /** Path of bash at the target. Commands are judged as it reads them, so it is what runs them. */
  readonly shell: string
  readonly connectTimeoutMs: number
  /** Most bytes of a result, whatever the policy allows. */
  readonly bytesMax?: number
}

/** The protocol's own keys of a target in the configuration. */
export const sshSchema = z.strictObject({
  host: z.string().regex(/^[A-Za-z0-9][A-Za-z0-9.:_-]{0,253}$/u, 'must be a host name or an address'),
  port: z.int().min(1).max(65_535).default(22),
  user: z.string().regex(/^[a-z_][a-z0-9_.-]{0,31}$/iu, 'must be the name of an account'),
  host_keys: z
    .array(
      z.string().regex(/^SHA256:[A-Za-z0-9+/]{43}$/u, 'must be a fingerprint, such as ssh-keygen -l prints: SHA256:…'),
    )
    .max(16)
    .default([]),
  auth: z.enum(['key', 'password']).default('key'),
  shell: z
    .string()
    .regex(/^\/(?:[A-Za-z0-9._-]+\/)*bash$/u, 'must be the path of bash at the target, such as /bin/bash')
    .default('/bin/bash'),
  connect_timeout: durationMs('10s').default(10_000),
  bytes: sizeBytes('4MiB').optional(),
})

/** Completes what the schema checked. */
export function sshOptions(checked: z.output<typeof sshSchema>): SshOptions {
  return {
    host: checked.host,
    port: checked.port,
    user: checked.user,
    hostKeys: checked.host_keys,
    auth: checked.auth,
    shell: checked.shell,
    connectTimeoutMs: checked.connect_timeout,
    ...(checked.bytes !== undefined && { bytesMax: checked.bytes }),
  }
}

/** Names the account an approval holds for, so that it cannot move to another one (C11). */
export function endpointOf({ host, port, user, hostKeys }: SshOptions): string {
  return `ssh://${encodeURIComponent(user)}@${host}:${port}?keys=${[...hostKeys].sort().map(encodeURIComponent).join(',')}`
}

/** What the configuration needs of this protocol: the keys of a target, and how they become its options. */
export const SSH_SETTINGS = {
  schema: sshSchema,
  finish(raw: unknown) {
    const options = sshOptions(raw as z.output<typeof sshSchema>)
    return { options, endpoint: endpointOf(options) }
  },
} as const
