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
    if (approver === undefined) continue
    if (vote.decision !== 'confirm') votes.push({ ...vote, approver })
    // Whom the requester acted for is a fact of the call and not of its credential; that is looked at for who holds it.
    else if (approver.id === vote.approver.id && approver.owner === vote.approver.owner) votes.push(vote)
  }
  return votes
}
