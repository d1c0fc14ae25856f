import { chmodSync, mkdtempSync, readdirSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { describe, expect, it } from 'vitest'
import { sallyport } from './kit.ts'

describe('the demo', () => {
  it('plays every scene, ends by itself with code 0, and leaves no file', async () => {
    const scratch = mkdtempSync(join(tmpdir(), 'sallyport-demo-test-'))
    // As root the database runs as another user, who must be able to enter.
    chmodSync(scratch, 0o711)
    try {
      const ran = await sallyport(['demo'], { env: { TMPDIR: scratch } })
      expect(ran.stderr).toBe('')
      expect(ran.code).toBe(0)
      expect(ran.stdout).toContain('replayed: true')
      expect(ran.stdout).toContain('Caught')
      // Plain where nobody looks: no escape sequence, and no token.
      expect(ran.stdout).not.toContain('\u001B')
      expect(ran.stdout).not.toMatch(/sp_[0-9a-z]{12}_/u)
      expect(readdirSync(scratch)).toEqual([])
    } finally {
      rmSync(scratch, { recursive: true, force: true })
    }
  })
})
