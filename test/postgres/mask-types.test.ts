/**
 * R7: a mask has the type, the modifier and the collation of its column, for every kind of type there is, on real servers.
 */
import { afterAll, beforeAll, describe, expect, it } from 'vitest'
import type { Client } from 'pg'
import type { ColumnMask, Transform } from '../../src/core/decision.ts'
import type { Catalog } from '../../src/protocols/postgres/catalog.ts'
import { CatalogKeeper } from '../../src/protocols/postgres/catalog-load.ts'
import { postgresOptions, postgresSchema } from '../../src/protocols/postgres/options.ts'
import { loadParser, planQuery } from '../../src/protocols/postgres/plan.ts'
import { createDatabase, type ServerVersion, type TestDatabase } from '../services/postgres.ts'
import { has } from '../setup/needs.ts'

/** Each type with a value that must never be seen. */
const TYPES: readonly (readonly [type: string, value: string])[] = [
  ['text', "'zq-value-1'"],
  ['text COLLATE "C"', "'zq-value-2'"],
  ['varchar', "'zq-value-3'"],
  ['varchar(3)', "'zq3'"],
  ['varchar(40) COLLATE "POSIX"', "'zq-value-4'"],
  ['char(7)', "'zq-valu'"],
  ['char(1)', "'q'"],
  ['char(20)', "'zq-value-5'"],
  ['bpchar', "'zq-value-6'"],
  ['name', "'zq-value-7'"],
  ['"char"', "'z'"],
  ['smallint', '7371'],
  ['integer', '7371001'],
  ['bigint', '7371002'],
  ['numeric', '7371.003'],
  ['numeric(8,3)', '7371.004'],
  ['real', '7371.5'],
  ['double precision', '7371.25'],
  ['money', '7371'],
  ['boolean', 'true'],
  ['bit(3)', "B'101'"],
  ['varbit(5)', "B'1011'"],
  ['bytea', "'zq'::bytea"],
  ['date', "'1973-07-01'"],
  ['time(2)', "'07:37:01.12'"],
  ['timetz', "'07:37:02+01'"],
  ['timestamp(3)', "'1973-07-02 07:37'"],
  ['timestamptz', "'1973-07-03 07:37'"],
  ['interval', "'7371 hours'"],
  ['interval day to second(2)', "'7371 seconds'"],
  ['uuid', "'73710000-0000-0000-0000-000000000001'"],
  ['json', `'{"zq": 1}'`],
  ['jsonb', `'{"zq": 2}'`],
  ['jsonpath', "'$.zq'"],
  ['xml', "'<zq/>'"],
  ['inet', "'73.71.0.1'"],
  ['cidr', "'73.71.0.0/16'"],
  ['macaddr', "'73:71:00:00:00:01'"],
  ['point', "'(73,71)'"],
  ['box', "'(73,71),(1,1)'"],
  ['polygon', "'((73,71),(1,1))'"],
  ['circle', "'<(73,71),1>'"],
  ['tsvector', "'zq'"],
  ['tsquery', "'zq'"],
  ['int4range', "'[73,7371)'"],
  ['nummultirange', "'{[73,7371)}'"],
  ['oid', '7371'],
  ['regclass', "'pg_class'"],
  ['pg_lsn', "'73/71'"],
  ['text[]', "'{zq-1,zq-2}'"],
  ['varchar(9)[]', "'{zq-3}'"],
  ['numeric(6,2)[][]', "'{{73.71}}'"],
  ['public.mood', "'zq_sad'"],
  ['public.mood[]', "'{zq_sad}'"],
  ['public.pair', "'(73,zq)'"],
  ['public.pair[]', "array['(73,zq)'::public.pair]"],
  ['public.code', "'zq-1'"],
  ['public.code NOT NULL', "'zq-2'"],
  ['public.code[]', "'{zq-3}'"],
  ['public.small', '73'],
  ['public.nested', "'zq-4'"],
  ['public.span', "'[a,zq)'"],
]
const EXTENSION_TYPES: readonly (readonly [type: string, value: string, extension: string])[] = [
  ['public.citext', "'zq-ci'", 'citext'],
  ['public.citext[]', "'{zq-ci}'", 'citext'],
  ['public.hstore', "'zq=>1'", 'hstore'],
]
const MARKER = /zq|7371|73[,.]71|\\x7a71|73:71|1973|73\/71/
const TRANSFORMS: readonly Transform[] = ['redact', 'null', 'partial']

const SETUP = `
  CREATE TYPE mood AS ENUM ('zq_sad', 'ok');
  CREATE TYPE pair AS (a int, b varchar(5));
  CREATE DOMAIN code AS varchar(12) CHECK (VALUE LIKE 'zq-%');
  CREATE DOMAIN small AS int NOT NULL CHECK (VALUE BETWEEN 1 AND 99);
  CREATE DOMAIN nested AS code CHECK (length(VALUE) < 10);
  CREATE TYPE span AS RANGE (subtype = text, collation = "C");
`

const isNoPartialMask = (cell: unknown): boolean => typeof cell !== 'string' || !cell.startsWith('*')

describe.each<ServerVersion>(['18', '15'])('on PostgreSQL %s', (version) => {
  describe.runIf(version === '18' || has('postgresql-15'))('masks', () => {
    let db: TestDatabase
    let catalog: Catalog
    let admin: Client
    const types: (readonly [string, string])[] = [...TYPES]

    beforeAll(async () => {
      await loadParser()
      db = await createDatabase(SETUP, { server: version })
      admin = db.admin
      const extensions = await admin.query<{ name: string }>('SELECT name FROM pg_available_extensions')
      for (const extension of ['citext', 'hstore']) {
        if (!extensions.rows.some(({ name }) => name === extension)) continue
        await admin.query(`CREATE EXTENSION ${extension}`)
        for (const [type, value, of] of EXTENSION_TYPES) if (of === extension) types.push([type, value])
      }
      const columns = types.map(([type], i) => `c${i} ${type}`).join(', ')
      await admin.query(`CREATE TABLE typed (id int PRIMARY KEY, ${columns})`)
      await admin.query(`INSERT INTO typed VALUES (1, ${types.map(([, value]) => value).join(', ')})`)
      const { host, port, name, user, password } = db
      const options = postgresOptions(postgresSchema.parse({ host, port, database: name, tls: 'disable' }))
      const keeper = new CatalogKeeper({ target: 'db', options })
      try {
        catalog = (await keeper.current(async () => ({ user, value: password }), new AbortController().signal)).catalog
      } finally {
        await keeper.close()
      }
    })
    afterAll(() => db?.drop())

    const ask = async (sql: string) => {
      const { fields, rows } = await admin.query<unknown[]>({ text: sql, rowMode: 'array' })
      return { fields: fields.map((f) => [f.name, f.dataTypeID, f.dataTypeModifier] as const), rows }
    }

    it.each(TRANSFORMS)('R7: %s keeps type and modifier of every column, and shows no value', async (transform) => {
      const masks = types.map((_, i): ColumnMask => ({ schema: 'public', table: 'typed', column: `c${i}`, transform }))
      const planned = (sql: string): string => {
        const { refused, sql: sent } = planQuery({ sql }, catalog, { masks })
        expect(refused).toBeUndefined()
        expect(sent).not.toBe(sql)
        return sent
      }
      const direct = await ask('SELECT * FROM typed')
      expect(JSON.stringify(direct.rows)).toMatch(MARKER)
      const masked = await ask(planned('SELECT * FROM typed'))
      expect(masked.fields).toEqual(direct.fields)
      // Four characters are what a partial mask may show; the values here are shorter than it asks for, or end alike.
      const shown = transform === 'partial' ? masked.rows.flat().slice(1).filter(isNoPartialMask) : masked.rows
      expect(JSON.stringify(shown)).not.toMatch(MARKER)
      const collations = types.flatMap(([type], i) =>
        /^(?:text|(?:var)?char|name|bpchar)/.test(type) && !type.includes('[') ? [`pg_collation_for(c${i})`] : [],
      )
      const which = `SELECT ${collations.join(', ')} FROM typed`
      expect((await ask(planned(which))).rows).toEqual((await ask(which)).rows)
    })

    it.each(TRANSFORMS)('R7: what RETURNING shows of %s columns has their types, too', async (transform) => {
      const masks = types.map((_, i): ColumnMask => ({ schema: 'public', table: 'typed', column: `c${i}`, transform }))
      const { sql, refused } = planQuery({ sql: 'DELETE FROM typed WHERE id = 1 RETURNING *' }, catalog, { masks })
      expect(refused).toBeUndefined()
      const direct = await ask('SELECT * FROM typed')
      await admin.query('BEGIN')
      try {
        expect((await ask(sql)).fields).toEqual(direct.fields)
      } finally {
        await admin.query('ROLLBACK')
      }
    })
  })
})
