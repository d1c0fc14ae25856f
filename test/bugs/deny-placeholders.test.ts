/** A deny with a placeholder was got round by writing the number or the UUID in another way that servers read alike. */
import { describe, expect, it } from 'vitest'
import { compilePathPattern } from '../../src/policy/path-resource.ts'

const UUID = '0f8fad5b-d9cb-469f-a165-70867728950e'

describe('a deny with a placeholder', () => {
  it.each([
    ...['7', '007', '0000000000000000000000007', '+7', '-7', '7.0', '7abc', '0x7', '%207', '%2B7', '%37', '7%20', '7/']
      .concat(['%D9%A7', '%EF%BC%97', '1234567890123456789012345', '%2537'])
      .map((id) => ['int', id, true] as const),
    ...['x7', '', 'me', '.7', '7/x'].map((id) => ['int', id, false] as const),
    ...[
      UUID,
      UUID.toUpperCase(),
      UUID.replaceAll('-', ''),
      `%7B${UUID}%7D`,
      `urn:uuid:${UUID}`,
      `${UUID}%20`,
      `%20${UUID}`,
    ].map((id) => ['uuid', id, true] as const),
    ...[UUID.slice(1), `${UUID}0`, 'me'].map((id) => ['uuid', id, false] as const),
    ...['a', 'a'.repeat(129), 'a%62'].map((id) => ['word', id, true] as const),
    ...['a.b', 'a~b'].map((id) => ['word', id, false] as const),
  ])('of %s and the path /x/%s: %s', (kind, id, touches) => {
    const pattern = compilePathPattern({ path: `/x/{id:${kind}}` })
    if (typeof pattern === 'string') throw new Error(pattern)
    expect(pattern.touches({ type: 'http', path: `/x/${id}` })).toBe(touches)
  })
})
