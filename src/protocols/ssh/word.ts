import { hiddenCharacter } from './characters.ts'
import type { Word, WordPart } from './syntax.ts'

/** A word of a command, as far as it can be known before the remote shell has run. */
export interface Resolved {
  /** The value where it is literal; otherwise the source text, for people to read. */
  readonly value: string
  /** Whether the shell makes exactly this one word of it. */
  readonly isLiteral: boolean
  /** Whether any of it is quoted. */
  readonly isQuoted: boolean
}

/** Unquoted characters that make a shell look further, unless a backslash stands before them. */
const ACTIVE = /[$`*?[\]{}~!]/u

/** Escapes of `$'…'` whose meaning depends on shell, version or locale, or that cut the string (NUL). */
const DOUBTFUL_ESCAPE = /\\(?:[cuU]|x\{|x0{1,2}(?![0-9A-Fa-f])|0{1,3}(?![0-7]))/u

/** Works out what a word is. Never guesses: what is not certainly literal is not literal. */
export function resolveWord(word: Word): Resolved {
  const parts = word.parts
  if (parts === undefined) {
    return { value: word.value, isLiteral: isInert(word.text), isQuoted: word.text.includes('\\') }
  }
  const isLiteral = parts.every(isLiteralPart)
  return { value: isLiteral ? parts.map(valueOf).join('') : word.text, isLiteral, isQuoted: parts.some(isQuote) }
}

/** Whether unquoted text is taken by the shell as it stands. */
export function isInert(text: string): boolean {
  // `{}` is never expanded, and neither are these three when they stand alone.
  const bare = text.replace(/\\[\s\S]/gu, '').replaceAll('{}', '')
  if (bare === '[' || bare === ']' || bare === '!') return true
  return !ACTIVE.test(bare) && !bare.endsWith('\\')
}

function isLiteralPart(part: WordPart): boolean {
  switch (part.type) {
    case 'Literal':
      return isInert(part.text)
    case 'SingleQuoted':
      return true
    case 'AnsiCQuoted':
      return !DOUBTFUL_ESCAPE.test(part.text) && hiddenCharacter(part.value) === undefined
    case 'DoubleQuoted':
      return part.parts.every(({ type }) => type === 'Literal')
    default:
      return false
  }
}

function isQuote({ type }: WordPart): boolean {
  return type === 'SingleQuoted' || type === 'DoubleQuoted' || type === 'AnsiCQuoted' || type === 'LocaleString'
}

function valueOf(part: WordPart): string {
  switch (part.type) {
    case 'Literal':
    case 'SingleQuoted':
    case 'AnsiCQuoted':
      return part.value
    case 'DoubleQuoted':
      return part.parts.map((child) => (child.type === 'Literal' ? child.value : child.text)).join('')
    default:
      return part.text
  }
}
