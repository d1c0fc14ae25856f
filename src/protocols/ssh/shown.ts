import type { Part } from '../../core/action.ts'
import { hiddenCharacter } from './characters.ts'
import { findCommands } from './walk.ts'

/** What stands for a value in a request that may hold masked data. */
const PLACEHOLDER = '•'

/**
 * See `Protocol.withoutValues`. Masking may replace a piece of a word, and nothing else: the same commands, with as many
 * words, on the same paths. Otherwise an agent could write the beginning of a secret around what it wants nobody to read.
 */
export function withoutValues(shown: string, masked: string): readonly string[] | undefined {
  const before = partsOf(shown)
  if (before.some(({ verb }) => verb === 'ssh.unknown')) return [lengthOf(shown)]
  const after = partsOf(masked)
  const isSame =
    before.length === after.length && before.every((part, index) => outline(part) === outline(after[index]))
  return isSame ? undefined : before.flatMap((part, index) => [index === 0 ? '' : '; ', ...wordsOf(part)])
}

function partsOf(text: string): readonly Part[] {
  return findCommands(text, { name: '', isLogin: true }, 'bash').parts
}

/** What of a part masking must leave as it is. */
function outline(part: Part | undefined): string {
  if (part === undefined) return ''
  const { verb, resource, account, attributes } = part
  const who = [verb, account?.name, attributes['via'] ?? null]
  if (resource.type === 'file') return JSON.stringify([...who, resource.path])
  if (resource.type !== 'argv') return JSON.stringify(who)
  const { argv, dynamicFrom } = resource
  // Options decide what a command does, so they are no values either.
  const fixed = argv.map((word, index) => (index === 0 || /^-[^=]*$/u.test(word) ? word : PLACEHOLDER))
  return JSON.stringify([...who, fixed, dynamicFrom ?? null])
}

function wordsOf({ verb, resource }: Part): readonly string[] {
  const name = verb.replace('ssh.', '')
  if (resource.type === 'file') return [`${name} `, visible(resource.path)]
  if (resource.type !== 'argv') return [name]
  const [program = '', ...words] = resource.argv
  return [`${name} `, visible(program), ...words.map(() => ` ${PLACEHOLDER}`)]
}

function visible(text: string): string {
  return hiddenCharacter(text) === undefined ? text : PLACEHOLDER
}

/** All that can be said of a text nobody could read. */
function lengthOf(text: string): string {
  return `[${Buffer.byteLength(text, 'utf8')} bytes that are no readable command]`
}
