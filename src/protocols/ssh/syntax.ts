/**
 * The shell grammar, behind one file: everything else of this protocol knows the parser by these names only.
 *
 * @packageDocumentation
 */
import { parse } from 'unbash'
import type { ParsedScript } from 'unbash'

export type {
  ArithmeticExpression,
  Assignment,
  CommandNode,
  Command,
  CompoundList,
  ParameterExpansionPart,
  ParsedScript,
  Pipeline,
  PipelineNode,
  AndOr,
  Redirection,
  Statement,
  TestExpression,
  Word,
  WordPart,
} from 'unbash'

/** Longest script that is read, in UTF-16 code units. Nesting costs the parser more than its length. */
export const SCRIPT_CHARS_MAX = 16_384

/** Most openings of nested constructs in one script; honest scripts have a handful. */
const OPENINGS_MAX = 256

/** What opens a nested construct, or looks like it. */
const OPENING = /[`({[]|\b(?:if|for|while|until|case|select|do|then)\b/gu

/** Reads a script as bash does, or says in one sentence why it cannot be read. */
export function readScript(text: string): ParsedScript | string {
  if (text.length > SCRIPT_CHARS_MAX) return `The command is longer than ${SCRIPT_CHARS_MAX} characters.`
  if ((text.match(OPENING)?.length ?? 0) > OPENINGS_MAX) return 'The command is nested too deeply.'
  try {
    const script = parse(text)
    return isBroken(script) ? 'The command is not complete, valid shell syntax.' : script
  } catch {
    // Fail closed: a parser that gives up, for example for lack of stack, has understood nothing.
    return 'The command cannot be parsed.'
  }
}

/** Whether a script, or one nested in another, was only guessed at. */
export function isBroken(script: ParsedScript): boolean {
  return (script.errors?.length ?? 0) > 0
}
