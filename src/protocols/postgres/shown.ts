import type { ShownRequest } from '../../core/call.ts'
import type { Param } from './plan-types.ts'
import { COMMENT_TYPES, scan } from './parse.ts'
import { withoutLiterals } from './shape.ts'

/** What stands for a value in a request that may hold masked data. */
export const PLACEHOLDER = '•'

/** Token types of constants: number, string, `U&''`, bits, hex, integer (`gram.y`). */
const CONSTANTS = new Set([260, 261, 262, 263, 264, 266])
const TEXTUAL = new Set([261, 262, 263, 264])

/** The request as it was written. */
export function shownPlainly(sql: string, params: readonly Param[]): ShownRequest {
  return { text: sql, ...(params.length > 0 && { params }) }
}

/**
 * The request with every constant and every parameter replaced and comments left out (C10). All of them, because which
 * constant meets a masked column is not worth being wrong about.
 */
export function shownWithoutValues(sql: string, params: readonly Param[]): ShownRequest {
  const shown = withoutLiterals(sql, PLACEHOLDER) ?? wordsOf(sql)?.join('').trim()
  return shown === undefined ? shownAsLength(sql) : withoutParams(shown, params)
}

/**
 * The same of a statement that was not understood. Some write strings in double quotes, which makes names of them that
 * nothing has, so quoted names other than plain words are replaced too.
 */
export function shownWithoutNames(sql: string, params: readonly Param[]): ShownRequest {
  const words = wordsOf(sql)
  if (words === undefined) return shownAsLength(sql)
  const hidden = words.map((word) => (/^(u&)?"/i.test(word) && !PLAIN_NAME.test(word) ? `"${PLACEHOLDER}"` : word))
  return withoutParams(hidden.join('').trim(), params)
}

const PLAIN_NAME = /^"[\p{L}_][\p{L}\p{N}_$]{0,62}"$/u

/** A text that holds no value any more, with its parameters hidden. */
export function withoutParams(text: string, params: readonly Param[]): ShownRequest {
  const hidden = params.map((param) => (param === null ? null : PLACEHOLDER))
  return { text, ...(hidden.length > 0 && { params: hidden }) }
}

/** See `Protocol.withoutValues`. */
export function withoutValues(shown: string, masked: string): readonly string[] | undefined {
  const words = wordsOf(shown)
  if (words === undefined) return [shownAsLength(shown).text]
  const after = wordsOf(masked)
  return after !== undefined && words.join('').trim() === after.join('').trim() ? undefined : words
}

/** A text in words and the blanks between them, each constant a placeholder and no comment; undefined if unreadable. */
function wordsOf(sql: string): readonly string[] | undefined {
  const tokens = scan(sql)
  if (tokens === undefined) return undefined
  const words: string[] = []
  const bytes = Buffer.from(sql, 'utf8')
  let at = 0
  let isApart = false
  for (const token of tokens) {
    isApart ||= /\s/.test(bytes.toString('utf8', at, token.start))
    at = token.end
    if (COMMENT_TYPES.has(token.tokenType)) {
      isApart = true
      continue
    }
    if (isApart) words.push(' ')
    isApart = false
    if (!CONSTANTS.has(token.tokenType)) words.push(token.text)
    else words.push(TEXTUAL.has(token.tokenType) ? `'${PLACEHOLDER}'` : PLACEHOLDER)
  }
  return words
}

/** All that can be said of a text nobody could read. */
export function shownAsLength(sql: string): ShownRequest {
  return { text: `[${Buffer.byteLength(sql, 'utf8')} bytes that are no readable statement]` }
}
