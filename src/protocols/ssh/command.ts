import { argvFrom, literalCount, programName, type Argv } from './argv.ts'
import { isProgramName } from './characters.ts'
import type { Context, Findings } from './findings.ts'
import { builtinOf, runsCode, whyRefused } from './programs.ts'
import { WRAPPERS, type Inner } from './wrappers.ts'

/** How many wrappers may stand around one command. */
const WRAPPERS_MAX = 8

/** Finds what one command runs: itself, and whatever it is told to run. */
export function simpleCommand(argv: Argv, context: Context, findings: Findings): void {
  const [program] = argv.words
  if (program === undefined) return
  if (literalCount(argv) === 0) return findings.unknown('The name of a command is computed; write it out.')
  if (!isProgramName(program)) return findings.unknown('The name of a command holds characters no program has.')
  const name = programName(program)
  const refused = program === name ? whyRefused(name) : undefined
  if (refused !== undefined) return findings.unknown(`It uses ${name}, which ${refused}.`)
  const unwrap = WRAPPERS.get(name)
  const unwrapped = unwrap?.(argv)
  if (typeof unwrapped === 'string') {
    findings.command('ssh.wrap', argv, context)
    return findings.unknown(`It uses ${name}, and ${unwrapped}.`)
  }
  if (unwrapped === undefined) return ownCommand(argv, program, name, context, findings)
  if (context.via.length >= WRAPPERS_MAX) return findings.unknown('Commands run commands too deeply.')
  findings.command('ssh.wrap', { words: unwrapped.own }, context)
  if (name === 'find' && runsCode(argv)) findings.command('ssh.code', argv, context)
  if (name === 'nohup' || name === 'setsid') findings.detached()
  for (const inner of unwrapped.inner) walkInner(inner, name, context, findings)
}

function walkInner(inner: Inner, name: string, context: Context, findings: Findings): void {
  const via = [...context.via, name]
  if (inner.kind === 'assign') return findings.assigned(inner.name, inner.value, { ...context, via })
  const account =
    inner.user === undefined || inner.user === context.account.name
      ? context.account
      : { name: inner.user, isLogin: false }
  if (inner.kind === 'argv') return simpleCommand(inner.argv, { ...context, via, account }, findings)
  context.nested.text(inner.text, { ...context, via, account, dialect: inner.dialect }, findings)
}

function ownCommand(argv: Argv, program: string, name: string, context: Context, findings: Findings): void {
  // Words of the shell: not when a path says the program is meant, and not behind a wrapper that starts a process.
  if (program === name) {
    const builtin = builtinOf(argv)
    if (typeof builtin === 'string') return findings.unknown(`It uses ${name}, and ${builtin}.`)
    if (builtin) return findings.builtin(builtinWords(argv), context)
    if (name === 'read') return reads(argvFrom(argv, 1), context, findings)
    if (name === 'unset' || name === 'export' || name === 'readonly' || name === 'local') {
      return names(name, argvFrom(argv, 1), context, findings)
    }
  }
  findings.command(runsCode(argv) ? 'ssh.code' : 'ssh.exec', argv, context)
}

/** What a policy may want to tell apart is the word itself; its arguments change nothing outside the script. */
function builtinWords({ words }: Argv): readonly string[] {
  return words.slice(0, 1)
}

const NAME = /^[A-Za-z_][A-Za-z0-9_]*$/u

function reads(argv: Argv, context: Context, findings: Findings): void {
  const rest = argv.words[0] === '-r' ? argv.words.slice(1) : argv.words
  if (literalCount(argv) < argv.words.length || rest.length === 0 || !rest.every((word) => NAME.test(word))) {
    return findings.unknown('It uses read with more than -r and plain names.')
  }
  for (const word of rest) findings.assigned(word, undefined, context)
}

function names(program: string, argv: Argv, context: Context, findings: Findings): void {
  if (literalCount(argv) < argv.words.length || !argv.words.every((word) => NAME.test(word))) {
    return findings.unknown(`It uses ${program} with more than plain names.`)
  }
  for (const word of argv.words) findings.assigned(word, undefined, context)
}
