import type { Action, Part } from '../core/action.ts'
import type { Vocabulary } from './verbs.ts'

/**
 * Whether the approval of one call may cover others of its kind, where a rule says so. No rule can widen this: what
 * defines, administers, runs programs, changes a session or is not understood is asked about each time, and so is a
 * change of rows that nothing narrows down, and more than one statement.
 */
export function isCoverable({ parts, attributes }: Action, vocabulary: Vocabulary): boolean {
  const count = attributes['statement_count']
  if (count !== undefined && count !== 1) return false
  return parts.length > 0 && parts.every((part) => isCoverableVerb(part.verb, vocabulary) && isNarrow(part))
}

/** Whether a verb only reads or writes. Fail closed: a verb no taxonomy lists does neither. */
export function isCoverableVerb(verb: string, vocabulary: Vocabulary): boolean {
  const known = vocabulary.verbs.get(verb)
  return (known?.class === 'read' || known?.class === 'write') && !NEVER.has(verb)
}

/** Of class `write`, and about more than the rows of one statement. */
const NEVER: ReadonlySet<string> = new Set(['sql.lock_table'])

const NARROWED: ReadonlySet<string> = new Set(['sql.update', 'sql.delete', 'sql.merge'])

/** What follows from the statement by itself, such as a cascade, is as narrow as the statement is. */
function isNarrow({ verb, attributes }: Part): boolean {
  if (!NARROWED.has(verb) || (typeof attributes['via'] === 'string' && attributes['via'] !== '')) return true
  return attributes['has_where'] === true
}
