/** What follows hundreds of blanks or empty lines is out of sight on a screen: an approver agreed to what stood before. */
import { expect, it } from 'vitest'
import { visible } from '../../src/approval/escape.ts'

it.each([
  [`UPDATE t SET a = 1 WHERE id = 7${' '.repeat(400)}OR true`, 'UPDATE t SET a = 1 WHERE id = 7 <400 blanks> OR true'],
  [`SELECT 1${'\n'.repeat(90)}FROM secrets`, 'SELECT 1\n<90 line ends>\nFROM secrets'],
  [`SELECT 1\n${'  \t\n'.repeat(50)}FROM secrets`, 'SELECT 1\n<51 line ends>\nFROM secrets'],
  ['SELECT a,\n       b\n\nFROM t', 'SELECT a,\n       b\n\nFROM t'],
])('shows an approver what stands far behind: %j', (text, shown) => {
  expect(visible(text, 'keep-lines')).toBe(shown)
})
