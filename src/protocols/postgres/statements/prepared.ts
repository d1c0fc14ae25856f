/**
 * PREPARE, EXECUTE, DEALLOCATE and cursors: statements that speak of other statements by a name of the session.
 *
 * @packageDocumentation
 */
import { text, type Ast } from '../ast.ts'
import type { Draft, Handler } from './draft.ts'

const NEEDS_SESSION = 'it would be gone with the call that made it; send the query itself'

export const prepare: Handler = (draft, fields) => {
  draft.needsSession = NEEDS_SESSION
  draft.isRead = true
  draft.part('sql.prepare', undefined, { operation: 'prepare' })
  // What is sent is known to the planner only.
  draft.effect = { does: 'prepare', name: text(fields['name']), statement: { text: '', sent: '' } }
}

export const execute: Handler = (draft, fields) => {
  draft.needsSession = NEEDS_SESSION
  draft.isRead = true
  draft.returnsRows = true
  executed(draft, fields)
}

/** EXECUTE, by itself or inside EXPLAIN and CREATE TABLE AS. */
export function executed(draft: Draft, fields: Ast): void {
  const name = text(fields['name'])
  draft.part('sql.prepare', undefined, { operation: 'execute' })
  draft.runs = { kind: 'prepared', name }
  draft.needsSession ??= NEEDS_SESSION
}

export const deallocate: Handler = (draft, fields) => {
  const name = text(fields['name'])
  draft.needsSession = NEEDS_SESSION
  draft.isRead = true
  draft.part('sql.prepare', undefined, { operation: 'deallocate' })
  draft.effect = { does: 'deallocate', ...(name !== '' && { name }) }
}

const BINARY = 1
const HOLD = 32

export const declareCursor: Handler = (draft, fields) => {
  const options = typeof fields['options'] === 'number' ? fields['options'] : 0
  const hold = (options & HOLD) !== 0
  draft.needsSession = NEEDS_SESSION
  draft.isRead = true
  draft.part('sql.cursor', undefined, { operation: 'declare', hold, binary: (options & BINARY) !== 0 })
  draft.effect = { does: 'declare', name: text(fields['portalname']), hold, statement: { text: '', sent: '' } }
}

export const fetch: Handler = (draft, fields) => {
  const name = text(fields['portalname'])
  const isMove = fields['ismove'] === true
  draft.needsSession = NEEDS_SESSION
  draft.isRead = true
  draft.returnsRows = !isMove
  draft.part('sql.cursor', undefined, { operation: isMove ? 'move' : 'fetch', hold: false, binary: false })
  draft.runs = { kind: 'cursor', name }
  draft.effect = { does: 'fetch', name }
}

export const closeCursor: Handler = (draft, fields) => {
  const name = text(fields['portalname'])
  draft.needsSession = NEEDS_SESSION
  draft.isRead = true
  draft.part('sql.cursor', undefined, { operation: 'close', hold: false, binary: false })
  draft.effect = { does: 'close', ...(name !== '' && { name }) }
}
