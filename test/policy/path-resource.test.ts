import * as fc from 'fast-check'
import { describe, expect, it } from 'vitest'
import { compilePathPattern, type PathPattern, type PathSpec } from '../../src/policy/path-resource.ts'

function pattern(spec: PathSpec): PathPattern {
  const compiled = compilePathPattern(spec)
  if (typeof compiled === 'string') throw new Error(compiled)
  return compiled
}

const http = (path: string, host?: string) => ({ type: 'http', path, ...(host !== undefined && { host }) }) as const

describe('an allow for a path', () => {
  for (const [spec, path, covers] of [
    ['/v1/orders', '/v1/orders', true],
    ['/v1/orders', '/v1/orders/', false],
    ['/v1/orders/', '/v1/orders/', true],
    ['/v1/orders', '/V1/orders', false],
    ['/v1/*', '/v1/x', true],
    ['/v1/*', '/v1/', false],
    ['/v1/*', '/v1/x/y', false],
    ['/v1/**', '/v1/x/y', true],
    ['/v1/**', '/v1', false],
    ['/v1/**', '/v1/', false],
    ['/v1/**', '/v1/x//y', false],
    ['/v1/**', '/v1/x/../y', false],
    ['/v1/**', '/v1/x%2fy', false],
    ['/v1/**', '/v1/x%5Cy', false],
    ['/v1/**', '/v1/%2e%2e/y', false],
    ['/v1/**', '/v1/x%252e', false],
    ['/v1/**', '/v1/x%00', false],
    ['/v1/**', '/v1/x;y', false],
    ['/v1/**', '/v1/x%3by', false],
    ['/v1/**', '/v1/x\\y', false],
    ['/v1/**', '/v1/x%0ay', false],
    ['/v1/**', '/v1/ä', false],
    ['/v1/**', '/v1/a%20b', true],
    ['/v1/**', '/v1/%c3%a4', true],
    ['/v1/**', '/v1/%c0%ae%c0%ae/y', false],
    ['/v1/**', '/v1/x%E0%80%AFy', false],
    ['/v1/**', '/v1/x%7f', false],
    ['/v1/**', '/v1/x%25', false],
    ['/v1/{id:int}', '/v1/7', true],
    ['/v1/{id:int}', '/v1/7%0a', false],
    ['/v1/{id:int}', '/v1/7\n', false],
    ['/v1/{id:int}', '/v1/-7', false],
    ['/v1/{id:uuid}', '/v1/0f8fad5b-d9cb-469f-a165-70867728950e', true],
  ] as const) {
    it(`${spec} ${covers ? 'vouches' : 'does not vouch'} for ${JSON.stringify(path)}`, () => {
      expect(pattern({ path: spec }).covers(http(path))).toBe(covers)
    })
  }

  it('C6: names the host where the caller chooses it, and none where it does not', () => {
    expect(pattern({ path: '/x' }).covers(http('/x', 'a.example'))).toBe(false)
    expect(pattern({ path: '/x', host: 'a.example' }).covers(http('/x', 'a.example'))).toBe(true)
    expect(pattern({ path: '/x', host: '*.example' }).covers(http('/x', 'a.b.example'))).toBe(false)
    expect(pattern({ path: '/x', host: 'a.example' }).covers(http('/x'))).toBe(false)
  })
})

describe('a deny for a path', () => {
  for (const path of [
    '/admin',
    '/ADMIN',
    '/admin/',
    '/%61dmin',
    '/%2561dmin',
    '/%252561dmin',
    '//admin',
    '/x/../admin',
    '/x/%2e%2e/admin',
    '/x%2f..%2fadmin',
    '/.%2fadmin',
    '/admin;a=b',
    '/admin%3ba=b',
    '/\\admin',
    '/%5cadmin',
    '/admin/%252e/',
    '/x%2f..%2fadmin/',
    '/x/%252e%252e/admin/',
    '/admin/x/%252e%252e/',
    '/x/..;y/admin',
    '/admin%00.png',
    '/admin%2500.png',
    '/admin%3fx=1',
    '/admin%23x',
    '/%20admin',
    '/%09admin',
    '/admin.',
    '/admin..',
    '/admin%20.%20',
    '/admin%2e',
    '/x/..%20/../admin',
    '/admin%20',
    '/admin%09/',
    '/%c0%61dmin/%c0%ae%c0%ae/admin',
    '/x/%c0%ae%c0%ae/admin',
    '/x%c0%af..%c0%afadmin',
    '/x%e0%80%af..%e0%80%afadmin',
    '/%c1%a1dmin',
    '/a/x%2f%252e%252e%2f../admin',
  ]) {
    it(`meets ${path}`, () => {
      expect(pattern({ path: '/admin' }).touches(http(path))).toBe(true)
      // A last slash in the pattern is no way round it either.
      expect(pattern({ path: '/admin/' }).touches(http(path))).toBe(true)
    })
  }

  it('C6: meets a path with more layers of escapes than anybody reads', () => {
    const path = `/${'%25'.repeat(1)}${'25'.repeat(8)}41`
    expect(pattern({ path: '/admin' }).touches(http(path))).toBe(true)
  })

  it('does not meet what is something else', () => {
    for (const path of ['/administrator', '/x/admin', '/adm', '/']) {
      expect([path, pattern({ path: '/admin' }).touches(http(path))]).toEqual([path, false])
    }
  })

  it('meets whatever an allow for the same pattern vouches for', () => {
    const segment = fc.constantFrom('a', 'A', 'admin', '%41', '..', '.', '', 'b;c', '%2f', 'x%20y', '1')
    const path = fc.array(segment, { maxLength: 5 }).map((words) => `/${words.join('/')}`)
    const spec = fc
      .array(fc.constantFrom('a', 'A', '*', 'adm*', '{id:int}', ''), { minLength: 1, maxLength: 4 })
      .chain((words) => fc.constantFrom(`/${words.join('/')}`, `/${[...words, '**'].join('/')}`))
    fc.assert(
      fc.property(spec, path, (text, given) => {
        const one = pattern({ path: text })
        expect(!one.covers(http(given)) || one.touches(http(given))).toBe(true)
      }),
      { numRuns: 3000 },
    )
  })
})
