/**
 * A store that was closed between two looks at what others changed waited for a timer that keeps no process alive. With
 * nothing else to do `sallyport operator` ended there: without its token, without a word, and with 13.
 */
import { execFile } from 'node:child_process'
import path from 'node:path'
import { promisify } from 'node:util'
import { expect, it } from 'vitest'
import { createDatabase } from '../services/postgres.ts'

const CHILD = path.join(import.meta.dirname, '../store/closing-child.ts')

it('a process that closes its shared store comes to its end', async () => {
  const database = await createDatabase('')
  const { host, port, user, password, name } = database
  try {
    const address = JSON.stringify({ host, port, user, database: name })
    const { stdout } = await promisify(execFile)(process.execPath, ['--import', 'tsx', CHILD, address, password])
    expect(stdout).toBe('closed\n')
  } finally {
    await database.drop()
  }
})
