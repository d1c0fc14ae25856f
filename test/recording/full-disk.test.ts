import { execFileSync, spawn } from 'node:child_process'
import { readdirSync, readFileSync } from 'node:fs'
import path from 'node:path'
import { createInterface } from 'node:readline'
import { afterEach, beforeEach, describe, expect, it } from 'vitest'
import { SallyportError } from '../../src/core/errors.ts'
import { disk } from '../../src/recording/disk.ts'
import type { Disk } from '../../src/recording/disk.ts'
import { loadHead, verify } from '../../src/recording/index.ts'
import type { Report } from '../../src/recording/index.ts'
import { has } from '../setup/needs.ts'
import { makeCall, makeFolders, makeJudged, makeRecorder, recordCall, ROWS, session } from './support.ts'
import type { Folders } from './support.ts'

const S = 'aaaaaaaa-0000-4000-8000-000000000000'

let folders: Folders
beforeEach(async () => {
  folders = await makeFolders()
})
afterEach(() => folders.remove())

interface AnyEntry {
  readonly type: string
  readonly call?: string
  readonly [key: string]: unknown
}

function entriesOfAll(): AnyEntry[] {
  const folder = path.join(folders.dir, 'gw-1')
  const files = readdirSync(folder).filter((name) => name.endsWith('.jsonl'))
  return files.flatMap((name) =>
    readFileSync(path.join(folder, name), 'utf8')
      .trimEnd()
      .split('\n')
      .map((line) => JSON.parse(line) as AnyEntry),
  )
}

async function check(): Promise<Report> {
  const head = await loadHead(folders.stateDir, 'gw-1')
  return verify(folders.dir, head === undefined ? {} : { heads: [head] })
}

describe('a full disk', () => {
  it.runIf(has('prlimit'))(
    'C16: denies new calls, says what to fix, and lets them in again when there is room',
    async () => {
      const child = spawn(
        process.execPath,
        ['--import', 'tsx', path.join(import.meta.dirname, 'full-disk-child.ts'), folders.dir, folders.stateDir],
        {
          stdio: ['pipe', 'pipe', 'inherit'],
        },
      )
      const limit = (bytes: string): void =>
        void execFileSync('prlimit', ['--pid', String(child.pid), `--fsize=${bytes}:unlimited`])
      const said: Record<string, unknown>[] = []
      for await (const line of createInterface({ input: child.stdout })) {
        const fact = JSON.parse(line) as Record<string, unknown>
        said.push(fact)
        if ('ready' in fact) limit('40000')
        if ('full' in fact) limit('unlimited')
        if ('ready' in fact || 'full' in fact) child.stdin.write('go\n')
      }
      expect(said.at(-1)).toEqual({ closed: true })
      const refused = said.filter((fact) => 'refused' in fact)
      expect(new Set(refused.map(({ code }) => code))).toEqual(new Set(['ERR_RECORDING_FAILED']))
      expect(new Set(refused.map(({ message }) => message))).toEqual(
        new Set([
          'A file size limit stops the recordings from growing. Raise the limit (ulimit -f) of the gateway; what cannot be recorded is refused until then.',
        ]),
      )
      expect(said.find((fact) => 'full' in fact)).toMatchObject({ openRefusedWith: 'ERR_RECORDING_FAILED' })

      const report = await check()
      expect(report.problems).toEqual([])
      expect(report.notes.some(({ text }) => text.includes('EFBIG'))).toBe(true)
      const all = entriesOfAll()
      const decisions = all.filter(({ type }) => type === 'decision').map(({ call }) => call)
      expect(decisions).toEqual(said.filter((fact) => 'decided' in fact).map(({ decided }) => decided))
      const ends = new Map(all.filter(({ type }) => type === 'end').map((entry) => [entry.call, entry]))
      for (const { refused: id } of refused)
        expect(ends.get(String(id))).toMatchObject({ ending: 'failed', error: { code: 'ERR_RECORDING_FAILED' } })
    },
  )
})

/** A disk of which single calls fail, as the test says. */
function failing(fails: {
  write?: string
  part?: number
  truncate?: boolean
  sync?: boolean
  create?: string
  probe?: boolean
}): Disk {
  const error = (code: string): Error => Object.assign(new Error(code), { code })
  return {
    ...disk,
    create(file) {
      if (fails.create !== undefined) throw error(fails.create)
      return disk.create(file)
    },
    write(fd, bytes) {
      if (fails.write === undefined) return disk.write(fd, bytes)
      if (fails.part === undefined || fails.part === 0) throw error(fails.write)
      const { part } = fails
      fails.part = 0
      return disk.write(fd, bytes.subarray(0, part))
    },
    writeLater(fd, bytes) {
      return fails.write === undefined ? disk.writeLater(fd, bytes) : Promise.reject(error(fails.write))
    },
    truncate(fd, length) {
      if (fails.truncate === true) throw error('EIO')
      disk.truncate(fd, length)
    },
    sync: (fd) => (fails.sync === true ? Promise.reject(error('EIO')) : disk.sync(fd)),
    probe(folder, bytes) {
      if (fails.probe === true) throw error('ENOSPC')
      disk.probe(folder, bytes)
    },
  }
}

const code = async (promise: Promise<unknown> | undefined): Promise<string> =>
  Promise.resolve(promise).then(
    () => 'resolved',
    (error: unknown) => SallyportError.from(error).code,
  )

describe('a write that fails', () => {
  it('leaves no piece of a line behind, and the chain goes on after a gap', async () => {
    const fails: Parameters<typeof failing>[0] = {}
    const recorder = makeRecorder(folders, { disk: failing(fails) })
    const recording = await recorder.open(session(S))
    await recordCall(recording)
    Object.assign(fails, { write: 'ENOSPC', part: 30 })
    const entry = recording.begin(makeCall({ id: 'lost' }))
    expect(await code(entry.decided(makeJudged()))).toBe('ERR_RECORDING_FAILED')
    await entry.close('failed', new SallyportError('ERR_RECORDING_FAILED', 'Full.'))
    delete fails.write
    await recordCall(recording, makeCall({ id: 'next' }))
    await recorder.close()
    expect(await check()).toMatchObject({
      ok: true,
      open: 0,
      notes: [{ text: 'writing failed (ENOSPC); 1 entries were refused' }],
    })
    expect(entriesOfAll().filter(({ call }) => call === 'lost')).toMatchObject([
      { type: 'end', ending: 'failed', tool: 'query_database' },
    ])
  })

  it('C16: a few free bytes do not let a call in; it takes room for its end as well', async () => {
    const fails: Parameters<typeof failing>[0] = {}
    const recorder = makeRecorder(folders, { disk: failing(fails) })
    const recording = await recorder.open(session(S))
    Object.assign(fails, { write: 'ENOSPC', probe: true })
    expect(await code(recording.begin(makeCall()).decided(makeJudged()))).toBe('ERR_RECORDING_FAILED')
    delete fails.write
    expect(await code(recording.begin(makeCall()).decided(makeJudged()))).toBe('ERR_RECORDING_FAILED')
    expect(await code(recorder.open(session('bbbbbbbb-0000-4000-8000-000000000000')))).toBe('ERR_RECORDING_FAILED')
    await recorder.close()
  })

  it('stops a running call before it shows what is not recorded, and its end says where', async () => {
    const fails: Parameters<typeof failing>[0] = {}
    const recorder = makeRecorder(folders, { disk: failing(fails) })
    const recording = await recorder.open(session(S))
    const entry = recording.begin(makeCall({ id: 'running' }))
    await entry.decided(makeJudged())
    await entry.shown(ROWS)
    Object.assign(fails, { write: 'EIO', part: 5 })
    expect(await code(entry.shown(ROWS))).toBe('ERR_RECORDING_FAILED')
    delete fails.write
    expect(await code(entry.shown(ROWS))).toBe('ERR_RECORDING_FAILED')
    await entry.close('failed')
    await recorder.close()
    expect((await check()).problems).toEqual([])
    expect(entriesOfAll().find(({ type }) => type === 'end')).toMatchObject({
      bulk: { frames: 1 },
      cut: { by: 'failure', frames: 1 },
    })
  })

  for (const [what, breakage] of [
    ['cannot be cut back', { write: 'EIO', part: 30, truncate: true }],
    ['cannot be synced', { sync: true }],
  ] as const) {
    it(`continues a file that ${what} in another one, and both verify as one chain`, async () => {
      const fails: Parameters<typeof failing>[0] = {}
      const recorder = makeRecorder(folders, { disk: failing(fails), fsync: 'always' })
      const recording = await recorder.open(session(S))
      await recordCall(recording, makeCall({ id: 'first' }))
      const running = recording.begin(makeCall({ id: 'running' }))
      await running.decided(makeJudged())
      Object.assign(fails, breakage)
      expect(await code(recording.begin(makeCall({ id: 'lost' })).decided(makeJudged()))).toBe('ERR_RECORDING_FAILED')
      for (const key of Object.keys(breakage)) delete fails[key as keyof typeof fails]
      await running.close('done')
      await recordCall(recording, makeCall({ id: 'second' }))
      await recorder.admin({ by: 'maria', act: 'login' })
      const live = await check()
      expect(live.problems).toEqual([])
      await recording.close()
      await recorder.close()
      const report = await check()
      expect(report.problems).toEqual([])
      expect(
        report.files
          .filter(({ kind }) => kind === 'session')
          .map(({ status }) => status)
          .sort(),
      ).toEqual(['continued', 'sealed'])
    })

    it(`continues a journal that ${what} in another one`, async () => {
      const fails: Parameters<typeof failing>[0] = {}
      const recorder = makeRecorder(folders, { disk: failing(fails), fsync: 'always' })
      const recording = await recorder.open(session(S))
      Object.assign(fails, breakage)
      expect(await code(recorder.admin({ by: 'maria', act: 'login' }))).toBe('ERR_RECORDING_FAILED')
      for (const key of Object.keys(breakage)) delete fails[key as keyof typeof fails]
      await recorder.admin({ by: 'maria', act: 'token.create' })
      await recordCall(recording)
      expect((await check()).problems).toEqual([])
      await recorder.close()
      expect(await check()).toMatchObject({ problems: [], open: 0 })
      const next = makeRecorder(folders)
      expect((await next.recover()).gaps).toEqual([])
      await next.close()
      expect(await check()).toMatchObject({ problems: [], open: 0 })
    })
  }

  it('seals later what could not be sealed at once, and the next start what could not be sealed at all', async () => {
    const fails: Parameters<typeof failing>[0] = {}
    const recorder = makeRecorder(folders, { disk: failing(fails) })
    const recording = await recorder.open(session(S))
    const other = await recorder.open(session('bbbbbbbb-0000-4000-8000-000000000000'))
    await recordCall(recording)
    fails.write = 'ENOSPC'
    await recording.close()
    delete fails.write
    await recorder.checkpoint()
    expect((await check()).files.filter(({ status }) => status === 'sealed').length).toBe(2)
    await recordCall(other)
    fails.write = 'ENOSPC'
    await recorder.close().catch(() => undefined)
    const next = makeRecorder(folders)
    expect((await next.recover()).gaps).toEqual([])
    await next.close()
    expect(await check()).toMatchObject({ problems: [], open: 0 })
  })

  it('says which setting is wrong when the folder cannot be used at all', async () => {
    const recorder = makeRecorder({ dir: '/dev/full', stateDir: folders.stateDir })
    const error = SallyportError.from(await recorder.recover().catch((error: unknown) => error))
    expect(error.code).toBe('ERR_RECORDING_FAILED')
    expect(error.message).toContain('not a folder')
    expect(error.message).not.toContain('/dev')
  })
})
