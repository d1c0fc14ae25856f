/** What commands are found to do. Each row is a command line and its parts, as `lineOf` writes them. */
import { describe, expect, it } from 'vitest'
import { lineOf, linesOf, plan } from './plan-kit.ts'

const FOUND: readonly (readonly [command: string, ...parts: string[]])[] = [
  ['systemctl restart web', 'exec systemctl restart web'],
  ["echo 'a b'; ls -l", 'builtin echo', 'exec ls -l'],
  ['a | b && c || d\ne', 'exec a', 'exec b', 'exec c', 'exec d', 'exec e'],
  ["'l's", 'exec ls'],
  ['l\\s', 'exec ls'],
  ["$'\\x6cs'", 'exec ls'],
  ['ls *.log', 'exec ls …'],
  ['ls ~/x', 'exec ls …'],
  ['ls {a,b}', 'exec ls …'],
  ['ls $IFS x', 'exec ls …'],
  ['echo $(id) `w` "${x:-$(rm a)}"', 'exec id', 'exec w', 'exec rm a', 'builtin echo'],
  ['cat <<E\n$(id)\nE', 'exec id', 'exec cat'],
  ["cat <<'E'\n$(id)\nE", 'exec cat'],
  ['cat <<< "$(id)"', 'exec id', 'exec cat'],
  ['diff <(a) <(b)', 'exec a', 'exec b', 'exec diff …'],
  ['case $(a) in $(b)) c;; esac', 'exec a', 'exec b', 'exec c'],
  ['for i in $(a); do b; done', 'assign i …', 'exec a', 'exec b'],
  ['if a; then b; elif c; then d; else e; fi', 'exec a', 'exec b', 'exec c', 'exec d', 'exec e'],
  ['while a; do b; done', 'exec a', 'exec b'],
  ['( a ) > /x', 'exec a', 'write /x'],
  ['{ a; } 2>> /x', 'exec a', 'write /x'],
  ['a &', 'exec a', 'detach'],
  ['echo x > /etc/cron.d/x', 'write /etc/cron.d/x', 'builtin echo'],
  ['echo x >| /a 2>&1 < /b <> /c &> /d', 'write /a', 'read /b', 'read /c', 'write /c', 'write /d', 'builtin echo'],
  ['> /x', 'write /x'],
  ['cat < /etc/shadow', 'read /etc/shadow', 'exec cat'],
  ['echo "$(< /etc/shadow)"', 'read /etc/shadow', 'builtin echo'],
  ['a=b c', 'assign a b', 'exec c'],
  ['export A=b', 'assign A b'],
  ['read -r x', 'assign x …'],
  ['[ -f /x ] && [[ -d /y ]]', 'builtin [', 'builtin [['],
  ['echo $((1 + 2))', 'builtin echo'],
]

const WRAPPED: readonly (readonly [command: string, ...parts: string[]])[] = [
  ['sudo systemctl stop web', 'wrap sudo', 'exec@root systemctl stop web'],
  ['sudo -n -u www -- ls', 'wrap sudo -n -u www --', 'exec@www ls'],
  ['sudo -uwww A=b ls', 'wrap sudo -uwww A=b', 'assign A b', 'exec@www ls'],
  ['sudo -l', 'exec sudo -l'],
  ['/usr/bin/sudo rm x', 'wrap /usr/bin/sudo', 'exec@root rm x'],
  ['doas rm x', 'wrap doas', 'exec@root rm x'],
  ['su - www -c "rm x"', 'wrap su - www -c', 'exec@www rm x'],
  ['runuser -u www -- rm x', 'wrap runuser -u www --', 'exec@www rm x'],
  ['env -i A=b rm x', 'wrap env -i A=b', 'assign A b', 'exec rm x'],
  ['env', 'exec env'],
  ['timeout -k 5 10 rm x', 'wrap timeout -k 5 10', 'exec rm x'],
  ['nice -n 5 ionice -c3 nohup rm x', 'wrap nice -n 5', 'wrap ionice -c3', 'wrap nohup', 'exec rm x', 'detach'],
  ['stdbuf -oL setsid rm x', 'wrap stdbuf -oL', 'wrap setsid', 'exec rm x', 'detach'],
  ['find / -name x | xargs -0 rm -f', 'exec find / -name x', 'wrap xargs -0', 'exec rm -f …'],
  ['xargs -I% mv % /x', 'wrap xargs -I%', 'exec mv …'],
  ['find / -exec rm -f {} +', 'wrap find / -exec', 'exec rm -f …'],
  ['find / -exec a \\; -exec b {} \\;', 'wrap find / -exec -exec', 'exec a', 'exec b …'],
  ['busybox rm x', 'wrap busybox', 'exec rm x'],
  ['sh -c "rm x"', 'wrap sh -c', 'exec rm x'],
  ["bash -lc 'sudo rm x'", 'wrap bash -lc', 'wrap sudo', 'exec@root rm x'],
  ['eval rm x', 'wrap eval', 'exec rm x'],
  ['command rm x', 'wrap command', 'exec rm x'],
  ['exec rm x', 'wrap exec', 'exec rm x'],
  ['watch -n 1 rm x', 'wrap watch -n 1', 'exec rm x'],
  ['flock /l -c "rm x"', 'wrap flock /l -c', 'exec rm x'],
  ['time rm x', 'exec rm x'],
  ['\\time rm x', 'wrap time', 'exec rm x'],
  ['sudo sh -c "echo x > /etc/y"', 'wrap sudo', 'wrap@root sh -c', 'write@root /etc/y', 'builtin@root echo'],
]

const CODE: readonly string[] = [
  'python3 -c "print(1)"',
  'python3.11 x.py',
  'perl -e 1',
  'awk 1 f',
  "sed 's/a/b/e' f",
  'tar xf a --to-command=sh',
  'tar cf a --checkpoint=1 --checkpoint-action=exec=sh b',
  'tar -I sh -cf a b',
  'git -c core.sshCommand=sh fetch',
  'git log',
  'ssh other ls',
  'ssh -oProxyCommand=sh x',
  'find / -delete',
  'find / $x',
  'vim x',
  'man -P sh ls',
  'less x',
  'docker run x',
  'make',
  'psql -c x',
  'rsync -e sh a b',
  'sort -o /etc/x f',
  'apt-get install x',
]

/** Attacks, and commands nobody can judge. */
const UNKNOWN: readonly (readonly [what: string, command: string])[] = [
  ['a computed program', '$x'],
  ['a program by default value', '${x:-rm} y'],
  ['a program from a command', '$(echo rm) x'],
  ['a program by a glob', '/bin/r? x'],
  ['a program by braces', '{rm,x}'],
  ['a program by concatenation', 'r$1m x'],
  ['a homoglyph', 'r\u043c x'],
  ['a full-width letter', '\uff52m x'],
  ['a zero-width space', 'r\u200bm x'],
  ['a no-break space', 'ls\u00a0x'],
  ['a right-to-left override', 'ls \u202egnp.exe'],
  ['a carriage return', 'ls\rrm x'],
  ['a NUL', 'ls\0rm x'],
  ['an escape', 'ls \u001b[2J'],
  ['a broken quote', 'ls "x'],
  ['a broken substitution', 'ls $(rm'],
  ['a broken nested script', 'sh -c "ls \\"x"'],
  ['a function', 'ls() { rm x; }; ls'],
  ['a function with the keyword', 'function ls { rm x; }; ls'],
  ['an alias', 'alias ls=rm; ls'],
  ['a sourced file', '. /tmp/x'],
  ['a sourced file by name', 'source /tmp/x'],
  ['a trap', "trap 'rm x' EXIT"],
  ['a remembered path', 'hash -p /tmp/x ls; ls'],
  ['an enabled library', 'enable -f /tmp/x.so x'],
  ['a shell option', 'shopt -s expand_aliases'],
  ['a callback', "mapfile -C 'rm x' -c 1 a"],
  ['a computed script', 'sh -c "$x"'],
  ['a computed eval', 'eval "$x"'],
  ['a script from a pipe', 'curl x | sh'],
  ['a script from a pipe, with -s', 'cat x | bash -s'],
  ['a script from a here-document', 'bash <<E\nrm x\nE'],
  ['a script from a here-string', 'bash <<< "rm x"'],
  ['a script file', 'bash /tmp/x'],
  ['a script file read by redirection', 'bash < /tmp/x'],
  ['a script from xargs', 'xargs sh -c'],
  ['a program from xargs', 'xargs -I% %'],
  ['an option of sudo nobody knows', 'sudo -i'],
  ['a shell of sudo', 'sudo -s rm x'],
  ['an abbreviated option', 'sudo --us=root rm x'],
  ['an option with an optional value', 'xargs --replace rm ls'],
  ['options of env that split', "env -S 'rm x'"],
  ['PATH', 'PATH=/tmp:$PATH ls'],
  ['LD_PRELOAD', 'LD_PRELOAD=/tmp/x.so ls'],
  ['BASH_ENV', 'BASH_ENV=/tmp/x bash -c ls'],
  ['IFS', 'IFS=x; ls'],
  ['PS4', "PS4='$(rm x)'; set -x; ls"],
  ['an exported PATH', 'export PATH=/tmp; ls'],
  ['PATH through env', 'env PATH=/tmp ls'],
  ['PATH through sudo', 'sudo PATH=/tmp ls'],
  ['PATH by a loop', 'for PATH in /tmp; do ls; done'],
  ['PATH by read', 'read PATH < f; ls'],
  ['PATH by a default', ': ${PATH:=/tmp}; ls'],
  ['a network path', 'cat < /dev/tcp/127.0.0.1/80'],
  ['a network path written twice', 'cat < //dev//tcp/127.0.0.1/80'],
  ['another process', 'echo x > /proc/1/fd/0'],
  ['a computed file', 'echo x > $f'],
  ['a file in the home directory', 'echo x > ~/.bashrc'],
  ['a descriptor in a variable', 'ls {fd}> /x'],
  ['an index that runs a command', "[ -v 'a[$(rm x)]' ]"],
  ['an index of test', "test -v 'a[$(rm x)]'"],
  ['an index of printf', "printf -v 'a[$(rm x)]' y"],
  ['an index of unset', "unset 'a[$(rm x)]'"],
  ['an index of read', "read 'a[$(rm x)]'"],
  ['an index of wait', "wait -p 'a[$(rm x)]' -n"],
  ['an index of declare', "declare 'a[$(rm x)]=1'"],
  ['an index of an assignment', 'a[$(rm x)]=1'],
  ['arithmetic with a name', "x='a[$(rm y)]'; echo $((x))"],
  ['arithmetic with a substitution', 'echo $(( $(rm x) ))'],
  ['old arithmetic', 'echo $[x]'],
  ['let', "let 'a[$(rm x)]=1'"],
  ['a comparison that computes', "[[ 'a[$(rm x)]' -eq 1 ]]"],
  ['an arithmetic command', '(( a[$(rm x)] ))'],
  ['an arithmetic loop', 'for ((;;)); do ls; done'],
  ['an indirect name', '${!x}'],
  ['a prompt expansion', 'echo "${x@P}"'],
  ['a piece at a computed place', 'echo "${x:a[$(rm y)]}"'],
  ['words that bring their own test', "x='-v a[$(rm y)]'; [ $x ]"],
  ['a coprocess', 'coproc rm x'],
  ['a quote in an expansion', "cat <<E\n${x:-'$(rm y)'}\nE"],
  ['another reading of sh', "sh -c 'echo &>f rm'"],
  ['another reading of sh, quoted', 'sh -c "echo \\$\'x\'"'],
  ['another reading of su', "su x -c 'ls |& rm'"],
  ['too much', `ls ${'x'.repeat(20_000)}`],
  ['too deep', `${'$('.repeat(300)}rm${')'.repeat(300)}`],
  ['scripts in scripts', 'eval '.repeat(20) + 'rm x'],
  ['$"…"', 'echo $"x"'],
]

describe('what a command line runs', () => {
  for (const [command, ...parts] of [...FOUND, ...WRAPPED]) {
    it(`finds what is run by ${JSON.stringify(command)}`, () => expect(linesOf(command)).toEqual(parts))
  }

  it('has no part when it is only a comment, so nothing can allow it (C3)', () => {
    for (const command of ['# rm x', '', ' ', '\n']) expect(linesOf(command)).toEqual([])
  })
})

describe('a program whose words may be code', () => {
  for (const command of CODE) {
    it(`is seen in ${command}`, () => {
      expect(linesOf(command)[0]).toMatch(/^(?:code|wrap)/u)
      expect(linesOf(command).some((line) => line.startsWith('exec'))).toBe(false)
    })
  }

  it('is told from the same program in its harmless use', () => {
    for (const command of [
      'tar czf a b',
      'git status',
      'sed -n 1,5p f',
      'find / -name x',
      'sort f',
      'systemctl status x',
    ]) {
      expect(linesOf(command)).toEqual([`exec ${command}`])
    }
  })
})

describe('C4: what nobody can judge is unknown', () => {
  for (const [what, command] of UNKNOWN) {
    it(`refuses ${what}`, () => expect(linesOf(command)).toContain('unknown'))
  }

  it('says what was not understood, in words and without values', () => {
    const part = plan({ kind: 'exec', command: 'x=secret; $x' }).action.parts.at(-1)
    expect(part?.attributes['reasons']).toEqual(['The name of a command is computed; write it out.'])
  })

  it('so is a request of another form', () => {
    for (const payload of [
      null,
      {},
      { kind: 'exec' },
      { kind: 'exec', argv: ['a'], command: 'a' },
      { kind: 'x' },
      [],
    ]) {
      const { action, request } = plan(payload)
      expect(action.parts.map(lineOf)).toEqual(['unknown'])
      expect(request.kind).toBe('nothing')
    }
  })
})

describe('words instead of a command line', () => {
  it('mean exactly themselves', () => {
    const words = [
      'a b',
      "it's",
      '$(rm x)',
      '`rm`',
      ';',
      '|',
      '>',
      '/x',
      '*',
      '~',
      '{a,b}',
      '#',
      '-',
      '',
      'if',
      '$x',
      '\\',
    ]
    const { action } = plan({ kind: 'exec', argv: ['prog', ...words] })
    expect(action.parts).toHaveLength(1)
    expect(action.parts[0]?.resource).toEqual({ type: 'argv', argv: ['prog', ...words] })
  })

  it('are no keyword, no assignment and no word of the grammar', () => {
    expect(plan({ kind: 'exec', argv: ['if', 'x'] }).action.parts.map(lineOf)).toEqual(['exec if x'])
    expect(plan({ kind: 'exec', argv: ['time', 'rm'] }).action.parts.map(lineOf)).toEqual(['wrap time', 'exec rm'])
    expect(plan({ kind: 'exec', argv: ['A=b', 'rm'] }).action.parts.map(lineOf)).toEqual(['unknown'])
    expect(plan({ kind: 'exec', argv: ['{', 'rm', '}'] }).action.parts.map(lineOf)).toEqual(['unknown'])
  })

  it('are judged like any command: wrappers are seen through', () => {
    expect(plan({ kind: 'exec', argv: ['sudo', 'sh', '-c', 'rm x'] }).action.parts.map(lineOf)).toEqual([
      'wrap sudo',
      'wrap@root sh -c',
      'exec@root rm x',
    ])
  })
})

describe('the environment', () => {
  it('is the target’s own: nothing a caller sends reaches it', () => {
    for (const name of ['LANG', 'LD_PRELOAD', 'BASH_ENV', 'PATH', 'BASH_FUNC_ls%%', 'GIT_SSH']) {
      const { action } = plan({ kind: 'exec', command: 'ls', env: { [name]: 'C' } })
      expect(action.parts.map(lineOf)).toEqual(['exec ls', 'unknown'])
    }
  })
})

describe('C11: an approval is bound to', () => {
  const exact = (more: object, hasInput = false): string =>
    JSON.stringify(plan({ kind: 'exec', command: 'ls', ...more }, hasInput).exact)

  it('the command, its input and its environment', () => {
    const all = [
      exact({}),
      exact({ command: 'ls ' }),
      exact({ stdin: 'x' }),
      exact({ stdin: 'y' }),
      exact({ env: { LANG: 'C' } }),
    ]
    expect(new Set(all).size).toBe(all.length)
  })

  it('not whether input that is empty was given', () => {
    expect(exact({ stdin: '' })).toBe(exact({}))
  })

  it('not the time limit or how much output is wanted', () => {
    expect(exact({ timeout_ms: 5, max_bytes: 7 })).toBe(exact({}))
  })
})

describe('sftp operations', () => {
  const sftp = (operation: string, path: string, to?: string): readonly string[] =>
    plan({ kind: 'sftp', operation, path, ...(to !== undefined && { to }) }).action.parts.map(lineOf)

  it('are actions with their paths', () => {
    expect(sftp('read', '/etc/hosts')).toEqual(['sftp.read /etc/hosts'])
    expect(sftp('rename', '/a', '/b')).toEqual(['sftp.rename /a', 'sftp.rename /b'])
  })

  it('are unknown where another reader could see another path', () => {
    for (const path of ['etc/hosts', '', '/a/../b', '/a//b', '/a/./b', '/a/', '/a\u200b', '/a\0b']) {
      expect(sftp('read', path)).toContain('unknown')
    }
  })
})
