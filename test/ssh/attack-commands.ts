/**
 * Commands that must not run under a policy that allows `uname`, `cat`, `printf` and their like, with any words.
 *
 * @packageDocumentation
 */
/** That policy, for the target `box`. */
export const POLICY = `
targets: [box]
rules:
  - {id: tools, effect: allow, principals: [group:agents], actions: [ssh.exec], resources: [{argv: [{in: [uname, cat, wc, printf, "true", "false", id, ls, tr, seq, sleep, printenv]}, {rest: any}]}]}
  - {id: words, effect: allow, principals: [group:agents], actions: [ssh.builtin, ssh.assign], resources: ["**"]}
  - {id: not-that, effect: deny, actions: [ssh.exec], resources: [{argv: [cat, /etc/shadow]}]}
`

/** A request for any door. `FILE` is a path that must never come to be; `DIR` a directory a policy may name. */
export interface Asked {
  readonly argv?: readonly string[]
  readonly command?: string
  readonly stdin?: string
  /** The command line a client sends to have `command` read as a script from its input. */
  readonly script?: string
}

export const commandOf = (command: string, stdin?: string): Asked => ({
  command,
  ...(stdin !== undefined && { stdin }),
})
export const wordsOf = (...argv: string[]): Asked => ({ argv })

const c = commandOf
const words = wordsOf

/** Ways to run something else behind a command that is allowed, of every class that is known to have fooled somebody. */
export const DENIED: readonly Asked[] = [
  ...[
    'rm FILE',
    'uname; rm -rf FILE',
    'uname && tee FILE',
    'uname | tee FILE',
    'uname & tee FILE',
    'uname\ntee FILE',
  ].map((x) => c(x)),
  ...[
    'uname $(tee FILE)',
    'uname `tee FILE`',
    'uname <(tee FILE)',
    'uname "$(tee FILE)"',
    'x=$(tee FILE)',
    'echo ${x:-$(tee FILE)}',
  ].map((x) => c(x)),
  ...[
    'echo $((x[$(tee FILE)]))',
    'cat <<E\n$(tee FILE)\nE',
    'cat <<< $(tee FILE)',
    'case $(tee FILE) in *) ;; esac',
  ].map((x) => c(x)),
  ...[
    'uname > FILE',
    'uname >> FILE',
    'uname 2> FILE',
    'uname &> FILE',
    '> FILE',
    'cat < /etc/hostname',
    'uname <> FILE',
  ].map((x) => c(x)),
  ...[
    'x=tee; $x FILE',
    '${x:-tee} FILE',
    't"e"e FILE',
    "t'e'e FILE",
    't\\ee FILE',
    "$'tee' FILE",
    '{tee,FILE}',
    'te? FILE',
  ].map((x) => c(x)),
  ...[
    'tee${IFS}FILE',
    'uname;$IFS tee FILE',
    'IFS=x uname',
    'PATH=/tmp uname',
    'LD_PRELOAD=/tmp/x.so uname',
    'BASH_ENV=FILE uname',
  ].map((x) => c(x)),
  ...[
    'env LD_PRELOAD=x uname',
    'env -S "tee FILE"',
    'env tee FILE',
    'timeout 5 tee FILE',
    'nice tee FILE',
    'xargs tee',
    'xargs sh -c',
  ].map((x) => c(x)),
  ...[
    "sh -c 'tee FILE'",
    "bash -c 'uname; tee FILE'",
    'sh DIR/free/data',
    'bash --rcfile FILE',
    'eval tee FILE',
    'eval "$x"',
  ].map((x) => c(x)),
  ...[
    'sudo tee FILE',
    'su -c "tee FILE"',
    'busybox tee FILE',
    'find / -exec tee FILE \\;',
    'ssh h tee FILE',
    'nohup tee FILE',
  ].map((x) => c(x)),
  ...[
    '/usr/bin/tee FILE',
    './tee FILE',
    '../tee FILE',
    'command tee FILE',
    'builtin eval tee',
    'exec tee FILE',
    '. FILE',
  ].map((x) => c(x)),
  ...[
    'uname() { tee FILE; }; uname',
    'alias uname=tee; uname',
    'trap "tee FILE" EXIT',
    'coproc tee FILE',
    'shopt -s extglob',
  ].map((x) => c(x)),
  ...[
    'echo x > /dev/tcp/127.0.0.1/22',
    'cat < /dev/udp/127.0.0.1/53',
    'exec 3<>/dev/tcp/127.0.0.1/22',
    'cat /etc/shadow',
  ].map((x) => c(x)),
  ...[
    'un\u0430me',
    'uname\u00a0-s',
    'uname\u200b',
    'uname \u202etxt',
    'uname\r',
    'uname -s\u2028tee FILE',
    '\ufeffuname',
    'ｕname',
  ].map((x) => c(x)),
  ...[
    ' ',
    '# only a comment',
    '((1))',
    'uname )',
    'uname "',
    "uname '",
    'if true; then',
    '$(',
    'nproc a b c',
    'sleep 5 & disown',
  ].map((x) => c(x)),
  ...[
    'python3 -c "open(FILE)"',
    'perl -e 1',
    'awk BEGIN{}',
    'tar cf FILE /',
    'git status',
    'vi',
    'less /etc/passwd',
    'scp -t /',
  ].map((x) => c(x)),
  words('rm', 'FILE'),
  words('un\u0430me'),
  words('sh', '-c', 'tee FILE'),
  words('/bin/uname'),
  words(''),
  words('uname\n'),
  c(`uname ${'$('.repeat(300)}`),
]
