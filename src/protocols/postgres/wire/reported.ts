import { SallyportError } from '../../../core/errors.ts'
import { rejected, sqlstateOf } from '../errors.ts'
import type { Report } from '../messages/report.ts'
import type { PostgresPlan } from '../plan.ts'

/**
 * What a backend reported, field by field: the cause of an error on a target without masks, where its own words may go to
 * its client. Detectors replace causes, so where they are at work only the masked message is left.
 */
export class BackendWords extends Error {
  readonly report: Report

  constructor(report: Report) {
    super('The backend reported an error.')
    this.report = report
  }
}

/** Turns an ErrorResponse into the error its client hears (C10). */
export function reportedError(
  report: Report,
  plan: { readonly sql: string; readonly isMasked: boolean },
  text: string,
): SallyportError {
  const { isMasked } = plan
  const error = rejected(
    {
      severity: report.get('S'),
      code: report.get('C'),
      message: report.get('M'),
      position: report.get('P'),
    },
    isMasked,
    plan.sql === text,
  )
  if (isMasked) return error
  const words = new Map(report)
  const position = positionIn(text, plan.sql, Number(report.get('P')))
  if (position === undefined) words.delete('P')
  else words.set('P', String(position))
  return new SallyportError(error.code, error.message, { facts: error.facts, cause: new BackendWords(words) })
}

/**
 * Where in the client's text a position of the sent one lies (both count characters from 1). Names were pinned in between:
 * before the first and behind the last of them the two are the same text; elsewhere nothing is claimed.
 */
function positionIn(text: string, sent: string, position: number): number | undefined {
  if (!Number.isInteger(position) || sent === text) return Number.isInteger(position) ? position : undefined
  const written = Array.from(text)
  const went = Array.from(sent)
  const at = position - 1
  let start = 0
  while (start <= at && start < written.length && written[start] === went[start]) start++
  if (start > at) return position
  const behind = went.length - at
  let end = 0
  while (end < behind && end < written.length && written.at(-1 - end) === went.at(-1 - end)) end++
  return end === behind ? written.length - behind + 1 : undefined
}

/** What is left of a notice whose words may quote a masked value. */
export function withheldNotice(report: Report): Report {
  const code = sqlstateOf({ code: report.get('C') })
  const severity = /^[A-Z]{1,12}$/u.test(report.get('V') ?? '') ? (report.get('V') ?? 'NOTICE') : 'NOTICE'
  return new Map([
    ['S', severity],
    ['V', severity],
    ['C', code],
    ['M', `The words of this ${severity.toLowerCase()} are withheld, because values of this target are masked.`],
  ])
}

/** Whether nothing but its SQLSTATE may be told of what the backend says. */
export function isUnderMasks(plan: PostgresPlan): boolean {
  return plan.masks.length > 0 || plan.touchesMasked
}
