import { beforeEach, describe, expect, it } from 'vitest'
import type { ColumnMask } from '../../src/core/decision.ts'
import { loadParser, planQuery, planStatements, type PostgresPlan } from '../../src/protocols/postgres/plan.ts'
import { afterEffect, EMPTY_SESSION, type SessionView } from '../../src/protocols/postgres/session.ts'
import { splitStatements } from '../../src/protocols/postgres/split.ts'
import { UTILITY_TYPES } from '../../src/protocols/postgres/statements/index.ts'
import { NODES } from '../../src/protocols/postgres/grammar.ts'
import { line, mask, shopCatalog } from './plan-fixture.ts'

beforeEach(loadParser)

const catalog = shopCatalog()

/** Plans as a door with a session does. */
function inSession(sql: string, session: SessionView = EMPTY_SESSION, masks: readonly ColumnMask[] = []): PostgresPlan {
  return planQuery({ sql }, catalog, { masks, door: 'session', session })
}

function alone(sql: string, masks: readonly ColumnMask[] = []): PostgresPlan {
  return planQuery({ sql }, catalog, { masks })
}

/** What else a plan says, on one line. */
function flags(plan: PostgresPlan): string {
  const words = [
    plan.readOnly && 'reads',
    plan.changesCatalog === true && 'catalog',
    plan.outsideTransaction === true && 'outside',
    plan.session?.does,
    plan.refused?.construct,
  ]
  return words.filter((word) => typeof word === 'string').join(' ')
}

const STATEMENTS: readonly (readonly [sql: string, parts: readonly string[], flags: string])[] = [
  [
    "create table x (a int default nextval('s'), b text check (lower(b) = 'x'), c int references customers)",
    ['sql.create public.x', 'sql.alter public.customers', 'sql.call pg_catalog.nextval(regclass)'],
    'catalog',
  ],
  ['create table x (like orders including all)', ['sql.create public.x'], 'catalog'],
  [
    'create table p partition of orders for values from (1) to (10)',
    ['sql.create public.p', 'sql.alter public.orders'],
    'catalog',
  ],
  ['create table x partition of orders default', ['sql.create public.x', 'sql.alter public.orders'], 'catalog'],
  ['create temp table x as select id from orders', ['sql.create public.x', 'sql.select public.orders(id)'], 'catalog'],
  ['create table x as execute p', ['sql.create public.x', 'sql.prepare -', 'sql.unknown -'], 'catalog'],
  ['select id into x from orders', ['sql.select public.orders(id)', 'sql.create public.x'], 'catalog'],
  ['select id into x from orders union select 1', ['sql.select public.orders(id)', 'sql.create public.x'], 'catalog'],
  ['create view v as select id from orders', ['sql.create public.v', 'sql.select public.orders(id)'], 'catalog'],
  [
    'create or replace view order_view as select id from orders',
    ['sql.create public.order_view', 'sql.select public.orders(id)'],
    'catalog',
  ],
  [
    'create materialized view m as select id from orders',
    ['sql.create public.m', 'sql.select public.orders(id)'],
    'catalog',
  ],
  [
    'create index concurrently i on orders (lower(note)) where id > 3',
    ['sql.create public.i', 'sql.alter public.orders'],
    'catalog outside',
  ],
  ['create unique index on orders (id)', ['sql.create public.orders', 'sql.alter public.orders'], 'catalog'],
  [
    "create function f(a int, out b text) returns text language plpgsql security definer as 'x'",
    ['sql.create public.f(integer)', 'sql.code public.f(integer)'],
    'catalog',
  ],
  [
    'create procedure g(a int) language sql begin atomic insert into orders (id) values (a); end',
    ['sql.create public.g(integer)', 'sql.code public.g(integer)', 'sql.insert public.orders(id)'],
    'catalog',
  ],
  [
    'create trigger t before insert on orders for each row when (new.id > 1) execute function audit()',
    [
      'sql.create public.orders',
      'sql.alter public.orders',
      'sql.code public.orders',
      'sql.call public.audit() via trigger',
    ],
    'catalog',
  ],
  [
    'create event trigger e on ddl_command_start execute function audit()',
    ['sql.create e', 'sql.code -', 'sql.server -', 'sql.call public.audit() via trigger'],
    'catalog',
  ],
  [
    'create rule r as on insert to orders do also delete from customers where id = new.id',
    [
      'sql.create public.orders',
      'sql.alter public.orders',
      'sql.code public.orders',
      'sql.delete public.customers(email,id,name,plan,ssn)',
      'sql.select public.customers(id)',
      'sql.delete public.orders(customer_id,id,note,price,status) via cascade',
    ],
    'catalog',
  ],
  [
    'create policy p on orders for select to public using (id in (select id from customers where name = current_user and customers.id = orders.id))',
    ['sql.create public.orders', 'sql.grant public.orders', 'sql.select public.customers(id,name)'],
    'catalog',
  ],
  ['alter policy p on orders using (true)', ['sql.alter public.orders', 'sql.grant public.orders'], 'catalog'],
  [
    'create aggregate a(int) (sfunc = add_one, stype = int)',
    ['sql.create public.a(integer)', 'sql.code public.a(integer)', 'sql.call public.add_one(integer) via aggregate'],
    'catalog',
  ],
  [
    'create operator === (procedure = add_one, leftarg = int, rightarg = int)',
    ['sql.create public.===', 'sql.code public.===', 'sql.call public.add_one(integer) via operator'],
    'catalog',
  ],
  ['create type t as (a int)', ['sql.create public.t'], 'catalog'],
  ["create type t as enum ('a')", ['sql.create public.t'], 'catalog'],
  [
    'create domain d as int check (add_one(value) > 1)',
    ['sql.create public.d', 'sql.call public.add_one(integer)'],
    'catalog',
  ],
  [
    'create cast (int as text) with function add_one(int)',
    ['sql.create -', 'sql.code -', 'sql.call public.add_one(integer) via cast'],
    'catalog',
  ],
  ['create statistics st on id, note from orders', ['sql.create public.st', 'sql.alter public.orders'], 'catalog'],
  ['create sequence s', ['sql.create public.s'], 'catalog'],
  [
    'create schema x authorization bob create table t (a int) create view v as select 1',
    ['sql.create x', 'sql.grant x', 'sql.create x.t', 'sql.create x.v'],
    'catalog',
  ],
  ['create extension dblink', ['sql.create dblink', 'sql.code -', 'sql.server -'], 'catalog'],
  ["create role bob superuser password 'secret'", ['sql.create bob', 'sql.grant bob'], 'catalog'],
  ["alter role bob password 'secret'", ['sql.alter bob', 'sql.grant bob'], 'catalog'],
  ["alter role bob set work_mem = '1GB'", ['sql.alter bob', 'sql.grant bob'], 'catalog'],
  ['drop role bob', ['sql.drop bob', 'sql.grant bob'], 'catalog'],
  ['grant select (id), update on orders to public with grant option', ['sql.grant public.orders'], 'catalog'],
  ['grant all on all tables in schema public to bob', ['sql.grant public'], 'catalog'],
  ['grant bob to alice with admin option', ['sql.grant bob'], 'catalog'],
  ['revoke select on orders from public', ['sql.grant public.orders'], 'catalog'],
  ['alter default privileges in schema public grant select on tables to public', ['sql.grant -'], 'catalog'],
  [
    'alter table orders add column x int default add_one(1), drop column note, enable row level security, disable trigger all',
    [
      'sql.alter public.orders',
      'sql.grant public.orders',
      'sql.code public.orders',
      'sql.call public.add_one(integer)',
    ],
    'catalog',
  ],
  ['alter table orders owner to bob', ['sql.alter public.orders', 'sql.grant public.orders'], 'catalog'],
  [
    'alter table orders add constraint f foreign key (customer_id) references customers (id)',
    ['sql.alter public.orders', 'sql.alter public.customers'],
    'catalog',
  ],
  [
    'alter table orders attach partition x for values in (1)',
    ['sql.alter public.orders', 'sql.alter public.x'],
    'catalog',
  ],
  ['alter table orders inherit customers', ['sql.alter public.orders', 'sql.alter public.customers'], 'catalog'],
  ['alter table orders alter column id type text using lower(note)', ['sql.alter public.orders'], 'catalog'],
  ['alter table orders rename to x', ['sql.alter public.orders', 'sql.create public.x'], 'catalog'],
  ['alter table orders rename column note to n', ['sql.alter public.orders'], 'catalog'],
  [
    'alter function add_one(int) rename to g',
    ['sql.alter public.add_one(integer)', 'sql.create public.g(integer)', 'sql.code public.add_one(integer)'],
    'catalog',
  ],
  ['alter schema public rename to x', ['sql.alter public', 'sql.create x'], 'catalog'],
  ['alter table orders set schema private', ['sql.alter public.orders', 'sql.create private.orders'], 'catalog'],
  ["alter type t add value 'x'", ['sql.alter public.t'], 'catalog'],
  ['alter sequence s restart', ['sql.alter public.s'], 'catalog'],
  ["alter system set log_statement = 'all'", ['sql.alter -', 'sql.server -'], 'catalog outside'],
  ['create database d', ['sql.create d', 'sql.server -'], 'catalog outside'],
  ['drop database d', ['sql.drop d', 'sql.server -'], 'outside'],
  ["create tablespace t location '/x'", ['sql.create t', 'sql.server -'], 'catalog outside'],
  [
    "create subscription s connection 'host=x password=y' publication p",
    ['sql.create s', 'sql.server -'],
    'catalog outside',
  ],
  ['create publication p for all tables', ['sql.create p', 'sql.server -'], 'catalog'],
  [
    'create publication p for table orders where (id > 1)',
    ['sql.create p', 'sql.alter public.orders', 'sql.server -'],
    'catalog',
  ],
  ["create server s foreign data wrapper w options (host 'x')", ['sql.create s', 'sql.server -'], 'catalog'],
  ["create user mapping for bob server s options (password 'x')", ['sql.create bob@s', 'sql.server -'], 'catalog'],
  ['import foreign schema a from server b into c', ['sql.create c', 'sql.server -'], 'catalog'],
  ['create foreign table ft (a int) server s', ['sql.create public.ft'], 'catalog'],
  [
    'drop table orders, customers cascade',
    [
      'sql.drop public.orders',
      'sql.drop public.order_view via cascade',
      'sql.drop public.customers',
      'sql.drop public.customer_view via cascade',
      'sql.drop public.ssn_view via cascade',
      'sql.drop public.row_view via cascade',
    ],
    'catalog',
  ],
  ['drop schema private cascade', ['sql.drop private', 'sql.drop private.secret via cascade'], 'catalog'],
  ['drop function add_one(int)', ['sql.drop public.add_one(integer)', 'sql.code public.add_one(integer)'], 'catalog'],
  ['drop function audit', ['sql.drop public.audit()', 'sql.code public.audit()'], 'catalog'],
  ['drop trigger t on orders', ['sql.drop public.orders', 'sql.code public.orders'], 'catalog'],
  ['drop policy p on orders', ['sql.drop public.orders', 'sql.grant public.orders'], 'catalog'],
  ['drop owned by bob', ['sql.drop bob', 'sql.grant bob'], 'catalog'],
  ['reassign owned by bob to alice', ['sql.alter bob', 'sql.grant bob'], 'catalog'],
  ['drop index concurrently i', ['sql.drop public.i'], 'catalog outside'],
  ['drop type t', ['sql.drop public.t'], 'catalog'],
  ['truncate customers cascade', ['sql.truncate public.customers', 'sql.truncate public.orders via cascade'], ''],
  ['truncate only orders restart identity', ['sql.truncate public.orders'], ''],
  ["comment on table orders is 'x'", ['sql.comment public.orders'], ''],
  ["comment on column orders.id is 'x'", ['sql.comment public.orders'], ''],
  ["security label for x on table orders is 'y'", ['sql.comment public.orders', 'sql.grant public.orders'], 'catalog'],
  ['vacuum (full, analyze) orders', ['sql.maintain public.orders'], 'outside'],
  ['vacuum', ['sql.maintain -'], 'outside'],
  ['analyze orders (id)', ['sql.maintain public.orders'], ''],
  ['reindex table orders', ['sql.maintain public.orders'], ''],
  ['reindex index i', ['sql.maintain public.i'], ''],
  ['reindex database shop', ['sql.maintain shop'], 'outside'],
  ['cluster orders using i', ['sql.maintain public.orders'], ''],
  ['refresh materialized view concurrently order_view', ['sql.maintain public.order_view'], 'catalog'],
  ['checkpoint', ['sql.maintain -'], ''],
  [
    'copy orders (id, note) to stdout with (format csv)',
    ['sql.copy public.orders', 'sql.select public.orders(id,note)'],
    'reads copy_out',
  ],
  [
    'copy orders from stdin where id > 3',
    [
      'sql.copy public.orders',
      'sql.insert public.orders(customer_id,id,note,price,status)',
      'sql.select public.orders(id)',
    ],
    'copy_in',
  ],
  ['copy (select id from orders) to stdout', ['sql.copy -', 'sql.select public.orders(id)'], 'reads copy_out'],
  [
    'copy (delete from orders returning id) to stdout',
    ['sql.copy -', 'sql.delete public.orders(customer_id,id,note,price,status)', 'sql.select public.orders(id)'],
    'copy_out',
  ],
  [
    "copy orders to program 'x'",
    ['sql.copy_program -', 'sql.select public.orders(customer_id,id,note,price,status)'],
    '',
  ],
  ["copy orders from '/tmp/x'", ['sql.copy_file -', 'sql.insert public.orders(customer_id,id,note,price,status)'], ''],
  [
    'copy orders to stdout (format binary)',
    ['sql.copy public.orders', 'sql.select public.orders(customer_id,id,note,price,status)'],
    'reads copy_out',
  ],
  ["do language plpython3u 'x'", ['sql.do -'], 'catalog'],
  ['call audit()', ['sql.call public.audit()'], 'catalog'],
  ["load 'x'", ['sql.load -'], 'catalog'],
  ['begin isolation level serializable, read only', ['sql.begin -'], 'reads begin'],
  ['begin read only, read write', ['sql.begin -'], 'reads begin'],
  ['start transaction', ['sql.begin -'], 'reads begin'],
  ['commit and chain', ['sql.commit -'], 'reads commit'],
  ['rollback to savepoint a', ['sql.rollback -'], 'reads rollback_to'],
  ['savepoint a', ['sql.savepoint -'], 'reads savepoint'],
  ['release a', ['sql.savepoint -'], 'reads release'],
  ["prepare transaction 'x'", ['sql.commit -'], 'commit'],
  ["commit prepared 'x'", ['sql.commit -'], 'outside'],
  ["set work_mem = '64MB'", ['sql.set work_mem'], 'reads set'],
  ["set local datestyle = 'ISO, MDY'", ['sql.set datestyle'], 'reads set'],
  ['set search_path to private, public', ['sql.set search_path'], 'reads catalog set'],
  ["set client_encoding = 'sjis'", ['sql.set client_encoding'], 'reads set sql.pinned_setting'],
  ["set names 'UTF8'", ['sql.set client_encoding'], 'reads set'],
  ['set standard_conforming_strings = off', ['sql.set standard_conforming_strings'], 'reads set sql.pinned_setting'],
  ['set standard_conforming_strings to default', ['sql.set standard_conforming_strings'], 'reads set'],
  ['set role postgres', ['sql.set_role postgres'], 'reads catalog set'],
  ['set role none', ['sql.set_role none'], 'reads catalog set'],
  ['reset role', ['sql.set_role -'], 'reads catalog set'],
  ['set session authorization postgres', ['sql.set_role postgres'], 'reads catalog set'],
  ['reset all', ['sql.set all'], 'reads catalog set'],
  [
    'set transaction isolation level serializable, read write',
    ['sql.set transaction_isolation', 'sql.set transaction_read_only'],
    'reads set',
  ],
  ['set session characteristics as transaction read only', ['sql.set default_transaction_read_only'], 'reads set'],
  ['set constraints all deferred', ['sql.set constraints'], 'reads set'],
  ["set time zone 'UTC'", ['sql.set timezone'], 'reads set'],
  ['discard all', ['sql.discard -'], 'reads catalog outside discard'],
  ['discard temp', ['sql.discard -'], 'reads catalog discard'],
  [
    'lock table orders, customers in access exclusive mode nowait',
    ['sql.lock_table public.orders', 'sql.lock_table public.customers'],
    '',
  ],
  ['listen ch', ['sql.notify ch'], 'reads listen'],
  ["notify ch, 'x'", ['sql.notify ch'], ''],
  ['unlisten *', ['sql.notify -'], 'reads unlisten'],
  [
    'prepare p (int) as select id from orders where id = $1',
    ['sql.prepare -', 'sql.select public.orders(id)'],
    'reads prepare',
  ],
  [
    'prepare p as delete from orders',
    ['sql.prepare -', 'sql.delete public.orders(customer_id,id,note,price,status)'],
    'prepare',
  ],
  ['execute p (1)', ['sql.prepare -', 'sql.unknown -'], 'catalog'],
  ['deallocate p', ['sql.prepare -'], 'reads deallocate'],
  ['deallocate all', ['sql.prepare -'], 'reads deallocate'],
  ['explain execute p', ['sql.prepare -', 'sql.explain -', 'sql.unknown -'], 'catalog'],
  [
    'explain analyze create table x as select id from orders',
    ['sql.create public.x', 'sql.select public.orders(id)', 'sql.explain -'],
    'catalog',
  ],
  ['explain (analyze off) declare c cursor for select 1', ['sql.cursor -', 'sql.explain -'], 'reads'],
  [
    'declare c no scroll cursor with hold for select id from orders',
    ['sql.cursor -', 'sql.select public.orders(id)'],
    'reads declare',
  ],
  ['fetch 10 from c', ['sql.cursor -', 'sql.unknown -'], 'catalog'],
  ['move all in c', ['sql.cursor -', 'sql.unknown -'], 'catalog'],
  ['close c', ['sql.cursor -'], 'reads close'],
  ['close all', ['sql.cursor -'], 'reads close'],
  [
    'delete from orders where current of c',
    ['sql.delete public.orders(customer_id,id,note,price,status)', 'sql.unknown -'],
    'catalog',
  ],
  [
    'alter extension e add table orders',
    ['sql.alter e', 'sql.alter public.orders', 'sql.code -', 'sql.server -'],
    'catalog',
  ],
  [
    'create language x handler audit',
    ['sql.create x', 'sql.code -', 'sql.call public.audit() via language'],
    'catalog',
  ],
  [
    'create access method m type table handler audit',
    ['sql.create m', 'sql.code -', 'sql.call public.audit() via access method'],
    'catalog',
  ],
  [
    'create transform for int language sql (from sql with function add_one(int))',
    ['sql.create -', 'sql.code -', 'sql.call public.add_one(integer) via transform'],
    'catalog',
  ],
  [
    "create conversion c for 'UTF8' to 'LATIN1' from audit",
    ['sql.create public.c', 'sql.code public.c', 'sql.call public.audit() via conversion'],
    'catalog',
  ],
  [
    'create operator class oc for type int using btree as operator 1 <, function 1 add_one(int)',
    ['sql.create public.oc', 'sql.code public.oc', 'sql.call public.add_one(integer) via operator class'],
    'catalog',
  ],
  ['create operator family f using btree', ['sql.create public.f'], 'catalog'],
  [
    'alter operator family f using btree add function 1 (int) add_one(int)',
    [
      'sql.alter public.f',
      'sql.code public.f',
      'sql.code public.f',
      'sql.call public.add_one(integer) via operator class',
    ],
    'catalog',
  ],
  ["create collation c (locale = 'x')", ['sql.create public.c'], 'catalog'],
  ['create text search configuration t (copy = simple)', ['sql.create public.t'], 'catalog'],
  ['alter text search configuration t add mapping for word with simple', ['sql.alter public.t'], 'catalog'],
  ['alter large object 12 owner to bob', ['sql.alter 12', 'sql.grant 12'], 'catalog'],
  [
    'create foreign data wrapper w handler audit',
    ['sql.create w', 'sql.code -', 'sql.server -', 'sql.call public.audit() via foreign data wrapper'],
    'catalog',
  ],
  ['alter database shop set work_mem = 1', ['sql.alter shop', 'sql.server -'], 'catalog'],
  ['alter table all in tablespace a set tablespace b', ['sql.alter -', 'sql.server -'], 'catalog'],
  ['drop cast (int as text)', ['sql.drop integer'], 'catalog'],
  ['drop operator class oc using btree', ['sql.drop public.oc'], 'catalog'],
  ['drop server s', ['sql.drop s', 'sql.server -'], 'catalog'],
  ['alter event trigger e disable', ['sql.alter e', 'sql.code -', 'sql.server -'], 'catalog'],
  ['alter view order_view set (security_barrier)', ['sql.alter public.order_view'], 'catalog'],
  ['alter index i rename to j', ['sql.alter public.i', 'sql.create public.j'], 'catalog'],
  ['create recursive view v (n) as select 1 union all select n + 1 from v', ['sql.create public.v'], 'catalog'],
  ["select set_config('work_mem', '1MB', false)", ['sql.select -', 'sql.set work_mem'], 'reads set'],
  ["select set_config('search_path', '', false)", ['sql.select -', 'sql.set search_path'], 'reads catalog set'],
  [
    "select set_config('standard_conforming_strings', 'off', true)",
    ['sql.select -', 'sql.set standard_conforming_strings'],
    'sql.pinned_setting',
  ],
  ["select set_config('role', 'postgres', true)", ['sql.select -', 'sql.set_role postgres'], 'reads catalog set'],
  ["select set_config(note, '1', false) from orders", ['sql.select public.orders(note)', 'sql.unknown -'], 'catalog'],
  ["select set_config('a' || 'b', '1', false)", ['sql.select -', 'sql.unknown -'], 'catalog'],
  ["set myapp.user_id = '5'", ['sql.set myapp.user_id'], 'reads set'],
]

describe('every kind of statement that is no query', () => {
  it.each(STATEMENTS)('%s', (sql, parts, more) => {
    const plan = inSession(sql)
    expect(plan.action.parts.map(line)).toEqual(parts)
    expect(flags(plan)).toBe(more)
  })

  it('is understood: all there are in the grammar', () => {
    const queries = [
      'DeleteStmt',
      'ExplainStmt',
      'InsertStmt',
      'MergeStmt',
      'SelectStmt',
      'UpdateStmt',
      'VariableShowStmt',
    ]
    // RETURN stands in function bodies; REPLICA IDENTITY inside ALTER TABLE.
    const inside = ['ReplicaIdentityStmt', 'ReturnStmt']
    const all = Object.keys(NODES).filter((name) => name.endsWith('Stmt'))
    expect([...UTILITY_TYPES, ...queries, ...inside].sort()).toEqual(all.sort())
  })
})

describe('a call without a session', () => {
  it.each([
    'begin',
    'commit',
    'rollback',
    'savepoint a',
    'set transaction read write',
    'set search_path = private',
    'set role postgres',
    'reset all',
    'discard temp',
    'listen x',
    'unlisten x',
    'prepare p as select 1',
    'execute p',
    'deallocate p',
    'declare c cursor for select 1',
    'fetch all from c',
    'close c',
    'copy orders to stdout',
    'copy orders from stdin',
    'set constraints all deferred',
    "select set_config('work_mem', '1MB', false)",
  ])('C9: cannot run %s, whatever the policy says', (sql) => {
    expect(alone(sql).refused?.construct).toBe('sql.session')
  })

  it.each(['vacuum', 'create database d', 'alter system reset all', 'create index concurrently i on orders (id)'])(
    'cannot run %s, which no transaction holds',
    (sql) => {
      expect(alone(sql).refused?.construct).toBe('sql.outside_transaction')
    },
  )

  it('remembers no plan of a door that can do more', () => {
    inSession('copy orders to stdout')
    inSession('set work_mem = 1')
    expect(alone('copy orders to stdout').refused?.construct).toBe('sql.session')
    expect(alone('set work_mem = 1').refused?.construct).toBe('sql.session')
  })
})

describe('statements with a name in the session', () => {
  function after(...texts: readonly string[]): SessionView {
    return texts.reduce((session, sql) => afterEffect(session, inSession(sql, session).session), EMPTY_SESSION)
  }

  it.each([
    ['prepare p as delete from orders', 'execute p', 'sql.delete'],
    ['prepare p as delete from orders', 'explain execute p', 'sql.delete'],
    ['prepare p as select id from orders for update', 'create table x as execute p', 'sql.lock'],
    ['declare c cursor for select ssn from customers', 'fetch all from c', 'sql.select'],
    ['declare c cursor for select id from orders for update', 'delete from orders where current of c', 'sql.delete'],
  ])('%s; %s has %s', (first, second, verb) => {
    const plan = inSession(second, after(first))
    expect(plan.action.parts.map((part) => part.verb)).toContain(verb)
    expect(plan.action.parts.map((part) => part.verb)).not.toContain('sql.unknown')
    expect(inSession(second).action.parts.map((part) => part.verb)).toContain('sql.unknown')
  })

  it('is not read-only when what it runs is not', () => {
    expect(inSession('execute p', after('prepare p as delete from orders')).readOnly).toBe(false)
    expect(inSession('execute p', after('prepare p as select id from orders')).readOnly).toBe(true)
  })

  it('knows names no longer once they are gone', () => {
    for (const end of ['deallocate p', 'deallocate all', 'discard all']) {
      expect(after('prepare p as select 1', end).prepared.size).toBe(0)
    }
    expect(after('declare c cursor for select 1', 'close all').cursors.size).toBe(0)
  })

  it('R19: what was made under other masks must be made anew', () => {
    const session = after('prepare p as select name, ssn from customers')
    expect(inSession('execute p', session, [mask('ssn')]).refused?.construct).toBe('sql.stale_statement')
    const made = inSession('prepare p as select name, ssn from customers', EMPTY_SESSION, [mask('ssn')])
    const masked = afterEffect(EMPTY_SESSION, made.session)
    expect(inSession('execute p', masked, [mask('ssn')]).refused).toBeUndefined()
    expect(inSession('execute p', masked).refused?.construct).toBe('sql.stale_statement')
  })

  it('C9: EXPLAIN looks at what a name stands for', () => {
    const masks = [mask('ssn')]
    const prepared = (sql: string): SessionView =>
      afterEffect(EMPTY_SESSION, inSession(`prepare p as ${sql}`, EMPTY_SESSION, masks).session)
    const touching = prepared('update customers set name = $1 where id = $2')
    expect(inSession(`explain (analyze, wal) execute p ('x', 1)`, touching, masks).refused?.construct).toBe(
      'sql.mask.explain',
    )
    const apart = prepared('select id from orders')
    expect(inSession('explain (analyze, wal) execute p', apart, masks).refused).toBeUndefined()
    expect(inSession('explain (serialize) execute p', apart).action.parts.map(({ verb }) => verb)).toContain(
      'sql.unknown',
    )
    const cursor = 'explain (analyze, timing off) declare c cursor for select id from orders'
    expect(inSession(cursor).action.parts).toContainEqual({
      verb: 'sql.explain',
      resource: { type: 'none' },
      attributes: { analyze: true },
    })
  })

  it('tells which columns of a cursor are masked', () => {
    const masks = [mask('ssn')]
    const made = inSession('declare c cursor for select name, ssn from customers', EMPTY_SESSION, masks)
    expect(made.sql).toContain('AS "ssn"')
    const fetched = inSession('fetch 5 from c', afterEffect(EMPTY_SESSION, made.session), masks)
    expect([...fetched.maskedOutputs.keys()]).toEqual([1])
    expect(fetched.touchesMasked).toBe(true)
  })
})

describe('C9: what could carry masked data out', () => {
  const masks = [mask('ssn')]

  it.each([
    ['create table x as select name, ssn from customers', 'sql.mask.statement'],
    ['create table x as select name from customers', 'sql.mask.statement'],
    ['select name into x from customers', 'sql.mask.statement'],
    ['create view v as select ssn from customers', 'sql.mask.statement'],
    ['create materialized view m as table ssn_view', 'sql.mask.statement'],
    ['create table x (like customers including all)', 'sql.mask.statement'],
    ['create table x () inherits (customers)', 'sql.mask.statement'],
    ['create table x (id int references customers)', 'sql.mask.statement'],
    ['create index on customers (ssn)', 'sql.mask.statement'],
    ['create unique index on customers (lower(ssn))', 'sql.mask.statement'],
    ['create statistics s on name, ssn from customers', 'sql.mask.statement'],
    ['create trigger t after insert on orders execute function audit()', 'sql.mask.statement'],
    ['create rule r as on insert to orders do also insert into orders select 1', 'sql.mask.statement'],
    ['create policy p on orders using (true)', 'sql.mask.statement'],
    ['create function f() returns int language sql as $$select 1$$', 'sql.mask.statement'],
    ['create cast (int as text) with inout', 'sql.mask.statement'],
    ['create operator === (procedure = add_one, leftarg = int, rightarg = int)', 'sql.mask.statement'],
    ['create domain d as int', 'sql.mask.statement'],
    ['create extension dblink', 'sql.mask.statement'],
    ['create publication p for all tables', 'sql.mask.statement'],
    ['alter table customers rename to c', 'sql.mask.statement'],
    ['alter table customers rename column ssn to s', 'sql.mask.statement'],
    ['alter table customers alter column ssn type int using ssn::int', 'sql.mask.statement'],
    ['alter table orders inherit customers', 'sql.mask.statement'],
    ['alter table orders add foreign key (id) references customers', 'sql.mask.statement'],
    ['alter schema public rename to x', 'sql.mask.statement'],
    ['drop table customers', 'sql.mask.statement'],
    ['drop schema public cascade', 'sql.mask.statement'],
    ['drop view ssn_view', 'sql.mask.statement'],
    ['drop extension x cascade', 'sql.mask.statement'],
    ['grant select on customers to public', 'sql.mask.statement'],
    ['grant select on orders to public', 'sql.mask.statement'],
    ['alter role bob bypassrls', 'sql.mask.statement'],
    ['vacuum', 'sql.mask.statement'],
    ['reindex table customers', 'sql.mask.statement'],
    ['create unique index concurrently i on orders (id)', 'sql.outside_transaction'],
    ['reindex (concurrently) table orders', 'sql.outside_transaction'],
    ['cluster customers using i', 'sql.mask.statement'],
    ["copy orders to '/tmp/x'", 'sql.mask.statement'],
    ["copy orders to program 'x'", 'sql.mask.statement'],
    ['copy orders to stdout (format binary)', 'sql.mask.statement'],
    ['do $$begin end$$', 'sql.mask.statement'],
    ["load 'x'", 'sql.mask.statement'],
    ['call audit()', 'sql.mask.function'],
    ['set role postgres', 'sql.mask.statement'],
    ['set session authorization postgres', 'sql.mask.statement'],
    ['set session_replication_role = replica', 'sql.mask.statement'],
    ["set debug_print_plan = 'on'", 'sql.mask.statement'],
    ["prepare transaction 'x'", 'sql.mask.statement'],
    ['prepare p as select add_one(id) from customers', 'sql.mask.function'],
    ["prepare p as select name from customers where ssn = 'x'", 'sql.mask.predicate'],
    ['declare c cursor for table pg_stats', 'sql.mask.catalog'],
    ["copy (select name from customers where ssn like '1%') to stdout", 'sql.mask.predicate'],
    ['copy (table ssn_view) to stdout', 'sql.view_over_mask'],
    ['insert into orders (note) select ssn from customers', 'sql.mask.dml_source'],
  ])('%s', (sql, construct) => {
    expect(inSession(sql, EMPTY_SESSION, masks).refused?.construct).toBe(construct)
  })

  it.each([
    'create table x (a int)',
    'create table x as select id from orders',
    'create index on orders (note)',
    'alter table orders add column x int',
    'drop table orders',
    'truncate customers',
    'lock table customers',
    'begin',
    'commit',
    'set work_mem = 1',
    'reset all',
    'discard all',
    'listen x',
    'deallocate all',
    'copy orders to stdout',
    'copy customers to stdout',
    'copy customers (name) to stdout',
    'copy (select name, ssn from customers) to stdout',
    'copy customers (name, ssn) from stdin',
    'prepare p as select name, ssn from customers',
  ])('lets %s be', (sql) => {
    expect(inSession(sql, EMPTY_SESSION, masks).refused).toBeUndefined()
  })

  it('shows passwords to nobody', () => {
    for (const sql of [
      "create role bob password 'hunter2'",
      "alter user bob password 'hunter2'",
      "create subscription s connection 'password=hunter2' publication p",
      "create user mapping for bob server s options (password 'hunter2')",
    ]) {
      expect(inSession(sql).shown.text).not.toContain('hunter2')
      expect(alone(sql).shown.text).not.toContain('hunter2')
    }
  })
})

describe('a text with several statements', () => {
  it.each([
    ['select 1; select 2', ['select 1', 'select 2']],
    [" select 'é;' ;; /* ; */ select $$;$$ ; -- ;", ["select 'é;' ", 'select $$;$$ ']],
    ['select 1;', ['select 1']],
    [
      'create function f() returns int begin atomic select 1; select 2; end; select 3',
      ['create function f() returns int begin atomic select 1; select 2; end', 'select 3'],
    ],
    ['', []],
    ['-- x', []],
  ])('is taken apart where the grammar does: %s', (sql, texts) => {
    const split = splitStatements(sql)
    const statements = split.ok ? split.statements : undefined
    expect(statements?.map(({ text }) => text)).toEqual(texts)
    for (const { text, start } of statements ?? []) expect(sql.slice(start, start + text.length)).toBe(text)
  })

  it('is planned one by one, with what came before', () => {
    const planned = planStatements('prepare p as delete from orders; execute p; execute q', catalog, {
      masks: [],
      door: 'session',
    })
    expect(planned.map(({ plan }) => plan.action.parts.map((part) => part.verb))).toEqual([
      ['sql.prepare', 'sql.delete'],
      ['sql.prepare', 'sql.delete'],
      ['sql.prepare', 'sql.unknown'],
    ])
  })

  it('C4: is one statement that is not understood when it cannot be read', () => {
    const [only, ...rest] = planStatements('select 1; selec 2', catalog, { masks: [], door: 'session' })
    expect(rest).toEqual([])
    expect(only?.plan.action.parts.map((part) => part.verb)).toEqual(['sql.unknown'])
  })
})

describe('a text that would take too long', () => {
  it.each([
    ['thousands of conditions', `select 1 from orders where ${'id=id and '.repeat(12_000)}true`],
    ['thousands of rows', `insert into orders (id) values ${'(1),'.repeat(30_000)}(1)`],
    ['thousands of tables', `select 1 from ${'orders,'.repeat(9_000)}orders`],
    ['thousands of statements', 'begin;'.repeat(10_000)],
  ])('C4: %s are refused for their size', (_what, sql) => {
    const parts = alone(sql).action.parts
    expect(parts.map((part) => part.verb)).toContain('sql.unknown')
    expect(parts.length).toBeLessThan(10)
  })

  it('is not one with much data in it', () => {
    const rows = Array.from({ length: 1000 }, (_, i) => `(${i}, '${'x'.repeat(40)}', 1.5)`).join(', ')
    expect(alone(`insert into orders (id, note, price) values ${rows}`).action.parts.map(line)).toEqual([
      'sql.insert public.orders(id,note,price)',
    ])
  })
})

describe('a temporary table, which comes after permanent ones', () => {
  it.each([
    'create temp table orders (a int)',
    'create temp table if not exists orders (a int)',
    'create temp table orders as select 1 a',
    'select 1 a into temp orders',
    'create temp view orders as select 1 a',
  ])('does not have the name of one: %s', (sql) => {
    expect(inSession(sql).refused?.construct).toBe('sql.temporary_name')
  })

  it.each([
    'create temp table fresh (a int)',
    'create temp table pg_temp.orders (a int)',
    'create table orders (a int)',
  ])('has any other name: %s', (sql) => {
    expect(inSession(sql).refused).toBeUndefined()
  })
})
