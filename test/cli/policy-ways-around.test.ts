/** Rules that deny commands by name, and the ways around each that the check shows: only ways that really are allowed. */
import { mkdir, mkdtemp, rm, writeFile } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import path from 'node:path'
import { describe, expect, it } from 'vitest'
import { denyLists } from '../../src/cli/policy-ways-around.ts'
import type { Principal } from '../../src/core/principal.ts'
import type { Target } from '../../src/core/target.ts'
import { knownOf } from '../../src/known.ts'
import { decide } from '../../src/policy/decide.ts'
import { loadPolicy } from '../../src/policy/load.ts'
import type { Policy } from '../../src/policy/policy.ts'
import { planSsh } from '../../src/protocols/ssh/plan.ts'
import { sallyport } from './kit.ts'

const OPTIONS = { host: 'box', port: 22, user: 'deploy', hostKeys: [], auth: 'key', shell: '/bin/bash' } as const
const BOX: Target = {
  name: 'box',
  protocol: 'ssh',
  labels: {},
  mode: 'enforce',
  record: 'full',
  endpoint: 'ssh://box',
  options: { ...OPTIONS, connectTimeoutMs: 60_000 },
}
const MUCH =
  '{id: much, effect: allow, principals: [group:agents], actions: [ssh.exec, ssh.code, ssh.wrap, ssh.builtin], resources: ["**"]}'

function policyOf(...rules: readonly string[]): Policy {
  const text = `targets: [box]\nrules:\n${rules.map((rule) => `  - ${rule}\n`).join('')}`
  const { policy, problems } = loadPolicy([{ path: 'p.yaml', text }], knownOf([BOX]))
  if (policy === undefined) throw new Error(JSON.stringify(problems))
  return policy
}

function messagesOf(policy: Policy, target = BOX): readonly string[] {
  return denyLists(policy, [target], 0).map(({ message }) => message)
}

const AGENT: Principal = { id: 'loop', kind: 'agent', groups: ['agents'], roles: ['caller'], owner: 'maria' }

/** What the policy says of a command line; asked apart from what wrote the message. */
function effectOf(policy: Policy, command: string): string {
  const plan = planSsh({ kind: 'exec', command }, { options: OPTIONS, masks: [], hasInput: false })
  const question = { principal: AGENT, target: BOX, session: { id: 's', door: 'ssh' }, action: plan.action, now: 0 }
  return decide(policy, question).effect
}

function waysOf(message: string): readonly string[] {
  const [, listed = ''] = / this policy allows: ([\s\S]*)\. List what may run instead\.$/u.exec(message) ?? []
  return listed.split(/(?:^| {2})\(\d\) /u).filter((way) => way !== '')
}

describe('a list of denied commands', () => {
  const denied = (argv: string, more = ''): string =>
    `{id: no, effect: deny, principals: [group:agents], actions: [ssh.exec, ssh.code], resources: [{argv: ${argv}}]${more}}`

  it.each([
    ['[rm, {rest: any}]', ['/usr/bin/rm -rf /srv/data', 'find /srv/data -delete']],
    ['[rm, -rf, /]', ['/usr/bin/rm -rf /', 'rm -r -f /', 'rm -fr /']],
    ['[{in: [shutdown, reboot]}, {rest: any}]', ['/usr/sbin/shutdown']],
    ['[shutdown, now]', ['/usr/sbin/shutdown now', 'systemctl poweroff', 'poweroff']],
    ['[cat, /etc/shadow]', ['/usr/bin/cat /etc/shadow', 'head -n -0 /etc/shadow']],
    ['[/usr/bin/curl, {rest: any}]', ['curl https://example.com/']],
    ['[{match: "mkfs*"}, "*"]', ['/usr/bin/mkfsx x']],
    ['[passwd]', ['/usr/bin/passwd']],
  ])('of %s is shown three ways around it, all of which the policy allows', (argv, some) => {
    const policy = policyOf(MUCH, denied(argv))
    const [message = '', ...more] = messagesOf(policy)
    expect(more).toEqual([])
    const ways = waysOf(message)
    expect([message, ways.length]).toEqual([message, 3])
    for (const way of ways) expect([way, effectOf(policy, way)]).toEqual([way, 'allow'])
    for (const way of some) expect([way, effectOf(policy, way)]).toEqual([way, 'allow'])
    expect(ways[0]).toBe(some[0])
    const [, line = ''] = /"([^"]*)" is denied/u.exec(message) ?? []
    expect([line, effectOf(policy, line)]).toEqual([line, 'deny'])
  })

  it('is shown no way that the policy stops: wrappers, and what other rules deny', () => {
    const policy = policyOf(MUCH, denied('[rm, {rest: any}]'))
    for (const wrapped of ['busybox rm x', 'env rm x', "sh -c 'rm x'", 'nice rm x', 'echo x | xargs rm', '"rm" x']) {
      expect([wrapped, effectOf(policy, wrapped)]).toEqual([wrapped, 'deny'])
    }
    expect(waysOf(messagesOf(policy).join())).toEqual([
      '/usr/bin/rm -rf /srv/data',
      'find /srv/data -delete',
      expect.stringMatching(/^python3 -c /u),
    ])
    const byPath = denied('[{match: "/usr/bin/*"}, {rest: any}]').replace('id: no', 'id: paths')
    const [message = ''] = messagesOf(policyOf(MUCH, denied('[rm, {rest: any}]'), byPath))
    expect(message).not.toContain('/usr/bin/rm')
    expect(waysOf(message)[0]).toBe('find /srv/data -delete')
  })

  it('without ssh.code in what is allowed, shows no interpreter', () => {
    const much = MUCH.replace('ssh.code, ', '')
    const [message = ''] = messagesOf(policyOf(much, denied('[rm, {rest: any}]')))
    expect(waysOf(message)).toEqual(['/usr/bin/rm -rf /srv/data'])
  })

  it('beside a list of what may run is not spoken of', () => {
    const few =
      '{id: few, effect: allow, principals: [group:agents], actions: [ssh.exec], resources: [{argv: [rm, {rest: any}]}, {argv: [uptime]}]}'
    expect(messagesOf(policyOf(few, denied('[rm, -rf, /]')))).toEqual([
      expect.stringContaining('(1) rm -r -f /  (2) rm -fr /'),
    ])
    expect(messagesOf(policyOf(few, denied('[rm, {rest: any}]')))).toEqual([])
    expect(messagesOf(policyOf(MUCH))).toEqual([])
  })

  it('is only spoken of where somebody is denied what others of the same name may do otherwise', () => {
    const others = MUCH.replace('group:agents', 'group:sre')
    const rule = denied('[rm, {rest: any}]')
    // Somebody may be in both groups.
    expect(messagesOf(policyOf(others, rule))).toHaveLength(1)
    expect(messagesOf(policyOf(MUCH.replace('principals:', 'unless: [group:agents], principals:'), rule))).toEqual([])
    expect(messagesOf(policyOf(MUCH, denied('[rm, {rest: any}]', ', when: "false"')))).toEqual([])
    expect(messagesOf(policyOf(MUCH, rule), { ...BOX, protocol: 'http' })).toEqual([])
  })

  it('is found by `sallyport policy check`, with its place, and is no mistake', async () => {
    const dir = await mkdtemp(path.join(tmpdir(), 'sallyport-ways-'))
    try {
      await mkdir(path.join(dir, 'policies'))
      await writeFile(
        path.join(dir, 'sallyport.yaml'),
        'policies: policies\ntargets:\n  box: {protocol: ssh, host: box.internal, user: deploy, credential: {file: key}}\n',
      )
      const rules = `targets: [box]\nrules:\n  - ${MUCH}\n  - ${denied('[rm, {rest: any}]')}\n`
      await writeFile(path.join(dir, 'policies', 'p.yaml'), rules)
      const ran = await sallyport(['policy', 'check'], { cwd: dir })
      expect(ran).toMatchObject({ code: 0, stderr: '' })
      expect(ran.stdout).toMatch(/p\.yaml:4:5: warning: Rule "no" denies commands by name.*\(3\) /u)
    } finally {
      await rm(dir, { recursive: true, force: true })
    }
  })
})
