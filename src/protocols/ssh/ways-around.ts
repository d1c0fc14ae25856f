import { quoteWord, quoteWords } from './characters.ts'
import { programName } from './argv.ts'

/** Programs of the system's administrators, which lie in another directory than the others. */
const ADMINISTRATIVE = new Set(
  'shutdown reboot poweroff halt useradd userdel usermod mkfs iptables nft ip fdisk'.split(' '),
)

/** Other programs that do what one does to its only operand. */
const SAME: Readonly<Record<string, (operand: string) => readonly string[]>> = {
  rm: (path) => [`find ${path} -delete`],
  unlink: (path) => [`rm ${path}`, `find ${path} -delete`],
  cat: (path) => [`head -n -0 ${path}`, `dd if=${path}`],
  shutdown: (when) => (when === quoteWord('now') ? ['systemctl poweroff', 'poweroff'] : []),
  reboot: () => ['systemctl reboot', 'shutdown -r now'],
  curl: (url) => [`wget -O - ${url}`],
  wget: (url) => [`curl -O ${url}`],
}

/** Programs whose words are files or places, with what an example of them is given. */
const OPERANDS: Readonly<Record<string, readonly string[]>> = {
  rm: ['-rf', '/srv/data'],
  cat: ['/etc/passwd'],
  curl: ['https://example.com/'],
  wget: ['https://example.com/'],
  shutdown: ['now'],
}

/** Words for an example of a program that may be given any. */
export function exampleOperands(program: string): readonly string[] {
  return OPERANDS[programName(program)] ?? []
}

/**
 * Command lines that do what a command does and are spelled otherwise: by a path, through a wrapper, by an interpreter,
 * with its options apart, by another program. Which of them a policy stops is for the policy to say; whoever shows one
 * plans and decides it first.
 */
export function waysAround(argv: readonly string[]): readonly string[] {
  const [program = '', ...words] = argv
  const name = programName(program)
  const line = quoteWords(argv)
  const behind = words.length === 0 ? '' : ` ${quoteWords(words)}`
  const directory = ADMINISTRATIVE.has(name) ? '/usr/sbin' : '/usr/bin'
  return [
    ...(program === name ? [] : [`${name}${behind}`]),
    `${directory}/${name}${behind}`,
    ...same(name, words),
    `python3 -c ${quoteWord(`import subprocess; subprocess.run(${JSON.stringify(argv)})`)}`,
    ...split(program, words),
    `busybox ${line}`,
    `env ${line}`,
    `sh -c ${quoteWord(line)}`,
    `perl -e ${quoteWord(`exec qw(${argv.join(' ')})`)}`,
    `awk ${quoteWord(`BEGIN { system(${JSON.stringify(line)}) }`)}`,
    `timeout 60 ${line}`,
    `nice ${line}`,
    `echo${behind} | xargs ${quoteWord(program)}`,
    `find / -maxdepth 0 -exec ${line} ';'`,
  ]
}

function same(name: string, words: readonly string[]): readonly string[] {
  const operands = words.filter((word) => !word.startsWith('-'))
  const others = Object.hasOwn(SAME, name) ? SAME[name] : undefined
  return others === undefined || operands.length > 1 ? [] : others(quoteWord(operands[0] ?? ''))
}

/** The same options one by one, and the other way round: a pattern that lists words means just those. */
function split(program: string, words: readonly string[]): readonly string[] {
  const at = words.findIndex((word) => /^-[a-zA-Z]{2,}$/u.test(word))
  const joined = words[at]
  if (joined === undefined) return []
  const letters = joined.slice(1).split('')
  const variants = [letters.map((letter) => `-${letter}`), [`-${letters.toReversed().join('')}`]]
  return variants.map((options) => quoteWords([program, ...words.slice(0, at), ...options, ...words.slice(at + 1)]))
}
