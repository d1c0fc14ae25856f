/**
 * The SQL that makes a role just strong enough: what `sallyport doctor --emit-sql` prints. Pure.
 *
 * It grants what some rule of the policy may let somebody do, and of masked relations only the other columns, so that
 * PostgreSQL itself refuses what a mistake in the gateway would ask for. It takes away everything else the role has, and
 * what everybody has where that would undo it. It is meant to be read before it is run, by the owner of the tables or a
 * superuser, and may be run again.
 *
 * @packageDocumentation
 */
import { SallyportError } from '../../core/errors.ts'
import type { Catalog, CatalogColumn, Relation } from './catalog.ts'
import type { Patient } from './doctor-findings.ts'
import { isTextType, partialMask } from './mask-source.ts'
import { needsValue, standInName } from './masking-mode.ts'
import { pinned, quoteIdentifier, resourceName } from './names.ts'

/** The verbs a grant can answer, and the privilege each takes. */
const PRIVILEGES = [
  ['sql.select', 'SELECT'],
  ['sql.insert', 'INSERT'],
  ['sql.update', 'UPDATE'],
  ['sql.delete', 'DELETE'],
] as const

/** Whether the policy may let somebody do `verb` on a relation. */
export type Needs = (verb: string, relation: Relation) => boolean

/** What is printed, and for which role. */
export interface LeastPrivilege {
  readonly role: string
  readonly sql: string
}

/**
 * Prints the role.
 *
 * @param asked the role's name; by default the one the gateway uses, or a new one where that cannot be bound by grants.
 * @throws SallyportError `ERR_INVALID_INPUT` for a role that owns what it must not read, or is superuser.
 */
export function leastPrivilege(patient: Patient, target: string, needs: Needs, asked?: string): LeastPrivilege {
  const { role } = patient
  const cannotBeBound = role.superuser || role.ownsDatabase || patient.facts.owned.length > 0
  if (asked === role.name && cannotBeBound) {
    throw new SallyportError(
      'ERR_INVALID_INPUT',
      `${role.name} is a superuser or owns relations, so grants do not bind it; name another role with --role.`,
    )
  }
  const name = asked ?? (cannotBeBound ? newName(role.database) : role.name)
  const script = new Script(patient, name, needs)
  return { role: name, sql: script.text(target) }
}

/** A role name made of the database's. */
function newName(database: string): string {
  return `sallyport_${database.toLowerCase().replaceAll(/[^a-z0-9_]/gu, '_')}`.slice(0, 63)
}

class Script {
  readonly #patient: Patient
  readonly #name: string
  readonly #role: string
  readonly #isNew: boolean
  readonly #needs: Needs
  readonly #lines: string[] = []

  constructor(patient: Patient, name: string, needs: Needs) {
    this.#patient = patient
    this.#name = name
    this.#role = quoteIdentifier(name)
    this.#isNew = name !== patient.role.name
    this.#needs = needs
  }

  text(target: string): string {
    const { role } = this.#patient
    this.#say(
      `-- Least-privilege role for target ${target}: ${commented(this.#name)} in database ${commented(role.database)}.`,
      '-- Read it first. Run it in that database as the owner of the tables or a superuser; it may be run again.',
      ...(this.#isNew
        ? [
            `-- The gateway logs in as ${commented(role.name)} now, which grants cannot bind. Give the new role a password`,
            '-- (\\password in psql), and put both into the credential of the target.',
          ]
        : []),
      'BEGIN;',
      'SET LOCAL search_path = pg_catalog;',
    )
    this.#section('The role', this.#roleItself())
    this.#section('Columns that hold what partial masks show. Each rewrites its table under a lock.', this.#standIns())
    this.#section('Relations: what the policy may need, masked columns left out', this.#relations())
    this.#section('What everybody has, and the role must not have by that', this.#openToAll())
    this.#section('Code and places beyond the tables', this.#beyond())
    this.#section('Defaults', [`ALTER ROLE ${this.#role} SET default_transaction_read_only = on;`, ...this.#settings()])
    this.#say('COMMIT;')
    return `${this.#lines.join('\n')}\n`
  }

  #say(...lines: readonly string[]): void {
    this.#lines.push(...lines)
  }

  #section(title: string, lines: readonly string[]): void {
    if (lines.length > 0) this.#say('', `-- ${title}`, ...lines)
  }

  #roleItself(): readonly string[] {
    const { role, facts } = this.#patient
    const create = [
      'DO $sallyport$ BEGIN',
      `  IF NOT EXISTS (SELECT FROM pg_roles WHERE rolname = ${literal(this.#name)}) THEN`,
      `    CREATE ROLE ${this.#role} LOGIN;`,
      '  END IF;',
      'END $sallyport$;',
      `GRANT CONNECT ON DATABASE ${quoteIdentifier(role.database)} TO ${this.#role};`,
    ]
    if (this.#isNew) return create
    const powers = [
      role.createRole && 'NOCREATEROLE',
      role.createDb && 'NOCREATEDB',
      role.replication && 'NOREPLICATION',
      role.bypassRls && 'NOBYPASSRLS',
    ].filter((power) => power !== false)
    const direct = facts.memberships.filter((membership) => membership.direct)
    return [
      ...(powers.length > 0 ? [`ALTER ROLE ${this.#role} ${powers.join(' ')};`] : []),
      ...direct.map(({ name, grantor }) => {
        // Since version 16 a membership is taken away only in the name of who gave it.
        const by = role.version >= 160_000 && grantor !== null ? ` GRANTED BY ${quoteIdentifier(grantor)}` : ''
        return `REVOKE ${quoteIdentifier(name)} FROM ${this.#role}${by};`
      }),
      ...facts.guarded.map(({ signature }) => `REVOKE EXECUTE ON FUNCTION ${signature} FROM ${this.#role};`),
      ...facts.rawStatistics.map(({ name }) => `REVOKE ALL ON pg_catalog.${name} FROM ${this.#role};`),
    ]
  }

  /** Masked text columns whose partial mask has to be stored, by relation. */
  #partial(relation: Relation): readonly CatalogColumn[] {
    const named = this.#patient.masks.byRelation.get(relation.oid)
    return relation.columns.filter((column) => {
      const transform = named?.get(column.name)?.transform
      // A generated column cannot be made of another one.
      return transform !== undefined && needsValue(column, transform) && !column.generated
    })
  }

  #standIns(): readonly string[] {
    const { catalog } = this.#patient
    return this.#masked().flatMap((relation) =>
      this.#partial(relation).flatMap((column) => {
        const name = standInName(column.name)
        const what = `${commented(resourceName(relation))}.${commented(column.name)}`
        if (Buffer.byteLength(name) > 63) return [`-- ${what}: the name ${commented(name)} is too long for PostgreSQL.`]
        const found = relation.columns.find((candidate) => candidate.name === name)
        if (found !== undefined && isStandIn(found, column)) return []
        if (found !== undefined)
          return [`-- ${what}: there is another column ${commented(name)}; rename that one first.`]
        // Partitions and children have what their parent has.
        if (hasMaskedParent(catalog, relation, column.name)) return []
        if (relation.kind !== 'table' && relation.kind !== 'partitioned_table') {
          return [`-- ${what}: a view must show the partly masked value itself, as ${commented(name)}.`]
        }
        return [
          `ALTER TABLE ${pinned(relation)} ADD COLUMN ${quoteIdentifier(name)} text`,
          `  GENERATED ALWAYS AS (${partialMask(column.name)}) STORED;`,
        ]
      }),
    )
  }

  #masked(): readonly Relation[] {
    const { catalog, masks } = this.#patient
    return catalog.relations.filter(({ oid }) => masks.byRelation.has(oid)).sort(byName)
  }

  #relations(): readonly string[] {
    const { catalog, facts, masks } = this.#patient
    const lines: string[] = []
    const schemas = new Set<string>()
    const relations = catalog.relations.filter(({ builtin, kind }) => !builtin && GRANTABLE.has(kind)).sort(byName)
    for (const relation of relations) {
      const held = facts.privileges.some(({ oid }) => oid === relation.oid) || this.#canRead(relation)
      if (!this.#isNew && held) lines.push(`REVOKE ALL ON TABLE ${pinned(relation)} FROM ${this.#role} CASCADE;`)
      if (masks.tainted.has(relation.oid)) continue
      const granted = PRIVILEGES.flatMap(([verb, privilege]) =>
        this.#needs(verb, relation) ? this.#granted(relation, privilege) : [],
      )
      if (granted.length === 0) continue
      schemas.add(relation.schema)
      lines.push(`GRANT ${granted.join(', ')} ON TABLE ${pinned(relation)} TO ${this.#role};`)
      if (!granted.some((privilege) => privilege.startsWith('INSERT'))) continue
      for (const { relation: of, schema, name } of facts.sequences) {
        if (of === relation.oid) lines.push(`GRANT USAGE ON SEQUENCE ${pinned({ schema, name })} TO ${this.#role};`)
      }
    }
    return [
      ...[...schemas].sort().map((schema) => `GRANT USAGE ON SCHEMA ${quoteIdentifier(schema)} TO ${this.#role};`),
      ...lines,
    ]
  }

  #canRead({ oid }: Relation): boolean {
    const columns = this.#patient.catalog.rights?.readable.get(oid)
    return columns === 'all' || (columns?.size ?? 0) > 0
  }

  /** A privilege on a relation: as a whole, or on the columns a mask leaves. */
  #granted(relation: Relation, privilege: (typeof PRIVILEGES)[number][1]): readonly string[] {
    const named = this.#patient.masks.byRelation.get(relation.oid)
    if (named === undefined || privilege === 'DELETE') return [privilege]
    const standIns = new Set(this.#partial(relation).map(({ name }) => standInName(name)))
    const existing = relation.columns.filter(({ name }) => !named.has(name) || isStandInOfAny(relation, name, standIns))
    const added = privilege === 'SELECT' ? [...standIns].filter((name) => this.#willExist(relation, name)) : []
    const chosen =
      privilege === 'SELECT'
        ? [...existing.map(({ name }) => name), ...added]
        : relation.columns
            .filter(
              (column) =>
                !column.generated && (!named.has(column.name) || isFreeToInsert(relation, column.name, privilege)),
            )
            .map(({ name }) => name)
    const columns = [...new Set(chosen)].map(quoteIdentifier)
    return columns.length === 0 ? [] : [`${privilege} (${columns.join(', ')})`]
  }

  /** Whether the script adds that column: to the relation or, by inheritance, to its parent. */
  #willExist(relation: Relation, name: string): boolean {
    const existing = relation.columns.find((column) => column.name === name)
    if (existing !== undefined || Buffer.byteLength(name) > 63) return false
    return relation.kind === 'table' || relation.kind === 'partitioned_table'
  }

  #openToAll(): readonly string[] {
    const { catalog, facts, masks } = this.#patient
    const lines: string[] = []
    const byRelation = new Map<number, Set<string>>()
    for (const { oid, privilege } of facts.publicGrants) {
      const isGrave = ['TRIGGER', 'REFERENCES', 'TRUNCATE'].includes(privilege)
      if (!isGrave && !masks.byRelation.has(oid) && !masks.tainted.has(oid)) continue
      const known = byRelation.get(oid) ?? new Set()
      byRelation.set(oid, known.add(privilege))
    }
    for (const [oid, privileges] of byRelation) {
      const relation = catalog.relationsByOid.get(oid)
      if (relation === undefined) continue
      lines.push(`REVOKE ${[...privileges].sort().join(', ')} ON TABLE ${pinned(relation)} FROM PUBLIC;`)
    }
    for (const { name, create, publicCreate } of facts.schemas) {
      if (publicCreate) lines.push(`REVOKE CREATE ON SCHEMA ${quoteIdentifier(name)} FROM PUBLIC;`)
      if (create && !this.#isNew) lines.push(`REVOKE CREATE ON SCHEMA ${quoteIdentifier(name)} FROM ${this.#role};`)
    }
    if (this.#patient.role.createInDatabase && !this.#isNew) {
      lines.push(
        `REVOKE CREATE ON DATABASE ${quoteIdentifier(this.#patient.role.database)} FROM PUBLIC, ${this.#role};`,
      )
    }
    for (const { schema, owner, grantee } of facts.futureGrants) {
      const where = schema === '' ? '' : ` IN SCHEMA ${quoteIdentifier(schema)}`
      const from = grantee === 'PUBLIC' ? grantee : quoteIdentifier(grantee)
      if (this.#isNew && grantee !== 'PUBLIC') continue
      lines.push(
        `ALTER DEFAULT PRIVILEGES FOR ROLE ${quoteIdentifier(owner)}${where} REVOKE SELECT ON TABLES FROM ${from};`,
      )
    }
    return lines
  }

  #beyond(): readonly string[] {
    const { facts } = this.#patient
    const lines: string[] = []
    const definers = facts.definers.filter((definer) => !this.#isNew || definer.public)
    if (definers.length > 0) {
      lines.push('-- These run with the rights of their owners. Who else needs one: GRANT EXECUTE … TO that role.')
    }
    for (const { schema, name, arguments: args, isProcedure } of definers) {
      const what = `${isProcedure ? 'PROCEDURE' : 'FUNCTION'} ${pinned({ schema, name })}(${args})`
      lines.push(`REVOKE EXECUTE ON ${what} FROM PUBLIC, ${this.#role};`)
    }
    for (const { name } of facts.extensions.filter(({ name: of, callable }) => callable && REVOKED.has(of))) {
      lines.push(
        `DO $sallyport$ DECLARE f regprocedure; BEGIN -- ${commented(name)}`,
        '  FOR f IN SELECT d.objid::regprocedure FROM pg_depend d JOIN pg_extension e ON e.oid = d.refobjid',
        "    WHERE d.refclassid = 'pg_extension'::regclass AND d.classid = 'pg_proc'::regclass AND d.deptype = 'e'",
        `      AND e.extname = ${literal(name)} LOOP`,
        `    EXECUTE format('REVOKE EXECUTE ON ROUTINE %s FROM PUBLIC, %I', f, ${literal(this.#name)});`,
        '  END LOOP;',
        'END $sallyport$;',
      )
    }
    if (this.#isNew) return lines
    for (const { name } of facts.languages) {
      lines.push(`REVOKE USAGE ON LANGUAGE ${quoteIdentifier(name)} FROM PUBLIC, ${this.#role};`)
    }
    for (const { server } of facts.foreign) {
      const name = quoteIdentifier(server)
      lines.push(
        `REVOKE USAGE ON FOREIGN SERVER ${name} FROM PUBLIC, ${this.#role};`,
        `DROP USER MAPPING IF EXISTS FOR ${this.#role} SERVER ${name};`,
      )
    }
    return lines
  }

  #settings(): readonly string[] {
    const { facts, role } = this.#patient
    const database = quoteIdentifier(role.database)
    return facts.settings.flatMap(({ name, ofRole, ofDatabase }) => {
      if (!RESET.has(name.toLowerCase())) return []
      if (!ofRole) return [`ALTER DATABASE ${database} RESET ${quoteIdentifier(name)};`]
      if (this.#isNew) return []
      return [`ALTER ROLE ${this.#role}${ofDatabase ? ` IN DATABASE ${database}` : ''} RESET ${quoteIdentifier(name)};`]
    })
  }
}

const GRANTABLE: ReadonlySet<string> = new Set([
  'table',
  'partitioned_table',
  'view',
  'materialized_view',
  'foreign_table',
])

/** Settings that give a login other rights than its own. */
const RESET = new Set([
  'role',
  'session_authorization',
  'session_replication_role',
  'session_preload_libraries',
  'local_preload_libraries',
  'lo_compat_privileges',
])

/** Extensions whose functions reach past what a statement names; their use is taken away. */
const REVOKED = new Set([
  'adminpack',
  'amcheck',
  'dblink',
  'file_fdw',
  'pageinspect',
  'pg_buffercache',
  'pg_freespacemap',
  'pg_stat_statements',
  'pg_visibility',
  'pg_walinspect',
  'pgrowlocks',
  'pgstattuple',
  'postgres_fdw',
  'tablefunc',
  'xml2',
])

function isStandIn(candidate: CatalogColumn, of: CatalogColumn): boolean {
  return candidate.generated && isTextType(candidate) && candidate.generatedFrom.join() === of.name
}

/** Whether a column that counts as derived, and hence masked, is the stand-in of a partial mask. */
function isStandInOfAny(relation: Relation, name: string, standIns: ReadonlySet<string>): boolean {
  if (!standIns.has(name)) return false
  const column = relation.columns.find((candidate) => candidate.name === name)
  return relation.columns.some((of) => column !== undefined && standInName(of.name) === name && isStandIn(column, of))
}

/** Inserting a masked value is harmless unless its success tells of others; overwriting one is never granted. */
function isFreeToInsert(relation: Relation, column: string, privilege: string): boolean {
  if (privilege !== 'INSERT') return false
  if (relation.uniqueColumns.includes(column)) return false
  return !relation.foreignKeys.some(({ columns }) => columns.includes(column))
}

function hasMaskedParent(catalog: Catalog, relation: Relation, column: string): boolean {
  return relation.parents.some(
    (oid) => catalog.relationsByOid.get(oid)?.columns.some(({ name }) => name === column) === true,
  )
}

function byName(a: Relation, b: Relation): number {
  const [left, right] = [resourceName(a), resourceName(b)]
  return left < right ? -1 : left > right ? 1 : 0
}

/** A text constant; a backslash needs no escape because the session reads standard strings. */
function literal(text: string): string {
  return text.includes('\\')
    ? ` E'${text.replaceAll('\\', '\\\\').replaceAll("'", "''")}'`
    : `'${text.replaceAll("'", "''")}'`
}

/** A name inside a comment: a line break in it would end the comment, and what follows would be run. */
function commented(name: string): string {
  return name.replaceAll(/[\p{Cc}\p{Cf}\p{Zl}\p{Zp}]/gu, '?')
}
