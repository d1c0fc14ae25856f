/** `policy explain` of commands: the attacks that can be told from the text alone, judged by the command line. */
import { mkdirSync, mkdtempSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import path from 'node:path'
import { afterAll, beforeAll, describe, expect, it } from 'vitest'
import { DENIED, POLICY } from '../ssh/attack-commands.ts'
import { CODE, FOUND, REFUSED, UNKNOWN, WRAPPED } from '../ssh/plan-tables.ts'
import { sallyport } from './kit.ts'

/** On `open` everything that is understood is allowed, as whomever it runs. */
const OPEN = `
targets: [open]
rules:
  - id: all
    effect: allow
    principals: [group:agents]
    actions: [ssh.exec, ssh.code, ssh.wrap, ssh.builtin, ssh.assign, ssh.read, ssh.write]
    as: [deploy, root, www]
    resources: ["**"]
  - {id: stays, effect: allow, principals: [group:agents], actions: [ssh.detach], resources: ["-"]}
`

interface Line {
  readonly target: 'box' | 'open'
  readonly arguments: object
  readonly effect: 'allow' | 'deny'
}

const LINES: readonly Line[] = [
  // What is denied must not be denied by a mistake of this test: the tools themselves are allowed.
  { target: 'box', arguments: { command: 'uname -s; cat x | wc -l; y=1; echo "$y"' }, effect: 'allow' },
  ...[...FOUND, ...WRAPPED].map(([command]): Line => ({ target: 'open', arguments: { command }, effect: 'allow' })),
  ...CODE.map((command): Line => ({ target: 'open', arguments: { command }, effect: 'allow' })),
  ...CODE.map((command): Line => ({ target: 'box', arguments: { command }, effect: 'deny' })),
  ...UNKNOWN.map(([, command]): Line => ({ target: 'open', arguments: { command }, effect: 'deny' })),
  ...REFUSED.map((word): Line => ({ target: 'open', arguments: { command: `${word} x` }, effect: 'deny' })),
  ...DENIED.map((asked): Line => ({ target: 'box', arguments: asked, effect: 'deny' })),
]

describe('policy explain --jsonl', () => {
  let dir = ''
  beforeAll(() => {
    dir = mkdtempSync(path.join(tmpdir(), 'sallyport-explain-'))
    mkdirSync(path.join(dir, 'policies'))
    writeFileSync(path.join(dir, 'policies', 'box.yaml'), POLICY)
    writeFileSync(path.join(dir, 'policies', 'open.yaml'), OPEN)
    const host = {
      protocol: 'ssh',
      host: '127.0.0.1',
      user: 'deploy',
      credential: { env: 'NO_SUCH_SECRET' },
      host_keys: [`SHA256:${'A'.repeat(43)}`],
    }
    writeFileSync(
      path.join(dir, 'sallyport.yaml'),
      JSON.stringify({ listen: { mcp: '127.0.0.1:0', admin: '127.0.0.1:0' }, targets: { box: host, open: host } }),
    )
  })
  afterAll(() => rmSync(dir, { recursive: true, force: true }))

  it(`judges ${LINES.length} commands as they were meant: what is understood by its parts, all else denied`, async () => {
    const input = LINES.map(({ target, arguments: args }, index) =>
      JSON.stringify({
        id: `${index}`,
        principal: { id: 'loop', groups: ['agents'] },
        target,
        tool: 'run_ssh',
        arguments: args,
      }),
    )
    const ran = await sallyport(['policy', 'explain', '--jsonl'], { cwd: dir, input: input.join('\n') })
    expect(ran.stderr).toBe('')
    const answers = ran.stdout
      .trim()
      .split('\n')
      .map((line) => JSON.parse(line) as { id: string; effect: string; reason?: string })
    expect(answers.map(({ id }) => id)).toEqual(LINES.map((_line, index) => `${index}`))
    expect(LINES.filter(({ effect }, index) => answers[index]?.effect !== effect)).toEqual([])
  })
})
