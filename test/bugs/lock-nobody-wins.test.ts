/**
 * A contender that lets go while another asks it hangs up without an answer. That was taken for a holder, so of several
 * processes that start together sometimes none got in.
 */
import { mkdir, readdir, rename } from 'node:fs/promises'
import { createServer } from 'node:net'
import path from 'node:path'
import { expect, it } from 'vitest'
import { lockDirectory } from '../../src/store/state-lock.ts'
import { temporaryDirectory } from '../store/kit.ts'

it('C17: a rival that hangs up while it is asked is asked again, not taken for the holder', async () => {
  const directory = path.join(await temporaryDirectory(), 'state')
  const sockets = path.join(directory, 'lock')
  await mkdir(sockets, { recursive: true, mode: 0o700 })
  const rival = createServer((socket) => {
    socket.destroy()
    rival.close()
  })
  await new Promise<void>((resolve) => rival.listen(path.join(sockets, 'x.new'), resolve))
  await rename(path.join(sockets, 'x.new'), path.join(sockets, 'ffffffffffffffff.sock'))
  const lock = await lockDirectory(directory)
  expect(await readdir(sockets)).toHaveLength(1)
  await lock.release()
})
