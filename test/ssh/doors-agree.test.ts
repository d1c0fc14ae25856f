/**
 * The same commands through `run_ssh` and through the SSH door: one engine, so one verdict, the same rules, masks and
 * limits, the same output and the same recording. What differs by design: a client at the door streams its input, so a
 * plan of the door does not know it and holds no copy of it; and a client hears of a cut on stderr and by its exit code.
 */
import { existsSync, rmSync } from 'node:fs'
import { mkdir, writeFile } from 'node:fs/promises'
import path from 'node:path'
import type { Client } from 'ssh2'
import { afterAll, beforeAll, describe, expect, it } from 'vitest'
import { SallyportError } from '../../src/core/errors.ts'
import { govern } from '../../src/gateway/gateway.ts'
import { quoteWord, quoteWords } from '../../src/protocols/ssh/characters.ts'
import { runSsh } from '../../tools/run_ssh.ts'
import { openSshd, type TestSshd } from '../services/sshd.ts'
import { has } from '../setup/needs.ts'
import { commandOf as c, DENIED, wordsOf as words, type Asked } from './attack-commands.ts'
import { sshKit, type SshKit } from './connector-kit.ts'
import { login, openDoor, runAtDoor, type Heard, type TestDoor } from './door-kit.ts'

const policy = (dir: string): string => `
targets: [box]
rules:
  - {id: tools, effect: allow, principals: [group:agents], actions: [ssh.exec], resources: [{argv: [{in: [uname, cat, wc, printf, "true", "false", id, ls, tr, seq, sleep]}, {rest: any}]}]}
  - {id: short, effect: allow, principals: [group:agents], actions: [ssh.exec], resources: [{argv: [head, {rest: any}]}], limits: {bytes: 100B}}
  - {id: seldom, effect: allow, principals: [group:agents], actions: [ssh.exec], resources: [{argv: [hostname, -s]}], limits: {rate: 4/h}}
  - {id: quick, effect: allow, principals: [group:agents], actions: [ssh.exec], resources: [{argv: [sleep, "30"]}], limits: {timeout: 1s}}
  - {id: words, effect: allow, principals: [group:agents], actions: [ssh.builtin, ssh.assign], resources: ["**"]}
  - {id: few, effect: allow, principals: [group:agents], actions: [ssh.exec], resources: [{argv: [nproc, {rest: any}]}], when: "part.words <= 2"}
  - {id: wraps, effect: allow, principals: [group:agents], actions: [ssh.wrap], resources: [{argv: [{in: [env, timeout, xargs, nice, sh, bash]}, {rest: any}]}]}
  - {id: files, effect: allow, principals: [group:agents], actions: [ssh.read, ssh.write], resources: [{path: "${dir}/free/**"}]}
  - {id: no-cat-shadow, effect: deny, principals: [group:agents], actions: [ssh.exec], resources: [{argv: [cat, /etc/shadow]}], reason: Not that file.}
  - {id: ask, effect: require_approval, principals: [group:agents], actions: [ssh.exec], resources: [{argv: [hostname]}, {argv: [hostname, -f]}, {argv: [touch, {rest: any}]}], approvers: {any_of: [group:lead]}}
masks:
  - {detect: [email, credit_card, us_ssn], transform: redact}
  - {detect: [ipv4], transform: partial}
`

const RUN: readonly Asked[] = [
  ...['uname', 'uname -s', 'true', 'false', 'id -u', 'echo hello', 'echo -n x', 'printf "%s-" a b c', 'pwd'].map((x) =>
    c(x),
  ),
  ...[
    'exit 0',
    'exit 7',
    'exit 255',
    'exit 256',
    'false; exit 3',
    'true && echo yes',
    'false || echo no',
    '! true',
  ].map((x) => c(x)),
  ...['echo out; echo err >&2', 'echo a >&2; echo b; echo c >&2', 'cat /nonexistent', 'ls /nonexistent; echo $?'].map(
    (x) => c(x),
  ),
  ...['x=1; echo $x', 'x=a; echo "${x}b"', 'echo "${y:-z}"', 'echo $((1+2))', 'for i in a b; do echo $i; done'].map(
    (x) => c(x),
  ),
  ...['if true; then echo t; else echo f; fi', 'case a in a) echo 1;; *) echo 2;; esac', '[ 1 = 1 ] && echo eq'].map(
    (x) => c(x),
  ),
  ...[
    'seq 3 | wc -l',
    'seq 100 | tr 1 x',
    'echo a | cat | cat',
    '(echo sub)',
    '{ echo group; }',
    'echo `echo tick`',
  ].map((x) => c(x)),
  ...[
    'echo $(uname)',
    'cat <<E\nhere $((2*3))\nE',
    "cat <<'E'\n$(touch FILE)\nE",
    'cat <<< text',
    'test -d / && echo dir',
  ].map((x) => c(x)),
  ...['env -i uname', 'timeout 5 uname', 'nice -n 1 id -u', "sh -c 'echo in; uname'", "bash -c 'uname; exit 4'"].map(
    (x) => c(x),
  ),
  ...[
    'echo a b | xargs printf "<%s>"',
    'seq 2 | xargs -n 1 printf "%s;"',
    'env A=b printf x',
    'nproc',
    'nproc --all',
  ].map((x) => c(x)),
  ...['printf "%s\\n" "é ü 漢"', "printf 'a\\tb\\n'", "printf '\\377\\376'", 'printf x; printf y >&2', 'echo'].map(
    (x) => c(x),
  ),
  ...['echo DIR > DIR/free/w; cat < DIR/free/w', 'cat < DIR/free/w >> DIR/free/w2', 'wc -c < DIR/free/data'].map((x) =>
    c(x),
  ),
  words('uname', '-s'),
  words('printf', '<%s>', 'a b', "it's", '$HOME', '`id`', '$(id)', '\\', '"', '*', '', '-n', '\n', 'é'),
  words('printf', '%s', '; touch FILE'),
  words('printf', '%s', '$IFS'),
  words('printf', '%s', '&& touch FILE'),
  words('echo', 'x'),
  words('cat', '/nonexistent file'),
  words('if'),
  words('id', '-u'),
  c('wc -c', 'hello'),
  c('cat', 'some text\n'),
  c('cat >&2', 'to stderr'),
  c('tr a-z A-Z', 'up'),
  c('cat > /dev/null', 'x'.repeat(10_000)),
  c('read x; echo "got $x"', 'line\nnext\n'),
  c('wc -l', 'a\nb\n'.repeat(1000)),
  c('cat', ''),
]

const MASKED: readonly Asked[] = [
  ...[
    'echo ana@example.com',
    'echo ana@example.com >&2',
    'echo "to ana@example.com, bob@example.org."',
    'echo -n ana@example.com',
  ].map((x) => c(x)),
  ...[
    'echo 4111111111111111',
    'echo "card 4111 1111 1111 1111 end"',
    'echo 078-05-1120',
    'echo "ssn 536-22-1234 x"',
  ].map((x) => c(x)),
  ...[
    'echo 10.1.2.3',
    'printf "%s@example.com\\n" ana bob',
    'printf ana@; printf example.com',
    'echo a; echo ana@example.com; echo b',
  ].map((x) => c(x)),
  ...[
    'cat DIR/free/mail',
    'cat DIR/free/mail >&2',
    'cat < DIR/free/mail',
    'for i in 1 2 3; do echo u$i@example.com; done',
  ].map((x) => c(x)),
  c('cat', 'ana@example.com\n'),
  words('printf', '%s', 'ana@example.com'),
]

const LIMITED: readonly Asked[] = [
  ...[
    'head -c 50 /dev/zero',
    'head -c 100 /dev/zero',
    'head -c 101 /dev/zero',
    'head -c 5000 /dev/zero',
    'head /nonexistent',
  ].map((x) => c(x)),
  ...['seq 1000 | head -c 300', 'head -c 300 /dev/zero; exit 5', 'head -c 200 DIR/free/data >&2'].map((x) => c(x)),
  ...Array.from({ length: 3 }, () => c('hostname -s')),
  c('sleep 30'),
]

const HELD: readonly Asked[] = [
  ...['hostname', 'hostname -f', 'uname; hostname', 'touch FILE', 'env touch FILE', "sh -c 'touch FILE'"].map((x) =>
    c(x),
  ),
  words('touch', 'FILE'),
  words('hostname'),
]

const SCRIPTS: readonly Asked[] = ['', 'bash -s', 'sh'].flatMap((script) =>
  ['uname -s\necho done\n', 'echo ana@example.com\n', 'uname\ntee FILE\n', 'hostname\n', 'exit 9\n', 'uname "\n'].map(
    (command) => ({ command, script }),
  ),
)

const ALL = [...RUN, ...MASKED, ...LIMITED, ...HELD, ...DENIED, ...SCRIPTS]

describe.runIf(has('sshd'))('run_ssh and the SSH door', () => {
  let sshd: TestSshd
  let kit: SshKit
  let door: TestDoor
  let client: Client

  beforeAll(async () => {
    sshd = await openSshd()
    await mkdir(path.join(sshd.dir, 'free'))
    await writeFile(path.join(sshd.dir, 'free', 'data'), 'data\n'.repeat(100))
    await writeFile(path.join(sshd.dir, 'free', 'mail'), 'From: ana@example.com\nTo: bob@example.org\n')
    kit = sshKit(sshd, policy(sshd.dir), {}, () => 0)
    door = await openDoor(kit)
    client = await login(door)
  })
  afterAll(async () => {
    client?.destroy()
    await door?.close()
    await kit?.close()
    await sshd?.close()
  })

  it(`agree on ${ALL.length} commands: verdict, rules, masks, limits, output and recording`, async () => {
    expect(ALL.length).toBeGreaterThanOrEqual(150)
    const forbidden = path.join(sshd.dir, 'forbidden')
    const free = path.join(sshd.dir, 'free')
    const ends = new Map<string, number>()
    for (const one of ALL) {
      const asked = JSON.parse(JSON.stringify(one).replaceAll('FILE', forbidden).replaceAll('DIR', sshd.dir)) as Asked
      for (const name of ['w', 'w2']) rmSync(path.join(free, name), { force: true })
      if (JSON.stringify(one).includes('free/w2')) await writeFile(path.join(free, 'w'), 'w\n')
      const byTool = await askTool(kit, asked)
      for (const name of ['w2']) rmSync(path.join(free, name), { force: true })
      const byDoor = await askDoor(kit, client, asked)
      expect([asked, byDoor]).toEqual([asked, byTool])
      expect([asked, existsSync(forbidden)]).toEqual([asked, false])
      const { error } = byTool
      const end = error?.code ?? (byTool.isCut ? 'cut' : 'ok')
      ends.set(end, (ends.get(end) ?? 0) + 1)
    }
    expect(Object.fromEntries(ends)).toEqual({
      ok: expect.toSatisfy((count: number) => count >= 80),
      cut: expect.toSatisfy((count: number) => count >= 5),
      ERR_DENIED: expect.toSatisfy((count: number) => count >= 80),
      ERR_APPROVAL_PENDING: expect.toSatisfy((count: number) => count >= 8),
      ERR_LIMIT_RATE: 1,
      ERR_TIMEOUT: 1,
    })
    const kept = JSON.stringify(kit.recorded)
    for (const secret of ['ana@example.com', '4111111111111111', '536-22-1234', '10.1.2.3']) {
      expect(kept).not.toContain(secret)
    }
  })
})

interface Said {
  readonly stdout: string
  readonly stderr: string
  readonly status: string | undefined
  readonly isCut: boolean
  readonly error: { readonly code?: string; readonly message: string; readonly rules: readonly string[] } | undefined
  readonly recorded: unknown
}

async function askTool(kit: SshKit, { script, ...given }: Asked): Promise<Said> {
  const before = kit.recorded.length
  // The script of another shell than bash is what that shell is told to run.
  const args = script === 'sh' ? { command: `sh -c ${quoteWord(given.command ?? '')}` } : given
  try {
    const { payload } = runSsh.read({ target: 'box', ...args })
    const { structured } = await runSsh.answer(govern(kit.call(payload), kit.rooms), {
      target: 'box',
      bytesMax: 1024 * 1024,
      fence: '---',
    })
    const {
      stdout,
      stderr,
      exit_code: code,
      signal = '',
      truncated,
    } = structured as unknown as {
      stdout: string
      stderr: string
      exit_code?: number
      signal?: string
      truncated: boolean
    }
    return {
      stdout,
      stderr,
      status: code === undefined ? signal : String(code),
      isCut: truncated,
      error: undefined,
      recorded: lastOf(kit, before),
    }
  } catch (caught) {
    return failed(SallyportError.from(caught), kit, before)
  }
}

function failed({ code, message, facts }: SallyportError, kit: SshKit, before: number): Said {
  const error = { code, message: oneLine(message), rules: facts.rules ?? [] }
  return { stdout: '', stderr: '', status: undefined, isCut: false, error, recorded: lastOf(kit, before) }
}

async function askDoor(kit: SshKit, client: Client, { argv, command, stdin, script }: Asked): Promise<Said> {
  const before = kit.recorded.length
  const text = command ?? quoteWords(argv ?? [])
  const heard = await (script === undefined ? runAtDoor(client, text, stdin) : runAtDoor(client, script, command))
  const own = heard.stderr.match(/sallyport: [^\r\n]*/gu) ?? []
  const stderr = heard.stderr.replaceAll(/sallyport: [^\r\n]*\r\n/gu, '')
  const recorded = lastOf(kit, before)
  const { code, message } = recorded as { readonly code?: string; readonly message?: string }
  const isCut = own.some((line) => line.includes('was cut at the limit'))
  if (code === undefined) {
    return { stdout: heard.stdout, stderr, status: statusOf(heard, isCut), isCut, error: undefined, recorded }
  }
  expect(heard.code).toBe(code === 'ERR_TIMEOUT' ? 124 : 126)
  const [line = ''] = own
  const [, said = '', rules = ''] = /^sallyport: (.*?)(?: \[([^\]]*)\])?$/u.exec(line) ?? []
  expect(said).toBe(oneLine(message ?? ''))
  const error = { code, message: said, rules: rules === '' ? [] : rules.split(', ') }
  return { stdout: '', stderr: '', status: undefined, isCut: false, error, recorded }
}

/** A client that heard all of nothing else learns of a cut by an exit code that is not 0. */
function statusOf({ code, signal }: Heard, isCut: boolean): string {
  return signal ?? String(isCut && code === 126 ? 0 : code)
}

function oneLine(text: string): string {
  return text.replaceAll(/[\t\n\r]/gu, ' ')
}

/** The last call's record. Input is known to the tool's plan and still to come at the door. */
function lastOf({ recorded }: SshKit, before: number): unknown {
  expect(recorded.length).toBeGreaterThan(before)
  return JSON.parse(JSON.stringify(recorded.at(-1)), (key, value: unknown) => (key === 'params' ? undefined : value))
}
