/**
 * Transactions, savepoints, locks on tables and notifications.
 *
 * @packageDocumentation
 */
import { asList, text, unwrap } from '../ast.ts'
import { word } from '../names.ts'
import type { Draft, Handler } from './draft.ts'
import { fieldsOf, optionValue, relationName } from './objects.ts'

const NEEDS_SESSION = 'each call is a transaction of its own; put statements that belong together into one text'

export const transaction: Handler = (draft, fields) => {
  const kind = text(fields['kind']) || 'TRANS_STMT_BEGIN'
  const chain = fields['chain'] === true
  const savepoint = text(fields['savepoint_name'])
  draft.needsSession = NEEDS_SESSION
  draft.isRead = true
  switch (kind) {
    case 'TRANS_STMT_BEGIN':
    case 'TRANS_STMT_START':
      draft.part('sql.begin', undefined, modes(fields['options']))
      draft.effect = { does: 'begin' }
      return
    case 'TRANS_STMT_COMMIT':
      draft.part('sql.commit', undefined, { prepared: false })
      draft.effect = { does: 'commit', chain }
      return
    case 'TRANS_STMT_ROLLBACK':
      draft.part('sql.rollback', undefined, { prepared: false })
      draft.effect = { does: 'rollback', chain }
      return
    case 'TRANS_STMT_SAVEPOINT':
      draft.part('sql.savepoint', undefined, {})
      draft.effect = { does: 'savepoint', name: savepoint }
      return
    case 'TRANS_STMT_RELEASE':
      draft.part('sql.savepoint', undefined, {})
      draft.effect = { does: 'release', name: savepoint }
      return
    case 'TRANS_STMT_ROLLBACK_TO':
      draft.part('sql.rollback', undefined, { prepared: false })
      draft.effect = { does: 'rollback_to', name: savepoint }
      return
    default:
      twoPhase(draft, kind)
  }
}

/** A prepared transaction outlives its session, with its locks; anybody's can be ended by name. */
function twoPhase(draft: Draft, kind: string): void {
  draft.isRead = false
  draft.underMasks = 'refused'
  if (kind === 'TRANS_STMT_PREPARE') {
    draft.part('sql.commit', undefined, { prepared: true })
    draft.effect = { does: 'commit', chain: false }
  } else if (kind === 'TRANS_STMT_COMMIT_PREPARED' || kind === 'TRANS_STMT_ROLLBACK_PREPARED') {
    draft.part(kind === 'TRANS_STMT_COMMIT_PREPARED' ? 'sql.commit' : 'sql.rollback', undefined, { prepared: true })
    draft.outsideTransaction = true
  } else draft.unknown(`${kind} is not understood`)
}

/** Any mention of READ WRITE counts: of several, the last one wins. */
function modes(list: unknown): { readonly isolation: string; readonly read_only: boolean } {
  let isolation = ''
  let readOnly = false
  let readWrite = false
  for (const option of asList(list)) {
    const { defname, arg } = fieldsOf(option)
    const value = optionValue(arg)
    if (defname === 'transaction_isolation') isolation = value
    if (defname === 'transaction_read_only' && value === '1') readOnly = true
    if (defname === 'transaction_read_only' && value !== '1') readWrite = true
  }
  return { isolation, read_only: readOnly && !readWrite }
}

/** The levels of LOCK, by number (`lockdefs.h`). */
const MODES = [
  '',
  'access share',
  'row share',
  'row exclusive',
  'share update exclusive',
  'share',
  'share row exclusive',
  'exclusive',
  'access exclusive',
]

/** The level of the lock that any read takes. */
export const ACCESS_SHARE = 1

export const lock: Handler = (draft, fields) => {
  const level = typeof fields['mode'] === 'number' ? fields['mode'] : 0
  const mode = MODES[level] ?? ''
  for (const ref of asList(fields['relations'])) {
    const name = relationName(draft, unwrap(ref)?.fields)
    if (level === ACCESS_SHARE && name !== undefined) read(draft, name)
    else draft.part('sql.lock_table', name, { mode, nowait: fields['nowait'] === true })
  }
}

/** This lock is what any read takes, and keeps to the end of the transaction: it is a read of no column. */
function read(draft: Draft, name: string): void {
  draft.isRead = true
  draft.parts.push({
    verb: 'sql.select',
    resource: { type: 'sql', name, columns: [] },
    attributes: { columns_read: [], has_where: false, locking: false, returning: false, via: '' },
  })
}

const LISTENING = 'nothing could be delivered after the call that listens'

export const notify: Handler = (draft, fields) => {
  draft.part('sql.notify', word(text(fields['conditionname'])), { operation: 'notify' })
}

export const listen: Handler = (draft, fields) => {
  const channel = text(fields['conditionname'])
  draft.needsSession = LISTENING
  draft.isRead = true
  draft.part('sql.notify', word(channel), { operation: 'listen' })
  draft.effect = { does: 'listen', channel }
}

export const unlisten: Handler = (draft, fields) => {
  const channel = text(fields['conditionname'])
  draft.needsSession = LISTENING
  draft.isRead = true
  draft.part('sql.notify', channel === '' ? undefined : word(channel), { operation: 'unlisten' })
  draft.effect = { does: 'unlisten', ...(channel !== '' && { channel }) }
}
