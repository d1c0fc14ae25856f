/** What commands are found to do. */
import { describe, expect, it } from 'vitest'
import { partsExpand } from '../../src/protocols/ssh/expansion.ts'
import { Findings, type Context } from '../../src/protocols/ssh/findings.ts'
import type { WordPart } from '../../src/protocols/ssh/syntax.ts'
import { lineOf, linesOf, partsOf, plan } from './plan-kit.ts'
import { CODE, FOUND, REASONS, REFUSED, UNKNOWN, WRAPPED } from './plan-tables.ts'

const HERE: Context = {
  account: { name: 'deploy', isLogin: true },
  via: [],
  dialect: 'bash',
  isInside: false,
  nested: { text: () => undefined, script: () => undefined },
}

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

  it('refuses words of the shell that change what later ones mean, or run what nobody sees', () => {
    for (const word of REFUSED) expect([word, linesOf(`${word} x`).includes('unknown')]).toEqual([word, true])
  })

  it('gives the reason that was found first', () => {
    for (const [command, reason] of REASONS) {
      expect(JSON.stringify(partsOf(command).map(({ attributes }) => attributes['reasons']))).toMatch(reason)
    }
  })

  it('says what was not understood, in words and without values', () => {
    const part = plan({ kind: 'exec', command: 'x=secret; $x' }).action.parts.at(-1)
    expect(part?.attributes['reasons']).toEqual(['The name of a command is computed; write it out.'])
  })

  it.each<WordPart>([
    { type: 'CommandExpansion', text: '$(x)', script: undefined, inner: undefined },
    { type: 'ProcessSubstitution', text: '<(x)', operator: '<', script: undefined, inner: undefined },
    { type: 'ArithmeticExpansion', text: '$((x))', expression: undefined },
    { type: 'ExtendedGlob', text: '@(x)', operator: '@', pattern: 'x', parts: undefined },
    { type: 'BraceExpansion', text: '{$(x),y}', parts: undefined },
    { type: 'ParameterExpansion', text: '${a.b}', parameter: 'a.b' },
  ] as unknown as readonly WordPart[])('so is what the parser tells no more of: $text', (part) => {
    const findings = new Findings()
    partsExpand([part], HERE, findings)
    expect(findings.parts.map(lineOf)).toEqual(['unknown'])
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
    expect(sftp('list', '/')).toEqual(['sftp.list /'])
    expect(sftp('rename', '/a', '/b')).toEqual(['sftp.rename /a', 'sftp.rename /b'])
  })

  it('are unknown with more or fewer paths than they need', () => {
    expect(sftp('read', '/a', '/b')).toContain('unknown')
    expect(sftp('rename', '/a')).toContain('unknown')
  })

  it('are unknown where another reader could see another path', () => {
    for (const path of ['etc/hosts', '', '/a/../b', '/a//b', '/a/./b', '/a/', '/a\u200b', '/a\0b']) {
      expect(sftp('read', path)).toContain('unknown')
    }
  })
})
