/**
 * Statements in the manner of tools that were not run here: how they qualify names, quote, nest and ask for the structure of
 * a database.
 */
import type { Sent } from './replay.ts'

export const WRITTEN: Readonly<Record<string, readonly Sent[]>> = {
  metabase: [
    {
      sql: `SELECT "public"."orders"."id" AS "id", "public"."orders"."total" AS "total", "Customers"."name" AS "Customers__name" FROM "public"."orders" LEFT JOIN "public"."customers" AS "Customers" ON "public"."orders"."customer_id" = "Customers"."id" ORDER BY "public"."orders"."id" ASC LIMIT 2000`,
    },
    {
      sql: `SELECT "public"."customers"."id" AS "id", "public"."customers"."ssn" AS "ssn", "public"."customers"."card" AS "card" FROM "public"."customers" ORDER BY "public"."customers"."id" ASC LIMIT 2000`,
    },
    {
      sql: `SELECT DATE_TRUNC('month', "public"."orders"."placed_at") AS "placed_at", COUNT(*) AS "count", SUM("public"."orders"."total") AS "sum" FROM "public"."orders" GROUP BY DATE_TRUNC('month', "public"."orders"."placed_at") ORDER BY DATE_TRUNC('month', "public"."orders"."placed_at") ASC`,
    },
    {
      sql: `SELECT "source"."plan" AS "plan", COUNT(*) AS "count" FROM (SELECT "public"."customers"."plan" AS "plan", "public"."customers"."id" AS "id" FROM "public"."customers" WHERE (LOWER("public"."customers"."name") LIKE '%name 1%')) AS "source" GROUP BY "source"."plan" ORDER BY "source"."plan" ASC`,
    },
    {
      sql: `SELECT COUNT(DISTINCT "public"."orders"."customer_id") AS "count", AVG("public"."orders"."total") AS "avg", CAST(COUNT(*) AS float) / 3 AS "share" FROM "public"."orders" WHERE "public"."orders"."status" IN ('open', 'paid')`,
    },
    {
      sql: `SELECT FLOOR((("public"."orders"."total" - 0.0) / 25.0)) * 25.0 + 0.0 AS "total", COUNT(*) AS "count" FROM "public"."orders" GROUP BY FLOOR((("public"."orders"."total" - 0.0) / 25.0)) * 25.0 + 0.0 ORDER BY FLOOR((("public"."orders"."total" - 0.0) / 25.0)) * 25.0 + 0.0 ASC`,
    },
    {
      sql: `SELECT SUBSTRING("public"."customers"."name", 1, 1234) AS "name" FROM "public"."customers" ORDER BY 1 LIMIT 10`,
    },
    {
      sql: `SELECT n.nspname AS "schema", c.relname AS "name", CASE c.relkind WHEN 'r' THEN 'TABLE' WHEN 'p' THEN 'PARTITIONED TABLE' WHEN 'v' THEN 'VIEW' WHEN 'f' THEN 'FOREIGN TABLE' WHEN 'm' THEN 'MATERIALIZED VIEW' END AS "type", d.description AS "description", stat.n_live_tup AS estimated_row_count FROM pg_catalog.pg_class AS c INNER JOIN pg_catalog.pg_namespace AS n ON c.relnamespace = n.oid LEFT JOIN pg_catalog.pg_description AS d ON c.oid = d.objoid AND d.objsubid = 0 AND d.classoid = 'pg_class'::regclass LEFT JOIN pg_stat_user_tables AS stat ON n.nspname = stat.schemaname AND c.relname = stat.relname WHERE c.relnamespace = n.oid AND n.nspname !~ '^pg_' AND n.nspname <> 'information_schema' AND c.relkind IN ('r', 'p', 'v', 'f', 'm') AND c.relname <> 'customers' AND stat.relname IS NULL ORDER BY type, schema, name`,
    },
  ],
  dbeaver: [
    { sql: 'SELECT x.* FROM public.orders x ORDER BY x.id LIMIT 200' },
    { sql: 'SELECT x.*, x.ctid FROM public.items x ORDER BY x.order_id LIMIT 200' },
    { sql: 'SELECT x.* FROM public.customers x ORDER BY x.id LIMIT 200' },
    { sql: 'select count(*) from (SELECT x.* FROM public.customers x) dbvrcnt' },
    {
      sql: `SELECT db.oid, db.datname FROM pg_catalog.pg_database db WHERE datallowconn AND NOT datistemplate AND db.datname = current_database()`,
    },
    {
      sql: `SELECT n.oid, n.*, d.description FROM pg_catalog.pg_namespace n LEFT OUTER JOIN pg_catalog.pg_description d ON d.objoid = n.oid AND d.objsubid = 0 AND d.classoid = 'pg_namespace'::regclass ORDER BY nspname`,
    },
    {
      sql: `SELECT c.relname, c.relkind, a.attname, a.attnum, a.atttypid, pg_catalog.pg_get_expr(ad.adbin, ad.adrelid, true) AS def_value, dsc.description FROM pg_catalog.pg_attribute a INNER JOIN pg_catalog.pg_class c ON a.attrelid = c.oid LEFT OUTER JOIN pg_catalog.pg_attrdef ad ON a.attrelid = ad.adrelid AND a.attnum = ad.adnum LEFT OUTER JOIN pg_catalog.pg_description dsc ON c.oid = dsc.objoid AND a.attnum = dsc.objsubid WHERE NOT a.attisdropped AND c.relkind NOT IN ('i', 'I', 'c') AND c.oid = '{class:orders}' ORDER BY a.attnum`,
    },
    {
      sql: `SELECT c.oid, c.conname, c.contype, c.conkey, t.relname AS tabrelname, rt.relname AS refrelname, d.description, pg_catalog.pg_get_constraintdef(c.oid) AS src FROM pg_catalog.pg_constraint c INNER JOIN pg_catalog.pg_class t ON t.oid = c.conrelid LEFT OUTER JOIN pg_catalog.pg_class rt ON rt.oid = c.confrelid LEFT OUTER JOIN pg_catalog.pg_description d ON d.objoid = c.oid AND d.objsubid = 0 AND d.classoid = 'pg_constraint'::regclass WHERE c.conrelid = '{class:orders}' ORDER BY c.oid`,
    },
    {
      sql: `SELECT i.indrelid, i.indkey, i.indclass, i.indoption, c.relname, am.amname, pg_catalog.pg_get_expr(i.indpred, i.indrelid) AS pred_expr, pg_catalog.pg_get_indexdef(c.oid) AS def FROM pg_catalog.pg_index i INNER JOIN pg_catalog.pg_class c ON c.oid = i.indexrelid INNER JOIN pg_catalog.pg_am am ON am.oid = c.relam WHERE i.indrelid = '{class:orders}' ORDER BY c.relname`,
    },
    {
      sql: `SELECT t.oid, t.typname, t.typtype, t.typlen, c.relkind, format_type(nullif(t.typbasetype, 0), t.typtypmod) AS base_type_name FROM pg_catalog.pg_type t LEFT OUTER JOIN pg_catalog.pg_class c ON c.oid = t.typrelid WHERE t.typname IS NOT NULL AND (c.relkind IS NULL OR c.relkind = 'c') ORDER BY t.oid LIMIT 500`,
    },
    { sql: 'SELECT r.oid, r.rolname, r.rolcanlogin FROM pg_catalog.pg_roles r ORDER BY r.rolname' },
    {
      sql: `SELECT pg_catalog.pg_table_size(c.oid) >= 0 AS has_size FROM pg_catalog.pg_class c WHERE c.relname = 'orders'`,
    },
    { sql: 'SHOW search_path' },
    { sql: 'SELECT current_schema(), session_user' },
  ],
  npgsql: [
    { sql: 'SELECT version()' },
    {
      sql: `SELECT ns.nspname, t.oid, t.typname, t.typtype, t.typnotnull, t.elemtypoid FROM (SELECT typ.oid, typ.typnamespace, typ.typname, typ.typtype, typ.typrelid, typ.typnotnull, typ.relkind, elemtyp.oid AS elemtypoid, elemtyp.typname AS elemtypname, elemcls.relkind AS elemrelkind, CASE WHEN elemproc.proname = 'array_recv' THEN 'a' ELSE elemtyp.typtype END AS elemtyptype FROM (SELECT typ.oid, typnamespace, typname, typrelid, typnotnull, relkind, typelem AS elemoid, CASE WHEN proc.proname = 'array_recv' THEN 'a' ELSE typ.typtype END AS typtype FROM pg_type AS typ LEFT JOIN pg_class AS cls ON (cls.oid = typ.typrelid) LEFT JOIN pg_proc AS proc ON proc.oid = typ.typreceive) AS typ LEFT JOIN pg_type AS elemtyp ON elemtyp.oid = typ.elemoid LEFT JOIN pg_class AS elemcls ON (elemcls.oid = elemtyp.typrelid) LEFT JOIN pg_proc AS elemproc ON elemproc.oid = elemtyp.typreceive) AS t JOIN pg_namespace AS ns ON (ns.oid = typnamespace) WHERE typtype IN ('b', 'r', 'm', 'e', 'd') ORDER BY t.oid`,
    },
    {
      sql: `SELECT typ.oid, att.attname, att.atttypid FROM pg_type AS typ JOIN pg_namespace AS ns ON (ns.oid = typ.typnamespace) JOIN pg_class AS cls ON (cls.oid = typ.typrelid) JOIN pg_attribute AS att ON (att.attrelid = typ.typrelid) WHERE typ.typtype = 'c' AND cls.relkind = 'c' AND attnum > 0 AND NOT attisdropped ORDER BY typ.oid, att.attnum`,
    },
    {
      sql: 'SELECT pg_type.oid, enumlabel FROM pg_enum JOIN pg_type ON pg_type.oid = enumtypid ORDER BY oid, enumsortorder',
    },
  ],
  powerbi: [
    {
      sql: `select TABLE_SCHEMA, TABLE_NAME, TABLE_TYPE from INFORMATION_SCHEMA.tables where TABLE_SCHEMA not in ('information_schema', 'pg_catalog') order by TABLE_SCHEMA, TABLE_NAME`,
    },
    {
      sql: `select COLUMN_NAME, ORDINAL_POSITION, IS_NULLABLE, case when (data_type like '%unsigned%') then DATA_TYPE || ' unsigned' else DATA_TYPE end as DATA_TYPE from INFORMATION_SCHEMA.columns where TABLE_SCHEMA = 'public' and TABLE_NAME = 'customers' order by TABLE_SCHEMA, TABLE_NAME, ORDINAL_POSITION`,
    },
    {
      sql: `select "$Table"."id" as "id", "$Table"."customer_id" as "customer_id", "$Table"."total" as "total" from "public"."orders" "$Table" order by 1 limit 1000`,
    },
    {
      sql: `select "rows"."plan" as "plan", count(1) as "n" from (select "_"."id", "_"."plan" from "public"."customers" "_" where "_"."plan" = 'pro' and "_"."plan" is not null) "rows" group by "plan" limit 1000001`,
    },
    {
      sql: `select "$Outer"."id", "$Inner"."name" from "public"."orders" as "$Outer" left outer join "public"."customers" as "$Inner" on ("$Outer"."customer_id" = "$Inner"."id") order by "$Outer"."id" limit 100`,
    },
    {
      sql: `select i.CONSTRAINT_SCHEMA || '_' || i.CONSTRAINT_NAME as INDEX_NAME, ii.COLUMN_NAME, ii.ORDINAL_POSITION, case when i.CONSTRAINT_TYPE = 'PRIMARY KEY' then 'Y' else 'N' end as PRIMARY_KEY from INFORMATION_SCHEMA.table_constraints i inner join INFORMATION_SCHEMA.key_column_usage ii on i.CONSTRAINT_SCHEMA = ii.CONSTRAINT_SCHEMA and i.CONSTRAINT_NAME = ii.CONSTRAINT_NAME and i.TABLE_SCHEMA = ii.TABLE_SCHEMA and i.TABLE_NAME = ii.TABLE_NAME where i.TABLE_SCHEMA = 'public' and i.TABLE_NAME = 'orders' and i.CONSTRAINT_TYPE in ('PRIMARY KEY', 'UNIQUE') order by 1, 2`,
    },
  ],
  grafana: [
    {
      sql: `SELECT floor(extract(epoch from at)/3600)*3600 AS "time", kind AS metric, avg(value) AS "value" FROM events WHERE at BETWEEN '2024-12-01T00:00:00Z' AND '2025-02-01T00:00:00Z' GROUP BY 1, 2 ORDER BY 1, 2`,
    },
    { sql: `SELECT at AS "time", value FROM events WHERE at >= '2024-12-25' AND at < '2025-01-05' ORDER BY 1` },
    {
      sql: `SELECT date_trunc('day', placed_at) AS time, status, count(*) FROM public.orders GROUP BY time, status ORDER BY time, status`,
    },
    { sql: `SELECT DISTINCT kind FROM events ORDER BY kind` },
    {
      sql: `SELECT quote_ident(table_name) AS "table" FROM information_schema.tables WHERE quote_ident(table_schema) NOT IN ('information_schema', 'pg_catalog') ORDER BY 1`,
    },
    {
      sql: `SELECT quote_ident(column_name) AS "column", data_type AS "type" FROM information_schema.columns WHERE quote_ident(table_name) = 'events' ORDER BY 1`,
    },
    { sql: `SELECT current_setting('server_version_num')::int/100 AS version` },
    {
      sql: `SELECT percentile_cont(0.95) WITHIN GROUP (ORDER BY value) AS p95, kind FROM events GROUP BY kind ORDER BY kind`,
    },
  ],
  superset: [
    {
      sql: `SELECT plan AS plan, COUNT(*) AS count FROM public.customers GROUP BY plan ORDER BY count DESC, plan LIMIT 10000`,
    },
    {
      sql: `SELECT DATE_TRUNC('week', placed_at) AS __timestamp, SUM(total) AS "SUM(total)" FROM public.orders WHERE placed_at >= TO_TIMESTAMP('2024-01-01 00:00:00.000000', 'YYYY-MM-DD HH24:MI:SS.US') GROUP BY DATE_TRUNC('week', placed_at) ORDER BY "SUM(total)" DESC LIMIT 50000`,
    },
    {
      sql: `SELECT "virtual_table".status AS status, "virtual_table".n AS n FROM (SELECT status, count(*) AS n FROM public.orders GROUP BY status) AS "virtual_table" ORDER BY n DESC, status LIMIT 1000`,
    },
    {
      sql: `SELECT c.name AS customer, SUM(o.total) FILTER (WHERE o.status = 'paid') AS paid FROM public.orders o JOIN public.customers c ON c.id = o.customer_id GROUP BY c.name ORDER BY 2 DESC NULLS LAST, 1 LIMIT 100`,
    },
  ],
  tableau: [
    {
      sql: `SELECT "customers"."plan" AS "plan", SUM(1) AS "cnt:customers:ok", COUNT(DISTINCT "customers"."id") AS "ctd:id:ok" FROM "public"."customers" "customers" GROUP BY 1 ORDER BY 1`,
    },
    {
      sql: `SELECT CAST("orders"."status" AS TEXT) AS "status", CAST(TRUNC(EXTRACT(YEAR FROM "orders"."placed_at")) AS INTEGER) AS "yr:placed_at:ok", SUM("orders"."total") AS "sum:total:ok" FROM "public"."orders" "orders" INNER JOIN "public"."customers" "customers" ON ("orders"."customer_id" = "customers"."id") WHERE ("customers"."plan" = 'pro') GROUP BY 1, 2 ORDER BY 1, 2`,
    },
    {
      sql: `SELECT "t0"."status" AS "status" FROM (SELECT "orders"."status" AS "status", MIN("orders"."total") AS "x" FROM "public"."orders" "orders" GROUP BY 1) "t0" ORDER BY 1 LIMIT 100`,
    },
    { sql: `SELECT 1 AS "one" FROM "public"."orders" "orders" HAVING (COUNT(1) > 0)` },
    {
      sql: `SELECT CASE WHEN "orders"."total" >= 100 THEN 'big' WHEN NOT ("orders"."total" >= 100) THEN 'small' ELSE NULL END AS "Calculation_1", SUM("orders"."total") AS "sum" FROM "public"."orders" "orders" GROUP BY 1 ORDER BY 1`,
    },
  ],
}
