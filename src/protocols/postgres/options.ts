import { z } from 'zod'
import { durationMs, sizeBytes } from '../shared/measure.ts'

/** Settings of one PostgreSQL target, complete. Holds no secret: user and password come as a `Secret`. */
export interface PostgresOptions {
  readonly host: string
  readonly port: number
  readonly database: string
  readonly tls: TlsOptions
  /** Schemas in which unqualified names are looked up. The session is pinned to it (C7). */
  readonly searchPath: readonly string[]
  /** Most connections to the target at once. */
  readonly poolMax: number
  readonly connectTimeoutMs: number
  /** How long any statement may run at the target, whatever the policy allows. */
  readonly statementTimeoutMs: number
  /**
   * What must be true of the backend role before a masked relation is touched: `enforced` demands that it may not read
   * the masked columns, so that PostgreSQL itself stands behind the masks; `rewrite` demands nothing of it.
   */
  readonly masking: 'rewrite' | 'enforced'
  /**
   * Functions an operator vouches for, as `schema.fn(argtype,argtype)`: they read nothing a mask hides. Only what masks
   * refuse is lifted; the policy still decides each call.
   */
  readonly trustedFunctions: readonly string[]
  /** Tables, as `schema.table`, of which an operator vouches the same for whatever runs when they are written or read. */
  readonly trustedSideEffects: readonly string[]
  /** Whether a write that is held for an approval is tried beforehand, in a transaction that is rolled back. */
  readonly preview: 'rollback' | 'off'
  /** Rows and bytes of a result when neither policy nor caller says less. */
  readonly rowsMax: number
  readonly bytesMax: number
}

/** Whether and how the server proves itself. There is no mode that encrypts to whoever answers. */
export type TlsOptions =
  | {
      readonly mode: 'verify'
      /** A file in PEM with the authorities to trust instead of the system's. */
      readonly caFile?: string
      /** The name the certificate must carry, when it is not `host`. */
      readonly serverName?: string
    }
  | { readonly mode: 'disable' }

const ROWS_MAX_DEFAULT = 1000
const BYTES_MAX_DEFAULT = 1024 ** 2

/** Longest identifier PostgreSQL keeps (`NAMEDATALEN` - 1, in bytes); it cuts longer ones, so they would mean another. */
const IDENTIFIER_BYTES_MAX = 63

const word = z
  .string()
  .min(1)
  .refine((value) => !value.includes('\0'), 'must not hold a NUL byte')
const identifier = word.refine((value) => Buffer.byteLength(value) <= IDENTIFIER_BYTES_MAX, 'is longer than 63 bytes')

/** The protocol's own keys of a target in the configuration. */
export const postgresSchema = z.strictObject({
  host: word,
  port: z.int().min(1).max(65_535).default(5432),
  database: word,
  tls: z
    .union([z.enum(['verify', 'disable']), z.strictObject({ ca: word.optional(), server_name: word.optional() })], {
      error: 'must be verify, disable or {ca: file, server_name: name}',
    })
    .default('verify'),
  search_path: z
    .array(identifier.refine((name) => !/^pg_|^\$user$/u.test(name), 'must name a schema made by a user'))
    .min(1)
    .max(20)
    .default(['public']),
  pool: z.int().min(1).max(200).default(10),
  connect_timeout: durationMs('10s').default(10_000),
  statement_timeout: durationMs('60s').default(60_000),
  masking: z.enum(['rewrite', 'enforced']).default('rewrite'),
  trusted_functions: z
    .array(word.regex(/^[^()]+\.[^()]+\([^()]*\)$/u, 'must be written schema.name(argtype,argtype)'))
    .max(200)
    .default([]),
  trusted_side_effects: z
    .array(word.regex(/^[^.]+\.[^.]+$/u, 'must be written schema.table'))
    .max(200)
    .default([]),
  preview: z.enum(['rollback', 'off']).default('rollback'),
  rows: z.int().min(1).max(1_000_000).default(ROWS_MAX_DEFAULT),
  bytes: sizeBytes('1MiB').default(BYTES_MAX_DEFAULT),
})

/** Completes what the schema checked. `resolvePath` makes a path of the configuration absolute. */
export function postgresOptions(
  checked: z.output<typeof postgresSchema>,
  resolvePath: (path: string) => string = (path) => path,
): PostgresOptions {
  return {
    host: checked.host,
    port: checked.port,
    database: checked.database,
    tls: tlsOf(checked.tls, resolvePath),
    searchPath: checked.search_path,
    poolMax: checked.pool,
    connectTimeoutMs: checked.connect_timeout,
    statementTimeoutMs: checked.statement_timeout,
    masking: checked.masking,
    trustedFunctions: checked.trusted_functions,
    trustedSideEffects: checked.trusted_side_effects,
    preview: checked.preview,
    rowsMax: checked.rows,
    bytesMax: checked.bytes,
  }
}

/** What the settings of a target say to its planner. */
export function planSettings({ masking, trustedFunctions, trustedSideEffects }: PostgresOptions): {
  readonly masking: PostgresOptions['masking']
  readonly trustedFunctions?: readonly string[]
  readonly trustedSideEffects?: readonly string[]
} {
  return {
    masking,
    ...(trustedFunctions.length > 0 && { trustedFunctions }),
    ...(trustedSideEffects.length > 0 && { trustedSideEffects }),
  }
}

/** Names the database an approval holds for, so that it cannot move to another one (C11). */
export function endpointOf(options: PostgresOptions): string {
  const { host, port, database, searchPath } = options
  const schemas = searchPath.map(encodeURIComponent).join(',')
  return `postgres://${host}:${port}/${encodeURIComponent(database)}?search_path=${schemas}`
}

/** What the configuration needs of this protocol: the keys of a target, and how they become its options. */
export const POSTGRES_SETTINGS = {
  schema: postgresSchema,
  finish(raw: unknown, resolvePath: (path: string) => string) {
    const options = postgresOptions(raw as z.output<typeof postgresSchema>, resolvePath)
    return { options, endpoint: endpointOf(options) }
  },
} as const

function tlsOf(tls: z.output<typeof postgresSchema>['tls'], resolvePath: (path: string) => string): TlsOptions {
  if (typeof tls === 'string') return { mode: tls }
  return {
    mode: 'verify',
    ...(tls.ca !== undefined && { caFile: resolvePath(tls.ca) }),
    ...(tls.server_name !== undefined && { serverName: tls.server_name }),
  }
}
