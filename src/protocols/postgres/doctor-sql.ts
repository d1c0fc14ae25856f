/**
 * What the doctor asks a database about the role the gateway uses. Every query gives one JSON object per row and reads
 * only what any role may read of the catalog; they run in one read-only transaction under `search_path = pg_catalog`.
 *
 * @packageDocumentation
 */

/** Most rows of one kind that are looked at; a role that owns ten thousand tables is told of the first of them. */
const ROWS_MAX = 500

/** Roles that the role is, or can become without being superuser. */
const REACH = `reach AS MATERIALIZED (
  SELECT r.oid, r.rolname FROM pg_roles r WHERE pg_has_role(current_user, r.oid, 'MEMBER')
    AND (r.rolname = current_user OR NOT (SELECT rolsuper FROM pg_roles WHERE rolname = current_user)))`

/** Functions of PostgreSQL itself that only a superuser may run unless somebody granted more. */
const GUARDED_FUNCTIONS = `'pg_read_file', 'pg_read_binary_file', 'pg_stat_file', 'pg_ls_dir', 'pg_ls_logdir',
  'pg_ls_waldir', 'pg_ls_tmpdir', 'lo_import', 'lo_export', 'pg_switch_wal', 'pg_create_restore_point',
  'pg_reload_conf', 'pg_rotate_logfile', 'pg_promote', 'pg_logical_emit_message', 'pg_current_logfile'`

function rows(select: string): string {
  return `SELECT row_to_json(x)::text FROM (${select} LIMIT ${ROWS_MAX}) x`
}

/** The questions, by the name of their answer in {@link DoctorFacts}. */
export const DOCTOR_SQL = {
  role: rows(`SELECT rolname AS name, rolsuper AS superuser, rolcreaterole AS "createRole", rolcreatedb AS "createDb",
    rolreplication AS replication, rolbypassrls AS "bypassRls", current_database() AS database,
    current_setting('server_version_num')::int AS version,
    has_database_privilege(current_database(), 'CREATE') AS "createInDatabase",
    pg_has_role(current_user, d.datdba, 'MEMBER') AS "ownsDatabase"
    FROM pg_roles, pg_database d WHERE rolname = current_user AND d.datname = current_database()`),

  memberships: rows(`WITH ${REACH}
    SELECT reach.rolname AS name, d.grantor, d.grantor IS NOT NULL AS direct FROM reach
    LEFT JOIN LATERAL (SELECT g.rolname AS grantor FROM pg_auth_members m JOIN pg_roles g ON g.oid = m.grantor
      JOIN pg_roles me ON me.oid = m.member AND me.rolname = current_user WHERE m.roleid = reach.oid) d ON true
    WHERE reach.rolname <> current_user ORDER BY 1`),

  owned: rows(`WITH ${REACH}
    SELECT n.nspname AS schema, c.relname AS name, c.oid::int8 AS oid FROM pg_class c
    JOIN pg_namespace n ON n.oid = c.relnamespace JOIN reach ON reach.oid = c.relowner
    WHERE c.oid >= 16384 AND c.relkind IN ('r', 'p', 'v', 'm', 'f') AND c.relpersistence <> 't' ORDER BY 1, 2`),

  schemas: rows(`SELECT n.nspname AS name, has_schema_privilege(n.oid, 'CREATE') AS "create",
    has_schema_privilege(n.oid, 'USAGE') AS usage,
    EXISTS (SELECT FROM aclexplode(n.nspacl) a WHERE a.grantee = 0 AND a.privilege_type = 'CREATE') AS "publicCreate"
    FROM pg_namespace n WHERE n.nspname !~ '^pg_' AND n.nspname <> 'information_schema' ORDER BY 1`),

  privileges: rows(`SELECT c.oid::int8 AS oid, array_agg(p ORDER BY p) AS privileges FROM pg_class c,
    unnest(ARRAY['DELETE', 'INSERT', 'REFERENCES', 'TRIGGER', 'TRUNCATE', 'UPDATE']) p
    WHERE c.oid >= 16384 AND c.relkind IN ('r', 'p', 'v', 'm', 'f') AND c.relpersistence <> 't'
      AND CASE WHEN p IN ('INSERT', 'REFERENCES', 'UPDATE') THEN has_any_column_privilege(c.oid, p)
        ELSE has_table_privilege(c.oid, p) END
    GROUP BY c.oid ORDER BY 1`).replace(`LIMIT ${ROWS_MAX}`, ''),

  publicGrants: rows(`SELECT c.oid::int8 AS oid, g.attnum, g.privilege FROM pg_class c,
    LATERAL (SELECT 0 AS attnum, a.privilege_type AS privilege, a.grantee FROM aclexplode(c.relacl) a
      UNION ALL SELECT t.attnum, a.privilege_type, a.grantee FROM pg_attribute t, aclexplode(t.attacl) a
      WHERE t.attrelid = c.oid AND t.attnum > 0) g
    WHERE c.oid >= 16384 AND g.grantee = 0 AND c.relkind IN ('r', 'p', 'v', 'm', 'f') ORDER BY 1, 2, 3`),

  definers:
    rows(`SELECT n.nspname AS schema, p.proname AS name, p.oid::regprocedure::text AS signature, o.rolname AS owner,
    pg_get_function_identity_arguments(p.oid) AS arguments, p.prokind = 'p' AS "isProcedure",
    EXISTS (SELECT FROM aclexplode(COALESCE(p.proacl, acldefault('f', p.proowner))) a WHERE a.grantee = 0) AS public
    FROM pg_proc p JOIN pg_namespace n ON n.oid = p.pronamespace JOIN pg_roles o ON o.oid = p.proowner
    WHERE p.oid >= 16384 AND p.prosecdef AND p.prorettype NOT IN ('trigger'::regtype, 'event_trigger'::regtype)
      AND has_function_privilege(p.oid, 'EXECUTE')
      AND has_schema_privilege(n.oid, 'USAGE') ORDER BY 1, 3`),

  invokerViews: rows(`SELECT c.oid::int8 AS oid FROM pg_class c WHERE c.relkind = 'v' AND c.oid >= 16384
    AND EXISTS (SELECT FROM pg_options_to_table(c.reloptions) o
      WHERE o.option_name = 'security_invoker' AND o.option_value IN ('true', 'on', '1', 'yes'))`),

  eventTriggers: rows(`SELECT t.evtname AS name, t.evtevent AS event, o.rolname AS owner FROM pg_event_trigger t
    JOIN pg_roles o ON o.oid = t.evtowner WHERE t.evtenabled <> 'D' ORDER BY 1`),

  foreign: rows(`SELECT s.srvname AS server, w.fdwname AS wrapper,
    EXISTS (SELECT FROM pg_user_mappings m WHERE m.srvid = s.oid AND (m.umuser = 0 OR m.usename = current_user)) AS mapped
    FROM pg_foreign_server s JOIN pg_foreign_data_wrapper w ON w.oid = s.srvfdw
    WHERE has_server_privilege(s.oid, 'USAGE')
      OR EXISTS (SELECT FROM pg_user_mappings m WHERE m.srvid = s.oid AND (m.umuser = 0 OR m.usename = current_user))
    ORDER BY 1`),

  extensions: rows(`SELECT e.extname AS name, n.nspname AS schema,
    COALESCE(bool_or(has_function_privilege(p.oid, 'EXECUTE')), false) AS callable
    FROM pg_extension e JOIN pg_namespace n ON n.oid = e.extnamespace
    LEFT JOIN pg_depend d ON d.refclassid = 'pg_extension'::regclass AND d.refobjid = e.oid AND d.deptype = 'e'
      AND d.classid = 'pg_proc'::regclass
    LEFT JOIN pg_proc p ON p.oid = d.objid AND p.prorettype <> 'language_handler'::regtype
      AND has_schema_privilege(p.pronamespace, 'USAGE')
    GROUP BY 1, 2 ORDER BY 1`),

  languages: rows(`SELECT lanname AS name FROM pg_language
    WHERE NOT lanpltrusted AND lanname NOT IN ('internal', 'c') AND has_language_privilege(oid, 'USAGE') ORDER BY 1`),

  settings:
    rows(`SELECT split_part(c, '=', 1) AS name, substr(c, strpos(c, '=') + 1) AS value, s.setrole <> 0 AS "ofRole",
    s.setdatabase <> 0 AS "ofDatabase" FROM pg_db_role_setting s, unnest(s.setconfig) c
    WHERE (s.setrole = 0 OR s.setrole = (SELECT oid FROM pg_roles WHERE rolname = current_user))
      AND (s.setdatabase = 0 OR s.setdatabase = (SELECT oid FROM pg_database WHERE datname = current_database()))
    ORDER BY 1`),

  readOnly: rows(`SELECT EXISTS (SELECT FROM pg_db_role_setting s, unnest(s.setconfig) c
      WHERE s.setrole = (SELECT oid FROM pg_roles WHERE rolname = current_user)
        AND c ~ '^default_transaction_read_only=(on|true|yes|1)$') AS "isDefault"`),

  guarded: rows(`SELECT p.oid::regprocedure::text AS signature FROM pg_proc p
    WHERE p.proname IN (${GUARDED_FUNCTIONS}) AND p.pronamespace = 'pg_catalog'::regnamespace
      AND p.proacl IS NOT NULL AND NOT EXISTS (SELECT FROM aclexplode(p.proacl) a WHERE a.grantee = 0)
      AND has_function_privilege(p.oid, 'EXECUTE') ORDER BY 1`),

  statistics: rows(`SELECT n.nspname AS schema, s.stxname AS name, s.stxrelid::int8 AS relation,
    s.stxkeys::int2[] AS columns, to_jsonb(s) ->> 'stxexprs' IS NOT NULL AS "hasExpressions"
    FROM pg_statistic_ext s JOIN pg_namespace n ON n.oid = s.stxnamespace ORDER BY 1, 2`),

  rawStatistics: rows(`SELECT c.relname AS name FROM pg_class c
    WHERE c.relnamespace = 'pg_catalog'::regnamespace AND c.relname IN ('pg_statistic', 'pg_statistic_ext_data', 'pg_authid')
      AND has_any_column_privilege(c.oid, 'SELECT') ORDER BY 1`),

  futureGrants: rows(`SELECT DISTINCT COALESCE(n.nspname, '') AS schema, o.rolname AS owner,
    COALESCE(g.rolname, 'PUBLIC') AS grantee
    FROM pg_default_acl d CROSS JOIN LATERAL aclexplode(d.defaclacl) a JOIN pg_roles o ON o.oid = d.defaclrole
    LEFT JOIN pg_namespace n ON n.oid = d.defaclnamespace LEFT JOIN pg_roles g ON g.oid = a.grantee
    WHERE d.defaclobjtype = 'r' AND a.privilege_type = 'SELECT' AND a.grantee <> d.defaclrole
      AND (a.grantee = 0 OR pg_has_role(current_user, a.grantee, 'MEMBER')) ORDER BY 1, 2, 3`),

  sequences: rows(`SELECT DISTINCT a.adrelid::int8 AS relation, n.nspname AS schema, c.relname AS name FROM pg_depend d
    JOIN pg_attrdef a ON d.classid = 'pg_attrdef'::regclass AND a.oid = d.objid
    JOIN pg_class c ON d.refclassid = 'pg_class'::regclass AND c.oid = d.refobjid AND c.relkind = 'S'
    JOIN pg_namespace n ON n.oid = c.relnamespace ORDER BY 1, 2, 3`),
} as const

/** What the database answered, one array per question. */
export interface DoctorFacts {
  readonly role: readonly RoleFacts[]
  readonly memberships: readonly { readonly name: string; readonly direct: boolean; readonly grantor: string | null }[]
  readonly owned: readonly { readonly schema: string; readonly name: string; readonly oid: number }[]
  readonly schemas: readonly SchemaFacts[]
  readonly privileges: readonly { readonly oid: number; readonly privileges: readonly string[] }[]
  readonly publicGrants: readonly { readonly oid: number; readonly attnum: number; readonly privilege: string }[]
  readonly definers: readonly DefinerFacts[]
  readonly invokerViews: readonly { readonly oid: number }[]
  readonly eventTriggers: readonly { readonly name: string; readonly event: string; readonly owner: string }[]
  readonly foreign: readonly { readonly server: string; readonly wrapper: string; readonly mapped: boolean }[]
  readonly extensions: readonly { readonly name: string; readonly schema: string; readonly callable: boolean }[]
  readonly languages: readonly { readonly name: string }[]
  readonly settings: readonly SettingFacts[]
  readonly readOnly: readonly { readonly isDefault: boolean }[]
  readonly guarded: readonly { readonly signature: string }[]
  readonly statistics: readonly StatisticsFacts[]
  readonly rawStatistics: readonly { readonly name: string }[]
  readonly futureGrants: readonly { readonly schema: string; readonly owner: string; readonly grantee: string }[]
  readonly sequences: readonly { readonly relation: number; readonly schema: string; readonly name: string }[]
}

/** The role the gateway logs in as. */
export interface RoleFacts {
  readonly name: string
  readonly superuser: boolean
  readonly createRole: boolean
  readonly createDb: boolean
  readonly replication: boolean
  readonly bypassRls: boolean
  readonly database: string
  /** `server_version_num`. */
  readonly version: number
  readonly createInDatabase: boolean
  readonly ownsDatabase: boolean
}

/** A schema made by a user. */
export interface SchemaFacts {
  readonly name: string
  readonly create: boolean
  readonly usage: boolean
  readonly publicCreate: boolean
}

/** A function that runs with its owner's rights. */
export interface DefinerFacts {
  readonly schema: string
  readonly name: string
  readonly signature: string
  readonly arguments: string
  readonly isProcedure: boolean
  readonly owner: string
  /** Whether everybody may run it. */
  readonly public: boolean
}

/** A setting given to the role or the database. */
export interface SettingFacts {
  readonly name: string
  readonly value: string
  readonly ofRole: boolean
  readonly ofDatabase: boolean
}

/** Extended statistics. */
export interface StatisticsFacts {
  readonly schema: string
  readonly name: string
  readonly relation: number
  readonly columns: readonly number[]
  readonly hasExpressions: boolean
}
