/**
 * What goes wrong around a gateway, one thing at a time: the process says in one clear message what to fix, says no
 * secret, stays up where it runs, and works again when the fault is gone.
 *
 * All that any process of this suite wrote, every answer and every recording is searched for the secrets in the end.
 */
import { execFileSync } from 'node:child_process'
import { readdirSync, readFileSync } from 'node:fs'
import { chmod, readFile, rename, rm, writeFile } from 'node:fs/promises'
import path from 'node:path'
import { afterAll, beforeAll, describe, expect, it } from 'vitest'
import { AGENT, notesWorld, openRaw, rawCall } from '../bugs/kit.ts'
import { callTool, openWorld, type ToolResult, type World } from './world.ts'

const WRONG_PASSWORD = 'wrong-password-4711'

describe('faults', () => {
  let world: World
  let agent: string
  const secrets: string[] = [WRONG_PASSWORD]
  /** Everything anybody was told. */
  const said: string[] = []

  async function query(sql: string, token = agent): Promise<ToolResult> {
    const answer = await callTool(world.mcpUrl, token, 'query_database', { target: 'db', sql })
    said.push(JSON.stringify(answer))
    return answer
  }

  async function expectWorking(): Promise<void> {
    expect(world.isRunning()).toBe(true)
    await expect.poll(async () => (await query('SELECT 1')).structuredContent?.status).toBe('ok')
  }

  /** Runs a command that must fail, and returns its one message. */
  async function refusal(args: readonly string[]): Promise<string> {
    const { code, stdout, stderr } = await world.run(args)
    said.push(stdout, stderr)
    expect(code).not.toBe(0)
    expect(stdout).toBe('')
    expect(stderr).not.toMatch(/^\s+at /mu)
    const messages = stderr.split('\n').filter((line) => line.startsWith('sallyport: '))
    expect(messages).toHaveLength(1)
    return stderr
  }

  const file = (name: string): string => path.join(world.dir, name)

  /** Puts something else in the place of a file while `what` runs, and then the file back. */
  async function changed(name: string, change: (text: string) => string, what: () => Promise<void>): Promise<void> {
    const before = await readFile(file(name), 'utf8')
    try {
      await writeFile(file(name), change(before))
      await what()
    } finally {
      await writeFile(file(name), before)
    }
  }

  beforeAll(async () => {
    world = await openWorld(notesWorld())
    agent = await world.token(AGENT)
    secrets.push(world.password, world.db.password, world.operatorToken, agent)
  })
  afterAll(() => world?.close())

  describe('while it runs', () => {
    it('a policy that is no YAML: the one in force stays, and log and operator are told file, line and column', async () => {
      await changed(
        'policies/policy.yaml',
        (text) => `${text}\n  - {id: broken, effect: [\n`,
        async () => {
          const status = (): Promise<{ problem?: string }> => world.operator.get('/v1/policy')
          await expect.poll(async () => (await status()).problem).toMatch(/^policy\.yaml:\d+:\d+: /u)
          // The log comes by a pipe of its own.
          await expect.poll(() => world.output).toMatch(/policy\.yaml:\d+:\d+: .*the policy files were not taken/u)
          await expect(world.operator.post('/v1/policy/reload')).rejects.toMatchObject({ code: 'ERR_POLICY_INVALID' })
          await expectWorking()
        },
      )
      await world.operator.post('/v1/policy/reload')
      await expectWorking()
    })

    it('a policy with an unknown key: the same', async () => {
      await changed(
        'policies/policy.yaml',
        (text) => text.replace('effect: allow', 'efect: allow'),
        async () => {
          await expect(world.operator.post('/v1/policy/reload')).rejects.toMatchObject({
            message: expect.stringMatching(/policy\.yaml:\d+:\d+: .*"?efect/u) as unknown,
          })
          await expectWorking()
        },
      )
      await world.operator.post('/v1/policy/reload')
    })

    it('a wrong database password: the answer names the credential to check', async () => {
      await changed(
        'db.password',
        () => WRONG_PASSWORD,
        async () => {
          const answer = await query('SELECT 1')
          expect(answer.structuredContent).toMatchObject({ status: 'failed', code: 'ERR_UPSTREAM_AUTH' })
          expect(answer.structuredContent?.reason).toMatch(/target db .*check the target's credential/u)
        },
      )
      await expectWorking()
    })

    it('a credential file others can read, or that is gone: the answer says which and what to run', async () => {
      await chmod(file('db.password'), 0o644)
      const open = await query('SELECT 1')
      expect(open.structuredContent).toMatchObject({ code: 'ERR_CREDENTIAL_MISSING' })
      expect(open.structuredContent?.reason).toContain('chmod 600')
      await chmod(file('db.password'), 0o600)
      await rename(file('db.password'), file('elsewhere'))
      const gone = await query('SELECT 1')
      expect(gone.structuredContent).toMatchObject({ code: 'ERR_CREDENTIAL_MISSING' })
      expect(gone.structuredContent?.reason).toContain('db.password')
      await rename(file('elsewhere'), file('db.password'))
      await expectWorking()
    })

    it('a database that lets nobody in: the answer says so, and its address stays unsaid', async () => {
      // Its sessions end and it takes no new one: what a caller sees of a server that is down or restarting.
      await world.db.admin.query(`ALTER DATABASE ${world.db.name} CONNECTION LIMIT 0`)
      await world.db.admin.query(
        'SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = current_database() AND pid <> pg_backend_pid()',
      )
      // The connections there were end a moment after they were told to.
      let answer = await query('SELECT 1')
      await expect
        .poll(async () => (answer = await query('SELECT 1')).structuredContent)
        .toMatchObject({ status: 'failed', code: 'ERR_UPSTREAM_UNREACHABLE' })
      expect(JSON.stringify(answer)).not.toContain(String(world.db.port))
      await world.db.admin.query(`ALTER DATABASE ${world.db.name} CONNECTION LIMIT -1`)
      await expectWorking()
    })

    it('a disk that is full: what cannot be recorded is refused, and says what is full', async () => {
      await expectWorking()
      fileSizeMax('1')
      try {
        const answer = await query('SELECT 1')
        expect(answer.structuredContent).toMatchObject({ status: 'failed', code: 'ERR_RECORDING_FAILED' })
        expect(answer.structuredContent?.reason).toMatch(/file size limit .*\(ulimit -f\)/u)
        await expect(
          world.operator.post('/v1/tokens', { ...AGENT, principal: 'unrecorded', expires_in_ms: 86_400_000 }),
        ).rejects.toMatchObject({ code: expect.stringMatching(/^ERR_(?:RECORDING|STORE)_FAILED$/u) as unknown })
        expect(world.isRunning()).toBe(true)
      } finally {
        fileSizeMax('unlimited')
      }
      await expectWorking()
    })

    it('a disk that fills up while a write runs: it is not said to have failed', async () => {
      const other = await world.db.connect()
      await other.query('BEGIN')
      await other.query('SELECT * FROM notes WHERE id = 2 FOR UPDATE')
      const answer = query("UPDATE notes SET body = 'committed' WHERE id = 2")
      const waiting =
        'SELECT count(*)::int AS n FROM pg_stat_activity WHERE wait_event_type = $1 AND datname = current_database()'
      await expect.poll(async () => (await world.db.admin.query(waiting, ['Lock'])).rows).toEqual([{ n: 1 }])
      fileSizeMax('1')
      try {
        await other.query('COMMIT')
        expect((await answer).structuredContent).toMatchObject({ status: 'outcome_unknown' })
        expect((await world.db.admin.query('SELECT body FROM notes WHERE id = 2')).rows).toEqual([
          { body: 'committed' },
        ])
      } finally {
        fileSizeMax('unlimited')
        await other.end()
      }
      await expectWorking()
    })

    it('a revoked token: the door says what is needed, the same for every bad token', async () => {
      const { token, id } = await world.operator.post<{ token: string; id: string }>('/v1/tokens', {
        ...AGENT,
        principal: 'short',
        expires_in_ms: 3_600_000,
      })
      secrets.push(token)
      expect((await query('SELECT 1', token)).structuredContent).toMatchObject({ status: 'ok' })
      await world.operator.post(`/v1/tokens/${id}/revoke`)
      const answers = new Set<string>()
      for (const bad of [token, `${token.slice(0, -1)}x`, 'sp_000000000000_'.padEnd(59, 'a'), 'nonsense']) {
        const response = await fetch(world.mcpUrl, { method: 'POST', headers: { authorization: `Bearer ${bad}` } })
        expect(response.status).toBe(401)
        answers.add(await response.text())
      }
      expect([...answers].join('\n')).toMatch(/^[^\n]*token[^\n]*$/u)
      said.push(...answers)
      await expectWorking()
    })

    it.each([
      ['nothing', ''],
      ['half a message', '{"jsonrpc":"2.0","id":1,"meth'],
      ['not UTF-8', '{"jsonrpc":"2.0","id":"\uFFFF"'],
      ['a number', '7'],
      ['an empty list', '[]'],
      ['a list of lists', '[[[]]]'],
      ['a message without a method', '{"jsonrpc":"2.0","id":1}'],
      ['another version', '{"jsonrpc":"1.0","id":1,"method":"tools/list"}'],
      ['an id that is none', '{"jsonrpc":"2.0","id":{},"method":"tools/call"}'],
      ['a method of the prototype', '{"jsonrpc":"2.0","id":1,"method":"__proto__"}'],
      ['parameters that are none', '{"jsonrpc":"2.0","id":1,"method":"tools/call","params":7}'],
      ['an answer nobody asked for', '{"jsonrpc":"2.0","id":1,"result":{}}'],
      ['brackets without end', '['.repeat(100_000)],
      [
        'a thousand messages',
        `[${Array.from({ length: 1000 }, () => '{"jsonrpc":"2.0","id":1,"method":"ping"}').join(',')}]`,
      ],
      ['two megabytes', `{"a":"${'x'.repeat(2 * 1024 * 1024)}"}`],
    ])('malformed JSON-RPC, %s: one error, and nothing of it is repeated', async (_, body) => {
      for (const version of [undefined, '2025-06-18', '2026-07-28']) {
        const response = await fetch(world.mcpUrl, {
          method: 'POST',
          headers: {
            authorization: `Bearer ${agent}`,
            'content-type': 'application/json',
            accept: 'application/json, text/event-stream',
            ...(version !== undefined && { 'mcp-protocol-version': version }),
          },
          body,
        })
        const text = await response.text()
        said.push(text)
        expect([400, 404, 413], `${version}: ${text.slice(0, 200)}`).toContain(response.status)
        expect(text.length).toBeLessThan(1000)
        expect(text).not.toMatch(/node_modules|dist\/|^\s+at /mu)
      }
      expect(world.isRunning()).toBe(true)
    })

    it('clients that stop in the middle, or never end their header: others are served', async () => {
      const { head, body } = rawCall(world.mcpUrl, agent, { args: { target: 'db', sql: 'SELECT 1' } })
      const slow = await Promise.all(
        ['', head.slice(0, 40), head, head + body.slice(0, 20)].flatMap((sent) =>
          Array.from({ length: 25 }, async () => {
            const connection = await openRaw(world.mcpUrl)
            await connection.send(sent)
            return connection
          }),
        ),
      )
      await expectWorking()
      for (const connection of slow) connection.end()
      const bomb = await openRaw(world.mcpUrl)
      await bomb.send(`POST /mcp HTTP/1.1\r\nhost: x\r\nauthorization: Bearer ${'x'.repeat(100_000)}\r\n\r\n`)
      expect(await bomb.answered).toMatch(/^HTTP\/1\.1 431 /u)
      await expectWorking()
    })

    it('C17: a second process on its state directory: it is told who has it, and the first goes on', async () => {
      expect(await refusal(['serve'])).toMatch(/state directory .* is in use by process \d+\. Stop it, or /u)
      expect(await refusal(['operator', 'eve'])).toMatch(/is in use by process \d+/u)
      await expectWorking()
    })

    it('has met nothing it did not foresee', () => {
      expect(world.output).not.toMatch(/"level":"fatal"|was not handled|internal error/u)
    })
  })

  describe('at a start', () => {
    it('ends in good order first', async () => {
      expect(await world.stop()).toBe(0)
    })

    it.each([
      ['no YAML', 'targets: [db\n', /policy\.yaml:\d+:\d+: /u],
      ['an unknown key', 'rulez: []\n', /policy\.yaml:1:1: .*rulez/u],
      ['an unknown target', 'targets: [nowhere]\nrules: []\n', /policy\.yaml:\d+:\d+: .*nowhere/u],
      ['no UTF-8', Buffer.from([0x72, 0xff, 0xfe]), /policy\.yaml:1:1: .*UTF-8/u],
    ])('a policy with %s: it does not start, and says where', async (_, content, message) => {
      const before = await readFile(file('policies/policy.yaml'))
      await writeFile(file('policies/policy.yaml'), content)
      expect(await refusal(['serve'])).toMatch(message)
      await writeFile(file('policies/policy.yaml'), before)
    })

    it('a configuration with mistakes: all of them are named with their places, and no value is quoted', async () => {
      await changed(
        'sallyport.yaml',
        (text) =>
          text
            .replace('credential: {', `credential: {password: ${WRONG_PASSWORD}, `)
            .replace('protocol: postgres', 'protocol: postgrez'),
        async () => {
          const stderr = await refusal(['serve'])
          expect(stderr).toMatch(/sallyport\.yaml:\d+:\d+: .*protocol/u)
          expect(stderr).toMatch(/sallyport\.yaml:\d+:\d+: .*password/u)
        },
      )
      await changed(
        'sallyport.yaml',
        () => 'listen: [',
        async () => {
          expect(await refusal(['serve'])).toMatch(/sallyport\.yaml:\d+:\d+: /u)
        },
      )
      expect(await refusal(['serve', '--config', 'nowhere.yaml'])).toContain('nowhere.yaml')
    })

    it('a state directory others may enter, or whose store was edited: it does not start, and says what to do', async () => {
      await chmod(file('.sallyport'), 0o755)
      expect(await refusal(['serve'])).toMatch(/chmod 700 .*\.sallyport/u)
      await chmod(file('.sallyport'), 0o700)
      await changed(
        '.sallyport/store.json',
        (text) => text.replace('"caller"', '"operator"'),
        async () => {
          expect(await refusal(['serve'])).toMatch(/store\.json cannot be used: .*Restore it from a backup/u)
        },
      )
      await chmod(file('.sallyport/store.json'), 0o600)
    })

    it('recordings that cannot be written: it does not start, and says what to fix', async () => {
      await rename(file('recordings'), file('recordings.away'))
      await writeFile(file('recordings'), '')
      expect(await refusal(['serve'])).toMatch(/folder of the recordings|recordings/u)
      await rm(file('recordings'))
      await rename(file('recordings.away'), file('recordings'))
    })

    it('a disk with room for little: it refuses calls or does not start, and starts when there is room', async () => {
      // In blocks of 1 KiB: the journal of the runs before is larger, a new file may begin.
      const started = await world.start({ shell: 'ulimit -f 1;' }).then(
        () => true,
        () => false,
      )
      const answer = started ? await query('SELECT 1') : undefined
      expect(answer?.structuredContent?.status ?? 'not started').not.toBe('ok')
      if (started) await world.stop()
      await world.start()
      await expectWorking()
      await world.stop()
    })

    it('a database that is not there, a password that is missing: it starts, says so, and goes on', async () => {
      await changed(
        'sallyport.yaml',
        (text) => text.replace(`port: ${world.db.port}`, 'port: 1'),
        async () => {
          await rename(file('db.password'), file('elsewhere'))
          await world.start()
          await expect
            .poll(() => world.output)
            .toMatch(/"level":"warn"[^\n]*target db is missing: [^\n]*db\.password[^\n]* Its calls fail until/u)
          await rename(file('elsewhere'), file('db.password'))
          const answer = await query('SELECT 1')
          expect(answer.structuredContent).toMatchObject({ status: 'failed', code: 'ERR_UPSTREAM_UNREACHABLE' })
          expect(answer.structuredContent?.reason).toMatch(/target db cannot be reached; check "host" and "port"/u)
          expect(world.isRunning()).toBe(true)
          await world.stop()
        },
      )
      await world.start()
      await expectWorking()
    })

    it('leaves recordings that verify, with each lost entry accounted for', async () => {
      await world.stop()
      const { code, stdout, stderr } = await world.run(['recordings', 'verify'])
      said.push(stdout, stderr)
      expect(stdout + stderr).toMatch(/as they were written/u)
      expect(code).toBe(0)
    })

    it('has said no secret anywhere', () => {
      const recorded = filesBelow(file('recordings')).map((name) => readFileSync(name, 'utf8'))
      const all = [...said, world.output, ...recorded].join('\n')
      expect(all.length).toBeGreaterThan(10_000)
      for (const [index, secret] of secrets.entries()) {
        expect(secret.length).toBeGreaterThan(8)
        expect(all.includes(secret), `secret ${index} was said`).toBe(false)
      }
    })
  })

  /** Lets files of the running gateway grow to so many bytes, as a disk without room would (setrlimit(2)). */
  function fileSizeMax(bytes: string): void {
    execFileSync('prlimit', ['--pid', String(pidOf(world.dir)), `--fsize=${bytes}:unlimited`])
  }
})

function pidOf(dir: string): number {
  const config = path.join(dir, 'sallyport.yaml')
  const found = readdirSync('/proc').filter((name) => {
    if (!/^\d+$/u.test(name)) return false
    try {
      const words = readFileSync(`/proc/${name}/cmdline`, 'utf8').split('\0')
      return words.includes('serve') && words.includes(config)
    } catch {
      return false
    }
  })
  expect(found).toHaveLength(1)
  return Number(found[0])
}

function filesBelow(dir: string): string[] {
  return readdirSync(dir, { withFileTypes: true, recursive: true })
    .filter((entry) => entry.isFile())
    .map((entry) => path.join(entry.parentPath, entry.name))
}
