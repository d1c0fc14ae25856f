/**
 * Who may do what: GRANT, REVOKE, roles, default privileges, ownership.
 *
 * @packageDocumentation
 */
import { asList, text, unwrap, words } from '../ast.ts'
import { word } from '../names.ts'
import { objectName } from './change.ts'
import type { Draft, Handler } from './draft.ts'
import { alterOf, create, grants, kindOf } from './effects.ts'
import { fieldsOf, options, roleName, roleNames } from './objects.ts'
import { stored } from './setting.ts'

export const grant: Handler = (draft, fields) => {
  draft.changesCatalog = true
  const kind = kindOf(fields['objtype'])
  const privileges = asList(fields['privileges']).map((one) => text(fieldsOf(one)['priv_name']))
  const more = {
    grantees: roleNames(fields['grantees']),
    privileges: privileges.length === 0 ? ['all'] : privileges.sort(),
    option: fields['grant_option'] === true,
  }
  const action = fields['is_grant'] === true ? 'grant' : 'revoke'
  const isInSchema = fields['targtype'] === 'ACL_TARGET_ALL_IN_SCHEMA'
  const names = asList(fields['objects']).flatMap((object): readonly (string | undefined)[] =>
    isInSchema ? inSchema(draft, object) : [objectName(draft, kind, object)],
  )
  for (const name of names) grants(draft, name, action, more)
  if (names.length === 0)
    grants(draft, undefined, fields['targtype'] === 'ACL_TARGET_DEFAULTS' ? 'default privileges' : action, more)
}

/** `ALL … IN SCHEMA s`: a pattern for what is there when it runs, and what is there now by name. */
function inSchema(draft: Draft, schema: unknown): readonly string[] {
  const name = text(unwrap(schema)?.fields['sval'])
  draft.named.push(...(draft.catalog.relationsBySchema.get(name)?.values() ?? []))
  return [word(name)]
}

/** Membership in a role. */
export const grantRole: Handler = (draft, fields) => {
  draft.changesCatalog = true
  const more = {
    grantees: roleNames(fields['grantee_roles']),
    option: options(fields['opt']).some(({ name, value }) => name === 'admin' && value !== 'false'),
  }
  for (const role of asList(fields['granted_roles'])) {
    grants(
      draft,
      word(text(fieldsOf(role)['priv_name'])),
      fields['is_grant'] === true ? 'grant role' : 'revoke role',
      more,
    )
  }
}

export const defaultPrivileges: Handler = (draft, fields) => {
  grant(draft, fieldsOf(fields['action']))
}

/** Its options may hold a password, and make it a superuser. */
export const createRole: Handler = (draft, fields) => {
  const name = word(text(fields['role']))
  create(draft, 'role', name)
  grants(draft, name, 'role', { privileges: attributesOf(fields['options']) })
  draft.hidesValues = true
}

export const alterRole: Handler = (draft, fields) => {
  const name = roleName(fields['role'])
  alterOf(draft, 'role', name, attributesOf(fields['options']))
  grants(draft, name, 'role', { privileges: attributesOf(fields['options']) })
  draft.hidesValues = true
}

/** Attributes of a role that are set, by the grammar's words for them (`superuser`, `canlogin` …). */
function attributesOf(list: unknown): readonly string[] {
  return options(list)
    .map(({ name, value }) => (value === 'false' ? `no ${name}` : name))
    .sort()
}

export const alterRoleSettings: Handler = (draft, fields) => {
  const name = fields['role'] === undefined ? undefined : roleName(fields['role'])
  stored(draft, 'role', name, fields['setstmt'])
  grants(draft, name, 'role')
}

export const dropRole: Handler = (draft, fields) => {
  draft.changesCatalog = true
  for (const role of roleNames(fields['roles'])) {
    draft.part('sql.drop', role, { object: 'role', cascade: false, via: '' })
    grants(draft, role, 'role')
  }
}

export const reassignOwned: Handler = (draft, fields) => {
  draft.changesCatalog = true
  for (const role of roleNames(fields['roles'])) {
    alterOf(draft, 'owned', role, ['owner'])
    grants(draft, role, 'owner', { grantees: [roleName(fields['newrole'])] })
  }
}

/** Names of functions of a foreign data wrapper. */
export function handlerPaths(list: unknown): readonly (readonly string[])[] {
  return asList(list).flatMap((option) => {
    const { arg } = fieldsOf(option)
    const path = words(fieldsOf(arg)['items'])
    return path === undefined || path.length === 0 ? [] : [path]
  })
}
