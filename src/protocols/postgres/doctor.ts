/**
 * `sallyport doctor`: looks at a target through the very credential the gateway uses.
 *
 * @packageDocumentation
 */
import type { Secret } from '../../core/call.ts'
import type { ColumnMask, MaskingMode } from '../../core/decision.ts'
import type { Target } from '../../core/target.ts'
import { SallyportError } from '../../core/errors.ts'
import { CatalogKeeper } from './catalog-load.ts'
import type { Catalog } from './catalog.ts'
import { UpstreamConnection, type Upstream } from './connection.ts'
import { findingsOf, type Finding, type Patient } from './doctor-findings.ts'
import { leastPrivilege, type LeastPrivilege, type Needs } from './doctor-grants.ts'
import { DOCTOR_SQL, type DoctorFacts } from './doctor-sql.ts'
import type { Step } from './exchange.ts'
import { bindMasks } from './masks.ts'
import type { PostgresOptions } from './options.ts'
import { sorted, undercutsOf, type Undercut } from './undercuts.ts'

/** What an examination gave. */
export interface Examination {
  readonly role: string
  readonly serverVersion: number
  /** What the target demands, and what is so. */
  readonly demanded: PostgresOptions['masking']
  readonly masking: MaskingMode
  readonly findings: readonly Finding[]
  /** The SQL of a role that is just strong enough. @throws SallyportError `ERR_INVALID_INPUT` */
  leastPrivilege(needs: Needs, role?: string): LeastPrivilege
}

/** What an examination is made of. */
export interface ExaminationOptions {
  readonly target: Target
  /** Every mask the policy has for the target, whoever it is for. */
  readonly masks: readonly ColumnMask[]
  readonly secret: () => Promise<Secret>
  readonly signal: AbortSignal
}

/**
 * Examines a target. Reads its catalog, and nothing of its tables.
 *
 * @throws SallyportError when it cannot be reached.
 */
export async function examine(options: ExaminationOptions): Promise<Examination> {
  const upstream = upstreamOf(options.target)
  const demanded = upstream.options.masking
  const { catalog, masks, missing } = await boundAndTried(upstream, options)
  const facts = await factsOf(upstream, options)
  const [role] = facts.role
  if (role === undefined) throw new SallyportError('ERR_UPSTREAM_REJECTED', 'The server does not say who is logged in.')
  const patient: Patient = { facts, role, catalog, masks }
  return {
    role: role.name,
    serverVersion: role.version,
    demanded,
    masking: masks.mode,
    findings: [
      ...missing.map(({ severity, message }) => ({
        id: 'mask.missing',
        severity,
        message,
        remedy: 'Correct the policy or the schema.',
      })),
      ...findingsOf(patient),
    ],
    leastPrivilege: (needs, name) => leastPrivilege(patient, options.target.name, needs, name),
  }
}

/** What {@link undercuts} found. */
export interface Undercutting {
  readonly undercuts: readonly Undercut[]
  /** Whether the database has a relation or a function of that name. */
  readonly has: (schema: string, name: string) => boolean
}

/**
 * Looks for what would undercut the masks of a target: other ways to the same values. Reads bounded samples of tables.
 *
 * @throws SallyportError when it cannot be reached.
 */
export async function undercuts(options: ExaminationOptions): Promise<Undercutting> {
  const upstream = upstreamOf(options.target)
  const catalog = await catalogOf(upstream, options)
  const connection = await UpstreamConnection.open(upstream, await options.secret(), options.signal)
  const abort = (): void => connection.destroy(options.signal.reason)
  options.signal.addEventListener('abort', abort, { once: true })
  try {
    const names = new Set(
      [...catalog.relations, ...catalog.functions].map(({ schema, name }) => JSON.stringify([schema, name])),
    )
    return {
      undercuts: await undercutsOf(catalog, options.masks, connection),
      has: (schema, name) => names.has(JSON.stringify([schema, name])),
    }
  } finally {
    options.signal.removeEventListener('abort', abort)
    await connection.close()
  }
}

/** The masks as they stand in the catalog, each tried at the database like before a first answer (R7). */
async function boundAndTried(
  upstream: Upstream,
  { masks: wanted, secret, signal }: ExaminationOptions,
): Promise<Pick<Patient, 'catalog' | 'masks'> & Pick<ReturnType<typeof sorted>, 'missing'>> {
  const demanded = upstream.options.masking
  const keeper = new CatalogKeeper(upstream)
  try {
    const { catalog } = await keeper.current(secret, signal)
    const { present, missing } = sorted(catalog, wanted)
    const masks = bindMasks(catalog, present, demanded)
    if (masks.trials.size === 0) return { catalog, masks, missing }
    const tried = (await keeper.tried([...masks.trials.keys()], secret, signal)).catalog
    return { catalog: tried, masks: bindMasks(tried, present, demanded), missing }
  } finally {
    await keeper.close()
  }
}

/** The catalog of a target as the gateway would see it. */
async function catalogOf(
  upstream: Upstream,
  { secret, signal }: Pick<ExaminationOptions, 'secret' | 'signal'>,
): Promise<Catalog> {
  const keeper = new CatalogKeeper(upstream)
  try {
    return (await keeper.current(secret, signal)).catalog
  } finally {
    await keeper.close()
  }
}

function upstreamOf({ name, options }: Target): Upstream {
  return { target: name, options: options as PostgresOptions }
}

/** Asks everything in one snapshot and one round trip. */
async function factsOf(upstream: Upstream, { secret, signal }: ExaminationOptions): Promise<DoctorFacts> {
  const connection = await UpstreamConnection.open(upstream, await secret(), signal)
  const answers: Record<string, unknown[]> = {}
  const script: Step[] = [
    { do: 'run', sql: 'BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY' },
    { do: 'run', sql: `SELECT pg_catalog.set_config('search_path', 'pg_catalog', true)` },
  ]
  for (const [name, sql] of Object.entries(DOCTOR_SQL)) {
    const rows: unknown[] = (answers[name] = [])
    script.push({ do: 'run', sql, onRow: ([json]) => rows.push(JSON.parse(json ?? 'null')) })
  }
  const abort = (): void => connection.destroy(signal.reason)
  signal.addEventListener('abort', abort, { once: true })
  try {
    const outcome = await connection.run([...script, { do: 'run', sql: 'COMMIT' }])
    signal.throwIfAborted()
    const cause = outcome.failure?.report ?? (outcome.kind === 'lost' ? outcome.cause : undefined)
    if (cause === undefined) return answers as unknown as DoctorFacts
    throw new SallyportError('ERR_UPSTREAM_REJECTED', `The catalog of target ${upstream.target} could not be read.`, {
      cause,
    })
  } finally {
    signal.removeEventListener('abort', abort)
    await connection.close()
  }
}
