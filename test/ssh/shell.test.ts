/** What a shell owes: its limit, its sizes, the order of its record, and the end of what runs in it; before a real sshd. */
import { existsSync, readFileSync } from 'node:fs'
import path from 'node:path'
import { afterAll, afterEach, beforeAll, describe, expect, it } from 'vitest'
import type { Chunk } from '../../src/core/chunk.ts'
import { SallyportError } from '../../src/core/errors.ts'
import { govern } from '../../src/gateway/gateway.ts'
import { writeTyped } from '../../src/protocols/ssh/typed.ts'
import { openSshd, type TestSshd } from '../services/sshd.ts'
import { has } from '../setup/needs.ts'
import { sshKit, type SshKit } from './connector-kit.ts'

const LAST_MS = 30_000
const keys = (text: string): Uint8Array => writeTyped({ kind: 'keys', bytes: Buffer.from(text) })

/** What somebody at the terminal types, in turn; more can be typed until it is ended. */
class Keyboard implements AsyncIterable<Uint8Array> {
  readonly #pieces: Uint8Array[] = []
  #wake: () => void = () => undefined

  type(...pieces: readonly Uint8Array[]): void {
    this.#pieces.push(...pieces)
    this.#wake()
  }

  async *[Symbol.asyncIterator](): AsyncGenerator<Uint8Array> {
    for (;;) {
      const piece = this.#pieces.shift()
      if (piece !== undefined) yield piece
      else await new Promise<void>((resolve) => (this.#wake = resolve))
    }
  }
}

describe.runIf(has('sshd'))('a shell', () => {
  let sshd: TestSshd
  let kit: SshKit

  beforeAll(async () => {
    sshd = await openSshd()
  })
  afterEach(() => kit.close())
  afterAll(() => sshd?.close())

  interface Running {
    readonly keyboard: Keyboard
    readonly chunks: Chunk[]
    /** What was shown so far. */
    output(): string
    stop(): void
    readonly ended: Promise<SallyportError | undefined>
  }

  function start(more: Partial<Record<string, unknown>> = {}): Running {
    kit = sshKit(sshd, undefined, more)
    const keyboard = new Keyboard()
    const stopping = new AbortController()
    const chunks: Chunk[] = []
    const payload = { kind: 'shell', term: 'vt100', columns: 80, rows: 24 }
    const call = kit.call(payload, { input: keyboard, signal: stopping.signal })
    const run = async (): Promise<SallyportError | undefined> => {
      try {
        for await (const chunk of govern(call, kit.rooms)) chunks.push(chunk)
        return undefined
      } catch (error) {
        return SallyportError.from(error)
      }
    }
    return {
      keyboard,
      chunks,
      output: () =>
        Buffer.concat(
          chunks.flatMap((chunk) =>
            chunk.kind === 'data' && chunk.channel === 'pty' && 'bytes' in chunk ? [chunk.bytes] : [],
          ),
        ).toString('latin1'),
      stop: () => stopping.abort(new SallyportError('ERR_CANCELLED', 'It was stopped.')),
      ended: run(),
    }
  }

  it('shows no byte beyond its limit, and ends there, because nobody can go on who sees nothing', async () => {
    const shell = start({ bytes: '20KiB' })
    shell.keyboard.type(keys('yes | head -c 1000000\n'))
    expect(await shell.ended).toBeUndefined()
    expect(shell.output().length).toBeLessThanOrEqual(20 * 1024)
    expect(shell.chunks.at(-1)).toMatchObject({ kind: 'exit', truncated: true, truncatedBy: 'bytes' })
  })

  it('tells the host of each size of its window, and the record too', async () => {
    const shell = start()
    shell.keyboard.type(writeTyped({ kind: 'window', columns: 101, rows: 33 }), keys('stty size\n'))
    await expect.poll(() => shell.output(), { timeout: LAST_MS }).toContain('33 101')
    shell.keyboard.type(keys('exit\n'))
    await shell.ended
    const sizes = shell.chunks.flatMap((chunk) => (chunk.kind === 'head' ? [chunk.attributes] : []))
    expect(sizes).toContainEqual(expect.objectContaining({ columns: '80', rows: '24' }))
    expect(sizes).toContainEqual(expect.objectContaining({ columns: '101', rows: '33' }))
  })

  it('has each key on the record before the host has it', async () => {
    const shell = start()
    const file = path.join(sshd.dir, 'typed')
    shell.keyboard.type(keys(`touch ${file}\n`))
    await expect.poll(() => existsSync(file), { timeout: LAST_MS }).toBe(true)
    const typed = shell.chunks.findIndex((chunk) => chunk.kind === 'data' && chunk.channel === 'stdin')
    const shown = shell.chunks.findIndex(
      (chunk) =>
        chunk.kind === 'data' &&
        'bytes' in chunk &&
        chunk.channel === 'pty' &&
        Buffer.from(chunk.bytes).toString('latin1').includes('touch'),
    )
    expect(typed).toBeGreaterThanOrEqual(0)
    expect(shown < 0 || typed < shown).toBe(true)
    shell.stop()
    await shell.ended
  })

  it('ends with what runs in it when its call is stopped', async () => {
    const shell = start()
    const file = path.join(sshd.dir, 'running')
    shell.keyboard.type(keys(`echo $$ > ${file}.new; mv ${file}.new ${file}; sleep 1000\n`))
    await expect.poll(() => existsSync(file), { timeout: LAST_MS }).toBe(true)
    const pid = Number(readFileSync(file, 'utf8'))
    shell.stop()
    expect((await shell.ended)?.code).toBe('ERR_CANCELLED')
    await expect.poll(() => existsSync(`/proc/${pid}`), { timeout: LAST_MS }).toBe(false)
  })
})
