import { X509Certificate } from 'node:crypto'
import { createSecureContext } from 'node:tls'
import { expect, it } from 'vitest'
import { selfSigned } from '../../src/self-signed.ts'

it('a made certificate is read whatever its length, also where its last line is a whole one', () => {
  const whole = new Set<boolean>()
  for (let letters = 1; letters <= 120; letters++) {
    const name = `${'a'.repeat(Math.min(letters, 60))}.${'b'.repeat(Math.max(1, letters - 60))}`
    const { cert, key } = selfSigned([name])
    const lines = cert.trimEnd().split('\n')
    expect(lines).not.toContain('')
    whole.add(lines.at(-2)?.length === 64)
    expect(new X509Certificate(cert).subject).toContain(name.slice(0, 60))
    expect(() => createSecureContext({ cert, key })).not.toThrow()
  }
  expect(whole).toEqual(new Set([true, false]))
})
