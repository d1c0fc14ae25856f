/** Statements that are asked through every door to a PostgreSQL: each must come to the same everywhere. */

/** Six tables of one shape, and what the policy makes of each. */
const TABLES = ['orders', 'people', 'paged', 'secrets', 'archived', 'notes'] as const

/** Tables, rows and a function; what `CORPUS` asks about. */
export const CORPUS_SCHEMA = `
  ${TABLES.map(
    (name) => `CREATE TABLE public.${name} (id int PRIMARY KEY, a int, b text);
  INSERT INTO public.${name} SELECT n, n % 7, '${name} ' || n FROM generate_series(1, 30) n;`,
  ).join('\n  ')}
  UPDATE public.people SET b = '111-22-' || (3000 + id);
  UPDATE public.notes SET b = 'write to n' || id || '@corp.example' WHERE id % 3 = 0;
  CREATE VIEW public.seen AS SELECT id, b FROM public.orders;
  CREATE FUNCTION public.twice(n int) RETURNS int LANGUAGE sql IMMUTABLE AS 'SELECT n * 2';
`
export const CORPUS_GRANTS =
  'GRANT SELECT, INSERT, UPDATE, DELETE ON ALL TABLES IN SCHEMA public TO $role; GRANT CREATE ON SCHEMA public TO $role'

/** Allowed, masked, limited, denied by a rule, denied by none, looked into, and asked about. */
export const CORPUS_POLICY = `
targets: [db]
rules:
  - {id: none, effect: allow, principals: [group:agents], actions: [sql.select], resources: ["-"]}
  - {id: read, effect: allow, principals: [group:agents], actions: [sql.select],
     resources: [public.orders, public.people, public.archived, public.notes, public.seen]}
  - {id: few, effect: allow, principals: [group:agents], actions: [sql.select], resources: [public.paged], limits: {rows: 10}}
  - {id: shut, effect: deny, principals: ["*"], actions: ["sql.*"], resources: [public.archived], reason: The archive is closed.}
  - {id: write, effect: allow, principals: [group:agents], actions: [sql.insert, sql.update], resources: [public.orders]}
  - {id: ask, effect: require_approval, principals: [group:agents], actions: [sql.delete], resources: [public.orders],
     approvers: {any_of: [group:dba], expires: 5m}}
  - {id: twice, effect: allow, principals: [group:agents], actions: [sql.call], resources: ["public.twice(integer)"]}
  - {id: metered, effect: allow, principals: [group:metered], actions: [sql.select], resources: [public.orders], limits: {rate: 5/h}}
masks:
  - {columns: [public.people.b], transform: redact}
  - {detect: [email], transform: redact}
`

const READS: readonly ((table: string) => string)[] = [
  (t) => `select * from ${t} order by id`,
  (t) => `select id from ${t} where id < 5 order by id`,
  (t) => `select b from public.${t} order by id limit 3`,
  (t) => `select count(*), min(id), max(id) from ${t}`,
  (t) => `select a, count(*) from ${t} group by a order by a`,
  (t) => `select a, count(*) from ${t} group by a having count(*) > 4 order by a`,
  (t) => `select distinct a from ${t} order by a desc`,
  (t) => `select upper(b), length(b) from ${t} where id in (1, 2) order by id`,
  (t) => `select case when id > 3 then b else 'few' end from ${t} where id < 6 order by id`,
  (t) => `select string_agg(b, ',' order by id) from ${t} where id < 4`,
  (t) => `select json_agg(x order by x.id)::text from ${t} x where x.id < 3`,
  (t) => `select row_number() over (order by id desc), b from ${t} order by 1 limit 4`,
  (t) => `with w as (select id, b from ${t} where a = 1) select * from w order by id`,
  (t) => `select (select b from ${t} where id = 2)`,
  (t) => `select exists (select from ${t} where b like '%1%')`,
  (t) => `select x.b from ${t} x, lateral (select x.id + 1 as next) l where l.next = 3`,
  (t) => `select b || '!' as "Said" from ${t} where id = any (array[1, 2]) order by id`,
  (t) => `select id from ${t} where b = '${t} 4'`,
  (t) => `select coalesce(nullif(b, '${t} 1'), 'none') from ${t} where id < 3 order by id`,
  (t) => `select ${t}.id as n, ${t}.a + 1 from ${t} where ${t}.a between 2 and 3 order by n`,
  (t) => `select b::int from ${t} where id = 1`,
  (t) => `table ${t}`,
  (t) => `select nothing from ${t}`,
  (t) => `select id from ${t} where id = 1 for update`,
]

const PAIRS: readonly ((one: string, other: string) => string)[] = [
  (t, u) => `select x.id, y.b from ${t} x join ${u} y using (id) where x.id < 4 order by x.id`,
  (t, u) => `select id, b from ${t} where id < 3 union all select id, b from ${u} where id < 3 order by 1, 2`,
  (t, u) => `select count(*) from ${t} where id in (select a from ${u})`,
]

const WRITES: readonly ((table: string) => string)[] = [
  (t) => `insert into ${t} values (1, 2, 'again') on conflict do nothing`,
  (t) => `update ${t} set a = a where id = 3`,
  (t) => `update ${t} set b = 'same' where id = 30 returning id`,
  (t) => `delete from ${t} where id = 99`,
  (t) => `with gone as (delete from ${t} where id = 98 returning id) select * from gone`,
  (t) => `merge into ${t} using (values (97)) v (n) on ${t}.id = v.n when matched then update set a = 1`,
  (t) => `truncate ${t}`,
  (t) => `drop table ${t}`,
  (t) => `alter table ${t} add column c int`,
  (t) => `explain select * from ${t}`,
  (t) => `lock table ${t}`,
]

const OTHERS: readonly string[] = [
  `select 1`,
  `select 1 + 1 as two, 'x' || 'y', null::text`,
  `values (1, 'a'), (2, 'b')`,
  `select * from generate_series(1, 5) n order by n`,
  `select public.twice(21)`,
  `select twice(id) from orders where id < 3 order by id`,
  `select b from seen where id = 2`,
  `select 'mail me: somebody@corp.example'`,
  `select 1 / 0`,
  `select 'x'::int`,
  `select 1 +`,
  `selec 1`,
  `select * from nowhere`,
  `select nowhere()`,
  `select pg_read_file('/etc/passwd')`,
  `select pg_sleep(0)`,
  `select set_config('search_path', 'x', false)`,
  `select lo_import('/etc/passwd')`,
  `select current_setting('data_directory')`,
  `select pg_terminate_backend(1)`,
  `select query_to_xml('select 1', true, false, '')`,
  `select most_common_vals from pg_stats`,
  `select rolpassword from pg_authid`,
  `select query from pg_stat_activity`,
  `select relname from pg_class where relname = 'orders'`,
  `do $$ begin perform 1; end $$`,
  `create table made (id int)`,
  `create view public.w as select 1`,
  `create function public.f() returns int language sql as 'select 1'`,
  `grant select on orders to public`,
  `create role somebody`,
  `copy orders to '/tmp/x'`,
  `copy orders to program 'id'`,
  `select * into public.copied from people`,
  `create table copied as select * from people`,
  `create extension dblink`,
  `alter system set work_mem = '1GB'`,
  `vacuum orders`,
  `select people from people`,
  `select (people).b from people`,
  `select id from people where b = '111-22-3001'`,
  `select id from people order by b limit 1`,
  `select id from only people where id = 1`,
  `select id from people tablesample system (100) order by id limit 1`,
  `/* a comment */ select id -- another
   from orders where id = 1`,
  `select U&"\\0069d" from orders where id = 1`,
  `select "ID" from orders`,
  `select $$a;b$$, E'\\'' `,
]

/** Forms of a DELETE that waits for a person, or would if its table did not forbid it. */
const ASKED: readonly string[] = [
  `delete from orders where id = 1001`,
  `delete from public.orders where b = 'none of them'`,
  `delete from orders where id in (select a + 2000 from orders)`,
  `delete from orders using people where orders.id = people.id + 5000`,
  `delete from orders where id = 1002 returning id, b`,
  `delete from orders where false`,
]

export const CORPUS: readonly string[] = [
  ...TABLES.flatMap((table) => READS.map((form) => form(table))),
  ...TABLES.flatMap((one) => TABLES.flatMap((other) => PAIRS.map((form) => form(one, other)))),
  ...(['orders', 'people', 'secrets', 'archived'] as const).flatMap((table) => WRITES.map((form) => form(table))),
  ...OTHERS,
  ...ASKED,
]
