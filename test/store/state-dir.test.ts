import { spawn } from 'node:child_process'
import { chmod, mkdir, readdir, readFile, rm, stat, writeFile } from 'node:fs/promises'
import path from 'node:path'
import { describe, expect, it } from 'vitest'
import { openState } from '../../src/store/state-dir.ts'
import { lockDirectory } from '../../src/store/state-lock.ts'
import { has } from '../setup/needs.ts'
import { type Child, start, temporaryDirectory } from './kit.ts'

const CHILD = path.join(import.meta.dirname, 'child.ts')

describe('the state directory', () => {
  it('C17: is made private, with private keys', async () => {
    const directory = path.join(await temporaryDirectory(), 'deep', 'state')
    const state = await openState(directory)
    await state.close()
    expect((await stat(directory)).mode & 0o777).toBe(0o700)
    for (const name of ['keys.json', 'store.json']) {
      expect((await stat(path.join(directory, name))).mode & 0o777).toBe(0o600)
    }
  })

  it('C17: is refused when others may enter it, naming the fix', async () => {
    const directory = path.join(await temporaryDirectory(), 'open')
    await mkdir(directory)
    await chmod(directory, 0o750)
    await expect(openState(directory)).rejects.toMatchObject({
      code: 'ERR_CONFIG_INVALID',
      message: expect.stringContaining(`chmod 700 ${directory}`) as unknown,
    })
  })

  it.runIf(has('root'))('C17: is refused when it belongs to somebody else', async () => {
    const directory = path.join(await temporaryDirectory(), 'foreign')
    await mkdir(directory, { mode: 0o700 })
    const { chown } = await import('node:fs/promises')
    await chown(directory, 12_345, 12_345)
    await expect(openState(directory)).rejects.toMatchObject({ code: 'ERR_CONFIG_INVALID' })
  })

  it('gives the same keys at the next start, and each use another key', async () => {
    const directory = path.join(await temporaryDirectory(), 'state')
    const first = await openState(directory)
    await first.close()
    const second = await openState(directory)
    await second.close()
    const { digest, votes, payload, mask, store } = second.keys
    expect(first.keys.digest).toEqual(digest)
    const all = [digest, votes, payload, mask, store, second.keys.derive('a'), second.keys.derive('b')]
    expect(new Set(all.map((bytes) => Buffer.from(bytes).toString('hex'))).size).toBe(all.length)
  })

  it.each([
    ['keys.json missing', 'keys.json', undefined],
    ['store.json missing', 'store.json', undefined],
    ['keys.json damaged', 'keys.json', '{"format":1'],
    ['store.json empty', 'store.json', ''],
  ])('refuses to start with %s, and frees the lock', async (_, name, content) => {
    const directory = path.join(await temporaryDirectory(), 'state')
    await (await openState(directory)).close()
    const file = path.join(directory, name)
    const whole = await readFile(file)
    if (content === undefined) await rm(file)
    else await writeFile(file, content)
    await expect(openState(directory)).rejects.toMatchObject({
      code: 'ERR_STORE_FAILED',
      message: expect.stringContaining(file) as unknown,
    })
    await writeFile(file, whole, { mode: 0o600 })
    await (await openState(directory)).close()
  })

  it('refuses keys that others can read', async () => {
    const directory = path.join(await temporaryDirectory(), 'state')
    await (await openState(directory)).close()
    await chmod(path.join(directory, 'keys.json'), 0o640)
    await expect(openState(directory)).rejects.toMatchObject({ code: 'ERR_STORE_FAILED' })
  })

  it('C17: is locked in a path longer than a socket name may be', async () => {
    const directory = path.join(await temporaryDirectory(), 'x'.repeat(120), 'state')
    const state = await openState(directory)
    await expect(openState(directory)).rejects.toMatchObject({ code: 'ERR_STATE_LOCKED' })
    await state.close()
    await (await openState(directory)).close()
  })
})

describe('the lock, between processes', () => {
  it('C17: a second process is refused and told who has it; after kill -9 the next one starts at once', async () => {
    const directory = path.join(await temporaryDirectory(), 'state')
    const holder = start(CHILD, directory)
    try {
      const { pid } = await holder.message()
      await expect(openState(directory)).rejects.toMatchObject({
        code: 'ERR_STATE_LOCKED',
        message: expect.stringContaining(`process ${String(pid)}`) as unknown,
      })
    } finally {
      await holder.kill()
    }
    const state = await openState(directory)
    expect(await readdir(path.join(directory, 'lock'))).toHaveLength(1)
    await state.close()
  })

  it('C17: a stopped process keeps its lock', async () => {
    const directory = path.join(await temporaryDirectory(), 'state')
    const holder = start(CHILD, directory)
    try {
      await holder.message()
      holder.process.kill('SIGSTOP')
      await expect(openState(directory)).rejects.toMatchObject({ code: 'ERR_STATE_LOCKED' })
    } finally {
      await holder.kill()
    }
  })

  it('C17: of processes that start together exactly one gets in, also over the socket of a dead one', async () => {
    const directory = path.join(await temporaryDirectory(), 'state')
    for (let round = 0; round < 2; round++) {
      const contenders: Child[] = Array.from({ length: 4 }, () => start(CHILD, directory))
      try {
        const answers = await Promise.all(contenders.map((child) => child.message()))
        expect(answers.filter(({ opened }) => opened === true)).toHaveLength(1)
        expect(answers.filter(({ code }) => code === 'ERR_STATE_LOCKED')).toHaveLength(3)
      } finally {
        await Promise.all(contenders.map((child) => child.kill()))
      }
    }
  })

  it('C17: of contenders that look at each other at the same moment exactly one gets in', async () => {
    const directory = path.join(await temporaryDirectory(), 'state')
    await mkdir(directory, { mode: 0o700 })
    for (let round = 0; round < 20; round++) {
      const tries = await Promise.allSettled(Array.from({ length: 8 }, () => lockDirectory(directory)))
      const locks = tries.filter((attempt) => attempt.status === 'fulfilled')
      expect(locks).toHaveLength(1)
      await locks[0]?.value.release()
    }
    expect(await readdir(path.join(directory, 'lock'))).toEqual([])
  })

  it('keeps all it reported as written when it is killed at any moment', async () => {
    const directory = path.join(await temporaryDirectory(), 'state')
    let reported = -1
    for (const after of [3, 17, 40]) {
      await rm(directory, { recursive: true, force: true })
      const writer = start(CHILD, directory, 'write')
      await writer.message()
      for (let n = 0; n < after; n++) reported = Number((await writer.message()).n)
      await writer.kill()
      const state = await openState(directory)
      for (let n = 0; n <= reported; n++) {
        expect((await state.store.get<{ n: number }>('numbers', `n${n}`))?.value.n).toBe(n)
        expect(Buffer.from((await state.store.blobs.get(`b${n}`)) ?? []).toString()).toBe(String(n))
      }
      await state.close()
    }
  })

  it('says that the file may not grow, keeps what was written, stays up, and works again', async () => {
    const directory = path.join(await temporaryDirectory(), 'state')
    // The shell limits the size of files to 512 KiB, as a full disk would.
    const command = `ulimit -f 512; exec "$0" --import tsx "${CHILD}" "${directory}" fill`
    const child = spawn('bash', ['-c', command, process.execPath], { stdio: ['ignore', 'ignore', 'inherit', 'ipc'] })
    try {
      const answer = await new Promise<Record<string, unknown>>((resolve, reject) => {
        child.on('message', (message: Record<string, unknown>) => 'code' in message && resolve(message))
        child.on('exit', () => reject(new Error('the child ended')))
      })
      expect(answer).toMatchObject({ code: 'ERR_STORE_FAILED', worksAgain: true })
      expect(answer['message']).toContain('EFBIG')
      expect(answer['before']).toBeGreaterThan(10)
      expect(answer['after']).toBe(Number(answer['before']) - 1)
    } finally {
      child.kill('SIGKILL')
    }
  })
})
