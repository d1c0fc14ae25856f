/** What of a start-up packet reaches the backend: what is on the list, and nothing else. */
import { describe, expect, it } from 'vitest'
import { readParameters } from '../../src/protocols/postgres/wire/parameters.ts'

const read = (parameters: Readonly<Record<string, string>>) =>
  readParameters(new Map(Object.entries({ user: 'loop', ...parameters })), 60_000)

/** What was refused, as the SQLSTATE the client is to see; `taken` and the settings when nothing was. */
function outcome(parameters: Readonly<Record<string, string>>): unknown {
  try {
    return ['taken', read(parameters).settings]
  } catch (error) {
    return (error as { facts?: { sqlstate?: string } }).facts?.sqlstate
  }
}

describe('a start-up packet', () => {
  it('sets what is on the list, by whatever spelling, under the name the server has', () => {
    const { settings } = read({
      APPLICATION_NAME: 'mine',
      datestyle: 'ISO, DMY',
      timezone: 'UTC',
      intervalstyle: 'iso_8601',
      extra_float_digits: '3',
      statement_timeout: '5s',
      lock_timeout: '1',
      idle_in_transaction_session_timeout: '2',
      client_min_messages: 'warning',
      client_encoding: 'utf-8',
    })
    expect(settings).toEqual({
      application_name: 'mine',
      DateStyle: 'ISO, DMY',
      TimeZone: 'UTC',
      IntervalStyle: 'iso_8601',
      extra_float_digits: '3',
      statement_timeout: '5s',
      lock_timeout: '1',
      idle_in_transaction_session_timeout: '2',
      client_min_messages: 'warning',
    })
  })

  // Who becomes another user, what a name or a literal means, what is loaded, what is hidden from whoever looks on.
  it.each([
    'search_path',
    'SEARCH_PATH',
    'role',
    'session_authorization',
    'is_superuser',
    'standard_conforming_strings',
    'backslash_quote',
    'escape_string_warning',
    'row_security',
    'session_replication_role',
    'session_preload_libraries',
    'local_preload_libraries',
    'default_transaction_read_only',
    'check_function_bodies',
    'default_tablespace',
    'log_statement',
    'lo_compat_privileges',
    'transform_null_equals',
    'work_mem',
    'bytea_output',
    'sallyport.anything',
    'nobody_knows_it',
  ])('may not set %s, however it is asked for', (name) => {
    const dashed = name.replaceAll('_', '-')
    for (const parameters of [
      { [name]: 'on' },
      { options: `-c ${name}=on` },
      { options: `-c${name}=on` },
      { options: `--${dashed}=on` },
      { options: `-c TimeZone=UTC --${name}=on` },
    ]) {
      expect([parameters, outcome(parameters)]).toEqual([parameters, '42501'])
    }
  })

  it.each([
    ['a name that cannot be one', { 'time zone': 'UTC' }, '42704'],
    ['another encoding', { client_encoding: 'LATIN1' }, '0A000'],
    ['another encoding among options', { options: '-c client_encoding=LATIN1' }, '0A000'],
    ['replication', { replication: 'true' }, '0A000'],
    ['logical replication', { replication: 'database' }, '0A000'],
    ['a value without end', { application_name: 'x'.repeat(257) }, '22023'],
    ['more time than the target gives', { statement_timeout: '61s' }, '22023'],
    ['all the time', { statement_timeout: '0' }, '22023'],
    ['all the time among options', { options: '-c statement_timeout=0' }, '22023'],
    ['a negative time', { statement_timeout: '-1' }, '22023'],
    ['options that are no settings', { options: '-d 5' }, '42501'],
    ['an option that ends too early', { options: '-c' }, '42501'],
    ['no user', { user: '' }, '28000'],
  ])('is refused for %s', (_, parameters, sqlstate) => {
    expect(outcome(parameters)).toBe(sqlstate)
  })

  it('takes options apart as the server does, so that no blank hides a setting', () => {
    expect(outcome({ options: String.raw`-c application_name=a\ --role=x  -c TimeZone=UTC` })).toEqual([
      'taken',
      { application_name: 'a --role=x', TimeZone: 'UTC' },
    ])
    expect(outcome({ options: String.raw`-c application_name=a\\ --role=x` })).toBe('42501')
  })

  it('names the protocol options nobody here knows, and hands none of them on', () => {
    expect(read({ '_pq_.else': '1' })).toMatchObject({ settings: {}, unknownOptions: ['_pq_.else'] })
  })
})
