import { describe, expect, it } from 'vitest'
import { previewOf } from '../../src/protocols/ssh/preview.ts'
import { plan } from './plan-kit.ts'

const preview = (payload: object): Readonly<Record<string, readonly string[]>> =>
  Object.fromEntries(previewOf(plan(payload)).sections.map(({ title, text = '' }) => [title, text.split('\n')]))

describe('C14: an approver sees of an SSH call', () => {
  it('every command with its words as they are handed over, and the account of each', () => {
    expect(
      preview({ kind: 'exec', command: `cd /srv && sudo -n -u app tar -xf "a b".tar $x; t"ou"ch 'it'\\''s'` }),
    ).toEqual({
      'Runs, by account': [
        'deploy: sudo -n -u app',
        'app: tar -xf ‹"a b".tar› ‹$x› (behind sudo) (may run whatever its words or files say)',
        "deploy: touch 'it'\\''s'",
      ].map((line) => line.replace('‹"a b".tar›', "'a b.tar'")),
    })
  })

  it('the paths it writes and reads, and that something stays behind', () => {
    expect(preview({ kind: 'exec', command: 'sort < /etc/a > "/srv/b c" &', stdin: 'x' })).toEqual({
      'Runs, by account': ['deploy: sort'],
      'Changes files': ["deploy: '/srv/b c' written by a redirection"],
      'Reads files': ['deploy: /etc/a'],
      Input: ['1 bytes, which stand with the request'],
      Also: ['leaves something running when the command has ended'],
    })
  })

  it('both paths of a file operation', () => {
    expect(preview({ kind: 'sftp', operation: 'rename', path: '/a', to: '/b' })).toEqual({
      'Changes files': ['deploy: /a renamed', 'deploy: /b renamed'],
    })
  })

  it('that not all was understood, and what', () => {
    const { sections, missing } = previewOf(plan({ kind: 'exec', command: 'ls; eval "$x"' }))
    expect(missing).toMatch(/may do more/u)
    expect(JSON.stringify(sections)).toContain('eval')
  })
})
