import type { Principal } from '../core/principal.ts'
import type { Vote } from './ticket.ts'

/** The parts of a principal that a vote keeps. */
export function snapshot({ id, kind, groups, roles, owner, actsFor, credentialId }: Principal): Vote['approver'] {
  return {
    id,
    kind,
    groups,
    roles,
    owner,
    ...(actsFor !== undefined && { actsFor }),
    ...(credentialId !== undefined && { credentialId }),
  }
}
