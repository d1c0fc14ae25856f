/** Everything that shows as nothing, or changes how its neighbours show. The space is kept. */
const HIDDEN = /[\p{C}\p{Zl}\p{Zp}\p{Default_Ignorable_Code_Point}\u2800]|(?! )\p{Zs}/gu

/** Blanks that push what follows out of sight: of a line, or of the screen. */
const FAR = /[ \t]{24,}|(?:[ \t]*\n){4,}/gu

/**
 * Returns text as a person must see it before agreeing to it: control characters and terminal escapes, characters that
 * reorder text, and characters of no width stand as `<U+202E>`; long runs of blanks or empty lines, behind which the rest
 * could hide, as their number. Nothing else is cut.
 *
 * @param lines whether line feeds and tabs stay; without them the text cannot pretend to be more than its own field.
 */
export function visible(text: string, lines: 'keep-lines' | 'one-line' = 'one-line'): string {
  const near = text.replace(FAR, (run) => {
    const lineEnds = run.split('\n').length - 1
    return lineEnds === 0 ? ` <${run.length} blanks> ` : `\n<${lineEnds} line ends>\n`
  })
  return near.replace(HIDDEN, (character) => {
    if (lines === 'keep-lines' && (character === '\n' || character === '\t')) return character
    const code = character.codePointAt(0) ?? 0xfffd
    return `<U+${code.toString(16).toUpperCase().padStart(4, '0')}>`
  })
}
