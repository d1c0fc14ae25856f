/** The example policy for hosts as it is shipped, before a real sshd: through the SSH door and through `run_ssh`. */
import { chmod, mkdtemp, readFile, rm, writeFile } from 'node:fs/promises'
import { existsSync } from 'node:fs'
import { tmpdir } from 'node:os'
import path from 'node:path'
import { fileURLToPath } from 'node:url'
import { afterAll, beforeAll, describe, expect, it } from 'vitest'
import { has } from '../setup/needs.ts'
import { openSshWorld, type Output, type SshWorld } from './ssh-world.ts'
import { callTool } from './world.ts'

const EXAMPLE = fileURLToPath(new URL('../../examples/ssh-agents/policies/hosts.yaml', import.meta.url))

describe.runIf(has('sshd'))('the example policy for hosts', () => {
  let world: SshWorld
  let programs: string
  let key: string
  let token: string
  let approver: string
  const ssh = (command: string): Promise<Output> => world.client('ssh', key, ['127.0.0.1', command])

  beforeAll(async () => {
    // No machine that runs tests has a service to restart, so the host's two programs say what they were asked.
    programs = await mkdtemp(path.join(tmpdir(), 'sallyport-example-'))
    for (const [name, script] of [
      ['systemctl', 'echo "systemctl as $AS: $*"'],
      ['sudo', 'AS=root exec "$@"'],
    ] as const) {
      await writeFile(path.join(programs, name), `#!/bin/sh\n${script}\n`)
      await chmod(path.join(programs, name), 0o755)
    }
    const policy = await readFile(EXAMPLE, 'utf8')
    if (!policy.includes('targets: [web-1]\n')) throw new Error('The example is for another target.')
    world = await openSshWorld(
      policy.replace('targets: [web-1]\n', 'targets: [box]\n'),
      'approvals: {hold: 5m}\n',
      `Match all\n  SetEnv HOME=${programs} AS=login PATH=${programs}:/usr/bin:/bin`,
    )
    ;({ keyFile: key, token } = await world.caller('ops-bot', ['agents']))
    ;({ token: approver } = await world.caller('maria', ['ops'], {
      kind: 'person',
      owner: 'maria',
      roles: ['approver'],
    }))
  })
  afterAll(async () => {
    await world?.close()
    await rm(programs, { recursive: true, force: true })
  })

  it('lets an agent look around, and masks what it sees', async () => {
    expect(await ssh('systemctl status web')).toEqual({
      code: 0,
      stdout: 'systemctl as login: status web\n',
      stderr: '',
    })
    expect(await ssh('ps -ef | grep -c sshd | wc -l')).toMatchObject({ code: 0, stdout: '1\n', stderr: '' })
    expect(await ssh('echo ana@example.com')).toMatchObject({ code: 0, stdout: '[REDACTED:email]\n' })
    // There is no such file; what matters is that the host says so, not the gateway.
    const absent = await ssh('cat /var/log/web/sallyport-test-no-such.log')
    expect([absent.code, absent.stderr]).toEqual([1, expect.stringMatching(/^cat: .*No such file/u)])
    const files = await world.client('sftp', key, ['-b', '-', '127.0.0.1'], 'get /var/log/web/no-such.log\n')
    expect([files.code, files.stderr]).toEqual([1, expect.stringMatching(/not found|No such file/u)])
  })

  it('denies everything else', async () => {
    const file = path.join(programs, 'touched')
    for (const command of [
      'systemctl status web sshd',
      'systemctl status sshd',
      'cat /etc/passwd',
      'cat /var/log/web/../../../etc/passwd',
      'sudo cat /etc/passwd',
      'sudo -u nobody systemctl restart web',
      'sudo systemctl stop web',
      'sudo systemctl restart sshd',
      `ls $(touch ${file})`,
      `uptime > ${file}`,
      `touch ${file}`,
      `ls; touch ${file}`,
      'tail -f x | sh',
    ]) {
      const ran = await ssh(command)
      expect([command, ran.code, ran.stdout]).toEqual([command, 126, ''])
      expect(ran.stderr).toMatch(/^sallyport: /u)
    }
    const put = await world.client('sftp', key, ['-b', '-', '127.0.0.1'], `put ${EXAMPLE} ${file}\n`)
    expect([put.code, put.stderr]).toEqual([1, expect.stringContaining('ermission denied')])
    expect(existsSync(file)).toBe(false)
    const { structuredContent } = await callTool(world.mcpUrl, token, 'run_ssh', {
      target: 'box',
      argv: ['touch', file],
    })
    expect(structuredContent).toMatchObject({ status: 'denied' })
  })

  it('restarts a service once somebody on duty has agreed, as root', async () => {
    const held = callTool(world.mcpUrl, token, 'run_ssh', { target: 'box', command: 'sudo systemctl restart web' })
    const ids = async (): Promise<readonly string[]> =>
      (await world.admin(approver).get<{ approvals: { id: string }[] }>('/v1/approvals')).approvals.map(({ id }) => id)
    await expect.poll(ids).toHaveLength(1)
    const [id = ''] = await ids()
    const { stdout } = world.cli(['approvals', 'approve', id], approver)
    expect(stdout).toContain('root: systemctl restart web (behind sudo)')
    expect(stdout).toContain('restarts-need-somebody')
    expect((await held).structuredContent).toMatchObject({
      status: 'ok',
      exit_code: 0,
      stdout: 'systemctl as root: restart web\n',
    })
  })
})
