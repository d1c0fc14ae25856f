/**
 * A word with `*` for any run of characters. The caller splits at whatever `*` must not cross, and matches each piece
 * on its own: a glob sees one name segment, one path segment, one argv word, and nothing beyond it.
 */
export type Glob = (word: string) => boolean

/** Compiles a glob. Linear in the word for any number of stars: no pattern can make a decision slow. */
export function compileGlob(pattern: string): Glob {
  if (pattern === '*') return () => true
  const pieces = pattern.split('*')
  const [first = ''] = pieces
  if (pieces.length === 1) return (word) => word === pattern
  const last = pieces.at(-1) ?? ''
  const middle = pieces.slice(1, -1).filter((piece) => piece !== '')
  const lengthMin = pieces.reduce((sum, piece) => sum + piece.length, 0)
  return (word) => {
    if (word.length < lengthMin || !word.startsWith(first) || !word.endsWith(last)) return false
    let from = first.length
    const end = word.length - last.length
    // Leftmost matches leave the most room for what follows, so taking them greedily is exact.
    for (const piece of middle) {
      const found = word.indexOf(piece, from)
      if (found < 0 || found + piece.length > end) return false
      from = found + piece.length
    }
    return from <= end
  }
}
