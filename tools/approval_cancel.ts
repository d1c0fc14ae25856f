import * as z from 'zod'
import { outputSchemaOf, type Answer } from './answer.ts'
import type { ToolDescription } from './tool.ts'
import { inputSchemaOf, readArguments, reason } from './tool.ts'

const schema = z.strictObject({
  ticket: z.string().min(1).max(128).describe('The ticket a held call answered with.'),
  reason,
})

/** Withdraws a held call. */
export interface CancelTool extends ToolDescription {
  readonly kind: 'cancel'
  /** @throws SallyportError `ERR_INVALID_INPUT` */
  read(args: unknown): { readonly ticket: string }
  /** Says that the ticket is withdrawn. */
  answer(ticket: string): Answer
}

/** Withdraws a call that waits for a person. */
export const approvalCancel: CancelTool = {
  kind: 'cancel',
  name: 'approval_cancel',
  title: 'Withdraw a request for approval',
  description: [
    'Withdraws a call of yours that waits for a person, or was approved and has not run.',
    'Nobody is asked about it any more and it does not run. A call that already began is not stopped by this.',
  ].join(' '),
  inputSchema: inputSchemaOf(schema),
  outputSchema: outputSchemaOf({}),
  annotations: { readOnlyHint: false, destructiveHint: false, idempotentHint: true, openWorldHint: false },

  read(args) {
    const { ticket } = readArguments('approval_cancel', schema, args)
    return { ticket }
  },

  answer(ticket) {
    return {
      structured: { status: 'cancelled', ticket },
      text: `Ticket ${ticket} is withdrawn. Its call has not run and will not.`,
      isError: false,
    }
  },
}
