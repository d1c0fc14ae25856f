import type { ColumnMask } from '../../src/core/decision.ts'
import type { Part } from '../../src/core/action.ts'
import {
  makeCatalog,
  type Catalog,
  type CatalogColumn,
  type CatalogFunction,
  type CatalogRows,
  type Relation,
} from '../../src/protocols/postgres/catalog.ts'

/** A column as `name:type`, `name:type!` when it cannot be NULL. */
export function columns(...specs: readonly string[]): readonly CatalogColumn[] {
  return specs.map((spec, i) => {
    const [name = '', type = 'text'] = spec.replace('!', '').split(':')
    return {
      name,
      attnum: i + 1,
      type,
      typeOid: 25,
      typmod: -1,
      typeKind: 'b',
      baseType: type,
      rowTypeOf: 0,
      collation: null,
      notNull: spec.endsWith('!'),
      generated: false,
      generatedFrom: [],
      hasDefault: false,
    }
  })
}

let oid = 20_000

/** A relation with everything left out that a test does not speak of. */
export function relation(name: string, specs: readonly string[], more: Partial<Relation> = {}): Relation {
  oid += 1
  return {
    oid,
    schema: 'public',
    name,
    kind: 'table',
    builtin: false,
    columns: columns(...specs),
    hasRules: false,
    triggers: [],
    hasRls: false,
    parents: [],
    children: [],
    primaryKey: [],
    foreignKeys: [],
    uniqueColumns: [],
    ties: [],
    policyReads: [],
    readsOpaquely: false,
    readsWholeRows: false,
    ruleReads: [],
    clusteredBy: [],
    dependsOn: [],
    policyDependsOn: [],
    readFunctions: [],
    writeFunctions: [],
    ...more,
  }
}

/** A function, written `name(arg,arg)`. */
export function fn(signature: string, more: Partial<CatalogFunction> = {}): CatalogFunction {
  oid += 1
  const [, name = '', args = ''] = /^([^(]+)\((.*)\)$/.exec(signature) ?? []
  return {
    oid,
    schema: 'public',
    name,
    argTypes: args === '' ? [] : args.split(','),
    kind: 'function',
    volatility: 'volatile',
    returnsSet: false,
    variadic: false,
    defaults: 0,
    language: 'plpgsql',
    securityDefiner: false,
    extension: null,
    takesRow: false,
    ...more,
  }
}

let builtinOid = 1000

function builtin(signature: string, volatility: CatalogFunction['volatility'] = 'immutable'): CatalogFunction {
  builtinOid += 1
  return { ...fn(signature), oid: builtinOid, schema: 'pg_catalog', language: 'internal', volatility }
}

const BUILTINS = [
  'lower(text)',
  'upper(text)',
  'length(text)',
  'right(text,integer)',
  'count(any)',
  'count()',
  'sum(integer)',
  'max(text)',
  'row_to_json(record)',
  'json_agg(anyelement)',
  'generate_series(integer,integer)',
  'concat(any)',
  'substring(text,integer,integer)',
  'string_agg(text,text)',
  'row_number()',
  'first_value(anyelement)',
  'md5(text)',
  'xmlexists(text,xml)',
  'extract(text,date)',
  'jsonb_each(jsonb)',
  'unnest(anyarray)',
  'percentile_cont(double precision)',
].map((signature) => builtin(signature))

const STABLE = [
  'now()',
  'current_setting(text)',
  'to_char(timestamp,text)',
  'query_to_xml(text,boolean,boolean,text)',
  'table_to_xml(regclass,boolean,boolean,text)',
  'pg_stat_get_activity(integer)',
  'lo_get(oid)',
  'to_regclass(text)',
].map((signature) => builtin(signature, 'stable'))

const VOLATILE = [
  'random()',
  'clock_timestamp()',
  'pg_sleep(double precision)',
  'pg_read_file(text)',
  'set_config(text,text,boolean)',
  'nextval(regclass)',
  'pg_terminate_backend(integer)',
  'lo_import(text)',
  'pg_notify(text,text)',
  'pg_ls_dir(text)',
  'pg_advisory_lock(bigint)',
  'pg_reload_conf()',
  'pg_logical_emit_message(boolean,text,text)',
  'lo_from_bytea(oid,bytea)',
  'ts_stat(text)',
  'pg_relation_size(regclass)',
  'lo_export(oid,text)',
  'pg_stat_file(text)',
  'pg_rotate_logfile()',
].map((signature) => builtin(signature, 'volatile'))

/** The shop's tables, and whatever a test adds. */
export const customers = relation('customers', ['id:integer!', 'name:text', 'email:text', 'ssn:text!', 'plan:text'], {
  primaryKey: ['id'],
  uniqueColumns: ['id'],
})
export const orders = relation(
  'orders',
  ['id:integer!', 'customer_id:integer', 'note:text', 'price:numeric', 'status:text'],
  {
    primaryKey: ['id'],
    uniqueColumns: ['id'],
    foreignKeys: [
      {
        columns: ['customer_id'],
        references: customers.oid,
        referencedColumns: ['id'],
        onDelete: 'cascade',
        onUpdate: 'no_action',
      },
    ],
  },
)
export const leak = fn('leak(customers)', { takesRow: true })
export const addOne = fn('add_one(integer)', { volatility: 'immutable', language: 'sql' })
export const audit = fn('audit()')

const RELATIONS = [
  customers,
  orders,
  relation('customer_view', ['id:integer', 'ssn:text'], { kind: 'view', dependsOn: [customers.oid] }),
  relation('ssn_view', ['id:integer', 's:text'], {
    kind: 'view',
    dependsOn: [customers.oid],
    ruleReads: [{ relation: customers.oid, column: 'ssn' }],
  }),
  relation('row_view', ['id:integer', 'j:json'], {
    kind: 'view',
    dependsOn: [customers.oid],
    readsWholeRows: true,
  }),
  relation('order_view', ['id:integer'], { kind: 'view', dependsOn: [orders.oid] }),
  relation('logged', ['id:integer', 'note:text'], {
    triggers: [{ name: 't', functionOid: audit.oid, insert: true, update: true, delete: false, truncate: false }],
  }),
  relation('ruled', ['id:integer'], { hasRules: true }),
  relation('Mixed Case', ['Id:integer']),
  relation('secret', ['id:integer', 'token:text'], { schema: 'private' }),
  relation('pg_class', ['oid:oid', 'relname:name'], { schema: 'pg_catalog', builtin: true }),
  relation('pg_stats', ['tablename:name', 'histogram_bounds:anyarray'], {
    schema: 'pg_catalog',
    builtin: true,
    kind: 'view',
  }),
]

/** The database the pure tests plan against. */
export function shopCatalog(more: Partial<CatalogRows> = {}): Catalog {
  return makeCatalog({
    database: 'shop',
    fingerprint: 'f1',
    serverVersion: 180_000,
    searchPath: ['pg_catalog', 'public'],
    operators: [],
    casts: [],
    comparisons: [],
    types: [],
    ...more,
    relations: [...RELATIONS, ...(more.relations ?? [])],
    functions: [...BUILTINS, ...STABLE, ...VOLATILE, leak, addOne, audit, ...(more.functions ?? [])],
  })
}

/** A mask of the shop. */
export function mask(column: string, transform: ColumnMask['transform'] = 'redact', table = 'customers'): ColumnMask {
  return { schema: 'public', table, column, transform }
}

/** A part on one line: `sql.select public.orders(id,note)`. */
export function line(part: Part): string {
  const { resource } = part
  if (resource.type !== 'sql') return `${part.verb} -`
  const via = part.attributes['via']
  const suffix = typeof via === 'string' && via !== '' ? ` via ${via}` : ''
  return `${part.verb} ${resource.name}${resource.columns === undefined ? '' : `(${resource.columns.join(',')})`}${suffix}`
}
