import { SallyportError } from '../../core/errors.ts'

/** The first segment names the target; what follows is the service's, as it was written. */
const PLACE = /^\/([a-z0-9][a-z0-9._-]{0,62})(\/[^#]*)?$/u

/** Where a request to a door that speaks HTTP goes. */
export interface Place {
  readonly target: string
  /** With the query; at least a slash. */
  readonly rest: string
}

/**
 * Reads the request target (RFC 9112, section 3.2) in its origin form.
 *
 * @throws SallyportError `ERR_INVALID_INPUT`
 */
export function placeOf(url: string): Place {
  const [whole, target = '', rest = '/'] = PLACE.exec(url) ?? []
  if (whole !== undefined) return { target, rest }
  throw new SallyportError(
    'ERR_INVALID_INPUT',
    'Write the path as /<target>/…, where <target> is the name of a target.',
  )
}
