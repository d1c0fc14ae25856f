import type { Context, Findings } from './findings.ts'
import type { ArithmeticExpression, ParameterExpansionPart, Word, WordPart } from './syntax.ts'

/** Finds the commands a word runs while the shell works out its value. */
export function expansions(word: Word, context: Context, findings: Findings): void {
  partsExpand(word.parts ?? [], context, findings)
}

/** The same for pieces of a word, or of a here-document. */
export function partsExpand(parts: readonly WordPart[], context: Context, findings: Findings): void {
  for (const part of parts) partExpands(part, context, findings)
}

function partExpands(part: WordPart, context: Context, findings: Findings): void {
  switch (part.type) {
    case 'Literal':
    case 'SingleQuoted':
      return
    case 'DoubleQuoted':
      return partsExpand(part.parts, context, findings)
    case 'AnsiCQuoted':
      return findings.bashOnly("$'…'", context)
    case 'LocaleString':
      return findings.unknown('It uses $"…", which is translated at the target.')
    case 'SimpleExpansion':
      return
    case 'ParameterExpansion':
      return parameterExpands(part, context, findings)
    case 'CommandExpansion':
      if (part.script === undefined) return findings.unknown('A command substitution cannot be read.')
      return context.nested.script(part.script, context, findings)
    case 'ProcessSubstitution':
      findings.bashOnly('<( )', context)
      if (part.script === undefined) return findings.unknown('A process substitution cannot be read.')
      return context.nested.script(part.script, context, findings)
    case 'ArithmeticExpansion':
      if (part.text.startsWith('$[')) findings.bashOnly('$[ ]', context)
      if (part.expression === undefined) return findings.unknown('A computation cannot be read.')
      return computes(part.expression, findings)
    case 'Glob':
      return partsExpand(part.parts ?? [], context, findings)
    case 'ExtendedGlob':
      findings.bashOnly('an extended pattern', context)
      return part.parts === undefined
        ? findings.unknown('An extended pattern cannot be read.')
        : partsExpand(part.parts, context, findings)
    case 'BraceExpansion':
      findings.bashOnly('{ , }', context)
      return part.parts === undefined ? whole(part.text, findings) : partsExpand(part.parts, context, findings)
    default:
      return findings.unlisted(part)
  }
}

/** Text whose pieces the parser did not tell: it must hold nothing that is replaced. */
function whole(text: string, findings: Findings): void {
  if (/[$`<>]/u.test(text)) findings.unknown('A brace expansion cannot be read.')
}

function parameterExpands(part: ParameterExpansionPart, context: Context, findings: Findings): void {
  const { prefix, index, operation } = part
  // Between double quotes, and in a here-document, a single quote in here quotes nothing.
  if (part.text.includes("'")) return findings.unknown('It uses a single quote in ${…}.')
  if (prefix === '!') return findings.unknown('It uses ${!…}, which takes the name of a variable from another.')
  if (index !== undefined && !/^(?:\d+|@|\*)$/u.test(index.text)) {
    return findings.unknown('It uses an index that is computed.')
  }
  if (index !== undefined) findings.bashOnly('an array', context)
  if (!/^(?:[A-Za-z_][A-Za-z0-9_]*|\d+|[@*#?$!-])$/u.test(part.parameter)) {
    return findings.unknown('It expands something that is no plain name.')
  }
  if (operation === undefined) return
  switch (operation.type) {
    case 'Default':
      // `:=` assigns: what the name is then used for is decided elsewhere.
      if (operation.operator.endsWith('=')) findings.assigned(part.parameter, undefined, context)
      return expansions(operation.operand, context, findings)
    case 'Remove':
      return expansions(operation.operand, context, findings)
    case 'Replace':
      findings.bashOnly('${…/…/…}', context)
      expansions(operation.pattern, context, findings)
      return expansions(operation.replacement, context, findings)
    case 'Slice':
      findings.bashOnly('${…:…}', context)
      if (![operation.offset, operation.length].every((word) => word === undefined || /^ ?-?\d+$/u.test(word.text))) {
        findings.unknown('It takes a piece of a variable at a computed place.')
      }
      return
    case 'CaseModification':
      findings.bashOnly('${…^}', context)
      return operation.operand === undefined ? undefined : expansions(operation.operand, context, findings)
    case 'Transform':
    case 'Names':
    case 'Unknown':
      return findings.unknown('It uses ${…@…} or another expansion that can run commands.')
    default:
      return findings.unlisted(operation)
  }
}

/**
 * Arithmetic evaluates names again and again, and an index in a value runs commands; so only numbers are
 * understood. Without a name no operator assigns.
 */
function computes(node: ArithmeticExpression, findings: Findings): void {
  const refuse = (): void =>
    findings.unknown('It computes with names or substitutions, whose values can run commands; compute with numbers.')
  switch (node.type) {
    case 'ArithmeticBinary':
      computes(node.left, findings)
      return computes(node.right, findings)
    case 'ArithmeticUnary':
      return computes(node.operand, findings)
    case 'ArithmeticTernary':
      computes(node.test, findings)
      computes(node.consequent, findings)
      return computes(node.alternate, findings)
    case 'ArithmeticGroup':
      return computes(node.expression, findings)
    case 'ArithmeticWord':
      return /^(?:\d+|0[xX][0-9a-fA-F]+)$/u.test(node.value) ? undefined : refuse()
    case 'ArithmeticCommandExpansion':
      return refuse()
    default:
      return findings.unlisted(node)
  }
}
