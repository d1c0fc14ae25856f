/** The words of one command, as far as they are known. */
export interface Argv {
  /** Word by word; what is not literal stands as its source text. */
  readonly words: readonly string[]
  /** From this index on only the remote shell knows the words, or how many there are. */
  readonly dynamicFrom?: number
  /** Whether each word that is not literal is quoted, and so at least one word. Absent: not known. */
  readonly quoted?: readonly boolean[]
}

/** The words from `index` on, as a command of their own. */
export function argvFrom(argv: Argv, index: number): Argv {
  const { dynamicFrom, quoted } = argv
  return {
    words: argv.words.slice(index),
    ...(dynamicFrom !== undefined && { dynamicFrom: Math.max(0, dynamicFrom - index) }),
    ...(quoted !== undefined && { quoted: quoted.slice(index) }),
  }
}

/** How many words at the front are known for certain. */
export function literalCount({ words, dynamicFrom }: Argv): number {
  return Math.min(words.length, dynamicFrom ?? words.length)
}

/** The last segment of a program's path. */
export function programName(word: string): string {
  return word.slice(word.lastIndexOf('/') + 1)
}

/** The options a wrapper is known to have. One that is not listed makes the command unknown. */
export interface OptionGrammar {
  /** Short options without a value, as one text: `nHk`. */
  readonly flags?: string
  /** Short options with a value, attached or in the next word. */
  readonly values?: string
  readonly longFlags?: readonly string[]
  /** Long options with a value, as `--name=value` or in the next word. */
  readonly longValues?: readonly string[]
}

/** One option that was read. */
export interface Option {
  readonly name: string
  readonly value?: string
}

/** Options read up to the first word that is none. */
export interface ReadOptions {
  readonly options: readonly Option[]
  /** Index of the first word behind them. */
  readonly next: number
}

/**
 * Reads the options of a program that stops at its first operand (POSIX, utility syntax guideline 9). Abbreviated long
 * options are refused: what they stand for depends on the version.
 *
 * @returns why they cannot be read, as a text.
 */
export function readOptions(argv: Argv, from: number, grammar: OptionGrammar): ReadOptions | string {
  const { flags = '', values = '', longFlags = [], longValues = [] } = grammar
  const known = literalCount(argv)
  const options: Option[] = []
  let at = from
  while (at < argv.words.length) {
    if (at >= known) return 'its options are computed'
    const word = argv.words[at] ?? ''
    if (word === '--') return { options, next: at + 1 }
    if (word === '-' || !word.startsWith('-')) break
    at++
    if (word.startsWith('--')) {
      const equals = word.indexOf('=')
      const name = equals < 0 ? word : word.slice(0, equals)
      if (longFlags.includes(name) && equals < 0) options.push({ name })
      else if (!longValues.includes(name)) return `its option ${name} is not known`
      else if (equals >= 0) options.push({ name, value: word.slice(equals + 1) })
      else if (at >= known) return `the value of ${name} is missing or computed`
      else options.push({ name, value: argv.words[at++] ?? '' })
      continue
    }
    for (let index = 1; index < word.length; index++) {
      const letter = word[index] ?? ''
      const name = `-${letter}`
      if (flags.includes(letter)) {
        options.push({ name })
        continue
      }
      if (!values.includes(letter)) return `its option ${name} is not known`
      if (index + 1 < word.length) options.push({ name, value: word.slice(index + 1) })
      else if (at >= known) return `the value of ${name} is missing or computed`
      else options.push({ name, value: argv.words[at++] ?? '' })
      break
    }
  }
  return { options, next: at }
}
