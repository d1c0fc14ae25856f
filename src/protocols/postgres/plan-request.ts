import { z } from 'zod'
import { SallyportError } from '../../core/errors.ts'
import type { Param } from './plan-types.ts'

/** Parameters of one call: PostgreSQL's own limit is 65,535. */
const PARAMS_MAX = 1000
const PARAM_BYTES_MAX = 1024 * 1024

const payloadSchema = z.strictObject({
  sql: z.string(),
  params: z.array(z.union([z.string(), z.number(), z.boolean(), z.null()])).optional(),
  max_rows: z.int().min(0).optional(),
})

/** One statement as it will be bound. */
export interface StatementRequest {
  readonly sql: string
  /** Absent while nothing is bound yet, as in a Parse message: then their number is not checked. */
  readonly params?: readonly Param[]
  /** OIDs of the types its client declared for them; 0, or nothing, where the server is to find out. */
  readonly paramTypes?: readonly number[]
  readonly rowsMax?: number
}

/** A request whose parameters are known, or known to come later. */
export interface Request extends StatementRequest {
  readonly params: readonly Param[]
  readonly isUnbound?: true
  /** Whether they come with another statement (EXECUTE), so that this one is never planned with them. */
  readonly areUnseen?: true
}

/** Reads what came, which is not yet trusted. */
export function readPayload(payload: unknown): Request {
  return readText(payload) ?? readAny(payload)
}

/** The usual payload, a text and nothing else: finding that out must cost less than planning it. */
function readText(payload: unknown): Request | undefined {
  if (typeof payload !== 'object' || payload === null) return undefined
  for (const key in payload) if (key !== 'sql') return undefined
  const { sql } = payload as { readonly sql?: unknown }
  return typeof sql === 'string' && Object.hasOwn(payload, 'sql') ? { sql, params: [] } : undefined
}

function readAny(payload: unknown): Request {
  const read = payloadSchema.safeParse(payload)
  if (!read.success) {
    const where = read.error.issues[0]?.path.join('.') ?? ''
    throw new SallyportError(
      'ERR_INVALID_INPUT',
      `${where === '' ? 'The request' : where} is not as expected: {sql: text, params?: [text, number, boolean or null], max_rows?: whole number}.`,
    )
  }
  const { sql, params = [], max_rows: rowsMax } = read.data
  const bound = params.map(toParam)
  const bytes = bound.reduce((sum, param) => sum + (param === null ? 0 : Buffer.byteLength(param, 'utf8')), 0)
  if (bound.length > PARAMS_MAX || bytes > PARAM_BYTES_MAX) {
    throw new SallyportError(
      'ERR_TOO_LARGE',
      `At most ${PARAMS_MAX} parameters of ${PARAM_BYTES_MAX} bytes together can be sent with a statement.`,
    )
  }
  return { sql, params: bound, ...(rowsMax !== undefined && { rowsMax }) }
}

/** PostgreSQL's text form of a JSON scalar. */
function toParam(value: string | number | boolean | null): Param {
  if (value === null) return null
  if (typeof value !== 'string') return String(value)
  if (value.includes('\0') || /\p{Surrogate}/u.test(value)) {
    throw new SallyportError('ERR_INVALID_INPUT', 'A parameter holds a NUL character or half a surrogate pair.')
  }
  return value
}
