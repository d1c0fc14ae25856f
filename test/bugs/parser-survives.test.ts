/** A text whose tree is too deep to be written down broke the parser for everybody, until the gateway was started again. */
import { beforeAll, expect, it } from 'vitest'
import { loadParser, parse, scan } from '../../src/protocols/postgres/parse.ts'

const DEEP = `SELECT 1${'+1'.repeat(100_000)}`

beforeAll(loadParser)

it('reads statements after any number of texts that are too deep', async () => {
  const before = process.memoryUsage().external
  expect(parse(DEEP).ok).toBe(false)
  // A second parser took over at once, so whoever comes next notices nothing.
  expect(parse('SELECT 1').ok).toBe(true)
  for (let i = 0; i < 60; i++) {
    expect(parse(DEEP).ok).toBe(false)
    await expect.poll(() => parse('SELECT 1').ok, { interval: 5 }).toBe(true)
  }
  expect(scan('SELECT 1')).toHaveLength(2)
  expect(parse('SELECT 1 FROM')).toMatchObject({ ok: false, reason: 'syntax' })
  // Sixty times what one such text takes would be close to a gigabyte.
  expect(process.memoryUsage().external - before).toBeLessThan(500 * 1024 ** 2)
})
