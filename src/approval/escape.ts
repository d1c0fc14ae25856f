/** Everything that shows as nothing, or changes how its neighbours show. The space is kept. */
const HIDDEN = /[\p{C}\p{Zl}\p{Zp}\p{Default_Ignorable_Code_Point}\u2800]|(?! )\p{Zs}/gu

/**
 * Returns text as a person must see it before agreeing to it: control characters and terminal escapes, characters that
 * reorder text, and characters of no width stand as `<U+202E>`. Nothing is cut.
 *
 * @param lines whether line feeds and tabs stay; without them the text cannot pretend to be more than its own field.
 */
export function visible(text: string, lines: 'keep-lines' | 'one-line' = 'one-line'): string {
  return text.replace(HIDDEN, (character) => {
    if (lines === 'keep-lines' && (character === '\n' || character === '\t')) return character
    const code = character.codePointAt(0) ?? 0xfffd
    return `<U+${code.toString(16).toUpperCase().padStart(4, '0')}>`
  })
}
