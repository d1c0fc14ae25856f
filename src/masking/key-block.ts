/** Where a private key begins in a text, or -1. */
export function keyStart(text: string): number {
  return text.includes('PRIVATE KEY') ? text.search(BEGIN) : -1
}

/** Returns the first position after the end mark of a private key at or after `from`, or -1. */
export function keyEnd(text: string, from: number): number {
  END.lastIndex = from
  const match = text.includes('PRIVATE KEY', from) ? END.exec(text) : null
  return match === null ? -1 : match.index + match[0].length
}

/** Returns the begin and end marks in a text, so that no cut goes through one. */
export function keyMarks(text: string): readonly { readonly start: number; readonly end: number }[] {
  if (!text.includes('PRIVATE KEY')) return []
  return Array.from(text.matchAll(MARK), ({ 0: mark, index }) => ({ start: index, end: index + mark.length }))
}

// RFC 7468 §2 with five dashes, RFC 4716 §3.3 with four and blanks; OpenPGP (RFC 9580 §6.2) adds BLOCK.
const BEGIN = /-{2,5} ?BEGIN [A-Z0-9 ]{0,40}PRIVATE KEY/
const MARK = /-{2,5} ?(?:BEGIN|END) [A-Z0-9 ]{0,40}PRIVATE KEY(?: BLOCK)?(?: ?-{1,5})?/g
const END = /-{2,5} ?END [A-Z0-9 ]{0,40}PRIVATE KEY(?: BLOCK)?(?: ?-{1,5})?/g

/**
 * Whether a line can stand inside a key whose end has not come: blank, a header (RFC 1421 §4.6), encoded bytes, or one
 * or two words of which the last is made of such characters (a short last line, also behind a line number).
 *
 * Only a line that is plainly prose says that the key was cut off. Fail closed: anything else stays hidden.
 */
export function mayBelongToKey(line: string): boolean {
  const text = line.trim()
  return (
    text === '' ||
    /[A-Za-z0-9+/=]{16}/.test(text) ||
    /^[\w-]{1,64}:(?: |$)/.test(text) ||
    /^(?:\S{1,32}[ \t]{1,8})?\S{0,32}?[A-Za-z0-9+/=]{1,64}\S{0,4}$/.test(text)
  )
}
