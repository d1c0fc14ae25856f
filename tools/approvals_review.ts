import * as z from 'zod'
import { outputSchemaOf } from './answer.ts'
import type { ToolDescription } from './tool.ts'
import { inputSchemaOf, readArguments } from './tool.ts'

const schema = z.strictObject({
  ticket: z.string().min(1).max(128).describe('The ticket to review, as `approvals://pending` lists it.'),
})

/** Shows an approver a ticket and takes the answer. */
export interface ReviewTool extends ToolDescription {
  readonly kind: 'review'
  /** @throws SallyportError `ERR_INVALID_INPUT` */
  read(args: unknown): { readonly ticket: string }
}

/** Shows an approver a ticket and takes the answer. */
export const approvalsReview: ReviewTool = {
  kind: 'review',
  name: 'approvals_review',
  title: 'Review an approval',
  isForApprovers: true,
  description: [
    'Shows the person at this client a call of somebody else that waits for their approval, and asks for their answer.',
    'You cannot answer for them: there is no argument for it, and a client without forms is told what to do instead.',
  ].join(' '),
  inputSchema: inputSchemaOf(schema),
  outputSchema: outputSchemaOf({
    state: { type: 'string', description: 'Where the ticket stands now.' },
  }),
  annotations: { readOnlyHint: false, destructiveHint: true, idempotentHint: false, openWorldHint: false },

  read(args) {
    const { ticket } = readArguments('approvals_review', schema, args)
    return { ticket }
  },
}
