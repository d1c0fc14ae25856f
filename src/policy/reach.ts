import type { Resource } from '../core/action.ts'
import { grantTouches } from './match.ts'
import { viewOf } from './resources.ts'
import type { Rule } from './rule.ts'

/** Whether some rule may let somebody do this, whoever it is and whatever its condition: for least-privilege grants. */
export function reaches(rules: readonly Rule[], verb: string, resource: Resource): boolean {
  const view = viewOf(resource)
  return rules.some(
    ({ effect, grants }) =>
      effect !== 'deny' && grants.some((grant) => grant.verbs.has(verb) && grantTouches(grant, view)),
  )
}
