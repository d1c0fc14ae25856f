/**
 * Known ways around a gateway before PostgreSQL, and rules for masks: each has an attempt among the corpora, which real
 * servers answer, or a test of its own. Nothing of this list gets lost when those are rewritten.
 */
import { readdirSync, readFileSync } from 'node:fs'
import path from 'node:path'
import { describe, expect, it } from 'vitest'

const TESTS = path.resolve('test')
const sources = readdirSync(TESTS, { recursive: true, encoding: 'utf8' })
  .filter((file) => file.endsWith('.test.ts') && !file.endsWith('ways-around.test.ts'))
  .map((file) => readFileSync(path.join(TESTS, file), 'utf8'))
const corpora = ['leaks', 'sessions'].map((name) =>
  readFileSync(path.join(TESTS, 'non-interference/corpus', `${name}.txt`), 'utf8'),
)
const attempts = corpora.flatMap((text) => text.split('\n')).filter((line) => line.includes(' | '))

/** By what is tried: a statement of a corpus. */
const STATEMENTS: readonly (readonly [way: string, statement: RegExp])[] = [
  ['a write in a WITH query', /with \w+ as \((?:insert|update|delete)/iu],
  ['CREATE TABLE AS', /create (?:temp )?table \w+ as/iu],
  ['SELECT INTO', /select .* into \w+/iu],
  ['a locking clause', /for (?:update|share|no key update)/iu],
  ['files of the server', /pg_read_file/iu],
  ['a quoted or escaped function name', /"pg_\w+"\s*\(|U&"/iu],
  ['large objects from files', /lo_import/iu],
  ['large objects from values', /lo_from_bytea/iu],
  ['another database', /dblink/iu],
  ['ending sessions', /pg_terminate_backend/iu],
  ['waiting as an oracle', /pg_sleep/iu],
  ['settings by a function', /set_config/iu],
  ['notifications', /pg_notify|\bnotify\b/iu],
  ['advisory locks', /pg_advisory/iu],
  ['SQL in strings: XML', /query_to_xml/iu],
  ['SQL in strings: text search', /ts_stat|ts_rewrite/iu],
  ['anonymous code', /\| do /iu],
  ['a procedure', /\| call /iu],
  ['a function of their own', /create (?:or replace )?function/iu],
  ['COPY to a program', /copy .* program/iu],
  ['COPY to a file', /copy .* to '\//iu],
  ['COPY to the client', /copy .* to stdout/iu],
  ['EXPLAIN ANALYZE', /explain \(?analyze/iu],
  ['PREPARE', /\| prepare /iu],
  ['a cursor', /declare /iu],
  ['another role', /set role|set session authorization/iu],
  ['a view', /create (?:temp |or replace )?view/iu],
  ['a materialized view', /materialized view/iu],
  ['a rule', /create rule/iu],
  ['a trigger', /create trigger/iu],
  ['a policy', /create policy/iu],
  ['ONLY', /from only/iu],
  ['TABLE', /\| table /iu],
  ['TABLESAMPLE', /tablesample/iu],
  ['a list of names after an alias', /\w+ (?:as )?\w+ \(\w+(?:, \w+)+\)/iu],
  ['a row as JSON', /row_to_json|to_jsonb?\(/iu],
  ['a row as text', /::text/iu],
  ['aggregates', /array_agg|string_agg|json_agg/iu],
  ['reversed', /reverse\(/iu],
  ['encoded', /encode\(/iu],
  ['hashes', /md5\(|sha256\(/iu],
  ['UNION', /union/iu],
  ['LATERAL', /lateral/iu],
  ['RECURSIVE', /recursive/iu],
  ['window functions', /over \(/iu],
  ['a pattern in WHERE', /where .* like/iu],
  ['the order of rows', /order by .*ssn/iu],
  ['GROUP BY and HAVING', /having/iu],
  ['a join of masked columns', /join .*ssn/iu],
  ['CASE', /case when/iu],
  ['FILTER', /filter \(/iu],
  ['a value in an error: cast', /::int\b|cast\(/iu],
  ['statistics', /pg_stats\b/iu],
  ['what others do', /pg_stat_activity/iu],
  ['information_schema', /information_schema/iu],
  ['RETURNING', /returning/iu],
  ['INSERT … SELECT', /insert into .* select/iu],
  ['UPDATE of another column', /update \w+ set \w+ = .*ssn/iu],
  ['MERGE', /merge into/iu],
  ['ON CONFLICT', /on conflict/iu],
]

/** By what is tried: words from the name of the test. */
const NAMED: readonly (readonly [way: string, test: string])[] = [
  ['COMMIT behind a statement, in a call that is a read', 'several statements in one call'],
  ['SET TRANSACTION READ WRITE', 'holds SET TRANSACTION READ WRITE, because a query has run before it'],
  ['a text the parser does not read', 'C4: does not understand %s'],
  ['a NUL, behind which there is more', 'a NUL, behind which the backend might see more'],
  ['parentheses by the thousand', 'parentheses without end'],
  ['calls without SQL', "describe('FunctionCall'"],
  ['a statement prepared before something changed', 'judges a prepared statement again at its Bind'],
  ['the unnamed statement from before a denial', 'does not run an earlier unnamed statement after a denial'],
  ['bytes before TLS', 'refuses bytes stuffed behind an SSLRequest'],
  ['a message of a giant length', 'are refused by their length before they are waited for'],
  ['settings in the startup message', 'options the server would take'],
  ['search_path in a pipeline', 'C7: judges what is behind a pipelined SET search_path with the path that is set'],
  ['notices and errors that quote', 'passes notices on without masks, and only their SQLSTATE with them'],
  ['approval of one value, run with another', 'C11: digests text, parameters, row limit and the path names'],
  ['texts that cost more to plan than to send', 'takes a bounded number of steps, in proportion to its length'],
]

describe('ways around', () => {
  it.each(STATEMENTS)('%s: is among the attempts real servers answer', (_, statement) => {
    expect(attempts.some((line) => statement.test(line.slice(line.indexOf(' | '))))).toBe(true)
  })

  it.each(NAMED)('%s: has a test', (_, test) => {
    expect(sources.some((text) => text.includes(test))).toBe(true)
  })

  it.each(Array.from({ length: 20 }, (_, i) => `R${i + 1}`))(
    '%s of the rules for masks: has a test by that name',
    (rule) => {
      const name = new RegExp(`['"\`][^'"\`\\n]*\\b${rule}: `, 'u')
      expect(sources.some((text) => name.test(text))).toBe(true)
    },
  )
})
