import { describe, expect, it } from 'vitest'
import type { FileReport } from './report.ts'
import { mayRunAgain } from './second-run.mjs'

const failed = (file: string, message = 'expected 429 to be 200'): FileReport => ({
  file,
  isOk: false,
  passed: 5,
  failed: ['a fact'],
  skipped: [],
  messages: [message],
})
const [one, two, three] = ['one', 'two', 'three'].map((name) => failed(`test/e2e/${name}.test.ts`)) as [
  FileReport,
  FileReport,
  FileReport,
]

describe('a file that failed in a run of all tests', () => {
  it.each<{ readonly where: string; readonly files: readonly FileReport[]; readonly strays?: number }>([
    { where: 'nothing failed', files: [] },
    { where: 'an error belongs to no test', files: [one], strays: 1 },
    { where: 'many failed', files: [one, two, three] },
    { where: 'a pure suite failed', files: [failed('test/policy/decide.test.ts')] },
    { where: 'a pure suite failed beside another', files: [one, failed('test/masking/stream.test.ts')] },
    { where: 'copies were told apart', files: [failed('test/non-interference/corpora-18.test.ts')] },
    { where: 'a bug is back', files: [failed('test/bugs/a-fact.test.ts')] },
    { where: 'a property fails', files: [failed('test/ssh/plan.test.ts', 'Property failed after 12 tests')] },
    {
      where: 'a secret was seen',
      files: [failed('test/e2e/faults.test.ts', "expected 'log' not to include 's'")],
    },
    { where: 'a secret matched', files: [failed('test/e2e/faults.test.ts', "expected 'log' to not match /s/")] },
  ])('stands as it is where $where', ({ files, strays = 0 }) => {
    expect(mayRunAgain({ files, strays })).toBe(false)
  })

  it('may run again, alone, where servers and clients of others take part', () => {
    expect(mayRunAgain({ files: [one, two], strays: 0 })).toBe(true)
  })
})
