import * as z from 'zod'
import { ROWS_SCHEMA } from './answer.ts'
import type { ToolDescription } from './tool.ts'
import { inputSchemaOf, readArguments, reason } from './tool.ts'

/** The longest a single call of `approval_status` may wait. */
const WAIT_MAX_MS = 10 * 60_000

const schema = z.strictObject({
  ticket: z.string().min(1).max(128).describe('The ticket a held call answered with.'),
  wait_ms: z
    .int()
    .min(0)
    .max(WAIT_MAX_MS)
    .optional()
    .describe('How long to wait for the decision, in milliseconds. 0 answers at once.'),
  reason,
})

/** Asks after a held call, and picks up its result. */
export interface StatusTool extends ToolDescription {
  readonly kind: 'status'
  /** @throws SallyportError `ERR_INVALID_INPUT` */
  read(args: unknown): { readonly ticket: string; readonly waitMs?: number; readonly reason?: string }
}

/** Asks after a held call, and picks up its result. */
export const approvalStatus: StatusTool = {
  kind: 'status',
  name: 'approval_status',
  title: 'Status of an approval',
  description: [
    'Asks what became of a call of yours that waits for a person, and runs it once it is approved.',
    'Give the `ticket` from a `pending_approval` answer. When approved, the answer is the result of the call itself.',
    'Still `pending_approval`: ask again after `poll_after_ms`, or pass `wait_ms` to wait here.',
    'The call runs at most once; asking again returns the stored result with `replayed`.',
  ].join(' '),
  inputSchema: inputSchemaOf(schema),
  // It answers with the result of the call it picks up, so it has every field such a result has.
  outputSchema: ROWS_SCHEMA,
  // Not read-only: it runs the call that was approved.
  annotations: { readOnlyHint: false, destructiveHint: true, idempotentHint: true, openWorldHint: true },

  read(args) {
    const { ticket, wait_ms: waitMs, reason } = readArguments('approval_status', schema, args)
    return { ticket, ...(waitMs !== undefined && { waitMs }), ...(reason !== undefined && { reason }) }
  },
}
