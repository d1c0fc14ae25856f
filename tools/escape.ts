/**
 * Text from a target, made harmless to read: nothing in it can move a cursor, break a line, hide or reorder what stands
 * around it. Used wherever a model or a person reads what came from outside.
 *
 * @packageDocumentation
 */

/**
 * Controls (with the ESC and CSI of terminal sequences), format characters (direction, zero-width, tags, byte order
 * mark), line and paragraph separators, lone surrogates, and whatever else a renderer is told not to show.
 */
const UNSAFE = /[\p{Cc}\p{Cf}\p{Cs}\p{Zl}\p{Zp}\p{Default_Ignorable_Code_Point}]/gu

const NAMED: Readonly<Record<string, string>> = { '\n': '\\n', '\r': '\\r', '\t': '\\t' }

/** One line in which every character is visible; a backslash is doubled, so that the escape is unambiguous. */
export function escapeLine(text: string): string {
  return text.replaceAll('\\', '\\\\').replace(UNSAFE, escapeOne)
}

/** Like {@link escapeLine}, but keeps line feeds and tabs and doubles no backslash: for statements people read. */
export function escapeBlock(text: string): string {
  return text
    .replaceAll('\r\n', '\n')
    .replace(UNSAFE, (unsafe) => (NAMED_KEPT.has(unsafe) ? unsafe : escapeOne(unsafe)))
}

const NAMED_KEPT: ReadonlySet<string> = new Set(['\n', '\t'])

function escapeOne(unsafe: string): string {
  const named = NAMED[unsafe]
  if (named !== undefined) return named
  return `\\u{${(unsafe.codePointAt(0) ?? 0).toString(16)}}`
}
