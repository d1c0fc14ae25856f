import { rm, writeFile } from 'node:fs/promises'
import path from 'node:path'
import { expect, it } from 'vitest'
import { insert } from '../../src/store/store.ts'
import { temporaryDirectory } from './kit.ts'
import { sharedPlace } from './shared.ts'

it('a store that was put back from a backup is refused, also after a restart, until somebody says that it is known', async () => {
  const { database, open } = await sharedPlace()
  const markFile = path.join(await temporaryDirectory(), 'seen.json')
  const store = await open({ mirrored: ['tokens'], markFile })
  await insert(store, 'tokens', 'old', { ok: true })
  const { admin } = database
  const { rows } = await admin.query<{ last: string }>('SELECT last_value AS last FROM sallyport.version')
  // What is seen through the feed is known to have been there.
  await insert(store, 'tokens', 'used', { ok: true })

  // As `pg_restore` leaves it: rows and sequences as they were.
  await admin.query(`DELETE FROM sallyport.document WHERE id = 'used'`)
  await admin.query(`DELETE FROM sallyport.change`)
  await admin.query(`SELECT setval('sallyport.version', $1)`, [rows[0]?.last])
  await admin.query(
    `SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE application_name = 'sallyport' AND datname = current_database()`,
  )

  const refusal = async (): Promise<string> => {
    return store.get('tokens', 'old').then(
      () => 'answered',
      (error: unknown) => (error instanceof Error ? error.message : ''),
    )
  }
  await expect.poll(refusal).toContain('further back in time')
  await expect(store.commit([])).rejects.toMatchObject({ code: 'ERR_STORE_FAILED' })
  await expect(store.lease('l', 'h', 1_000)).rejects.toMatchObject({ code: 'ERR_STORE_FAILED' })
  await store.close()
  await expect(open({ mirrored: ['tokens'], markFile })).rejects.toMatchObject({
    code: 'ERR_STORE_FAILED',
    message: expect.stringContaining(`${markFile} is removed`) as string,
  })
  await rm(markFile)
  const anew = await open({ mirrored: ['tokens'], markFile })
  expect(await anew.get('tokens', 'old')).toMatchObject({ value: { ok: true } })
})

it('another store, and one that went on, are taken; a mark nobody can read is not', async () => {
  const [first, second] = [await sharedPlace(), await sharedPlace()]
  const markFile = path.join(await temporaryDirectory(), 'seen.json')
  const store = await first.open({ markFile })
  for (let n = 0; n < 5; n++) await insert(store, 'tokens', `t${n}`, {})
  await store.close()
  const again = await first.open({ markFile })
  await again.close()
  await (await second.open({ markFile })).close()
  await writeFile(markFile, '{"format":1')
  await expect(first.open({ markFile })).rejects.toMatchObject({
    message: expect.stringContaining('damaged') as string,
  })
})
