/**
 * Walks a script and finds every command it can run, anywhere in the tree: behind pipes and wrappers, in substitutions,
 * here-documents, default values, indexes, bodies that may never be reached.
 *
 * Each kind of node is listed. What is not listed, and what is only understood in part, is `ssh.unknown`.
 *
 * @packageDocumentation
 */
import type { Account } from '../../core/action.ts'
import { hiddenCharacter } from './characters.ts'
import { simpleCommand } from './command.ts'
import { expansions } from './expansion.ts'
import { Findings, type Context } from './findings.ts'
import { redirect } from './redirect.ts'
import {
  isBroken,
  readScript,
  type AndOr,
  type Assignment,
  type Command,
  type CommandNode,
  type CompoundList,
  type ParsedScript,
  type Pipeline,
  type PipelineNode,
  type Statement,
  type TestExpression,
  type Word,
} from './syntax.ts'
import { resolveWord } from './word.ts'
import type { Dialect } from './wrappers.ts'

/** Finds everything a script can do that is run as `account`. */
export function findCommands(text: string, account: Account, dialect: Dialect): Findings {
  const findings = new Findings()
  const nested = { text: walkText, script: walkScript }
  walkText(text, { account, via: [], dialect, isInside: false, nested }, findings)
  return findings
}

function walkText(text: string, context: Context, findings: Findings): void {
  const hidden = hiddenCharacter(text)
  if (hidden !== undefined) return findings.unknown(`The command holds a character nobody can see (${hidden}).`)
  const script = readScript(text)
  if (typeof script === 'string') return findings.unknown(script)
  const inner = { ...context, isInside: false }
  for (const statement of script.commands) walkStatement(statement, inner, findings)
}

function walkScript(script: ParsedScript, context: Context, findings: Findings): void {
  // A nested script reports its own errors: it is parsed only when it is looked at.
  if (isBroken(script)) return findings.unknown('A substitution is not complete, valid shell syntax.')
  for (const statement of script.commands) walkStatement(statement, { ...context, isInside: true }, findings)
}

function walkStatement({ command, background }: Statement, context: Context, findings: Findings): void {
  if (background === true) findings.detached()
  walkNode(command, context, findings)
}

function walkList({ commands }: CompoundList, context: Context, findings: Findings): void {
  for (const statement of commands) walkStatement(statement, context, findings)
}

function walkNode(node: AndOr | PipelineNode | CommandNode, context: Context, findings: Findings): void {
  switch (node.type) {
    case 'AndOr':
      for (const each of node.commands) walkNode(each, context, findings)
      return
    case 'Pipeline':
      return walkPipeline(node, context, findings)
    case 'Command':
      return walkCommand(node, context, findings)
    case 'Redirected':
      walkNode(node.command, context, findings)
      for (const each of node.redirects) redirect(each, context, findings)
      return
    case 'Subshell':
    case 'BraceGroup':
      return walkList(node.body, context, findings)
    case 'If':
      walkList(node.clause, context, findings)
      walkList(node.then, context, findings)
      for (const each of node.elif) {
        walkList(each.clause, context, findings)
        walkList(each.then, context, findings)
      }
      if (node.else !== undefined) walkList(node.else, context, findings)
      return
    case 'While':
      walkList(node.clause, context, findings)
      return walkList(node.body, context, findings)
    case 'For':
      findings.assigned(node.name.value, undefined, context)
      for (const word of node.wordlist ?? []) expansions(word, context, findings)
      return walkList(node.body, context, findings)
    case 'Case':
      expansions(node.word, context, findings)
      for (const item of node.items) {
        if (item.terminator === ';&' || item.terminator === ';;&')
          findings.bashOnly('a case that falls through', context)
        for (const word of item.pattern) expansions(word, context, findings)
        walkList(item.body, context, findings)
      }
      return
    case 'TestCommand':
      findings.bashOnly('[[', context)
      findings.builtin(['[['], context)
      return walkTest(node.expression, context, findings)
    case 'Function':
      return findings.unknown('It defines a function; write the commands out.')
    case 'ArithmeticCommand':
    case 'ArithmeticFor':
      return findings.unknown('It computes with (( )), which can run commands through names and indexes.')
    case 'Select':
      return findings.unknown('It asks with select, which waits for a person.')
    case 'Coproc':
      return findings.unknown('It starts a coprocess.')
    default:
      return findings.unlisted(node)
  }
}

function walkPipeline(node: Pipeline, context: Context, findings: Findings): void {
  if (node.operators.includes('|&')) findings.bashOnly('|&', context)
  // A shell without the keyword would look for a program of that name.
  if (node.prefixes.some(({ type }) => type === 'Time')) findings.bashOnly('the keyword time', context)
  for (const each of node.commands) walkNode(each, context, findings)
}

function walkCommand(node: Command, context: Context, findings: Findings): void {
  for (const each of node.redirects) redirect(each, context, findings)
  for (const each of node.prefix) if (each.type === 'Assignment') walkAssignment(each, context, findings)
  if (node.name === undefined) return
  const words: string[] = []
  const quoted: boolean[] = []
  let dynamicFrom: number | undefined
  let end = -1
  const add = (word: Word): void => {
    // `a>(b)` is one word to bash and two to the parser.
    if (word.pos === end) findings.unknown('A process substitution is part of a word.')
    end = word.end
    expansions(word, context, findings)
    const { value, isLiteral, isQuoted } = resolveWord(word)
    if (!isLiteral) dynamicFrom ??= words.length
    words.push(value)
    // Only a word that is nothing but one quoted piece is certainly one word.
    quoted.push(isLiteral || (isQuoted && word.parts?.length === 1 && isOneWord(word.text)))
  }
  add(node.name)
  const assignments: Assignment[] = []
  for (const argument of node.args) {
    if (argument.type === 'Word') add(argument)
    else assignments.push(argument)
  }
  if (assignments.length > 0) return walkDeclaration(words, assignments, context, findings)
  simpleCommand({ words, quoted, ...(dynamicFrom !== undefined && { dynamicFrom }) }, context, findings)
}

/** `"$@"` and `"${a[@]}"` are as many words as there are values, quoted or not. */
function isOneWord(text: string): boolean {
  return !text.includes('@') && !text.includes('*')
}

/** `export NAME=value`: the shell's own commands that take assignments as arguments. */
function walkDeclaration(
  words: readonly string[],
  assignments: readonly Assignment[],
  context: Context,
  findings: Findings,
): void {
  const [name, ...others] = words
  if (name !== 'export' && name !== 'readonly' && name !== 'local') {
    return findings.unknown(`It gives assignments to ${name ?? 'a command'}, which may compute with them.`)
  }
  if (others.length > 0) return findings.unknown(`It uses ${name} with more than assignments.`)
  for (const each of assignments) walkAssignment(each, context, findings)
}

function walkAssignment(node: Assignment, context: Context, findings: Findings): void {
  if (node.index !== undefined) return findings.unknown('It assigns to an index, which is computed.')
  if (node.append === true) return findings.unknown('It appends to a variable.')
  if (node.value.type === 'ArrayValue') return findings.unknown('It assigns an array.')
  expansions(node.value, context, findings)
  const { value, isLiteral } = resolveWord(node.value)
  findings.assigned(node.name, isLiteral ? value : undefined, context)
}

/** Operators of `[[ ]]` that look at files or compare texts; all others compute with their operands. */
const PLAIN_UNARY = new Set('-a -b -c -d -e -f -g -h -k -n -p -r -s -u -w -x -z -G -L -N -O -S'.split(' '))
const PLAIN_BINARY = new Set('= == != =~ < > -nt -ot -ef'.split(' '))

function walkTest(node: TestExpression, context: Context, findings: Findings): void {
  switch (node.type) {
    case 'TestUnary':
      if (!PLAIN_UNARY.has(node.operator)) findings.unknown(`It tests with ${node.operator}, which computes.`)
      return expansions(node.operand, context, findings)
    case 'TestBinary':
      if (!PLAIN_BINARY.has(node.operator) && !(isNumber(node.left) && isNumber(node.right))) {
        findings.unknown(`It compares with ${node.operator} in [[ ]], which computes; use [ ] for numbers.`)
      }
      expansions(node.left, context, findings)
      return expansions(node.right, context, findings)
    case 'TestLogical':
      for (const each of node.operands) walkTest(each, context, findings)
      return
    case 'TestNot':
    case 'TestGroup':
      return walkTest('operand' in node ? node.operand : node.expression, context, findings)
    default:
      return findings.unlisted(node)
  }
}

function isNumber(word: Word): boolean {
  return /^\d+$/u.test(word.text)
}
