import { fileURLToPath } from 'node:url'
import { describe, expect, it } from 'vitest'
import { sallyport } from './kit.ts'

describe.each(['postgres-agents', 'ssh-agents', 'http-agents'])('the example %s', (name) => {
  it('is a valid configuration with valid policies, and its fixtures hold', async () => {
    const EXAMPLE = fileURLToPath(new URL(`../../examples/${name}/`, import.meta.url))
    const check = await sallyport(['policy', 'check'], { cwd: EXAMPLE })
    expect(check).toMatchObject({ code: 0, stderr: '' })
    const test = await sallyport(['policy', 'test'], { cwd: EXAMPLE })
    expect(test.stdout).toMatch(/\b[1-9]\d* hold, 0 do not\./u)
    expect(test.code).toBe(0)
  })
})
