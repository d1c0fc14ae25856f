import type { CancelTool } from './approval_cancel.ts'
import { approvalCancel } from './approval_cancel.ts'
import type { ReviewTool } from './approvals_review.ts'
import { approvalsReview } from './approvals_review.ts'
import type { StatusTool } from './approval_status.ts'
import { approvalStatus } from './approval_status.ts'
import type { DescribeTool } from './describe_target.ts'
import { describeTarget } from './describe_target.ts'
import { httpRequest } from './http_request.ts'
import { kubectl } from './kubectl.ts'
import { queryDatabase } from './query_database.ts'
import { runSsh } from './run_ssh.ts'
import type { RunTool } from './tool.ts'

/** Any tool. */
export type Tool = RunTool | StatusTool | CancelTool | DescribeTool | ReviewTool

/** All tools, in the order every list shows them. */
export const TOOLS: readonly Tool[] = [
  approvalCancel,
  approvalStatus,
  approvalsReview,
  describeTarget,
  httpRequest,
  kubectl,
  queryDatabase,
  runSsh,
]

/** The tool of this name, or `undefined`. */
export function toolNamed(name: string): Tool | undefined {
  return TOOLS.find((tool) => tool.name === name)
}
