import { describe, expect, it } from 'vitest'
import { SallyportError } from '../../src/core/errors.ts'
import { logError } from '../../src/telemetry/log-error.ts'
import { createLog, type Log } from '../../src/telemetry/log.ts'

const SSN = '123-45-6789'

function logged(write: (log: Log) => void): string {
  let text = ''
  write(createLog({ level: 'debug', stream: { write: (line) => void (text += line) } }))
  return text
}

function databaseError(): Error {
  return Object.assign(new Error(`duplicate key (ssn)=(${SSN})`), {
    name: 'DatabaseError',
    code: '23505',
    detail: `Key (ssn)=(${SSN}) already exists.`,
    where: SSN,
  })
}

describe('an error in the log', () => {
  it('C10: shows of a foreign error its name, code and frames, and not what it says', () => {
    const shown = logError(databaseError())
    expect(shown).toMatchObject({ name: 'DatabaseError', code: '23505' })
    expect(shown.frames?.[0]).toMatch(/^at databaseError /)
    expect(JSON.stringify(shown)).not.toContain(SSN)
  })

  it('shows of our own error everything, and of its causes what is safe', () => {
    const error = new SallyportError('ERR_UPSTREAM_REJECTED', 'The database refused the statement.', {
      detail: 'during execute',
      facts: { sqlstate: '23505' },
      cause: databaseError(),
    })
    const shown = logError(error)
    expect(shown).toMatchObject({
      code: 'ERR_UPSTREAM_REJECTED',
      message: 'The database refused the statement.',
      detail: 'during execute',
      facts: { sqlstate: '23505' },
      cause: { name: 'DatabaseError', code: '23505' },
    })
    expect(JSON.stringify(shown)).not.toContain(SSN)
  })

  it.each([
    ['a message that looks like frames', new Error(`x\n    at ${SSN} (file.ts:1:1)`)],
    ['a message changed later', Object.assign(new Error(SSN), { message: 'other' })],
    ['a name that is data', Object.assign(new Error('x'), { name: SSN })],
    ['a code that is data', Object.assign(new Error('x'), { code: SSN })],
    ['a thrown text', SSN],
    ['a thrown object', { ssn: SSN }],
    ['nothing', undefined],
  ])('C10: does not show data hidden in %s', (_what, error) => {
    expect(JSON.stringify(logError(error))).not.toContain(SSN)
  })

  it('ends for an error that is its own cause', () => {
    const error = new Error('x')
    error.cause = error
    expect(JSON.stringify(logError(error)).match(/"cause"/g)).toHaveLength(5)
  })
})

describe('the log', () => {
  it('writes one JSON line per fact', () => {
    const line: unknown = JSON.parse(logged((log) => log.info({ session: 's', call: 'c', rule: 'r' }, 'denied')))
    expect(line).toMatchObject({ level: 'info', session: 's', call: 'c', rule: 'r', msg: 'denied' })
    expect(line).toHaveProperty('time')
  })

  it.each<readonly [string, (log: Log) => void]>([
    ['as the only argument', (log) => log.error(databaseError())],
    ['before a text', (log) => log.error(databaseError(), 'failed')],
    ['under err', (log) => log.error({ err: databaseError() })],
    ['under another key', (log) => log.error({ reason: databaseError() }, 'failed')],
    ['in the bindings of a child', (log) => log.child({ err: databaseError() }).error('failed')],
    ['as a format argument', (log) => log.error('failed: %o', databaseError())],
    ['as a late format argument', (log) => log.error({ call: 'c' }, 'failed: %o', databaseError())],
  ])('C10: writes no data of a foreign error given %s', (_how, write) => {
    const text = logged(write)
    expect(text).toContain('23505')
    expect(text).not.toContain(SSN)
  })

  it('censors what must never be in it', () => {
    const text = logged((log) =>
      log.info(
        { token: 'tok-1', request: { headers: { authorization: 'a-1' }, password: 'pw-1' }, sql: 'select 1' },
        'x',
      ),
    )
    expect(text).not.toMatch(/tok-1|a-1|pw-1|select 1/)
    expect(text).toContain('[REDACTED]')
  })

  it('writes nothing below its level', () => {
    let text = ''
    createLog({ level: 'warn', stream: { write: (line) => void (text += line) } }).info('quiet')
    expect(text).toBe('')
  })
})
