/**
 * Controls but tab and line feed, format characters (direction, zero-width), lone surrogates, private and unassigned
 * code points, separators other than the blank, and whatever a renderer is told not to show. A person cannot see them,
 * and shells disagree about some: a carriage return is a blank to one reader and part of a word to another.
 */
const HIDDEN = /(?![\t\n ])[\p{Cc}\p{Cf}\p{Cs}\p{Co}\p{Cn}\p{Zl}\p{Zp}\p{Zs}\p{Default_Ignorable_Code_Point}\u{2800}]/u

/** Returns the first character of a text that nobody can see, as `U+200B`, or `undefined`. */
export function hiddenCharacter(text: string): string | undefined {
  const [found] = HIDDEN.exec(text) ?? []
  return found === undefined
    ? undefined
    : `U+${(found.codePointAt(0) ?? 0).toString(16).toUpperCase().padStart(4, '0')}`
}

/** What the name of a program may look like. Anything else, homoglyphs included, is no name we know. */
const PROGRAM = /^(?:[A-Za-z0-9_./][A-Za-z0-9_.+@:/,-]*|\[|:)$/u

/** Whether a word can name a program without doubt. */
export function isProgramName(word: string): boolean {
  return PROGRAM.test(word)
}

/** Words the grammar knows unless they are quoted. */
const RESERVED = new Set(
  'case coproc do done elif else esac fi for function if in select then time until while'.split(' '),
)

/** Quotes one word for a POSIX shell: inside single quotes every character but the quote itself is literal. */
export function quoteWord(word: string): string {
  if (/^[A-Za-z0-9_./:@,+-]+$/u.test(word) && !RESERVED.has(word)) return word
  return `'${word.replaceAll("'", "'\\''")}'`
}

/** Quotes words into a command line that means exactly them. */
export function quoteWords(words: readonly string[]): string {
  return words.map(quoteWord).join(' ')
}
