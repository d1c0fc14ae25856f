/**
 * SET, RESET and DISCARD.
 *
 * @packageDocumentation
 */
import { asList, text, unwrap, type Ast } from '../ast.ts'
import { isPinnedValue, isSettable, PINNED_SETTINGS } from '../settings.ts'
import { word } from '../names.ts'
import type { Draft, Handler } from './draft.ts'
import { alterOf, server } from './effects.ts'
import { fieldsOf, optionValue } from './objects.ts'

const NEEDS_SESSION = 'it would hold for nothing but the call itself; ask the operator for the setting of the target'
const ROLES = new Set(['role', 'session_authorization'])

export const setVariable: Handler = (draft, fields) => {
  draft.needsSession = NEEDS_SESSION
  draft.isRead = true
  const scope = fields['is_local'] === true ? 'transaction' : 'session'
  const kind = text(fields['kind']) || 'VAR_SET_VALUE'
  if (kind === 'VAR_RESET_ALL') {
    draft.part('sql.set', 'all', { scope, reset: true, value: '' })
    draft.effect = { does: 'set', name: 'all', scope }
    draft.changesCatalog = true
    return
  }
  if (kind === 'VAR_SET_MULTI') return setTransaction(draft, fields)
  changed(draft, text(fields['name']), valueOf(fields), scope)
}

/** What a setting becomes: undefined where it goes back to its default or takes what is current. */
function valueOf(fields: Ast): string | undefined {
  if (fields['kind'] !== undefined && fields['kind'] !== 'VAR_SET_VALUE') return undefined
  return asList(fields['args'])
    .map((arg) => {
      const one = unwrap(arg)
      return one?.type === 'TypeCast' ? optionValue(one.fields['arg']) : optionValue(arg)
    })
    .join(', ')
}

/** One setting is changed, by SET or by `set_config`. */
export function changed(
  draft: Draft,
  written: string,
  value: string | undefined,
  scope: 'session' | 'transaction',
): void {
  // Names of settings do not depend on case.
  const name = written.toLowerCase()
  const more = { scope, reset: value === undefined, value: value ?? '' }
  if (ROLES.has(name))
    draft.part('sql.set_role', value === undefined ? undefined : word(value), { setting: name, scope })
  else draft.part('sql.set', name, more)
  draft.effect = { does: 'set', name, scope, ...(value !== undefined && { value }) }
  // A setting that goes back to its default is what the gateway asked for when it connected.
  if (value !== undefined && !isSettable(name)) draft.underMasks = 'refused'
  // Who is asking, and where names are looked up, decide what later statements mean.
  if (ROLES.has(name) || name === 'search_path') draft.changesCatalog = true
  if (PINNED_SETTINGS.has(name) && !isPinnedValue(name, value)) draft.refused = pinned(name)
}

function pinned(what: string): { readonly construct: string; readonly message: string; readonly hint: string } {
  return {
    construct: 'sql.pinned_setting',
    message: `${what} would change how statements are read: what is judged here would no longer be what runs.`,
    hint: `These stay as they are: ${[...PINNED_SETTINGS.keys()].join(', ')}.`,
  }
}

/** SET TRANSACTION, SET SESSION CHARACTERISTICS, SET TRANSACTION SNAPSHOT. */
function setTransaction(draft: Draft, fields: Ast): void {
  const isSession = fields['name'] === 'SESSION CHARACTERISTICS'
  const scope = isSession ? 'session' : 'transaction'
  const names = asList(fields['args']).map((arg) => text(fieldsOf(arg)['defname']))
  if (fields['name'] === 'TRANSACTION SNAPSHOT') {
    draft.part('sql.set', 'transaction_snapshot', { scope, reset: false, value: '' })
    draft.underMasks = 'refused'
  }
  for (const [i, name] of names.entries()) {
    if (name === '') continue
    const value = optionValue(fieldsOf(asList(fields['args'])[i])['arg'])
    const shown = name === 'transaction_isolation' ? value : value === '1' ? 'on' : 'off'
    draft.part('sql.set', isSession ? `default_${name}` : name, { scope, reset: false, value: shown })
  }
  if (draft.parts.length === 0) draft.unknown('SET TRANSACTION is not understood')
  draft.effect = { does: 'set', name: isSession ? 'default_transaction' : 'transaction', scope }
}

export const discard: Handler = (draft, fields) => {
  const what = (text(fields['target']) || 'DISCARD_ALL').replace('DISCARD_', '').toLowerCase()
  draft.needsSession = NEEDS_SESSION
  draft.isRead = true
  draft.part('sql.discard', undefined, { what })
  if (what === 'all' || what === 'plans' || what === 'sequences' || what === 'temp')
    draft.effect = { does: 'discard', what }
  else draft.unknown('DISCARD is not understood')
  draft.outsideTransaction = what === 'all'
  // Temporary tables may be gone, and settings what they were at the start.
  draft.changesCatalog = true
}

export const setConstraints: Handler = (draft, fields) => {
  draft.needsSession = NEEDS_SESSION
  draft.isRead = true
  draft.part('sql.set', 'constraints', {
    scope: 'transaction',
    reset: false,
    value: fields['deferred'] === true ? 'deferred' : 'immediate',
  })
  draft.effect = { does: 'set', name: 'constraints', scope: 'transaction' }
}

/** ALTER SYSTEM changes the server for everybody, from the next reload on. */
export const alterSystem: Handler = (draft, fields) => {
  stored(draft, 'system', undefined, fields['setstmt'])
  server(draft, 'alter system')
  draft.outsideTransaction = true
}

/** Settings kept for a role or a database: whoever connects next has them. */
export function stored(draft: Draft, object: string, name: string | undefined, statement: unknown): void {
  const setting = text(fieldsOf(statement)['name']) || 'all'
  alterOf(draft, object, name, [setting.toLowerCase()])
  draft.underMasks = 'refused'
}
