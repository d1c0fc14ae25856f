/**
 * What is wrong with a backend role and the database around it, worst first. Pure: the facts are handed in.
 *
 * `error` undoes a mask or a decision of the gateway outright; `warning` takes one more mistake to do so, or weakens what
 * PostgreSQL itself would hold; `info` is worth knowing. A clean target has neither of the first two.
 *
 * @packageDocumentation
 */
import type { BackendRights, Catalog, Relation } from './catalog.ts'
import type { DoctorFacts, RoleFacts } from './doctor-sql.ts'
import { indexOf } from './indexes.ts'
import { saidOfTrial } from './mask-trials.ts'
import { isReadable } from './masking-mode.ts'
import type { BoundMasks } from './masks.ts'
import { functionName, resourceName } from './names.ts'

/** How bad a finding is. */
export type Severity = 'error' | 'warning' | 'info'

/** One thing the doctor found. Names objects and roles; never holds a value of a row. */
export interface Finding {
  /** Stable, for machines: `role.superuser`, `mask.readable` … */
  readonly id: string
  readonly severity: Severity
  /** One sentence: what is so, and why it matters. */
  readonly message: string
  /** What to do about it. */
  readonly remedy: string
}

/** What findings are made from. */
export interface Patient {
  readonly facts: DoctorFacts
  readonly role: RoleFacts
  readonly catalog: Catalog
  readonly masks: BoundMasks
}

const EMIT = 'Run what `sallyport doctor --emit-sql` prints.'

/** Finds everything. */
export function findingsOf(patient: Patient): readonly Finding[] {
  const found = [
    ...ofRole(patient),
    ...ofMasks(patient),
    ...ofRights(patient),
    ...ofCode(patient),
    ...ofSurroundings(patient),
  ]
  return found.sort((a, b) => ORDER[a.severity] - ORDER[b.severity])
}

const ORDER: Readonly<Record<Severity, number>> = { error: 0, warning: 1, info: 2 }

/** Predefined roles (PostgreSQL manual, 22.5) by what they undo. */
const DANGEROUS_ROLES: Readonly<Record<string, readonly [Severity, string]>> = {
  pg_read_server_files: ['error', 'reads any file of the server, those of tables too'],
  pg_write_server_files: ['error', 'writes any file of the server'],
  pg_execute_server_program: ['error', 'runs programs on the server'],
  pg_read_all_data: ['error', 'reads every table, whatever was granted'],
  pg_write_all_data: ['error', 'writes every table, whatever was granted'],
  pg_create_subscription: ['warning', 'makes the server connect elsewhere'],
  pg_maintain: ['warning', 'rebuilds and locks any table'],
  pg_signal_backend: ['warning', "ends other sessions' statements"],
  pg_signal_autovacuum_worker: ['info', 'ends workers of autovacuum'],
  pg_checkpoint: ['info', 'forces checkpoints'],
  pg_use_reserved_connections: ['info', 'takes connections reserved for others'],
  pg_monitor: ['warning', "reads other sessions' statements, with the values in them"],
  pg_read_all_stats: ['warning', "reads other sessions' statements, with the values in them"],
  pg_read_all_settings: ['warning', 'reads settings only superusers should see'],
  pg_stat_scan_tables: ['info', 'scans tables for statistics'],
  pg_database_owner: ['warning', 'owns the database'],
}

function ofRole({ role, facts }: Patient): readonly Finding[] {
  const found: Finding[] = []
  const say = adder(found)
  const { name } = role
  if (role.superuser) {
    say('error', 'role.superuser', `${name} is a superuser: no grant, policy or mask of the database binds it.`, EMIT)
  }
  if (role.createRole) {
    say(
      role.version < 160_000 ? 'error' : 'warning',
      'role.createrole',
      `${name} may create roles${role.version < 160_000 ? ', and give itself almost any of them' : ''}.`,
      EMIT,
    )
  }
  if (role.replication) {
    say('error', 'role.replication', `${name} may stream the whole cluster, masked columns too.`, EMIT)
  }
  if (role.bypassRls) say('warning', 'role.bypassrls', `Row security policies do not bind ${name}.`, EMIT)
  if (role.createDb) say('warning', 'role.createdb', `${name} may create databases.`, EMIT)
  if (role.ownsDatabase && !role.superuser) {
    say('warning', 'role.owns_database', `${name} owns the database, or is a member of who does.`, EMIT)
  }
  if (role.superuser) return found
  for (const { name: of } of uniqueBy(facts.memberships, (membership) => membership.name)) {
    const [severity, what] = DANGEROUS_ROLES[of] ?? ['info', 'has whatever that role has']
    say(severity, `role.member.${of}`, `${name} is a member of ${of}: it ${what}.`, EMIT)
  }
  for (const { signature } of facts.guarded) {
    say('error', 'role.guarded_function', `${name} may run ${signature}, which only superusers should.`, EMIT)
  }
  return found
}

function ofMasks({ facts, role, catalog, masks }: Patient): readonly Finding[] {
  const found: Finding[] = []
  const say = adder(found)
  for (const [oid, named] of masks.byRelation) {
    const relation = catalog.relationsByOid.get(oid)
    if (relation === undefined) continue
    const name = resourceName(relation)
    const masked = relation.columns.filter((column) => named.has(column.name))
    const readable = masked.filter(({ attnum }) => isReadable(catalog.rights, oid, attnum))
    if (readable.length > 0 && !role.superuser) {
      const columns = readable.map((column) => column.name).join(', ')
      say('warning', 'mask.readable', `${role.name} may read ${name} (${columns}), so only rewriting hides it.`, EMIT)
    }
    const refused = masks.rejected.get(oid)
    if (refused !== undefined) {
      say(
        'warning',
        'mask.rejected',
        `${saidOfTrial(relation, refused)} Every statement that reads the table is refused.`,
        'Grant USAGE on the type of the column and its schema, or mask the column in another way.',
      )
    }
    for (const column of masks.unmet.get(oid)?.withoutStandIn ?? []) {
      say('error', 'mask.stand_in', `${name}.${column} has a partial mask and no generated column for it.`, EMIT)
    }
    found.push(...ofConstraints(relation, named, facts))
  }
  for (const { schema, name, relation, columns, hasExpressions } of facts.statistics) {
    const of = catalog.relationsByOid.get(relation)
    const named = masks.byRelation.get(relation)
    if (of === undefined || named === undefined) continue
    const meets = of.columns.some((column) => named.has(column.name) && columns.includes(column.attnum))
    if (!meets && !hasExpressions) continue
    // Statistics of expressions were shown to everybody before 14.12, 15.7 and 16.3 (CVE-2024-4317).
    const isOld = hasExpressions && !isFixed(role.version)
    const what = `The extended statistics ${schema}.${name} hold values of ${resourceName(of)}.`
    say(isOld ? 'warning' : 'info', 'mask.statistics', what, `DROP STATISTICS, or upgrade the server where it is old.`)
  }
  for (const { name } of role.superuser ? [] : facts.rawStatistics) {
    say('error', 'mask.raw_statistics', `${role.name} may read pg_catalog.${name}.`, EMIT)
  }
  return found
}

function isFixed(version: number): boolean {
  return version >= 160_003 || (version >= 150_007 && version < 160_000) || (version >= 140_012 && version < 150_000)
}

/** Whether a write succeeds can tell of a masked value; the gateway refuses such writes, the database does not. */
function ofConstraints(
  relation: Relation,
  named: ReadonlyMap<string, unknown>,
  facts: DoctorFacts,
): readonly Finding[] {
  const found: Finding[] = []
  const held = facts.privileges.find(({ oid }) => oid === relation.oid)?.privileges ?? []
  const mayWrite = held.includes('INSERT') || held.includes('UPDATE')
  const unique = relation.uniqueColumns.filter((column) => named.has(column))
  const keys = relation.foreignKeys.flatMap(({ columns }) => columns.filter((column) => named.has(column)))
  const severity = mayWrite ? 'warning' : 'info'
  const add = adder(found)
  for (const column of unique) {
    const what = `${resourceName(relation)}.${column} is masked and unique: whether an insert succeeds tells of its values.`
    add(severity, 'mask.unique', what, 'Grant INSERT and UPDATE on the other columns only.')
  }
  for (const column of keys) {
    const what = `${resourceName(relation)}.${column} is masked and a foreign key: whether a write succeeds tells of it.`
    add(severity, 'mask.foreign_key', what, 'Grant INSERT and UPDATE on the other columns only.')
  }
  return found
}

function ofRights({ facts, role, catalog, masks }: Patient): readonly Finding[] {
  const found: Finding[] = []
  const say = adder(found)
  if (!role.superuser) {
    for (const { schema, name, oid } of facts.owned) {
      const severity = masks.byRelation.has(oid) ? 'error' : 'warning'
      say(severity, 'rights.owner', `${role.name} owns ${schema}.${name}: it may change it and all grants on it.`, EMIT)
    }
    for (const { name, create, publicCreate } of facts.schemas) {
      if (!create) continue
      const why = publicCreate ? ', as everybody may' : ''
      say('warning', 'rights.create', `${role.name} may create objects in schema ${name}${why}.`, EMIT)
    }
    if (role.createInDatabase) say('warning', 'rights.create_schema', `${role.name} may create schemas.`, EMIT)
  }
  for (const { oid, privileges } of role.superuser ? [] : facts.privileges) {
    const relation = catalog.relationsByOid.get(oid)
    if (relation === undefined || facts.owned.some((owned) => owned.oid === oid)) continue
    const isMasked = masks.byRelation.has(oid)
    const grave = privileges.filter((one) => ['TRIGGER', 'REFERENCES', 'TRUNCATE'].includes(one))
    const plain = privileges.filter((one) => !grave.includes(one))
    if (grave.length > 0) {
      const what = `${role.name} has ${grave.join(', ')} on ${resourceName(relation)}, which no call needs.`
      say(isMasked ? 'error' : 'warning', 'rights.grave', what, EMIT)
    }
    if (plain.length > 0) {
      const what = `${role.name} may write ${resourceName(relation)} (${plain.join(', ')}).`
      say('info', 'rights.write', what, 'Revoke what no rule of the policy needs.')
    }
  }
  const open = new Set(facts.publicGrants.map(({ oid }) => oid))
  for (const oid of open) {
    const relation = catalog.relationsByOid.get(oid)
    if (relation === undefined) continue
    const granted = facts.publicGrants.filter((grant) => grant.oid === oid)
    const named = masks.byRelation.get(oid)
    const meetsMask = granted.some(
      ({ attnum, privilege }) =>
        privilege === 'SELECT' &&
        (attnum === 0 ? named !== undefined : named?.has(columnNamed(relation, attnum)) === true),
    )
    const words = [...new Set(granted.map(({ privilege }) => privilege))].join(', ')
    const severity = meetsMask ? 'error' : 'info'
    say(severity, 'rights.public', `Everybody has ${words} on ${resourceName(relation)} (PUBLIC).`, EMIT)
  }
  for (const { schema, owner, grantee } of facts.futureGrants) {
    const where = schema === '' ? 'anywhere' : `in schema ${schema}`
    const what = `What ${owner} creates ${where} is readable for ${grantee} at once (ALTER DEFAULT PRIVILEGES).`
    say('warning', 'rights.default', what, EMIT)
  }
  return found
}

function columnNamed(relation: Relation, attnum: number): string {
  return relation.columns.find((column) => column.attnum === attnum)?.name ?? ''
}

/** Code that runs with other rights than the role's, or that the role can reach without naming it. */
function ofCode({ facts, catalog, masks }: Patient): readonly Finding[] {
  const found: Finding[] = []
  const say = adder(found)
  const hasMasks = masks.byRelation.size > 0
  for (const { signature, owner } of facts.definers) {
    const what = `${signature} runs with the rights of ${owner} and may be called: it can read what the role cannot.`
    say(hasMasks ? 'error' : 'warning', 'code.definer', what, EMIT)
  }
  const invoker = new Set(facts.invokerViews.map(({ oid }) => oid))
  for (const oid of masks.tainted) {
    const relation = catalog.relationsByOid.get(oid)
    if (relation === undefined || invoker.has(oid) || !readsAny(catalog.rights, oid)) continue
    const kind = relation.kind === 'materialized_view' ? 'a materialized view' : "a view with its owner's rights"
    const what = `${resourceName(relation)} is ${kind} over masked columns, and the role may read it.`
    say('error', 'code.view', what, `${EMIT} Or give it masks of its own, or security_invoker.`)
  }
  const index = indexOf(catalog)
  const implicit = new Set([...index.implicitCasts, ...index.explicitCasts].map(functionName))
  for (const cast of implicit) {
    say(
      hasMasks ? 'warning' : 'info',
      'code.cast',
      `A cast runs ${cast}, which a user wrote.`,
      'DROP CAST, or review it.',
    )
  }
  const operators = new Set([...index.operators.values()].flat().map(({ schema, name }) => `${schema}.${name}`))
  for (const operator of operators) {
    say(
      'info',
      'code.operator',
      `The operator ${operator} runs code a user wrote.`,
      'Review it; statements need sql.call.',
    )
  }
  const users = catalog.functions.filter(
    ({ oid, extension, securityDefiner }) => oid >= 16_384 && extension === null && !securityDefiner,
  )
  if (users.length > 0) {
    const what = `${users.length} functions of users run with the caller's rights; they read only what the role may.`
    say('info', 'code.invoker', what, 'Under masking: enforced they are harmless to masks.')
  }
  return found
}

function readsAny(rights: BackendRights | undefined, oid: number): boolean {
  const columns = rights?.readable.get(oid)
  return rights === undefined || rights.powers.length > 0 || columns === 'all' || (columns?.size ?? 0) > 0
}

/** Extensions that reach beyond what a statement names, by what they do. */
const FAR_REACHING: Readonly<Record<string, string>> = {
  adminpack: 'reads and writes files of the server',
  amcheck: 'reads indexes as they lie on disk',
  dblink: 'connects to other databases, past the gateway',
  file_fdw: 'reads files of the server',
  pageinspect: 'reads tables as they lie on disk',
  pg_buffercache: 'shows what others read',
  pg_freespacemap: 'shows how tables lie on disk',
  pg_stat_statements: "shows other sessions' statements",
  pg_visibility: 'reads tables as they lie on disk',
  pg_walinspect: 'reads what everybody writes',
  pgrowlocks: 'reads locks of rows',
  pgstattuple: 'reads tables as they lie on disk',
  plperlu: 'runs anything on the server',
  plpython3u: 'runs anything on the server',
  pltclu: 'runs anything on the server',
  postgres_fdw: 'connects to other databases, past the gateway',
  tablefunc: 'runs statements given as text',
  xml2: 'runs statements given as text',
}

/** Settings with which a login gets other rights, or other code, than it was granted. */
const UNPINNING = new Set([
  'role',
  'session_authorization',
  'session_replication_role',
  'session_preload_libraries',
  'local_preload_libraries',
  'lo_compat_privileges',
])
/** Settings the gateway pins when it connects; a value given to the role or database does not win. */
const PINNED = new Set(['search_path', 'standard_conforming_strings', 'row_security', 'client_encoding', 'datestyle'])

function ofSurroundings({ facts, role, masks }: Patient): readonly Finding[] {
  const found: Finding[] = []
  const say = adder(found)
  const grave = masks.byRelation.size > 0 ? 'error' : 'warning'
  for (const { name, callable } of facts.extensions) {
    const does = FAR_REACHING[name]
    if (does === undefined) continue
    // Nothing is revoked from a superuser, and the finding about that says enough.
    const severity = !callable || role.superuser ? 'info' : grave
    const what = `The extension ${name} ${does}${callable ? ', and the role may call it' : ''}.`
    say(severity, 'around.extension', what, callable ? EMIT : 'Drop it where nobody needs it.')
  }
  for (const { name } of role.superuser ? [] : facts.languages) {
    say('error', 'around.language', `${role.name} may write functions in ${name}, which knows no bounds.`, EMIT)
  }
  for (const { server, wrapper, mapped } of facts.foreign) {
    const what = `${role.name} may reach the foreign server ${server} (${wrapper})${mapped ? ' with a stored login' : ''}.`
    say(role.superuser ? 'info' : 'warning', 'around.foreign', what, EMIT)
  }
  for (const { name, event, owner } of facts.eventTriggers) {
    const severity = event === 'login' ? 'warning' : 'info'
    say(severity, 'around.event_trigger', `The event trigger ${name} of ${owner} runs at ${event}.`, 'Review it.')
  }
  for (const { name, value, ofRole } of facts.settings) {
    const of = ofRole ? `role ${role.name}` : 'the database'
    const lower = name.toLowerCase()
    if (UNPINNING.has(lower)) {
      say('warning', 'around.setting', `${of} has ${name} = ${value}: a login is then not what it seems.`, EMIT)
    } else if (PINNED.has(lower)) {
      say('info', 'around.setting', `${of} has ${name} = ${value}; the gateway pins its own.`, 'Nothing to do.')
    }
  }
  if (facts.readOnly[0]?.isDefault !== true) {
    const what = `Transactions of ${role.name} may write unless the gateway says otherwise.`
    say('info', 'around.read_only', what, 'ALTER ROLE … SET default_transaction_read_only = on.')
  }
  return found
}

function adder(found: Finding[]) {
  return (severity: Severity, id: string, message: string, remedy: string): void => {
    found.push({ id, severity, message, remedy })
  }
}

function uniqueBy<T>(values: readonly T[], keyOf: (value: T) => string): readonly T[] {
  return [...new Map(values.map((value) => [keyOf(value), value])).values()]
}
