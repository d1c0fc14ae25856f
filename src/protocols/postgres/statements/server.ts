/**
 * What concerns the whole server, or what it exchanges with others: databases, tablespaces, replication, foreign servers.
 *
 * Connection strings and the options of user mappings hold passwords, so values are never shown.
 *
 * @packageDocumentation
 */
import { asList, text } from '../ast.ts'
import { word } from '../names.ts'
import type { Draft, Handler } from './draft.ts'
import { alterOf, code, create, ownerOf, runsFunction, server } from './effects.ts'
import { handlerPaths } from './grant.ts'
import { fieldsOf, relationName, roleName } from './objects.ts'
import { stored } from './setting.ts'

export const createDatabase: Handler = (draft, fields) => {
  create(draft, 'database', word(text(fields['dbname'])))
  server(draft, 'database')
  draft.outsideTransaction = true
}

export const alterDatabase: Handler = (draft, fields) => {
  const name = word(text(fields['dbname']))
  if (fields['setstmt'] !== undefined) stored(draft, 'database', name, fields['setstmt'])
  else alterOf(draft, 'database', name, ['options'])
  server(draft, 'database')
  draft.outsideTransaction = JSON.stringify(fields['options'] ?? '').includes('"tablespace"')
}

export const dropDatabase: Handler = (draft, fields) => {
  draft.part('sql.drop', word(text(fields['dbname'])), { object: 'database', cascade: false, via: '' })
  server(draft, 'database')
  draft.outsideTransaction = true
}

export const createTablespace: Handler = (draft, fields) => {
  const name = word(text(fields['tablespacename']))
  create(draft, 'tablespace', name)
  if (fields['owner'] !== undefined) ownerOf(draft, name, fields['owner'])
  server(draft, 'tablespace')
  draft.outsideTransaction = true
}

export const alterTablespace: Handler = (draft, fields) => {
  alterOf(draft, 'tablespace', word(text(fields['tablespacename'])), ['options'])
  server(draft, 'tablespace')
}

export const dropTablespace: Handler = (draft, fields) => {
  draft.changesCatalog = true
  draft.part('sql.drop', word(text(fields['tablespacename'])), { object: 'tablespace', cascade: false, via: '' })
  server(draft, 'tablespace')
  draft.outsideTransaction = true
}

/** A publication sends rows to whoever may subscribe. */
export const createPublication: Handler = (draft, fields) => {
  create(draft, 'publication', word(text(fields['pubname'])))
  published(draft, fields)
}

export const alterPublication: Handler = (draft, fields) => {
  alterOf(draft, 'publication', word(text(fields['pubname'])), ['definition'])
  published(draft, fields)
}

const published: Handler = (draft, fields) => {
  for (const object of asList(fields['pubobjects'])) {
    const { relation } = fieldsOf(fieldsOf(object)['pubtable'])
    if (relation !== undefined) alterOf(draft, 'table', relationName(draft, relation), ['published'])
  }
  server(draft, 'publication')
}

export const createSubscription: Handler = (draft, fields) => {
  create(draft, 'subscription', word(text(fields['subname'])))
  server(draft, 'subscription')
  draft.hidesValues = true
  draft.outsideTransaction = true
}

export const alterSubscription: Handler = (draft, fields) => {
  alterOf(draft, 'subscription', word(text(fields['subname'])), ['definition'])
  server(draft, 'subscription')
  draft.hidesValues = true
  draft.outsideTransaction = true
}

export const dropSubscription: Handler = (draft, fields) => {
  draft.changesCatalog = true
  draft.part('sql.drop', word(text(fields['subname'])), { object: 'subscription', cascade: false, via: '' })
  server(draft, 'subscription')
  draft.outsideTransaction = true
}

/** CREATE and ALTER of the same object say the same but for their verb. */
type Made = (draft: Draft, object: string, name: string | undefined) => void

const changeOptions: Made = (draft, object, name) => alterOf(draft, object, name, ['options'])

const foreignDataWrapper =
  (make: Made): Handler =>
  (draft, fields) => {
    const name = word(text(fields['fdwname']))
    make(draft, 'foreign data wrapper', name)
    code(draft, undefined, '', false)
    server(draft, 'foreign data wrapper')
    draft.hidesValues = true
    for (const path of handlerPaths(fields['func_options'])) runsFunction(draft, path, 'foreign data wrapper')
  }

const foreignServer =
  (make: Made): Handler =>
  (draft, fields) => {
    make(draft, 'server', word(text(fields['servername'])))
    server(draft, 'foreign server')
    draft.hidesValues = true
  }

const userMapping =
  (make: Made): Handler =>
  (draft, fields) => {
    make(draft, 'user mapping', `${roleName(fields['user'])}@${word(text(fields['servername']))}`)
    server(draft, 'user mapping')
    draft.hidesValues = true
  }

export const createForeignDataWrapper = foreignDataWrapper(create)
export const alterForeignDataWrapper = foreignDataWrapper(changeOptions)
export const createForeignServer = foreignServer(create)
export const alterForeignServer = foreignServer(changeOptions)
export const createUserMapping = userMapping(create)
export const alterUserMapping = userMapping(changeOptions)

export const dropUserMapping: Handler = (draft, fields) => {
  draft.changesCatalog = true
  const name = `${roleName(fields['user'])}@${word(text(fields['servername']))}`
  draft.part('sql.drop', name, { object: 'user mapping', cascade: false, via: '' })
  server(draft, 'user mapping')
}

/** Which tables it makes is for the other server to say. */
export const importSchema: Handler = (draft, fields) => {
  create(draft, 'foreign table', word(text(fields['local_schema'])))
  server(draft, 'import foreign schema')
  draft.hidesValues = true
}

export const alterEventTrigger: Handler = (draft, fields) => {
  alterOf(draft, 'event trigger', word(text(fields['trigname'])), ['enabled'])
  code(draft, undefined, '', false)
  server(draft, 'event trigger')
}

export const load: Handler = (draft) => {
  draft.part('sql.load', undefined, {})
  draft.underMasks = 'refused'
  draft.changesCatalog = true
}
