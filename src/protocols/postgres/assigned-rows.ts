import type { Token } from './parse.ts'

/**
 * How many tokens more than a text has its tree is made of, because the parser gives each column of
 * `SET (a, b) = source` the whole source (`gram.y`, `set_clause`). Sources may hold such updates themselves, so that a
 * thousand characters can become a billion nodes; that is to be known before they are parsed.
 *
 * Never too few, sometimes too many: a source counts as long as its end is not certain.
 *
 * @param tokens without comments.
 * @param max where counting may end.
 */
export function copiedTokens(tokens: readonly Token[], max: number): number {
  let copies = 0
  let level: Level = { outer: undefined, base: 1, commas: 0, isSet: false, isTarget: false }
  let factor = 1
  let before = ''
  for (const [index, token] of tokens.entries()) {
    if (copies > max) return copies
    const word = token.text.toLowerCase()
    copies += factor - 1
    if (word === '(') {
      const isTarget = before === 'set' || (before === ',' && level.isSet)
      level = { outer: level, base: factor, commas: 0, isSet: false, isTarget }
    } else if (word === ')' && level.outer !== undefined) {
      const { base, isTarget, commas }: Level = level
      factor = base
      level = level.outer
      if (isTarget && tokens[index + 1]?.text === '=') factor = level.base * (commas + 1)
    } else if (word === 'set') level.isSet = true
    else if (word === ',') {
      level.commas += 1
      factor = level.base
    } else if (word === 'where' || word === 'returning') {
      level.isSet = false
      factor = level.base
    }
    before = word
  }
  return copies
}

/** Within one pair of parentheses. */
interface Level {
  readonly outer: Level | undefined
  /** How often what stands in it is copied. */
  readonly base: number
  commas: number
  /** A SET clause has begun in it. */
  isSet: boolean
  /** It may be the columns of an assignment. */
  readonly isTarget: boolean
}

/** Whether there may be such an assignment: a cheap look that finds too many. */
export function mayAssignRows(text: string): boolean {
  return /\)\s*(?:=|--|\/\*)/.test(text) && /\bset\b/i.test(text)
}
