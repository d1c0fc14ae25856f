import type { Desk } from './desk.ts'
import { isSigned } from './seal.ts'
import type { Ticket, Vote } from './ticket.ts'

/**
 * Returns the votes that count: signed by this gateway for this very ticket, with the approver as `nowOf` knows them.
 */
export async function countableVotes(
  desk: Pick<Desk, 'keys'>,
  ticket: Ticket,
  nowOf: Desk['approverNow'] = async ({ approver }) => approver,
): Promise<readonly Vote[]> {
  const votes: Vote[] = []
  for (const vote of ticket.votes) {
    if (!isSigned(vote, ticket.id, desk.keys.votes)) continue
    const approver = await nowOf(vote)
    if (approver !== undefined) votes.push({ ...vote, approver })
  }
  return votes
}
