/** A FIFO among the policy files made the start, and every reload, wait for ever for somebody who writes into it. */
import { execFileSync } from 'node:child_process'
import { mkdtempSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import path from 'node:path'
import { expect, it } from 'vitest'
import { readPolicyFiles } from '../../src/policy/load-files.ts'

it('names a policy that is not a file instead of waiting for it', async () => {
  const directory = mkdtempSync(path.join(tmpdir(), 'fifo-'))
  try {
    execFileSync('mkfifo', [path.join(directory, 'pipe.yaml')])
    const { problems } = await readPolicyFiles(directory)
    expect(problems.map(({ path: file, message }) => `${file}: ${message}`)).toEqual(['pipe.yaml: This is not a file.'])
  } finally {
    rmSync(directory, { recursive: true })
  }
})
