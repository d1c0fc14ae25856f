/** Ordinary OpenSSH clients through the SSH door, and `run_ssh`, before a real sshd. */
import { existsSync } from 'node:fs'
import { readFile, writeFile } from 'node:fs/promises'
import path from 'node:path'
import { afterAll, beforeAll, describe, expect, it, onTestFinished } from 'vitest'
import { has } from '../setup/needs.ts'
import { lastCast, openSshWorld, type Output, type SshWorld } from './ssh-world.ts'
import { callTool } from './world.ts'

const policy = (dir: string): string => `
targets: [box]
rules:
  - id: tools
    effect: allow
    principals: [group:agents]
    actions: [ssh.exec]
    resources:
      - {argv: [{in: [uname, cat, wc, sleep, printenv, "true", id, head]}, {rest: any}]}
  - {id: words, effect: allow, principals: [group:agents], actions: [ssh.builtin], resources: ["**"]}
  - id: ask
    effect: require_approval
    principals: [group:agents]
    actions: [ssh.exec]
    resources: [{argv: [hostname]}]
    approvers: {any_of: [group:ops], count: 1, expires: 15m}
  - {id: nested, effect: allow, principals: [group:agents], actions: [ssh.wrap], resources: [{argv: [sh, -c]}]}
  - {id: by-runuser, effect: allow, principals: [group:agents], actions: [ssh.wrap], resources: [{argv: [runuser, -u, nobody, --]}]}
  - id: as-nobody
    effect: require_approval
    principals: [group:agents]
    actions: [ssh.exec]
    as: [nobody]
    resources: [{argv: [id, -un]}]
    approvers: {any_of: [group:ops], count: 1, expires: 15m}
  - id: who-ran
    effect: require_approval
    principals: [group:agents]
    actions: [ssh.write]
    resources: [{path: "${dir}/who ran"}]
    approvers: {any_of: [group:ops], count: 1, expires: 15m}
masks:
  - {detect: [email], transform: redact}
`

describe.runIf(has('sshd'))('the SSH door', () => {
  let world: SshWorld
  let key: string
  let token: string
  let stranger: string
  let approver: string
  const ssh = (words: readonly string[], input?: string, as = key): Promise<Output> =>
    world.client('ssh', as, ['127.0.0.1', ...words], input)

  beforeAll(async () => {
    world = await openSshWorld(policy, 'approvals: {hold: 5m}\n')
    ;({ keyFile: key, token } = await world.caller('loop', ['agents']))
    ;({ keyFile: stranger } = await world.caller('visitor', []))
    ;({ token: approver } = await world.caller('maria', ['ops'], {
      kind: 'person',
      owner: 'maria',
      roles: ['approver', 'caller'],
    }))
  })
  afterAll(() => world?.close())

  it('runs what the policy allows, with output and exit code as they are', async () => {
    expect(await ssh(['uname', '-s'])).toEqual({ code: 0, stdout: 'Linux\n', stderr: '' })
    expect(await ssh(['cat /nonexistent; exit 7'])).toMatchObject({ code: 7, stdout: '' })
    expect((await ssh(['cat', '/nonexistent'])).stderr).toContain('No such file')
  })

  it('carries input', async () => {
    expect((await ssh(['wc -c'], 'x'.repeat(300_000))).stdout.trim()).toBe('300000')
  })

  it('denies what no rule names: a line on stderr, exit 126, and nothing reaches the target', async () => {
    const before = world.sshd.log().length
    const ran = await ssh(['rm', '-rf', '/'])
    expect(ran).toMatchObject({ code: 126, stdout: '' })
    expect(ran.stderr).toMatch(/^sallyport: /u)
    expect((await ssh(['uname'], undefined, stranger)).code).toBe(126)
    expect(world.sshd.log().slice(before)).not.toContain('Accepted')
  })

  it.each([
    ['a substitution', 'uname $(touch FILE)'],
    ['a second command', 'uname; touch FILE'],
    ['a second line', 'uname\ntouch FILE'],
    ['a pipe', 'uname | tee FILE'],
    ['a redirection', 'uname > FILE'],
    ['a computed name', 'x=touch; $x FILE'],
    ['a wrapper', 'env touch FILE'],
    ['a shell in a shell', "sh -c 'touch FILE'"],
    ['a script on input of a shell', 'sh'],
    ['eval', 'eval "touch FILE"'],
    ['a function', 'uname() { touch FILE; }; uname'],
  ])('does not run what hides behind %s', async (_what, command) => {
    const file = path.join(world.dir, 'touched')
    const ran = await ssh([command.replaceAll('FILE', file)], `touch ${file}\n`)
    expect(ran.code).toBe(126)
    expect(existsSync(file)).toBe(false)
  })

  it('judges a script on standard input as the script', async () => {
    expect(await ssh([], 'uname -s\necho done\n')).toMatchObject({ code: 0, stdout: 'Linux\ndone\n' })
    expect(await ssh(['bash -s'], 'uname -s\n')).toMatchObject({ code: 0, stdout: 'Linux\n' })
    expect(await ssh(['sh'], 'uname -s\n')).toMatchObject({ code: 0, stdout: 'Linux\n' })
    const file = path.join(world.dir, 'scripted')
    expect((await ssh([], `uname\ntouch ${file}\n`)).code).toBe(126)
    // What reads its own script would make a here-document into commands.
    expect((await ssh(['bash'], `read x\ncat <<'E'\ntouch ${file}\nE\n`)).code).toBe(126)
    expect((await ssh(['bash'], `cat\ncat <<'E'\ntouch ${file}\nE\n`)).stdout).toContain('touch')
    expect(existsSync(file)).toBe(false)
  })

  it('refuses an interactive shell that no rule allows', async () => {
    const ran = await ssh(['-tt'], 'uname\n')
    expect(ran.code).toBe(126)
    expect(ran.stdout + ran.stderr).toContain('ssh.shell')
  })

  it('masks stdout and stderr', async () => {
    const file = path.join(world.sshd.dir, 'mail')
    await writeFile(file, 'ana@example.com\n')
    const ran = await ssh([`cat ${file}; cat ${file} >&2`])
    expect(ran).toMatchObject({ stdout: '[REDACTED:email]\n', stderr: '[REDACTED:email]\n' })
  })

  it('lets no environment through', async () => {
    const ran = await ssh([
      '-o',
      'SetEnv=LD_PRELOAD=/tmp/x.so BASH_ENV=/tmp/x LC_X=1',
      '-o',
      'SendEnv=LANG',
      'printenv LD_PRELOAD BASH_ENV LC_X',
    ])
    expect(ran).toMatchObject({ code: 1, stdout: '' })
  })

  it.each([
    ['-W', ['-W', '127.0.0.1:22']],
    ['-R', ['-o', 'ExitOnForwardFailure=yes', '-R', '0:127.0.0.1:22', 'true']],
    ['-D with -N', ['-o', 'ExitOnForwardFailure=yes', '-R', '0', '-N']],
  ])('forwards nothing with %s', async (_what, words) => {
    const ran = await world.client('ssh', key, [...words.slice(0, -1), '127.0.0.1', ...words.slice(-1)].flat())
    expect(ran.code).not.toBe(0)
    expect(ran.stdout).not.toContain('SSH-2.0')
  })

  it('holds what needs an approval, says so, and runs it once when somebody agrees', async () => {
    const running = ssh(['hostname'])
    const approvals = world.admin(approver)
    let ticket: string | undefined
    while (ticket === undefined) {
      const { approvals: list = [], tickets = [] } = await approvals.get<{
        approvals?: { id: string }[]
        tickets?: { id: string }[]
      }>('/v1/approvals')
      ticket = [...list, ...tickets][0]?.id
    }
    const shown = await approvals.get<{ digest: string; request?: { text: string } }>(`/v1/approvals/${ticket}`)
    expect(JSON.stringify(shown)).toContain('hostname')
    await approvals.post(`/v1/approvals/${ticket}/vote`, { decision: 'approve', digest: shown.digest, reason: 'fine' })
    const ran = await running
    expect(ran.stderr).toContain('waiting for an approval')
    expect(ran.code).toBe(0)
    expect(ran.stdout).not.toBe('')
  })

  it('shows an approver of run_ssh the words, the account and the written path: in the inbox, by command, on the page', async () => {
    const file = path.join(world.sshd.dir, 'who ran')
    const inbox = world.startCli(['approvals', 'watch'], approver)
    onTestFinished(() => void inbox.kill())
    let watched = ''
    inbox.stdout?.setEncoding('utf8').on('data', (piece: string) => (watched += piece))
    const command = `run"us"er -u nobody -- $'id' -un > "${file}"`
    // What an agent says beside the command is told, and is no part of it.
    const other = path.join(world.sshd.dir, 'said')
    const reason = `to know\ntouch ${other}`
    const held = callTool(world.mcpUrl, token, 'run_ssh', { target: 'box', command, reason })
    // The last line of a ticket, so that all of it is there.
    await expect.poll(() => watched).toMatch(/approvals deny .*\n/u)
    const id = /Ticket (\S+)/u.exec(watched)?.[1] ?? ''
    const digest = /digest +(\S+)/u.exec(watched)?.[1] ?? ''
    const shown = world.cli(['approvals', 'show', id], approver).stdout
    const page = await ticketPage(world.urls.admin, approver, id)
    const account = world.sshd.user
    for (const text of [watched, shown, page]) {
      expect(text).toContain(command)
      expect(text).toContain(`${account}: runuser -u nobody --`)
      expect(text).toContain('nobody: id -un (behind runuser)')
      expect(text).toContain(`${account}: '${file}' written by a redirection`)
    }
    expect(existsSync(file)).toBe(false)
    expect(world.cli(['approvals', 'approve', id, '--digest', digest], approver).code).toBe(0)
    const { structuredContent } = await held
    // Only root may become somebody else.
    const isRoot = account === 'root'
    expect(structuredContent).toMatchObject(isRoot ? { status: 'ok', exit_code: 0 } : { status: 'ok' })
    expect(await readFile(file, 'utf8')).toBe(isRoot ? 'nobody\n' : '')
    expect(existsSync(other)).toBe(false)
  })

  it('exports a command as an asciicast: its output as it was shown, in its time', async () => {
    const file = path.join(world.sshd.dir, 'letter')
    await writeFile(file, 'to ana@example.com\n\u001b]0;owned\u0007\n')
    const ran = await ssh([`cat ${file}; uname -s; cat ${file} >&2; echo done`])
    expect(ran.code).toBe(0)
    const { token: auditor } = await world.caller('auditor', [], { kind: 'person', roles: ['auditor'] })
    const { session, header, events, notes, text } = await lastCast(world, auditor)
    expect(header).toEqual({ version: 2, width: 80, height: 24, timestamp: expect.any(Number), title: session })
    for (const event of events) expect(event).toEqual([expect.any(Number), 'o', expect.any(String)])
    const times = events.map(([seconds]) => seconds)
    expect(times).toEqual([...times].sort((a, b) => a - b))
    expect(notes).toEqual([
      `# session ${session} of loop at the door ssh\r\n`,
      `# ssh.exec: cat ${file}; uname -s; cat ${file} >&2; echo done\r\n`,
      '# done, 0\r\n',
    ])
    // Which of the two channels came first is chance; every line is there once.
    const linesOf = (all: string): readonly string[] => all.split(/\r?\n/u).sort()
    expect(ran.stdout + ran.stderr).toContain('[REDACTED:email]\n\u001b]0;owned\u0007\n')
    expect(linesOf(text('o'))).toEqual(
      linesOf((ran.stdout + ran.stderr).replaceAll('\u001b]0;owned\u0007', '\\u{1b}]0;owned\\u{7}')),
    )
  })

  it('knows nobody without a key that somebody registered', async () => {
    const other = path.join(world.dir, 'other')
    const { spawnSync } = await import('node:child_process')
    spawnSync('ssh-keygen', ['-q', '-t', 'ed25519', '-N', '', '-f', other])
    expect(await ssh(['uname'], undefined, other)).toMatchObject({ code: 255 })
    // A registered key is no authority: what it has signed for another key lets nobody in.
    spawnSync('ssh-keygen', ['-q', '-s', key, '-I', 'loop', '-n', 'box', `${other}.pub`])
    expect(existsSync(`${other}-cert.pub`)).toBe(true)
    expect(await ssh(['uname'], undefined, other)).toMatchObject({ code: 255, stdout: '' })
  })

  it('ends a connection, and what runs, when its token is revoked', async () => {
    const { keyFile, id } = await world.caller('short', ['agents'])
    const running = ssh(['sleep', '300'], undefined, keyFile)
    const isRunning = async (): Promise<boolean> =>
      JSON.stringify(await world.operator.get('/v1/sessions')).includes('sleep 300')
    while (!(await isRunning())) await new Promise((resolve) => void setTimeout(resolve, 50))
    await world.operator.post(`/v1/tokens/${id}/revoke`, {})
    expect((await running).code).not.toBe(0)
    expect((await ssh(['uname'], undefined, keyFile)).code).toBe(255)
  })

  it('says the same through run_ssh as through the door', async () => {
    const tool = async (args: object): Promise<Readonly<Record<string, unknown>>> =>
      (await callTool(world.mcpUrl, token, 'run_ssh', { target: 'box', ...args })).structuredContent ?? {}
    expect(await tool({ argv: ['uname', '-s'] })).toMatchObject({ status: 'ok', exit_code: 0, stdout: 'Linux\n' })
    expect(await tool({ command: 'cat /nonexistent; exit 3' })).toMatchObject({ status: 'ok', exit_code: 3 })
    expect(await tool({ command: 'uname; rm x' })).toMatchObject({ status: 'denied' })
    expect(await tool({ argv: ['wc', '-c'], stdin: 'abc' })).toMatchObject({ stdout: '3\n' })
    expect(await tool({ argv: ['uname'], command: 'uname' })).toMatchObject({ status: 'invalid' })
  })

  it('leaves recordings that verify, with every attempt in them', async () => {
    const entries = await world.recorded()
    const decisions = entries.filter(({ type }) => type === 'decision')
    expect(decisions.length).toBeGreaterThan(20)
    expect(JSON.stringify(entries)).not.toContain('ana@example.com')
    expect(world.cli(['recordings', 'verify']).code).toBe(0)
  })
})

/** The text of a ticket's page, as a browser that signed in with this token would show it. */
async function ticketPage(admin: string, token: string, ticket: string): Promise<string> {
  const signedIn = await fetch(`${admin}/sign-in`, {
    method: 'POST',
    redirect: 'manual',
    headers: { origin: new URL(admin).origin },
    body: new URLSearchParams({ token, ticket }),
  })
  const [cookie = ''] = (signedIn.headers.get('set-cookie') ?? '').split(';')
  const html = await (await fetch(`${admin}/approvals/${ticket}`, { headers: { cookie } })).text()
  const entities: Readonly<Record<string, string>> = { lt: '<', gt: '>', quot: '"', amp: '&', '#39': "'" }
  return html.replaceAll(/<[^>]*>/gu, '').replaceAll(/&(#39|\w+);/gu, (whole, name: string) => entities[name] ?? whole)
}

describe.runIf(has('sshd'))('copies through the SSH door', () => {
  let world: SshWorld
  let key: string

  beforeAll(async () => {
    // Without masks: they hold back unfinished lines, and these protocols have no lines.
    world = await openSshWorld(`
targets: [box]
rules:
  - id: copies
    effect: allow
    principals: [group:agents]
    actions: [ssh.exec]
    resources:
      - {argv: [rsync, --server, --sender, {match: "-*"}, ".", "*"]}
      - {argv: [scp, "-f", "*"]}
`)
    ;({ keyFile: key } = await world.caller('loop', ['agents']))
  })
  afterAll(() => world?.close())

  it('copies with rsync and the old scp where a rule allows it', async () => {
    const from = path.join(world.sshd.dir, 'copy-me')
    await writeFile(from, 'contents\n')
    const scp = await world.client('scp', key, ['-O', `127.0.0.1:${from}`, path.join(world.dir, 'by-scp')])
    expect(scp).toMatchObject({ code: 0, stderr: '' })
    expect(await readFile(path.join(world.dir, 'by-scp'), 'utf8')).toBe('contents\n')
    const rsync = await world.client('rsync', key, ['-t', `127.0.0.1:${from}`, path.join(world.dir, 'by-rsync')])
    expect(rsync).toMatchObject({ code: 0 })
    expect(await readFile(path.join(world.dir, 'by-rsync'), 'utf8')).toBe('contents\n')
    const put = await world.client('scp', key, ['-O', path.join(world.dir, 'by-scp'), `127.0.0.1:${from}2`])
    expect(put.code).not.toBe(0)
    expect(existsSync(`${from}2`)).toBe(false)
  })
})
