/**
 * Whether a body that can be read in several ways has a field is no question with an answer. Told that it has none, a rule
 * that denies `has(part.body.admin)` let the request pass, as did one that allows what has no such field.
 */
import { describe, expect, it } from 'vitest'
import { compileCondition } from '../../src/policy/condition.ts'
import { partFacts, sharedFacts, variablesFor } from '../../src/policy/facts.ts'
import { vocabularyOf } from '../../src/policy/verbs.ts'
import { httpOptions, httpSchema } from '../../src/protocols/http/options.ts'
import { planRequest } from '../../src/protocols/http/plan.ts'
import { taxonomy } from '../../src/protocols/http/taxonomy.ts'
import { question } from '../policy/kit.ts'

const vocabulary = vocabularyOf([taxonomy])
const options = httpOptions(httpSchema.parse({ base_url: 'https://api.example.com/' }))
const FORM = 'application/x-www-form-urlencoded'

/** What a condition says of a POST; `undefined` where it fails, which denies in the name of its rule. */
function said(condition: string, type: string, body?: string, streams = false): boolean | undefined {
  const payload = {
    method: 'POST',
    path: '/users',
    headers: [['content-type', type]],
    ...(body !== undefined && { body: Buffer.from(body).toString('base64') }),
  }
  const [part] = planRequest(payload, options, { masks: [], streams }).action.parts
  const compiled = compileCondition(condition, variablesFor(['http.post'], vocabulary))
  if (part === undefined || 'problem' in compiled) throw new Error('There is nothing to ask.')
  const shared = sharedFacts(question([part]), vocabulary)
  const facts = typeof shared === 'string' ? shared : partFacts(part, shared, vocabulary)
  if (typeof facts === 'string') throw new Error(facts)
  const result = compiled.condition.evaluate(facts)
  return typeof result === 'boolean' ? result : undefined
}

describe('C6: of a body nobody can read in one way', () => {
  it.each([
    ['a form some servers cut at semicolons', FORM, 'a=1;admin=1', false],
    ['a form with an escape that is none', FORM, 'admin=1&x=%zz', false],
    ['JSON with one key twice', 'application/json', '{"admin":1,"admin":2}', false],
    ['JSON in another charset', 'application/json; charset=utf-16', '{"admin":1}', false],
    ['text', 'text/plain', '{"admin":1}', false],
    ['a body that streams', 'application/json', undefined, true],
  ])('no condition says that it has no such field: %s', (_what, type, body, streams) => {
    for (const condition of [
      'has(part.body.admin)',
      '!has(part.body.admin)',
      'has(part.body) && has(part.body.admin)',
      'has(part.body.user.admin)',
      'part.body == null',
      'part.body in [{}]',
    ]) {
      expect([condition, said(condition, type, body, streams)]).toEqual([condition, undefined])
    }
    expect(said("part.method == 'POST' || has(part.body.admin)", type, body, streams)).toBe(true)
    expect(said("has(part.body.admin) || part.method == 'POST'", type, body, streams)).toBe(true)
  })

  it.each([
    ['a form', FORM, 'admin=1', true],
    ['a form without it', FORM, 'a=1', false],
    ['JSON', 'application/json', '{"admin":null}', true],
    ['no body at all', 'application/json', undefined, false],
  ])('but what can be read is: %s', (_what, type, body, has) => {
    expect(said('has(part.body.admin)', type, body)).toBe(has)
  })
})
