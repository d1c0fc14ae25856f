import { fileURLToPath } from 'node:url'
import { describe, expect, it } from 'vitest'
import { sallyport } from './kit.ts'

const EXAMPLE = fileURLToPath(new URL('../../examples/postgres-agents/', import.meta.url))

describe('the example', () => {
  it('is a valid configuration with valid policies, and its fixtures hold', async () => {
    const check = await sallyport(['policy', 'check'], { cwd: EXAMPLE })
    expect(check).toMatchObject({ code: 0, stderr: '' })
    const test = await sallyport(['policy', 'test'], { cwd: EXAMPLE })
    expect(test.stdout).toContain('4 hold, 0 do not.')
    expect(test.code).toBe(0)
  })
})
