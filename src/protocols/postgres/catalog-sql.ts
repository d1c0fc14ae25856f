/**
 * The queries a {@link CatalogRows} is made of. Each gives one JSON object per row.
 *
 * They run under `search_path = pg_catalog` in one snapshot. What belongs to temporary objects is left out: sessions of
 * the gateway have none when a call starts, and those of others come and go all the time.
 *
 * @packageDocumentation
 */

/** First OID of what users make; below it everything is PostgreSQL's own. */
const FIRST_USER_OID = '16384::pg_catalog.oid'

const TEMPORARY = `(SELECT oid FROM pg_catalog.pg_class WHERE relpersistence = 't'::"char")`
const TEMPORARY_SCHEMAS = String.raw`(SELECT oid FROM pg_catalog.pg_namespace
  WHERE nspname OPERATOR(pg_catalog.~) '^pg_(toast_)?temp_'::pg_catalog.text)`

/** Hashes which versions of which rows there are. A row version is told by its key and the transaction that made it. */
function rowsOf(relation: string, key: string, where: string): string {
  return `COALESCE((SELECT pg_catalog.count(*)::pg_catalog.text || ':' ||
    pg_catalog.bit_xor(pg_catalog.hashtextextended(xmin::pg_catalog.text, ${key}))::pg_catalog.text
    FROM pg_catalog.${relation} WHERE ${where}), '-')`
}

const OID = 'oid::pg_catalog.int8'

/** Effective schemas in order. A temporary schema is left out: no session of the gateway has one when a call starts. */
const SEARCH_PATH = String.raw`ARRAY(
  SELECT s::pg_catalog.text FROM pg_catalog.unnest(pg_catalog.current_schemas(true)) WITH ORDINALITY AS u(s, n)
  WHERE s OPERATOR(pg_catalog.!~) '^pg_temp'::pg_catalog.text ORDER BY n)`

/**
 * An expression of type text that changes when anything the planner reads changes (R2).
 *
 * Sums of `xmin` alone could be met by chance, so each row version is hashed. Only what users made is looked at: the
 * objects of `pg_catalog` itself change with the server's version or by the hand of a superuser.
 */
const FINGERPRINT = [
  rowsOf('pg_class', OID, `oid >= ${FIRST_USER_OID} AND relpersistence <> 't'::"char"`),
  rowsOf(
    'pg_attribute',
    '(attrelid::pg_catalog.int8 * 65536::pg_catalog.int8 + attnum::pg_catalog.int8)',
    `attrelid >= ${FIRST_USER_OID} AND attrelid NOT IN ${TEMPORARY}`,
  ),
  rowsOf('pg_attrdef', OID, `adrelid NOT IN ${TEMPORARY}`),
  rowsOf('pg_type', OID, `oid >= ${FIRST_USER_OID} AND typnamespace NOT IN ${TEMPORARY_SCHEMAS}`),
  rowsOf('pg_proc', OID, `oid >= ${FIRST_USER_OID}`),
  rowsOf('pg_rewrite', OID, `oid >= ${FIRST_USER_OID} AND ev_class NOT IN ${TEMPORARY}`),
  rowsOf('pg_constraint', OID, `oid >= ${FIRST_USER_OID} AND conrelid NOT IN ${TEMPORARY}`),
  rowsOf('pg_trigger', OID, `tgrelid NOT IN ${TEMPORARY}`),
  rowsOf('pg_policy', OID, 'true'),
  rowsOf('pg_event_trigger', OID, 'true'),
  rowsOf(
    'pg_inherits',
    '(inhrelid::pg_catalog.int8 * 65536::pg_catalog.int8 + inhseqno::pg_catalog.int8)',
    `inhrelid NOT IN ${TEMPORARY}`,
  ),
  rowsOf('pg_operator', OID, `oid >= ${FIRST_USER_OID}`),
  rowsOf('pg_opclass', OID, `oid >= ${FIRST_USER_OID}`),
  rowsOf('pg_amproc', OID, `oid >= ${FIRST_USER_OID}`),
  rowsOf('pg_cast', OID, `oid >= ${FIRST_USER_OID}`),
  rowsOf('pg_namespace', OID, String.raw`nspname OPERATOR(pg_catalog.!~) '^pg_(toast_)?temp_'::pg_catalog.text`),
  'CURRENT_USER::pg_catalog.text',
  // Which columns the role may read changes with its memberships and attributes too; grants on tables stand in the rows
  // above. Other roles of the cluster come and go without a meaning for it.
  `COALESCE((SELECT pg_catalog.bit_xor(pg_catalog.hashtextextended(xmin::pg_catalog.text || ' ' || roleid::pg_catalog.text
    || ' ' || member::pg_catalog.text || ' ' || grantor::pg_catalog.text, 0::pg_catalog.int8))::pg_catalog.text
    FROM pg_catalog.pg_auth_members WHERE pg_catalog.pg_has_role(member, 'MEMBER'::pg_catalog.text)), '-')`,
  `COALESCE((SELECT pg_catalog.bit_xor(pg_catalog.hashtextextended(rolsuper::pg_catalog.text || rolcreaterole::pg_catalog.text
    || rolreplication::pg_catalog.text, oid::pg_catalog.int8))::pg_catalog.text FROM pg_catalog.pg_roles
    WHERE pg_catalog.pg_has_role(oid, 'MEMBER'::pg_catalog.text)), '-')`,
].join(` || ' ' ||\n`)

/**
 * Tells which transactions have ended, as text. With the start of the server, because after a crash or a failover the
 * same numbers may stand for other transactions. And with the role, whose rights the catalog was read with: a rotated
 * credential may log in as another one.
 */
const SNAPSHOT = `pg_catalog.pg_current_snapshot()::pg_catalog.text OPERATOR(pg_catalog.||) ' '::pg_catalog.text
  OPERATOR(pg_catalog.||) pg_catalog.date_part('epoch'::pg_catalog.text, pg_catalog.pg_postmaster_start_time())::pg_catalog.text
  OPERATOR(pg_catalog.||) ' '::pg_catalog.text OPERATOR(pg_catalog.||)
  pg_catalog.hashtext(CURRENT_USER::pg_catalog.text)::pg_catalog.text`

/**
 * Facts about the server, the fingerprint of what the other queries give, the snapshot it holds for, and the time zone of
 * a session that asks for none.
 */
export const HEAD_SQL = `SELECT current_database()::text, current_setting('server_version_num'),
  ${SNAPSHOT}, ${FINGERPRINT}, current_setting('TimeZone')`

/**
 * Prepares the look at the catalog: its snapshot, and its fingerprint unless the snapshot is still the one that is given.
 * Planning thirteen sub-selects costs more than running them, so the plan is made once.
 */
export const PREPARE_LOOK: readonly string[] = [
  `SELECT pg_catalog.set_config('plan_cache_mode', 'force_generic_plan', false)`,
  `PREPARE sallyport_look (pg_catalog.text) AS
    SELECT s, CASE WHEN s = $1 THEN NULL ELSE ${FINGERPRINT} END
    FROM (SELECT ${SNAPSHOT} AS s OFFSET 0) AS now`,
]

/** Looks. While nothing that writes has ended since the snapshot was taken, the catalog cannot have changed. */
export function lookSql(snapshot: string): string {
  return `EXECUTE sallyport_look ('${/^[\d:,. e+-]*$/u.test(snapshot) ? snapshot : ''}')`
}

/**
 * Fails with a division by zero when the catalog is not the one the plan was made with: the backend itself then skips
 * the rest of the exchange. Run after the statement was parsed, when the locks on its relations are already held.
 *
 * While no transaction that wrote anything has ended since the last look, the catalog cannot have changed, and the
 * snapshot tells that for next to nothing. The second form looks at the catalog itself.
 */
export const SNAPSHOT_GUARD_SQL = `SELECT 1 OPERATOR(pg_catalog./)
  CASE WHEN (${SNAPSHOT}) = $1::pg_catalog.text THEN 1 ELSE 0 END`
export const FINGERPRINT_GUARD_SQL = `SELECT 1 OPERATOR(pg_catalog./)
  CASE WHEN (${FINGERPRINT}) = $1::pg_catalog.text THEN 1 ELSE 0 END`

export const SEARCH_PATH_SQL = `SELECT pg_catalog.to_json(${SEARCH_PATH})::pg_catalog.text`

/** The same of a client's session, which may have a temporary schema, anywhere among them. */
export const SESSION_PATH_SQL = 'SELECT pg_catalog.to_json(pg_catalog.current_schemas(true))::pg_catalog.text'

/** What finds the functions in a stored tree, by the fields that name one. */
const STORED_FUNCTIONS = String.raw`':(?:funcid|opfuncid|aggfnoid|winfnoid|hashfuncid|negfuncid) (\d+)'`

const TYPES = `SELECT row_to_json(x)::text FROM (
  SELECT t.oid::int8 AS oid, n.nspname AS schema, t.typname AS name, format_type(t.oid, NULL) AS display,
    t.typtype AS kind, t.typbasetype::int8 AS base, format_type(nullif(t.typbasetype, 0), t.typtypmod) AS "baseDisplay", t.typnotnull AS "notNull", t.typrelid::int8 AS relation,
    CASE WHEN t.typsubscript = 'array_subscript_handler'::regproc THEN t.typelem::int8 ELSE 0 END AS element,
    c.relkind AS "rowKind", e.extname AS extension,
    ARRAY(SELECT f FROM unnest(ARRAY[t.typinput, t.typoutput, t.typreceive, t.typsend, t.typmodin, t.typmodout,
      t.typanalyze, t.typsubscript]::oid[]::int8[]) f WHERE f >= 16384) || ARRAY(
      SELECT d.refobjid::int8 FROM pg_constraint k JOIN pg_depend d ON d.classid = 'pg_constraint'::regclass
        AND d.objid = k.oid AND d.refclassid = 'pg_proc'::regclass WHERE k.contypid = t.oid AND t.typtype = 'd'
    ) AS functions, ARRAY(
      SELECT DISTINCT m[1]::int8 FROM pg_constraint k, regexp_matches(k.conbin::text, ${STORED_FUNCTIONS}, 'g') m
      WHERE k.contypid = t.oid AND t.typtype = 'd' AND m[1]::int8 BETWEEN 1 AND 16383
    ) AS builtins
  FROM pg_type t JOIN pg_namespace n ON n.oid = t.typnamespace
  LEFT JOIN pg_class c ON c.oid = t.typrelid
  LEFT JOIN pg_depend m ON m.classid = 'pg_type'::regclass AND m.objid = t.oid AND m.deptype = 'e'
  LEFT JOIN pg_extension e ON e.oid = m.refobjid
  WHERE t.oid RANGE AND n.nspname !~ '^pg_(toast_)?temp_') x`

const RELATIONS = `SELECT row_to_json(x)::text FROM (
  SELECT c.oid::int8 AS oid, n.nspname AS schema, c.relname AS name, c.relkind AS kind, c.relrowsecurity AS "hasRls",
    d.description AS comment
  FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace
  LEFT JOIN pg_description d ON d.objoid = c.oid AND d.classoid = 'pg_class'::regclass AND d.objsubid = 0
    AND c.oid >= 16384
  WHERE c.oid RANGE AND c.relkind IN ('r', 'p', 'v', 'm', 'f', 'S', 'c') AND c.relpersistence <> 't'
    AND n.nspname !~ '^pg_(toast|temp)') x`

const COLUMNS = `SELECT row_to_json(x)::text FROM (
  SELECT a.attrelid::int8 AS relation, a.attname AS name, a.attnum AS attnum,
    format_type(a.atttypid, a.atttypmod) AS type, a.atttypid::int8 AS "typeOid", a.atttypmod AS typmod,
    CASE WHEN a.attcollation <> 0 AND a.attcollation <> t.typcollation
      THEN json_build_object('schema', cn.nspname, 'name', co.collname) END AS collation,
    a.attnotnull AS "notNull", a.attgenerated <> '' AS generated,
    a.atthasdef OR a.attidentity <> '' AS "hasDefault"
  FROM pg_attribute a JOIN pg_class c ON c.oid = a.attrelid JOIN pg_type t ON t.oid = a.atttypid
  LEFT JOIN pg_collation co ON co.oid = a.attcollation LEFT JOIN pg_namespace cn ON cn.oid = co.collnamespace
  WHERE a.attrelid RANGE AND a.attnum > 0 AND NOT a.attisdropped AND c.relkind IN ('r', 'p', 'v', 'm', 'f', 'S', 'c')
    AND c.relpersistence <> 't' ORDER BY a.attrelid, a.attnum) x`

/** Columns a stored expression reads, besides the column it belongs to. */
export const GENERATED_SQL = `SELECT row_to_json(x)::text FROM (
  SELECT d.adrelid::int8 AS relation, d.adnum AS attnum, s.attname AS source
  FROM pg_attrdef d
  JOIN pg_attribute a ON a.attrelid = d.adrelid AND a.attnum = d.adnum AND a.attgenerated <> ''
  JOIN pg_depend p ON p.classid = 'pg_attrdef'::regclass AND p.objid = d.oid
    AND p.refclassid = 'pg_class'::regclass AND p.refobjid = d.adrelid AND p.refobjsubid <> d.adnum
  JOIN pg_attribute s ON s.attrelid = d.adrelid AND s.attnum = p.refobjsubid
  ORDER BY d.adrelid, d.adnum, s.attnum) x`

export const TRIGGERS_SQL = `SELECT row_to_json(x)::text FROM (
  SELECT tgrelid::int8 AS relation, tgname AS name, tgfoid::int8 AS "functionOid", tgtype AS bits,
    tgqual IS NOT NULL AS "isConditional"
  FROM pg_trigger WHERE NOT tgisinternal AND tgenabled <> 'D' ORDER BY tgrelid, tgname) x`

/** Relations with rules besides a view's own. */
export const RULES_SQL = `SELECT row_to_json(x)::text FROM (
  SELECT DISTINCT ev_class::int8 AS relation FROM pg_rewrite WHERE rulename <> '_RETURN') x`

export const INHERITS_SQL = `SELECT row_to_json(x)::text FROM (
  SELECT inhrelid::int8 AS child, inhparent::int8 AS parent FROM pg_inherits ORDER BY inhrelid, inhseqno) x`

/**
 * Primary and foreign keys. Column numbers in key order. A primary key that is checked at the end of a transaction holds no
 * two rows apart within one, so it is none here, as for GROUP BY in PostgreSQL.
 */
export const KEYS_SQL = `SELECT row_to_json(x)::text FROM (
  SELECT conrelid::int8 AS relation, contype AS kind, conkey AS columns, confrelid::int8 AS "references",
    confkey AS "referencedColumns", confdeltype AS "onDelete", confupdtype AS "onUpdate"
  FROM pg_constraint WHERE (contype = 'f' OR contype = 'p' AND NOT condeferrable) AND conrelid <> 0
  ORDER BY conrelid, conname) x`

/** Columns of unique indexes and exclusion constraints, in keys, expressions and predicates. */
export const UNIQUE_SQL = `SELECT row_to_json(x)::text FROM (
  SELECT DISTINCT i.indrelid::int8 AS relation, a.attname AS name
  FROM pg_index i JOIN pg_attribute a ON a.attrelid = i.indrelid AND a.attnum > 0 AND (
    a.attnum = ANY (i.indkey) OR EXISTS (SELECT FROM pg_depend d WHERE d.classid = 'pg_class'::regclass
      AND d.objid = i.indexrelid AND d.refclassid = 'pg_class'::regclass AND d.refobjid = i.indrelid
      AND d.refobjsubid = a.attnum))
  WHERE (i.indisunique OR i.indisexclusion) AND i.indrelid >= 16384) x`

/** Columns that are read together by one check, index, foreign key, generated column, policy or partition key. */
export const TIES_SQL = `SELECT row_to_json(x)::text FROM (
  WITH tie AS (
    SELECT conrelid AS relation, CASE contype WHEN 'c' THEN 'check' ELSE 'key' END AS kind, contype = 'c' AS evaluates,
      false AS "countsNull", conkey::int2[] AS attnums, 'pg_constraint'::regclass AS classid, oid AS objid
    FROM pg_constraint WHERE contype IN ('c', 'f') AND conrelid <> 0
    UNION ALL SELECT indrelid, CASE WHEN indisunique OR indisexclusion THEN 'unique' ELSE 'index' END,
      indexprs IS NOT NULL OR indpred IS NOT NULL,
      indisexclusion OR indexprs IS NOT NULL OR indpred IS NOT NULL
        OR COALESCE((to_jsonb(i) ->> 'indnullsnotdistinct')::bool, false),
      array_remove(indkey::int2[], 0::int2), 'pg_class'::regclass, indexrelid
    FROM pg_index i WHERE indrelid >= 16384
    UNION ALL SELECT adrelid, 'generated', true, false, ARRAY[adnum], 'pg_attrdef'::regclass, d.oid
    FROM pg_attrdef d JOIN pg_attribute a ON a.attrelid = adrelid AND a.attnum = adnum AND a.attgenerated <> ''
    UNION ALL SELECT polrelid, 'policy', true, false, CASE WHEN concat(polqual::text, polwithcheck::text)
      LIKE '%:varattno 0 %' THEN '{0}'::int2[] ELSE '{}' END, 'pg_policy'::regclass, oid FROM pg_policy
    UNION ALL SELECT partrelid, 'partition', true, false, partattrs::int2[], 'pg_class'::regclass, 0
    FROM pg_partitioned_table
  )
  SELECT t.relation::int8 AS relation, kind, evaluates, "countsNull", ARRAY(
      SELECT a.attname FROM pg_attribute a
      WHERE a.attrelid = t.relation AND a.attnum > 0 AND NOT a.attisdropped AND (
        a.attnum = ANY (t.attnums) OR 0 = ANY (t.attnums) OR EXISTS (
          SELECT FROM pg_depend d WHERE d.classid = t.classid AND d.objid = t.objid
            AND d.refclassid = 'pg_class'::regclass AND d.refobjid = t.relation AND d.refobjsubid = a.attnum))
      ORDER BY a.attnum) AS columns
  FROM tie t ORDER BY t.relation, kind, objid) x`

/** Columns of other relations that rules read by name, those of views included. */
export const RULE_READS_SQL = `SELECT row_to_json(x)::text FROM (
  SELECT DISTINCT r.ev_class::int8 AS relation, d.refobjid::int8 AS uses, a.attname AS column
  FROM pg_rewrite r
  JOIN pg_depend d ON d.classid = 'pg_rewrite'::regclass AND d.objid = r.oid
    AND d.refclassid = 'pg_class'::regclass AND d.refobjid <> r.ev_class AND d.refobjsubid > 0
  JOIN pg_attribute a ON a.attrelid = d.refobjid AND a.attnum = d.refobjsubid
  WHERE r.oid >= 16384) x`

/** Relations whose rules read a whole row of something: \`pg_depend\` does not tell, the stored trees do. */
export const WHOLE_ROWS_SQL = `SELECT row_to_json(x)::text FROM (
  SELECT DISTINCT ev_class::int8 AS relation FROM pg_rewrite
  WHERE oid >= 16384 AND concat(ev_action::text, ev_qual::text) LIKE '%:varattno 0 %') x`

/** Views that can be written without a trigger or a rule of a user (bits 2, 3 and 4: UPDATE, INSERT, DELETE). */
export const UPDATABLE_SQL = `SELECT row_to_json(x)::text FROM (
  SELECT c.oid::int8 AS relation, pg_get_viewdef(c.oid) AS definition
  FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace
  WHERE c.relkind = 'v' AND c.oid >= 16384 AND c.relpersistence <> 't' AND n.nspname !~ '^pg_(toast|temp)'
    AND pg_relation_is_updatable(c.oid, false) & 28 = 28) x`

/** Columns of the indexes by which tables were put in order, in expressions and predicates too. */
export const CLUSTERED_SQL = `SELECT row_to_json(x)::text FROM (
  SELECT DISTINCT i.indrelid::int8 AS relation, a.attname AS column
  FROM pg_index i JOIN pg_attribute a ON a.attrelid = i.indrelid AND a.attnum > 0 AND (
    a.attnum = ANY (i.indkey) OR EXISTS (SELECT FROM pg_depend d WHERE d.classid = 'pg_class'::regclass
      AND d.objid = i.indexrelid AND d.refclassid = 'pg_class'::regclass AND d.refobjid = i.indrelid
      AND d.refobjsubid = a.attnum))
  WHERE i.indisclustered AND i.indrelid >= 16384) x`

/** Columns of other relations that policies read; every column of those one reads a whole row of. */
export const POLICY_READS_SQL = `SELECT row_to_json(x)::text FROM (
  SELECT DISTINCT p.polrelid::int8 AS relation, d.refobjid::int8 AS uses, a.attname AS column
  FROM pg_policy p
  JOIN pg_depend d ON d.classid = 'pg_policy'::regclass AND d.objid = p.oid
    AND d.refclassid = 'pg_class'::regclass AND d.refobjid <> p.polrelid
  JOIN pg_attribute a ON a.attrelid = d.refobjid AND a.attnum > 0 AND NOT a.attisdropped AND (
    a.attnum = d.refobjsubid OR concat(p.polqual::text, p.polwithcheck::text) LIKE '%:varattno 0 %')) x`

/**
 * What of PostgreSQL itself the rules of users' views use. \`pg_depend\` does not tell: what cannot be dropped is not in
 * it, so the stored trees are read.
 */
export const VIEW_BUILTINS_SQL = `SELECT row_to_json(x)::text FROM (
  SELECT DISTINCT r.ev_class::int8 AS relation, m[1] = 'relid' AS "isRelation", m[2]::int8 AS oid
  FROM pg_rewrite r,
    regexp_matches(r.ev_action::text, ':(relid|funcid|opfuncid|aggfnoid|winfnoid) (\\d+)', 'g') m
  WHERE r.oid >= 16384 AND m[2]::int8 BETWEEN 1 AND 16383) x`

/**
 * What of PostgreSQL itself the other code uses that is stored with relations: \`pg_depend\` is silent there, too.
 */
export const STORED_BUILTINS_SQL = `SELECT row_to_json(x)::text FROM (
  WITH stored AS (
    SELECT 'write' AS via, adrelid AS relation, adbin::text AS tree FROM pg_attrdef
    UNION ALL SELECT 'write', conrelid, conbin::text FROM pg_constraint WHERE contype = 'c' AND conrelid <> 0
    UNION ALL SELECT 'write', indrelid, concat(indexprs::text, indpred::text) FROM pg_index
      WHERE indrelid >= 16384 AND (indexprs IS NOT NULL OR indpred IS NOT NULL)
    UNION ALL SELECT 'write', tgrelid, tgqual::text FROM pg_trigger
      WHERE NOT tgisinternal AND tgenabled <> 'D' AND tgqual IS NOT NULL
    UNION ALL SELECT 'write', partrelid, partexprs::text FROM pg_partitioned_table WHERE partexprs IS NOT NULL
    UNION ALL SELECT 'policy', polrelid, concat(polqual::text, polwithcheck::text) FROM pg_policy
  )
  SELECT DISTINCT s.via, s.relation::int8 AS relation, m[1]::int8 AS function
  FROM stored s, regexp_matches(s.tree, ${STORED_FUNCTIONS}, 'g') m
  WHERE m[1]::int8 BETWEEN 1 AND 16383) x`

/**
 * What relations use through code that is stored with them. \`via\`: view rules and other rules, row security policies,
 * and what runs at a write: defaults and generated columns, checks, index expressions. A user operator counts as its
 * function.
 */
export const USES_SQL = `SELECT row_to_json(x)::text FROM (
  WITH stored AS (
    SELECT 'rule' AS via, 'pg_rewrite'::regclass AS classid, oid AS objid, ev_class AS relation FROM pg_rewrite
    UNION ALL SELECT 'policy', 'pg_policy'::regclass, oid, polrelid FROM pg_policy
    UNION ALL SELECT 'write', 'pg_attrdef'::regclass, oid, adrelid FROM pg_attrdef
    UNION ALL SELECT 'write', 'pg_constraint'::regclass, oid, conrelid FROM pg_constraint WHERE contype = 'c'
    UNION ALL SELECT 'write', 'pg_class'::regclass, indexrelid, indrelid FROM pg_index WHERE indrelid >= 16384
    UNION ALL SELECT 'write', 'pg_trigger'::regclass, oid, tgrelid FROM pg_trigger
      WHERE NOT tgisinternal AND tgenabled <> 'D' AND tgqual IS NOT NULL
  )
  SELECT DISTINCT s.via, s.relation::int8 AS relation,
    CASE WHEN d.refclassid = 'pg_class'::regclass THEN d.refobjid::int8 END AS uses,
    CASE d.refclassid WHEN 'pg_proc'::regclass THEN d.refobjid::int8
      WHEN 'pg_operator'::regclass THEN (SELECT oprcode::oid::int8 FROM pg_operator o WHERE o.oid = d.refobjid)
    END AS function
  FROM stored s JOIN pg_depend d ON d.classid = s.classid AND d.objid = s.objid
  WHERE s.relation <> 0 AND d.refobjid <> s.relation
    AND d.refclassid IN ('pg_class'::regclass, 'pg_proc'::regclass, 'pg_operator'::regclass)) x`

/**
 * The body of a trigger function that does nothing but put the time into columns of the new row. Nothing else is looked
 * for in the code of functions: what could read data is not told by its text.
 */
/** Functions of event triggers that fire in a session like ours: neither disabled nor for replicas alone, nor at a login. */
export const EVENT_TRIGGERS_SQL = `SELECT to_json(t.evtfoid::int8)::text FROM pg_event_trigger t
  WHERE t.evtenabled IN ('O', 'A') AND t.evtevent <> 'login' ORDER BY t.evtname`

const STAMPS = String.raw`^\s*BEGIN\s+(NEW\.("\w+"|\w+)\s*:?=\s*(now\(\)|current_timestamp|current_date|localtimestamp|clock_timestamp\(\)|statement_timestamp\(\)|transaction_timestamp\(\))\s*;\s*)+RETURN\s+NEW\s*;\s*END\s*;?\s*$`

const FUNCTIONS = `SELECT row_to_json(x)::text FROM (
  SELECT p.oid::int8 AS oid, n.nspname AS schema, p.proname AS name, p.proargtypes::oid[]::int8[] AS arguments,
    p.prokind AS kind, p.provolatile AS volatility, p.proretset AS "returnsSet", p.provariadic <> 0 AS variadic,
    p.pronargdefaults AS defaults, l.lanname AS language, p.prosecdef AS "securityDefiner", e.extname AS extension,
    p.prorettype = 'trigger'::regtype AND l.lanname = 'plpgsql' AND p.proconfig IS NULL
      AND p.prosrc ~* '${STAMPS}' AS "onlyStamps"
  FROM pg_proc p JOIN pg_namespace n ON n.oid = p.pronamespace JOIN pg_language l ON l.oid = p.prolang
  LEFT JOIN pg_depend m ON m.classid = 'pg_proc'::regclass AND m.objid = p.oid AND m.deptype = 'e'
  LEFT JOIN pg_extension e ON e.oid = m.refobjid
  WHERE p.oid RANGE AND n.nspname !~ '^pg_temp') x`

export const OPERATORS_SQL = `SELECT row_to_json(x)::text FROM (
  SELECT n.nspname AS schema, o.oprname AS name, o.oprcode::oid::int8 AS "functionOid", e.extname AS extension
  FROM pg_operator o JOIN pg_namespace n ON n.oid = o.oprnamespace
  LEFT JOIN pg_depend m ON m.classid = 'pg_operator'::regclass AND m.objid = o.oid AND m.deptype = 'e'
  LEFT JOIN pg_extension e ON e.oid = m.refobjid
  WHERE o.oid >= 16384) x`

/** Functions of users by which sorting, grouping and DISTINCT compare values of some type, without being named. */
export const COMPARISONS_SQL = `SELECT row_to_json(x)::text FROM (
  SELECT DISTINCT f.function::int8 AS function
  FROM pg_opclass c JOIN pg_am m ON m.oid = c.opcmethod AND m.amname IN ('btree', 'hash')
  JOIN (SELECT amprocfamily AS family, amproc::oid AS function FROM pg_amproc
    UNION ALL SELECT amopfamily, o.oprcode::oid FROM pg_amop JOIN pg_operator o ON o.oid = amopopr) f
    ON f.family = c.opcfamily
  WHERE f.function >= 16384 AND NOT EXISTS (SELECT FROM pg_depend d
    WHERE d.classid = 'pg_proc'::regclass AND d.objid = f.function AND d.deptype = 'e')) x`

export const CASTS_SQL = `SELECT row_to_json(x)::text FROM (
  SELECT format_type(k.castsource, NULL) AS source, format_type(k.casttarget, NULL) AS target,
    k.castfunc::int8 AS "functionOid", k.castcontext AS context, e.extname AS extension
  FROM pg_cast k
  LEFT JOIN pg_depend m ON m.classid = 'pg_cast'::regclass AND m.objid = k.oid AND m.deptype = 'e'
  LEFT JOIN pg_extension e ON e.oid = m.refobjid
  WHERE k.oid >= 16384) x`

/** Roles the backend role is or can become. `MEMBER` counts those too that it would have to SET ROLE to. */
const REACH = `reach AS MATERIALIZED (
    SELECT oid, rolname, rolsuper, rolcreaterole, rolreplication FROM pg_roles
    WHERE pg_has_role(current_user, oid, 'MEMBER'))`

/**
 * The backend role, and powers against which no grant on a column holds: it reads the files below the tables, gives
 * itself whatever role it wants (CREATEROLE could, before PostgreSQL 16), or streams the whole cluster.
 */
export const ROLE_SQL = `SELECT row_to_json(x)::text FROM (
  WITH ${REACH}
  SELECT current_user AS role, ARRAY(
    SELECT DISTINCT power FROM reach, unnest(ARRAY[
      CASE WHEN rolsuper THEN 'superuser' END,
      CASE WHEN rolcreaterole AND current_setting('server_version_num')::int < 160000 THEN 'createrole' END,
      CASE WHEN rolreplication THEN 'replication' END,
      CASE WHEN rolname IN ('pg_read_server_files', 'pg_write_server_files', 'pg_execute_server_program')
        THEN rolname END]) AS power
    WHERE power IS NOT NULL ORDER BY power) AS powers) x`

/** Columns that role may read. `columns` is null for all of them: by a grant on the table, or as its owner. */
export const READABLE_SQL = `SELECT row_to_json(x)::text FROM (
  WITH ${REACH}
  SELECT c.oid::int8 AS relation, CASE
    WHEN has_table_privilege(c.oid, 'SELECT') OR EXISTS (
      SELECT FROM reach r WHERE r.oid = c.relowner OR has_table_privilege(r.oid, c.oid, 'SELECT')) THEN NULL
    ELSE ARRAY(SELECT a.attnum FROM pg_attribute a
      WHERE a.attrelid = c.oid AND a.attnum > 0 AND NOT a.attisdropped
        AND EXISTS (SELECT FROM reach r WHERE has_column_privilege(r.oid, c.oid, a.attnum, 'SELECT')))
    END AS columns
  FROM pg_class c
  WHERE c.oid >= 16384 AND c.relkind IN ('r', 'p', 'v', 'm', 'f') AND c.relpersistence <> 't') x`

/** The queries of what there are thousands of, because PostgreSQL brings them. */
const WIDE = { types: TYPES, relations: RELATIONS, columns: COLUMNS, functions: FUNCTIONS } as const

/** Name of a query whose answer is mostly PostgreSQL's own. */
export type WideQuery = keyof typeof WIDE

/** The wide queries for what PostgreSQL brings, which is read once, or for what users made. */
export function wideQueries(of: 'builtin' | 'user'): Readonly<Record<WideQuery, string>> {
  const range = of === 'builtin' ? '< 16384' : '>= 16384'
  const queries = Object.entries(WIDE).map(([name, text]) => [name, text.replaceAll('RANGE', range)])
  return Object.fromEntries(queries) as Record<WideQuery, string>
}
