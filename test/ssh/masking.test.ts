/**
 * What a command writes on its two channels, masked in flight: for each detector, and however a host cuts and mixes the
 * channels, each shows what masking its whole text at once would show.
 */
import { EventEmitter } from 'node:events'
import type { ClientChannel } from 'ssh2'
import * as fc from 'fast-check'
import { describe, expect, it } from 'vitest'
import type { Chunk } from '../../src/core/chunk.ts'
import { DETECTORS } from '../../src/masking/detectors/index.ts'
import { ChannelOutput } from '../../src/protocols/ssh/output.ts'
import { exit, joined, looking, masking } from '../masking/support.ts'

/** A value of each kind that nobody uses. */
const VALUES: Readonly<Record<string, string>> = {
  email: 'jane@example.com',
  credit_card: '4111 1111 1111 1111',
  us_ssn: '123-45-6789',
  phone: '+49 30 1234567',
  iban: 'DE89 3704 0044 0532 0130 00',
  ipv4: '10.1.2.3',
  ipv6: '2001:db8::1',
  aws_access_key: 'AKIAIOSFODNN7EXAMPLE',
  aws_secret_key: 'aws_secret_access_key = wJalrXUtnFEMI/K7MDENG/bPxRfiCYEXAMPLEKEY',
  github_token: `ghp_${'aB3dE5gH7jK9mN1pQ3sT'.repeat(2).slice(0, 36)}`,
  slack_token: ['xoxb', '123456789012', '1234567890123', 'AbCdEfGhIjKlMnOpQrStUvWx'].join('-'),
  stripe_key: ['sk', 'live', '4eC39HqLyjWDarjtT1zdp7dc'].join('_'),
  google_api_key: ['AIza', 'SyA1bC3dE5fG7hI9jK1lM3nO5pQ7rS9tU1v'].join(''),
  jwt: 'eyJhbGciOiJIUzI1NiJ9.eyJzdWIiOiIxIn0.c2lnbmF0dXJlLXNpZ25hdHVyZQ',
  private_key: `-----BEGIN RSA PRIVATE KEY-----\n${'MIIEpAIBAAKCAQEA0Z3VS5JJcds3xfn/ygWyF8PbnGy0AHB7MaGrUlXy\n'.repeat(3)}ab==\n-----END RSA PRIVATE KEY-----`,
  bearer: 'Authorization: Bearer abcdef1234567890',
  password_assignment: 'password=hunter2hunter2',
  url_password: 'postgres://app:s3cret@db/shop',
  generic_secret: 'api_key: "f3Kq9ZxL2mVb7TgY1nRw5PdC8sHj4UaE"',
}

/** A channel of the library, as far as output is read from it. */
class FakeChannel extends EventEmitter {
  readonly stderr = Object.assign(new EventEmitter(), { pause: () => undefined, resume: () => undefined })
  pause(): void {}
  resume(): void {}
}

/** Sends both texts in these pieces, taking turns as told, and returns what is shown of each. */
async function shown(
  texts: { readonly stdout: Buffer; readonly stderr: Buffer },
  turns: readonly (readonly [boolean, number])[],
  detector: string,
): Promise<{ readonly stdout: string; readonly stderr: string }> {
  const channel = new FakeChannel()
  const output = new ChannelOutput(channel as unknown as ClientChannel, 'stdout')
  const left = { ...texts }
  const send = (name: 'stdout' | 'stderr', length: number): void => {
    const piece = left[name].subarray(0, length)
    left[name] = left[name].subarray(length)
    const source = name === 'stdout' ? channel : channel.stderr
    if (piece.length > 0) source.emit('data', Buffer.from(piece))
  }
  for (const [isError, length] of turns) send(isError ? 'stderr' : 'stdout', length)
  send('stderr', left.stderr.length)
  send('stdout', left.stdout.length)
  channel.emit('exit', 0)
  channel.emit('close')
  async function* chunks(): AsyncGenerator<Chunk> {
    for (let chunk = await output.next(); chunk !== undefined; chunk = await output.next()) yield chunk
    yield exit
  }
  const seen: Chunk[] = []
  for await (const chunk of masking.stream(chunks(), looking({ detector, transform: 'redact' }))) seen.push(chunk)
  return { stdout: joined(seen, 'stdout').toString(), stderr: joined(seen, 'stderr').toString() }
}

describe.each([...DETECTORS.keys()])('output that is searched for %s', (detector) => {
  const value = VALUES[detector] ?? ''
  const whole = (text: string): string => masking.text(text, looking({ detector, transform: 'redact' }))

  it('C10: shows on stdout and stderr what the whole texts would show, whatever the pieces', async () => {
    expect([detector, whole(`see ${value} there\n`)]).not.toEqual([detector, `see ${value} there\n`])
    const words = fc.array(fc.constantFrom(value, ' ', '\n', 'plain words', 'é漢', value.slice(0, 5), '"', '='), {
      maxLength: 10,
    })
    const turns = fc.array(fc.tuple(fc.boolean(), fc.integer({ min: 1, max: 12 })), { maxLength: 60 })
    const property = fc.asyncProperty(words, words, turns, async (out, error, pieces) => {
      const stdout = out.join('')
      const stderr = error.join('')
      const seen = await shown({ stdout: Buffer.from(stdout), stderr: Buffer.from(stderr) }, pieces, detector)
      expect(seen).toEqual({ stdout: whole(stdout), stderr: whole(stderr) })
    })
    await expect(fc.assert(property, { numRuns: 60 })).resolves.toBeUndefined()
  })

  it('C10: does not join the end of one channel to the beginning of the other', async () => {
    const middle = Math.floor(value.length / 2)
    const texts = { stdout: Buffer.from(value.slice(0, middle)), stderr: Buffer.from(value.slice(middle)) }
    expect(await shown(texts, [], detector)).toEqual({
      stdout: whole(value.slice(0, middle)),
      stderr: whole(value.slice(middle)),
    })
  })
})
