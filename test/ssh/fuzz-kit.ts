/**
 * Compares what the planner finds in random scripts with what bash really runs. Bash finds no program (its PATH leads
 * nowhere), so each command it looks for is written down with its words instead of run.
 */
import { spawnSync } from 'node:child_process'
import { mkdtempSync, readFileSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import path from 'node:path'
import { partsOf } from './plan-kit.ts'

/** What came of a run. */
export interface Fuzzed {
  readonly inputs: number
  /** Inputs that were understood whole, and so were run. */
  readonly compared: number
  /** Commands bash looked for. */
  readonly commands: number
  /** Scripts of which bash ran something that was not planned, with what. */
  readonly missed: readonly { readonly script: string; readonly ran: readonly string[] }[]
}

const ATOMS =
  `a b c1 c2 'c3' "c4" c\\5 'a b' "$x" $x $1 "$@" \${x} \${x:-c6} \${x:-$(c7)} \${x#c} \${x%%c} $(c1) $(c2 a) \`c3\` \`c1 \\\`c2\\\`\`
  "$(c4 b)" "a\`c5\`" $'c6' $'a\\x41' $'\\n' $"c7" {a,b} {} {a c* [a] ~ ~/a a=b =a x=c1 x=$(c2) -c -- - ! : [ ] [[ ]] -f = == -eq
  $((1+2)) $((x)) $(( $(c1) )) ((1)) <(c1) >(c2) \\; \\& \\| '' "" # \\# 1 2 c1# "\\"" '\\' \\\\ "\\$(c1)" '$(c1)' é @ % ^ + ?(a) @(a|b)
  eval command builtin exec true false echo test cd read export unset set printf time coproc function select alias trap source . let
  declare type hash wait return break exit c1=c2 "c1 c2" c1" "c2 c1''c2 \${!x} \${x@P} \${x[0]} \${#x} \${x/a/b} \${x:1:2} $[1] $[c1]`
    .split(/\s+/u)
    .concat(["$'\\x63\\x31'", '"$(c1 "$(c2)")"', '$(c1;c2)', '$(c1\nc2)', '<<<c1', '<<<"$(c2)"'])

const JOINTS = [
  ';',
  '\n',
  '&&',
  '||',
  '|',
  '|&',
  '&',
  ' ',
  ' ',
  ' ',
  ' ',
  ' ',
  '\t',
  '\\\n',
  '',
  ' >f1 ',
  ' 2>&1 ',
  ' <f2 ',
  ' >>f3 ',
  ' &>f4 ',
  ' >|f5 ',
  ' <>f6 ',
  ' >&f7 ',
  ' 2>f8 ',
]

const FRAMES: readonly ((inner: () => string) => string)[] = [
  (inner) => `( ${inner()} )`,
  (inner) => `{ ${inner()}; }`,
  (inner) => `if ${inner()}; then ${inner()}; else ${inner()}; fi`,
  (inner) => `for x in ${inner()}; do ${inner()}; done`,
  (inner) => `case ${inner()} in a) ${inner()};; *) ${inner()};; esac`,
  (inner) => `f() { ${inner()}; }; f`,
  (inner) => `c1 <<E\n${inner()}\nE\n`,
  (inner) => `c1 <<'E'\n${inner()}\nE\n`,
  (inner) => `c1 <<-E; ${inner()}\n\t${inner()}\n\tE\n`,
  (inner) => `echo $(${inner()})`,
  (inner) => `echo "$(${inner()})"`,
  (inner) => `echo \`${inner().replaceAll('`', '\\`')}\``,
  (inner) => `eval '${inner().replaceAll("'", '')}'`,
  (inner) => `[[ ${inner()} ]]`,
  (inner) => `[ ${inner()} ]`,
  (inner) => `! ${inner()}`,
  (inner) => `time ${inner()}`,
  (inner) => `x=${inner()}`,
  (inner) => `echo \${x:-${inner()}}`,
  (inner) => `c1 # ${inner()}`,
  (inner) => `(( ${inner()} ))`,
  (inner) => `echo $(( ${inner()} ))`,
]

/** A small generator with a seed, so that a failure can be repeated (mulberry32). */
export function random(seed: number): () => number {
  let state = seed >>> 0
  return () => {
    state = (state + 0x6d2b79f5) >>> 0
    let mixed = Math.imul(state ^ (state >>> 15), 1 | state)
    mixed = (mixed + Math.imul(mixed ^ (mixed >>> 7), 61 | mixed)) ^ mixed
    return ((mixed ^ (mixed >>> 14)) >>> 0) / 4294967296
  }
}

/** One random script: half of them wild, half of them nearly well-formed. */
export function randomScript(next: () => number): string {
  const pick = <T>(from: readonly T[]): T => from[Math.floor(next() * from.length)] as T
  let budget = 4 + Math.floor(next() * 8)
  const simple = (): string => {
    const words = [`c${1 + Math.floor(next() * 9)}`]
    while (next() < 0.5) words.push(pick(ATOMS))
    if (next() < 0.1) words.push(pick(JOINTS))
    return words.join(' ')
  }
  const wild = (): string => {
    let text = ''
    for (let left = 1 + Math.floor(next() * 5); left > 0; left--) text += pick(ATOMS) + pick(JOINTS)
    return text + pick(ATOMS)
  }
  const script = (): string => {
    if (--budget < 0) return simple()
    const draw = next()
    if (draw < 0.35) return simple()
    if (draw < 0.6) return pick(FRAMES)(script)
    if (draw < 0.85) return `${script()}${pick([';', '\n', ' && ', ' || ', ' | '])}${script()}`
    return wild()
  }
  return script()
}

/** Reads scripts that end with NUL, runs each apart, and writes down each command with the number of its script. */
// Bash writes a line at a time: with a line feed in it a record would be two writes, between which another one may come.
const LINE_FEED = '⏎'
const DRIVER = `
PATH=/nonexistent
number_of_script=-1
command_not_found_handle() { printf '%s\\0' R "$number_of_script" "$#" "\${@//$'\\n'/${LINE_FEED}}" >&9; return 0; }
while IFS= read -r -d '' script; do
  number_of_script=$((number_of_script + 1))
  ( ulimit -t 2; eval "$script" ) </dev/null >/dev/null 2>&1 8<&-
done <&8
wait
printf 'E\\0' >&9
`

/** Runs scripts in bash and returns, for each, the commands it looked for. */
export function observe(scripts: readonly string[]): readonly (readonly (readonly string[])[])[] {
  const dir = mkdtempSync(path.join(tmpdir(), 'sallyport-fuzz-'))
  try {
    const log = path.join(dir, 'log')
    const input = path.join(dir, 'input')
    spawnSync('/bin/sh', ['-c', 'cat > "$1"', 'sh', input], { input: `${scripts.join('\0')}\0` })
    const work = spawnSync(
      '/bin/bash',
      [
        '--noprofile',
        '--norc',
        '-c',
        `mkdir "$1/work"; cd "$1/work"; exec 8<"$2" 9>"$3"; ${DRIVER}`,
        'bash',
        dir,
        input,
        log,
      ],
      { timeout: 120_000, env: { PATH: '/usr/bin:/bin', HOME: dir, LC_ALL: 'C.UTF-8' }, stdio: 'ignore' },
    )
    if (work.error !== undefined) throw work.error
    return read(readFileSync(log, 'utf8'), scripts.length)
  } finally {
    rmSync(dir, { recursive: true, force: true })
  }
}

function read(log: string, count: number): string[][][] {
  const runs = Array.from({ length: count }, (): string[][] => [])
  const fields = log.split('\0').map((field) => field.replaceAll(LINE_FEED, '\n'))
  if (fields.at(-2) !== 'E') throw new Error('Bash did not run every script.')
  for (let at = 0; fields[at] === 'R';) {
    const length = Number(fields[at + 2])
    runs[Number(fields[at + 1])]?.push(fields.slice(at + 3, at + 3 + length))
    at += 3 + length
  }
  return runs
}

/** Whether a plan knew that this command could run, with these words. */
function isPlanned(words: readonly string[], script: string): boolean {
  return partsOf(script).some(({ verb, resource }) => {
    if (resource.type !== 'argv') return false
    const known = Math.min(resource.argv.length, resource.dynamicFrom ?? resource.argv.length)
    // Of a wrapper the part holds its own words; what it runs are parts of their own.
    if (verb !== 'ssh.wrap' && resource.dynamicFrom === undefined && resource.argv.length !== words.length) return false
    return words.length >= known && resource.argv.slice(0, known).every((word, index) => word === words[index])
  })
}

/** Compares until so many inputs were comparable. */
export function fuzz(seed: number, compareMin: number): Fuzzed {
  const next = random(seed)
  const chosen: string[] = []
  let inputs = 0
  while (chosen.length < compareMin) {
    inputs++
    const script = randomScript(next)
    if (script.includes('\0') || script.length > 2000) continue
    const parts = partsOf(script)
    if (parts.length > 0 && parts.every(({ verb }) => verb !== 'ssh.unknown')) chosen.push(script)
  }
  const missed: { script: string; ran: readonly string[] }[] = []
  let commands = 0
  for (let from = 0; from < chosen.length; from += 2000) {
    const some = chosen.slice(from, from + 2000)
    observe(some).forEach((ran, index) => {
      const script = some[index] ?? ''
      for (const words of ran) {
        commands++
        if (!isPlanned(words, script)) missed.push({ script, ran: words })
      }
    })
  }
  return { inputs, compared: chosen.length, commands, missed }
}
