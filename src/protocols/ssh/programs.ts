/**
 * What is known of single programs beside the wrappers: which run code that stands in their arguments or in files they
 * are pointed at, and which words belong to the shell itself.
 *
 * This is no list of dangerous programs: a policy lists what may run, and everything else is denied. The table only
 * keeps a rule that means "tar" or "git log" from also meaning any program at all.
 *
 * @packageDocumentation
 */
import { literalCount, programName, type Argv } from './argv.ts'

/** Programs whose ordinary use is to run code, or to give somebody a prompt that does. */
const INTERPRETERS = new Set(
  `ansible ansible-playbook ar as at atq awk batch bpftrace bundle byobu cargo cc clang cpan cpulimit crontab csh dash
  dbus-run-session dmsetup dnf docker dosbox dotnet ed elvish emacs ex expect fakeroot firejail fish ftp g++ gawk gcc gdb gem
  gimp go groovy guile helm irb java jjs jq-repl jrunscript jshell julia ksh ksh93 kubectl ld less lftp logrotate
  ltrace lua luajit lxc lxc-attach m4 mail make man mawk mc mksh more most multitime mutt mysql nano nawk nerdctl newgrp
  nix-shell node nodejs npm npx nsenter octave openvpn osascript pager parallel parallel-ssh perf perl pg php pic pico pip
  pip3 pipx pkexec podman poetry posh proot prun psql puppet pwsh pydoc python python2 python3 qemu-system-x86_64 rake
  rbash rc redis-cli restic rlwrap rscript ruby run-mailcap run-parts runcon rvim salt-call scala schroot screen script
  setarch setpriv sftp sg slsh socat sqlite3 ssh ssh-agent start-stop-daemon stap strace svn systemd-nspawn systemd-run
  tclsh tcsh telnet tmux top troff ts-node unshare uv uvx vagrant valgrind vi view vim vimdiff visudo w3m wish xdotool xterm
  yarn yash yum zsh chroot capsh dpkg rpm rpmbuild apt apt-get aptitude snap pacman apk nc ncat netcat dialog whiptail
  busctl dstat ip gtester ld.so ld-linux-x86-64.so.2 ld-linux.so.2 rsh rlogin mosh pdsh vipw vigr edit
  sensible-editor sensible-pager sudoedit doasedit fzf watchexec entr inotifywait incrontab anacron`.split(/\s+/u),
)

/** Versioned names of the same: `python3.11`, `lua5.4`, `gcc-12`, `php8.2`. */
const VERSIONED = /^(?:python|perl|ruby|lua|php|node|gcc|g\+\+|clang|tclsh|ld-linux)[-\d.x_so]*$/u

/** Programs that run code only when they are told to; each test sees the words behind the program's name. */
const SOMETIMES: Readonly<Record<string, (words: readonly string[]) => boolean>> = {
  tar: (words) =>
    words.some(
      (word) => /^--(?:ch|to-c|i[^g]*$|i|us|info-s|rs|rmt|new-v)/u.test(word) || /^-?[A-Za-z]*[IF]/u.test(word),
    ),
  git: (words) => !isPlainGit(words),
  find: (words) => words.some((word) => /^-(?:delete|fprint|fprint0|fprintf|fls|files0-from)$/u.test(word)),
  sort: (words) => words.some((word) => /^--(?:c|o)/u.test(word) || /^-[A-Za-z]*[oST]/u.test(word)),
  sed: (words) => !isPlainSed(words),
  split: (words) => words.some((word) => word.startsWith('--f')),
  zip: (words) => words.some((word) => /^-[A-Za-z]*T/u.test(word) || word.startsWith('--u') || word.startsWith('--t')),
  tcpdump: (words) => words.some((word) => /^-[A-Za-z]*[zwF]/u.test(word) || word.startsWith('--')),
  wget: (words) => words.some((word) => /^--(?:us|e|c)/u.test(word) || /^-[A-Za-z]*e/u.test(word)),
  systemctl: (words) =>
    words.some((word) => /^(?:edit|link|set-environment|import-environment|set-property)$/u.test(word)),
  mount: (words) => words.length > 0,
  // What a client starts at the far end: it moves one file or tree and starts nothing.
  scp: (words) => !isFarScp(words),
  rsync: (words) => words[0] !== '--server' || !words.slice(1, -1).every(isPlainRsync),
  date: (words) => words.some((word) => /^-[A-Za-z]*[sf]/u.test(word) || /^--(?:s|f)/u.test(word)),
}

/** `scp -t path` and `scp -f path`, with the options a client adds. */
function isFarScp(words: readonly string[]): boolean {
  const options = words.slice(0, -1)
  const isPlain = options.every((word) => word === '--' || /^-[dfprtv]+$/u.test(word))
  return isPlain && options.some((word) => /[tf]/u.test(word)) && words.at(-1)?.startsWith('-') === false
}

/** Options rsync gives its own far end. In `-e.LsfxCIvu` the letter is no program to run: it only tells what is known. */
function isPlainRsync(word: string): boolean {
  return /^(?:\.|--sender|--delete(?:-during|-after|-before)?|-[vlogDtprcCuzHAXxnWmyS]*(?:e\.[A-Za-z]*)?)$/u.test(word)
}

/** Git runs pagers, editors, hooks, aliases and helpers; only plain reading is known to run none that a caller chose. */
function isPlainGit(words: readonly string[]): boolean {
  const reading = new Set(['status', 'rev-parse', 'ls-files', 'describe', 'cat-file', 'rev-list'])
  return (
    reading.has(words[0] ?? '') &&
    words.every((word) => !/^--(?:e|textconv|filters|upload|recei|output|git)/u.test(word))
  )
}

/** Prints, deletes or quits at addresses; nothing that writes, reads or runs. */
function isPlainSed(words: readonly string[]): boolean {
  const [first, script, ...files] = words
  if (first !== '-n' || script === undefined) return false
  return /^(?:\d+|\$)?(?:,(?:\d+|\$|\+\d+))?[pdq=]$/u.test(script) && files.every((word) => !word.startsWith('-'))
}

/** Whether a command runs code that stands in its own words, or may. */
export function runsCode(argv: Argv): boolean {
  const name = programName(argv.words[0] ?? '')
  if (INTERPRETERS.has(name) || VERSIONED.test(name)) return true
  const test = Object.hasOwn(SOMETIMES, name) ? SOMETIMES[name] : undefined
  if (test === undefined) return false
  // Fail closed: a word nobody knows yet may be the option that runs something.
  return literalCount(argv) < argv.words.length || argv.dynamicFrom !== undefined || test(argv.words.slice(1))
}

/** Words of the shell that change what later words mean, or read commands from where nobody looks. */
const REFUSED: Readonly<Record<string, string>> = {
  alias: 'defines other names for commands',
  unalias: 'changes names of commands',
  source: 'runs a file whose contents are not known here',
  '.': 'runs a file whose contents are not known here',
  trap: 'runs a script later',
  enable: 'changes which commands the shell has itself',
  hash: 'changes where programs are found',
  shopt: 'changes how the shell reads what follows',
  let: 'computes, which can run commands',
  declare: 'sets attributes of variables, which can run commands',
  typeset: 'sets attributes of variables, which can run commands',
  mapfile: 'can run commands for what it reads',
  readarray: 'can run commands for what it reads',
  getopts: 'assigns variables it is not told',
  bind: 'binds commands to keys',
  complete: 'defines completions, which run commands',
  compgen: 'makes completions, which run commands',
  compopt: 'changes completions',
  fc: 'runs commands from a history',
  history: 'changes a history of commands',
  fg: 'resumes jobs',
  bg: 'resumes jobs',
  disown: 'leaves jobs running',
  suspend: 'stops the shell',
  logout: 'ends a login shell',
  popd: 'works on a list of directories',
  pushd: 'works on a list of directories',
  dirs: 'works on a list of directories',
  caller: 'tells of functions',
  jobs: 'can run a command in place of a job',
}

/** Why a word of the shell is not understood, or `undefined`. */
export function whyRefused(name: string): string | undefined {
  return Object.hasOwn(REFUSED, name) ? REFUSED[name] : undefined
}

const UNARY = new Set('-a -b -c -d -e -f -g -h -k -n -p -r -s -u -w -x -z -G -L -N -O -S'.split(' '))
const BINARY = new Set('= == != -eq -ne -lt -le -gt -ge -nt -ot -ef'.split(' '))

/**
 * Whether a command is a harmless word of the shell itself: it changes nothing but the state of this one script.
 * Returns a text when it is such a word and does what is not understood.
 */
export function builtinOf(argv: Argv): boolean | string {
  const [name = '', ...words] = argv.words
  const known = literalCount(argv)
  switch (name) {
    case ':':
    case 'true':
    case 'false':
    case 'echo':
    case 'pwd':
    case 'cd':
    case 'exit':
    case 'return':
    case 'break':
    case 'continue':
    case 'shift':
    case 'times':
    case 'umask':
    case 'ulimit':
    case 'type':
    case 'command':
    case 'exec':
      return true
    case 'printf':
      // A word that is not known could be `-v`, whose value is computed like an array's index.
      return known < 2 || words[0]?.startsWith('-') === true ? 'its format is an option or computed' : true
    case 'test':
      return isPlainTest(words, argv) || 'its expression is one that can run commands'
    case '[':
      return (
        (words.at(-1) === ']' && isPlainTest(words.slice(0, -1), argv)) || 'its expression is one that can run commands'
      )
    case 'set':
      return words.every((word, index) => /^[-+][eux]+$/u.test(word) || isPipefail(words, index)) &&
        known === argv.words.length
        ? true
        : 'it sets more than -e, -u, -x and -o pipefail'
    case 'wait':
      return (
        (known === argv.words.length && words.every((word) => /^\d+$/u.test(word))) || 'it waits for more than numbers'
      )
    default:
      return false
  }
}

function isPipefail(words: readonly string[], index: number): boolean {
  if (words[index] === 'pipefail') return /^-[eux]*o$/u.test(words[index - 1] ?? '')
  return /^-[eux]*o$/u.test(words[index] ?? '') && words[index + 1] === 'pipefail'
}

/** `test` evaluates names of variables (`-v`), and so their indexes, which may hold commands. */
function isPlainTest(operands: readonly string[], { quoted, dynamicFrom }: Argv): boolean {
  if (dynamicFrom !== undefined) {
    // A word that splits could bring its own operators.
    const isWhole = operands.every((_, index) => index + 1 < dynamicFrom || quoted?.[index + 1] === true)
    if (!isWhole) return false
  }
  const words = operands[0] === '!' ? operands.slice(1) : operands
  const isKnown = (word: string | undefined): boolean => word !== undefined
  if (words.length === 1) return true
  if (words.length === 2) return UNARY.has(words[0] ?? '') && isKnown(words[1])
  return words.length === 3 && BINARY.has(words[1] ?? '')
}

/** Variables that decide what the commands after them mean, which code they load, or how a script is read. */
const POWERFUL =
  /^(?:PATH|IFS|ENV|BASH.*|SHELL.*|POSIXLY_CORRECT|PS[0-4]|PROMPT_COMMAND|CDPATH|GLOBIGNORE|FIGNORE|EXECIGNORE|HISTFILE|HOME|PWD|OLDPWD|LD_.*|DYLD_.*|LIBPATH|SHLIB_PATH|LOCPATH|NLSPATH|GCONV_PATH|HOSTALIASES|RESOLV_.*|RES_OPTIONS|MALLOC_.*|TMPDIR|TERM.*|INPUTRC|.*PAGER|.*EDITOR|VISUAL|BROWSER|LESS.*|MORE|.*OPEN|.*CLOSE|GIT_.*|SSH_.*|RSYNC_.*|PERL.*|PYTHON.*|RUBY.*|GEM_.*|NODE_.*|NPM_.*|JAVA_.*|JDK_.*|_JAVA_.*|CLASSPATH|LUA_.*|PHP.*|R_.*|TCL.*|AWK.*|MAKE.*|GNUMAKEFLAGS|TAR_OPTIONS|GREP_OPTIONS|TAPE|ZIPOPT|ZIP_OPTS|GZIP|XZ_.*|CC|CXX|LD|CFLAGS|LDFLAGS|SUDO_.*|PG.*|MYSQL.*|DOCKER_.*|KUBE.*|SYSTEMD_.*|OPENSSL_.*|SSL_.*|CURL_.*|HTTPS?_PROXY|ALL_PROXY|NO_PROXY|TZ|TZDIR|LANG.*|LC_.*|OPT.*|RANDOM|SECONDS|REPLY|EUID|UID|PPID|FUNC.*|DIRSTACK|MAIL.*|TMOUT|COLUMNS|LINES|COMP.*|READLINE.*|COPROC|MAPFILE|auto_resume|histchars|https?_proxy|all_proxy|no_proxy)$/u

/** Whether an assignment to this name changes what other words of the script mean. */
export function isPowerful(name: string): boolean {
  return POWERFUL.test(name)
}
