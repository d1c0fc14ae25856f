import * as z from 'zod'
import { ROWS_SCHEMA } from './answer.ts'
import { answerRows } from './rows.ts'
import type { RunTool } from './tool.ts'
import { inputSchemaOf, readArguments, reason, target } from './tool.ts'

/** The payload of a `query_database` call. */
interface QueryPayload {
  /** One statement, or several with semicolons between them, as the caller wrote them. */
  readonly sql: string
  /** Values of `$1 …` in PostgreSQL's text form. */
  readonly params?: readonly (string | null)[]
  readonly max_rows?: number
}

/** Text PostgreSQL can be sent at all: no NUL, and nothing UTF-8 cannot encode (what is judged must be what is sent). */
const text = z.string().refine((value) => !value.includes('\0') && !/\p{Surrogate}/u.test(value), {
  message: 'must not contain NUL characters or unpaired surrogates',
})

/** A JSON number above 2^53 has already lost digits when it gets here, so it is refused instead of rounded. */
const number = z.number().refine((value) => !Number.isInteger(value) || Number.isSafeInteger(value), {
  message: 'is too large to be exact as a JSON number: pass it as a string',
})

const maxRows = z
  .int()
  .min(1)
  .max(100_000)
  .optional()
  .describe('The most rows you want in one answer. When there are more, `cursor` in the answer continues.')

const schema = z.strictObject({
  target,
  sql: text
    .min(1)
    .max(128 * 1024)
    .describe(
      'One SQL statement; put values in `params` and write $1, $2 … in the statement. Or several with semicolons between ' +
        'them and without `params`: they run in one transaction, all or nothing.',
    ),
  params: z
    .array(z.union([text, number, z.boolean(), z.null()]))
    .max(1000)
    .optional()
    .describe(
      'Values for $1, $2 … of a single statement, in order. Pass integers above 2^53 and exact decimals as strings.',
    ),
  max_rows: maxRows,
  reason,
  new_request: z
    .uuid()
    .optional()
    .describe('A fresh UUID asks for a new approval although the same call was approved and run before.'),
})

const moreSchema = z.strictObject({
  cursor: z
    .string()
    .min(1)
    .max(128)
    .describe(
      'Instead of everything else but `max_rows`: the `cursor` of a truncated answer, for the rows that follow.',
    ),
  max_rows: maxRows,
  reason,
})

/** What a model is shown: a root with alternatives is more than many clients take, so either way in is optional. */
const shownSchema = z.strictObject({
  ...schema.shape,
  target: target.optional(),
  sql: schema.shape.sql.optional(),
  cursor: moreSchema.shape.cursor.optional(),
})

/** Runs SQL under policy: one statement, or several in one transaction. */
export const queryDatabase: RunTool = {
  kind: 'run',
  protocol: 'postgres',
  name: 'query_database',
  title: 'Query a database',
  description: [
    'Runs one SQL statement on a PostgreSQL target and returns its rows; or several, all or nothing, and returns `results`.',
    'Use `describe_target` first when you do not know the tables and columns.',
    'Every statement is judged by policy: it may be allowed, denied, or held until a person approves it.',
    'Values of some columns may be masked; masked values are not the real ones, so do not compare or join on them.',
    'Give `target` and `sql`; or, to read on in a truncated result, its `cursor`.',
    'When `truncated` is true there are more rows than you see: with `cursor` they follow, without it a limit ends here.',
    'Status `denied` will not change by asking again: follow `hint` or tell your user which rule stands in the way.',
    'Status `pending_approval`: wait, then call `approval_status` with the ticket. Do not send the statement changed.',
  ].join(' '),
  inputSchema: inputSchemaOf(shownSchema),
  outputSchema: ROWS_SCHEMA,
  annotations: { readOnlyHint: false, destructiveHint: true, idempotentHint: false, openWorldHint: true },

  read(args) {
    const {
      target,
      sql,
      params,
      max_rows,
      reason,
      new_request: newRequest,
    } = readArguments('query_database', schema, args)
    const payload: QueryPayload = {
      sql,
      ...(params !== undefined && { params: params.map((value) => (value === null ? null : String(value))) }),
      ...(max_rows !== undefined && { max_rows }),
    }
    return {
      target,
      payload,
      ...(reason !== undefined && { reason }),
      ...(newRequest !== undefined && { newRequest }),
      ...(max_rows !== undefined && { pageRows: max_rows }),
    }
  },

  readMore(args) {
    if (typeof args !== 'object' || args === null || !Object.hasOwn(args, 'cursor')) return undefined
    const { cursor, max_rows: pageRows } = readArguments('query_database', moreSchema, args)
    return { cursor, ...(pageRows !== undefined && { pageRows }) }
  },

  answer: answerRows,
}
