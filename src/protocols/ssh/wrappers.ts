/**
 * Programs that run another program they are given in their arguments. Each entry says where that program stands; what
 * it cannot say for certain it refuses to say.
 *
 * @packageDocumentation
 */
import { argvFrom, literalCount, readOptions, type Argv, type Option, type OptionGrammar } from './argv.ts'

/** What a wrapper runs. */
export type Inner =
  | { readonly kind: 'argv'; readonly argv: Argv; readonly user?: string }
  | { readonly kind: 'script'; readonly text: string; readonly dialect: Dialect; readonly user?: string }
  | { readonly kind: 'assign'; readonly name: string; readonly value: string }

/** Which shell reads a script: they disagree about syntax, and so about what runs. */
export type Dialect = 'bash' | 'posix'

/** A wrapper taken apart: its own words, and what it runs. */
export interface Unwrapped {
  readonly own: readonly string[]
  readonly inner: readonly Inner[]
}

/**
 * Takes a wrapper's command line apart. Returns `undefined` when this use of it runs nothing else, and a text that says
 * what of it is not understood.
 */
export type Wrapper = (argv: Argv) => Unwrapped | string | undefined

/** Shells and how they read a script. */
const SHELLS: Readonly<Record<string, Dialect>> = { bash: 'bash', sh: 'posix', dash: 'posix', ash: 'posix' }

/** A wrapper that has options, then perhaps a number of operands of its own, then the command. */
function plain(grammar: OptionGrammar, operands = 0): Wrapper {
  return (argv) => {
    const read = readOptions(argv, 1, grammar)
    if (typeof read === 'string') return read
    return commandAt(argv, read.next + operands)
  }
}

function commandAt(
  argv: Argv,
  at: number,
  user?: string,
  assigns: readonly Inner[] = [],
): Unwrapped | string | undefined {
  if (at > literalCount(argv)) return 'what it runs is computed'
  const own = argv.words.slice(0, at)
  if (at >= argv.words.length) return assigns.length === 0 ? undefined : { own, inner: assigns }
  return { own, inner: [...assigns, { kind: 'argv', argv: argvFrom(argv, at), ...(user !== undefined && { user }) }] }
}

const NAME_VALUE = /^([A-Za-z_][A-Za-z0-9_]*)=([\s\S]*)$/u

/** Reads `NAME=value` operands, as env and sudo take them. */
function assignments(argv: Argv, from: number): { readonly inner: readonly Inner[]; readonly next: number } {
  const inner: Inner[] = []
  let at = from
  for (; at < literalCount(argv); at++) {
    const word = argv.words[at] ?? ''
    if (!word.includes('=')) break
    const [, name, value] = NAME_VALUE.exec(word) ?? []
    // What is no valid name may still be taken for one, so it counts as an assignment nobody listed.
    inner.push({ kind: 'assign', name: name ?? word, value: value ?? '' })
  }
  return { inner, next: at }
}

function env(argv: Argv): Unwrapped | string | undefined {
  const read = readOptions(argv, 1, {
    flags: 'i0v',
    values: 'u',
    longFlags: ['--ignore-environment', '--null', '--debug'],
    longValues: ['--unset'],
  })
  if (typeof read === 'string') return read
  const start = argv.words[read.next] === '-' ? read.next + 1 : read.next
  const assigned = assignments(argv, start)
  return commandAt(argv, assigned.next, undefined, assigned.inner)
}

function sudo(argv: Argv): Unwrapped | string | undefined {
  const read = readOptions(argv, 1, {
    flags: 'nHkKSlvV',
    values: 'up',
    longFlags: ['--non-interactive', '--set-home', '--reset-timestamp', '--stdin', '--list', '--validate', '--version'],
    longValues: ['--user', '--prompt'],
  })
  if (typeof read === 'string') return read
  if (read.options.some(({ name }) => ['-l', '-v', '-V', '-K', '--list', '--validate', '--version'].includes(name))) {
    return undefined
  }
  const user = lastValue(read.options, ['-u', '--user']) ?? 'root'
  const assigned = assignments(argv, read.next)
  return commandAt(argv, assigned.next, user, assigned.inner)
}

function doas(argv: Argv): Unwrapped | string | undefined {
  const read = readOptions(argv, 1, { flags: 'n', values: 'u' })
  if (typeof read === 'string') return read
  return commandAt(argv, read.next, lastValue(read.options, ['-u']) ?? 'root')
}

/** `runuser -u user command`; its other form is that of su. */
function runuser(argv: Argv): Unwrapped | string | undefined {
  const read = readOptions(argv, 1, { values: 'u', longValues: ['--user'] })
  if (typeof read === 'string') return su(argv)
  const user = lastValue(read.options, ['-u', '--user'])
  return user === undefined ? su(argv) : commandAt(argv, read.next, user)
}

/** `su [-] user -c script` and `su [-] -c script user`; without a script it is a shell that reads standard input. */
function su(argv: Argv): Unwrapped | string {
  if (literalCount(argv) < argv.words.length) return 'some of its words are computed'
  let user = 'root'
  let script: string | undefined
  let operands = 0
  for (let at = 1; at < argv.words.length; at++) {
    const word = argv.words[at] ?? ''
    if (word === '-' || word === '-l' || word === '--login') continue
    if (word === '-c' || word === '--command') {
      if (script !== undefined) return 'it has more than one script'
      script = argv.words[++at]
    } else if (word.startsWith('-')) return `its option ${word} is not known`
    else if (operands++ === 0) user = word
    else return 'it has more operands than a user'
  }
  if (script === undefined) return 'it starts a shell that reads its commands elsewhere'
  // The shell is whatever that account has; only what all of them read alike is understood.
  return {
    own: argv.words.filter((word) => word !== script),
    inner: [{ kind: 'script', text: script, dialect: 'posix', user }],
  }
}

/** `sh -c script name argument…`. Everything else a shell can be told is not understood. */
function shell(dialect: Dialect): Wrapper {
  return (argv) => {
    const known = literalCount(argv)
    let hasScript = false
    let at = 1
    for (; at < argv.words.length; at++) {
      if (at >= known) return 'its options are computed'
      const word = argv.words[at] ?? ''
      if (word === '--noprofile' || word === '--norc' || word === '--posix') continue
      if (word === '-o' && !hasScript && argv.words[at + 1] === 'pipefail') {
        at++
        continue
      }
      if (!/^-[ceuxlp]+$/u.test(word)) break
      hasScript ||= word.includes('c')
    }
    const isMarked = argv.words[at] === '--' && hasScript
    if (isMarked) at++
    else if (hasScript && /^[-+]/u.test(argv.words[at] ?? '')) return `its option ${argv.words[at] ?? ''} is not known`
    if (!hasScript) {
      return at >= argv.words.length || /^[-+]/u.test(argv.words[at] ?? '')
        ? 'it reads its commands from somewhere else; put them behind -c in single quotes'
        : 'it runs a script file, and what is in that is not known here'
    }
    const script = argv.words[at]
    if (script === undefined || at >= known) return 'its script is missing or computed'
    const own = [...argv.words.slice(0, at), ...argv.words.slice(at + 1)]
    return { own, inner: [{ kind: 'script', text: script, dialect }] }
  }
}

/** Runs its command through `sh -c` with the words joined by blanks. */
function watch(argv: Argv): Unwrapped | string | undefined {
  const read = readOptions(argv, 1, {
    flags: 'bcdegptwx',
    values: 'n',
    longFlags: ['--exec', '--no-title'],
    longValues: ['--interval'],
  })
  if (typeof read === 'string') return read
  if (literalCount(argv) < argv.words.length) return 'what it runs is computed'
  const own = argv.words.slice(0, read.next)
  const words = argv.words.slice(read.next)
  if (words.length === 0) return undefined
  const isDirect = read.options.some(({ name }) => name === '-x' || name === '--exec')
  if (isDirect) return { own, inner: [{ kind: 'argv', argv: { words } }] }
  return { own, inner: [{ kind: 'script', text: words.join(' '), dialect: 'posix' }] }
}

function flock(argv: Argv): Unwrapped | string | undefined {
  const read = readOptions(argv, 1, {
    flags: 'nxesuoF',
    values: 'wE',
    longFlags: ['--nonblock', '--exclusive', '--shared', '--close', '--no-fork'],
    longValues: ['--timeout', '--wait', '--conflict-exit-code'],
  })
  if (typeof read === 'string') return read
  const at = read.next + 1
  const first = argv.words[at]
  if (first === '-c' || first === '--command') {
    const script = argv.words[at + 1]
    if (script === undefined || argv.words.length > at + 2 || literalCount(argv) < argv.words.length) {
      return 'its script is missing or computed'
    }
    return { own: argv.words.slice(0, at + 1), inner: [{ kind: 'script', text: script, dialect: 'posix' }] }
  }
  if (first?.startsWith('-') === true) return `its option ${first} is not known`
  return commandAt(argv, at)
}

/** The words xargs adds come from its input: from there on only the target knows them. */
function xargs(argv: Argv): Unwrapped | string {
  const read = readOptions(argv, 1, {
    flags: '0rtx',
    values: 'nPLsIdaE',
    longFlags: ['--null', '--no-run-if-empty', '--verbose', '--exit'],
    longValues: ['--max-args', '--max-procs', '--max-chars', '--delimiter', '--arg-file'],
  })
  if (typeof read === 'string') return read
  const own = argv.words.slice(0, read.next)
  const inner = read.next < argv.words.length ? argvFrom(argv, read.next) : { words: ['echo'] }
  const replaced = lastValue(read.options, ['-I'])
  const holes = replaced === undefined ? -1 : inner.words.findIndex((word) => word.includes(replaced))
  if (holes === 0) return 'the program it runs comes from its input'
  const added = replaced === undefined ? inner.words.length : holes < 0 ? undefined : holes
  const from = Math.min(inner.dynamicFrom ?? Number.POSITIVE_INFINITY, added ?? Number.POSITIVE_INFINITY)
  return {
    own,
    inner: [{ kind: 'argv', argv: { words: inner.words, ...(Number.isFinite(from) && { dynamicFrom: from }) } }],
  }
}

const FIND_EXEC = new Set(['-exec', '-execdir', '-ok', '-okdir'])

/** Each `-exec` of find is a command; the words with `{}` in them are files nobody knows yet. */
function find(argv: Argv): Unwrapped | undefined {
  const inner: Inner[] = []
  const own: string[] = []
  for (let at = 0; at < argv.words.length; at++) {
    const word = argv.words[at] ?? ''
    own.push(word)
    if (!FIND_EXEC.has(word)) continue
    const start = at + 1
    let end = start
    while (end < argv.words.length && argv.words[end] !== ';') {
      if (argv.words[end] === '+' && argv.words[end - 1] === '{}') break
      end++
    }
    const words = argv.words.slice(start, end)
    const hole = words.findIndex((each) => each.includes('{}'))
    const computed = argv.dynamicFrom === undefined ? -1 : argv.dynamicFrom - start
    const from = [hole, computed].filter((index) => index >= 0).reduce((a, b) => Math.min(a, b), words.length)
    inner.push({ kind: 'argv', argv: { words, ...(from < words.length && { dynamicFrom: from }) } })
    at = end
  }
  return inner.length === 0 ? undefined : { own, inner }
}

/** busybox and toybox: the program is the first operand. */
function multicall(argv: Argv): Unwrapped | string | undefined {
  if (argv.words[1]?.startsWith('-') === true) return `its option ${argv.words[1]} is not known`
  return commandAt(argv, 1)
}

/** The shell's own `command` and `builtin`; `command -v name` only tells where a program is. */
function command(argv: Argv): Unwrapped | string | undefined {
  if (argv.words[1] === '-v' || argv.words[1] === '-V') return undefined
  return plain({ flags: 'p' })(argv)
}

/** `exec` without a command only redirects. */
function exec(argv: Argv): Unwrapped | string | undefined {
  return plain({})(argv)
}

/** Runs its words, joined by blanks, as a script. */
function evaluate(argv: Argv): Unwrapped | string | undefined {
  if (literalCount(argv) < argv.words.length) return 'its script is computed'
  const words = argv.words.slice(argv.words[1] === '--' ? 2 : 1)
  return { own: ['eval'], inner: [{ kind: 'script', text: words.join(' '), dialect: 'bash' }] }
}

function nice(argv: Argv): Unwrapped | string | undefined {
  // `nice -5 command` is an old spelling of `nice -n 5 command`.
  const isOld = /^-\d+$/u.test(argv.words[1] ?? '')
  return isOld ? commandAt(argv, 2) : plain({ values: 'n', longValues: ['--adjustment'] })(argv)
}

function lastValue(options: readonly Option[], names: readonly string[]): string | undefined {
  return options.findLast(({ name }) => names.includes(name))?.value
}

/** By the last segment of the program's path. */
export const WRAPPERS: ReadonlyMap<string, Wrapper> = new Map<string, Wrapper>([
  ...Object.entries(SHELLS).map(([name, dialect]) => [name, shell(dialect)] as const),
  ['sudo', sudo],
  ['doas', doas],
  ['su', su],
  ['runuser', runuser],
  ['env', env],
  ['xargs', xargs],
  ['find', find],
  ['busybox', multicall],
  ['toybox', multicall],
  ['command', command],
  ['builtin', plain({})],
  ['exec', exec],
  ['eval', evaluate],
  ['nice', nice],
  ['watch', watch],
  ['flock', flock],
  ['nohup', plain({})],
  ['setsid', plain({ flags: 'cfw', longFlags: ['--ctty', '--fork', '--wait'] })],
  ['ionice', plain({ flags: 't', values: 'cn', longFlags: ['--ignore'], longValues: ['--class', '--classdata'] })],
  ['chrt', plain({ flags: 'fr' }, 1)],
  ['taskset', plain({ flags: 'c', longFlags: ['--cpu-list'] }, 1)],
  ['stdbuf', plain({ values: 'ioe', longValues: ['--input', '--output', '--error'] })],
  ['time', plain({ flags: 'pvq' })],
  [
    'timeout',
    plain(
      {
        flags: 'fpv',
        values: 'ks',
        longFlags: ['--foreground', '--preserve-status', '--verbose'],
        longValues: ['--kill-after', '--signal'],
      },
      1,
    ),
  ],
])
