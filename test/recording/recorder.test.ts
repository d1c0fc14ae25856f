import { execFileSync } from 'node:child_process'
import { lstatSync, readdirSync, readFileSync, symlinkSync, writeFileSync } from 'node:fs'
import path from 'node:path'
import { afterEach, beforeEach, describe, expect, it } from 'vitest'
import type { Chunk } from '../../src/core/chunk.ts'
import { SallyportError } from '../../src/core/errors.ts'
import { disk } from '../../src/recording/disk.ts'
import type { Disk } from '../../src/recording/disk.ts'
import { list, loadHead, partsOf, transcript, verify } from '../../src/recording/index.ts'
import { has } from '../setup/needs.ts'
import {
  EXIT,
  HEAD,
  makeCall,
  makeFolders,
  makeJudged,
  makeRecorder,
  PRINCIPAL,
  recordCall,
  ROWS,
  session,
} from './support.ts'
import type { Folders } from './support.ts'

const A = 'aaaaaaaa-0000-4000-8000-000000000000'
const B = 'bbbbbbbb-0000-4000-8000-000000000000'

let folders: Folders
beforeEach(async () => {
  folders = await makeFolders()
})
afterEach(() => folders.remove())

interface AnyEntry {
  readonly seq: number
  readonly type: string
  readonly call?: string
  readonly [key: string]: unknown
}

const folder = (): string => path.join(folders.dir, 'gw-1')
const fileOf = (part: string): string =>
  path.join(folder(), readdirSync(folder()).find((name) => name.includes(part)) ?? 'none')
const read = (part: string): string => readFileSync(fileOf(part), 'utf8')
const entries = (part: string): AnyEntry[] =>
  read(part)
    .trimEnd()
    .split('\n')
    .map((line) => JSON.parse(line) as AnyEntry)
const everything = (): string =>
  readdirSync(folder())
    .map((name) => readFileSync(path.join(folder(), name), 'utf8'))
    .join('\n')
const check = (): ReturnType<typeof verify> => verify(folders.dir)

async function code(promise: Promise<unknown> | undefined): Promise<string> {
  return Promise.resolve(promise).then(
    () => 'resolved',
    (error: unknown) => SallyportError.from(error).code,
  )
}

describe('a session recording', () => {
  it('C15: holds the decision when the promise resolves, and nothing of the call before', async () => {
    const recorder = makeRecorder(folders)
    const recording = await recorder.open(session(A))
    const entry = recording.begin(makeCall({ id: 'c1' }))
    expect(entries(`${A}.jsonl`)).toHaveLength(1)
    await entry.decided(makeJudged())
    expect(entries(`${A}.jsonl`)[1]).toMatchObject({
      seq: 1,
      type: 'decision',
      call: 'c1',
      target: 'shop-db',
      tool: 'query_database',
      request: { text: 'SELECT id FROM orders WHERE id = $1', params: ['1'] },
      reason: 'The report needs it.',
      effect: 'allow',
      rules: ['read-reporting'],
      policy_version: 'p1',
      parts: [{ verb: 'sql.select', resource: 'public.orders', effect: 'allow', rules: ['read-reporting'] }],
      obligations: { rows: 500 },
    })
    await recorder.close()
  })

  it('C15: holds a chunk before it is shown', async () => {
    const recorder = makeRecorder(folders)
    const recording = await recorder.open(session(A))
    const entry = recording.begin(makeCall())
    await entry.decided(makeJudged())
    await entry.shown({ kind: 'data', channel: 'stdout', bytes: Buffer.from('marker-7261') })
    expect(read(`${A}.bulk`)).toContain('marker-7261')
    await recorder.close()
  })

  it('C15: waits for the device before what may change something, and not before a read', async () => {
    let syncs = 0
    const counting = { ...disk, sync: (fd: number) => (syncs++, disk.sync(fd)) }
    const recorder = makeRecorder(folders, { fsync: 'writes', disk: counting })
    const recording = await recorder.open(session(A))
    const decide = async (judged: ReturnType<typeof makeJudged>): Promise<number> => {
      const before = syncs
      const entry = recording.begin(makeCall())
      await entry.decided(judged)
      await entry.close('done')
      return syncs - before
    }
    expect(await decide(makeJudged())).toBe(0)
    expect(await decide(makeJudged({ verb: 'sql.update' }))).toBe(1)
    expect(await decide(makeJudged({ verb: 'sql.unknown' }))).toBe(1)
    expect(await decide(makeJudged({ decision: { effect: 'require_approval' } }))).toBe(1)
    expect(await decide(makeJudged({ decision: { parts: [] } }))).toBe(1)
    expect(await decide(makeJudged({ verb: 'sql.drop', decision: { effect: 'deny' } }))).toBe(0)
    const before = syncs
    await Promise.all(
      Array.from({ length: 50 }, () => recordCall(recording, makeCall(), makeJudged({ verb: 'sql.update' }))),
    )
    expect(syncs - before).toBeLessThan(5)
    await recorder.close()
  })

  it('writes two entries for a plain call and says what came back', async () => {
    const recorder = makeRecorder(folders)
    const recording = await recorder.open(session(A))
    await recordCall(recording, makeCall({ id: 'c1' }))
    expect(entries(`${A}.jsonl`)).toHaveLength(3)
    expect(entries(`${A}.jsonl`)[2]).toMatchObject({
      type: 'end',
      call: 'c1',
      ending: 'done',
      status: 'SELECT 3',
      row_count: 3,
      rows: 3,
      truncated: false,
      masked: { email: 1 },
      bulk: { offset: 0, frames: 3 },
    })
    expect(read(`${A}.bulk`)).toContain('[["1"],["2"],[null]]\n')
    await recorder.close()
  })

  it('keeps as much of a result as the target says, with the hash of all of it', async () => {
    const recorder = makeRecorder(folders)
    const recording = await recorder.open(session(A))
    const bytes = Buffer.alloc(1000, 'x')
    const chunk: Chunk = { kind: 'data', channel: 'stdout', bytes }
    const depths = { full: 'full', digest: 'digest', some: { headBytes: 1500 }, rows: { headBytes: 14 } } as const
    for (const [id, record] of Object.entries(depths)) {
      const entry = recording.begin(makeCall({ id, record }))
      await entry.decided(makeJudged())
      for (const shown of id === 'rows' ? [HEAD, ROWS, ROWS] : [chunk, chunk, chunk]) await entry.shown(shown)
      await entry.close('done')
    }
    await recorder.close()
    const ends = new Map(
      entries(`${A}.jsonl`)
        .filter(({ type }) => type === 'end')
        .map((entry) => [entry.call, entry]),
    )
    expect(ends.get('full')).toMatchObject({ bytes: 3000, bulk: { frames: 3 } })
    expect(ends.get('full')).not.toHaveProperty('cut')
    expect(ends.get('digest')).toMatchObject({ bytes: 3000, cut: { by: 'digest', frames: 3 } })
    expect(ends.get('digest')).not.toHaveProperty('bulk')
    expect(ends.get('some')).toMatchObject({ bytes: 3000, bulk: { frames: 2 }, cut: { by: 'head', frames: 3 } })
    expect(ends.get('rows')).toMatchObject({ rows: 6, bulk: { frames: 2 }, cut: { by: 'head', frames: 3 } })
    expect(read(`${A}.bulk`)).toContain('"bytes":500,"of":1000}')
    expect(read(`${A}.bulk`)).toContain('"bytes":13,"of":20}\n[["1"],["2"]]\n')
    expect((await check()).problems).toEqual([])
  })

  it('C10: keeps of what nobody understood its length and a keyed hash only', async () => {
    const recorder = makeRecorder(folders)
    const recording = await recorder.open(session(A))
    const secret = 'hunter2-4711'
    await recording.refused({
      tool: `query_${secret}!`,
      target: `db ${secret}`,
      payload: { sql: `SELECT '${secret}'` },
      error: new SallyportError('ERR_INVALID_INPUT', `Unknown key ${secret}.`),
    })
    const entry = recording.begin(makeCall({ payload: { sql: secret } }))
    await entry.close('failed', new SallyportError('ERR_INVALID_INPUT', 'The call has no statement.'))
    await recorder.close()
    expect(everything()).not.toContain(secret)
    const [, refused, end] = entries(`${A}.jsonl`)
    expect(refused).toMatchObject({ type: 'refused', payload: { bytes: 31 }, error: { code: 'ERR_INVALID_INPUT' } })
    expect(end).toMatchObject({ type: 'end', tool: 'query_database', target: 'shop-db', payload: { bytes: 22 } })
    expect(refused?.['payload']).toHaveProperty('hmac', expect.stringMatching(/^[0-9a-f]{64}$/))
  })

  it('C10: names no word of a command line, path or URL outside of the shown request', async () => {
    const recorder = makeRecorder(folders)
    const recording = await recorder.open(session(A))
    const judged = makeJudged({ text: 'mysql -p<masked>' })
    const part = {
      verb: 'ssh.exec',
      resource: { type: 'argv' as const, argv: ['mysql', '-phunter2'] },
      attributes: { argv: ['-phunter2'] },
    }
    const entry = recording.begin(makeCall())
    await entry.decided({
      ...judged,
      plan: { ...judged.plan, action: { parts: [part], attributes: {} }, exact: 'mysql -phunter2' },
      decision: {
        ...judged.decision,
        parts: [{ verb: 'ssh.exec', resource: 'mysql -phunter2', effect: 'allow', rules: [] }],
      },
    })
    await entry.close('done')
    await recorder.close()
    expect(everything()).not.toContain('hunter2')
    expect(entries(`${A}.jsonl`)[1]).toMatchObject({ parts: [{ resource: '(argv in the request)' }] })
  })

  it('keeps a thousand concurrent calls in one chain', async () => {
    const recorder = makeRecorder(folders)
    const recording = await recorder.open(session(A))
    await Promise.all(Array.from({ length: 1000 }, (_, index) => recordCall(recording, makeCall({ id: `c${index}` }))))
    await recorder.close()
    const all = entries(`${A}.jsonl`)
    expect(all.map(({ seq }) => seq)).toEqual(all.map((_, index) => index))
    expect(all.filter(({ type }) => type === 'end')).toHaveLength(1000)
    expect(await check()).toMatchObject({ ok: true, open: 0 })
  })

  it('keeps two sessions apart that record in turns, and two calls of one name', async () => {
    const recorder = makeRecorder(folders)
    const [a, b] = await Promise.all([recorder.open(session(A)), recorder.open(session(B))])
    const [one, two, three] = [
      a.begin(makeCall({ id: 'same' })),
      a.begin(makeCall({ id: 'same' })),
      b.begin(makeCall({ id: 'same' })),
    ]
    for (const entry of [one, three, two]) await entry.decided(makeJudged())
    for (const chunk of [HEAD, ROWS, EXIT]) for (const entry of [three, two, one]) await entry.shown(chunk)
    for (const entry of [two, one, three]) await entry.close('done')
    await recorder.close()
    expect(new Set(entries(`${A}.jsonl`).flatMap(({ call }) => call ?? []))).toEqual(new Set(['same', 'same#2']))
    expect(await check()).toMatchObject({ ok: true, open: 0 })
  })

  it('writes long results in order, whichever way they are written', async () => {
    const recorder = makeRecorder(folders)
    const recording = await recorder.open(session(A))
    await Promise.all(
      [300_000, 10, 70_000, 65_536, 1].map(async (size, index) => {
        const entry = recording.begin(makeCall({ id: `c${index}` }))
        await entry.decided(makeJudged())
        for (let n = 0; n < 5; n++)
          await entry.shown({ kind: 'data', channel: 'stdout', bytes: Buffer.alloc(size, 65 + index) })
        await entry.close('done')
      }),
    )
    await recorder.close()
    expect(await check()).toMatchObject({ ok: true, open: 0 })
  })

  it('C16: seals behind the ends of its calls, waits for them only so long, and takes nothing behind the seal', async () => {
    const recorder = makeRecorder(folders)
    const recording = await recorder.open(session(A))
    const [quick, slow] = [recording.begin(makeCall({ id: 'quick' })), recording.begin(makeCall({ id: 'slow' }))]
    await quick.decided(makeJudged())
    await slow.decided(makeJudged())
    const closed = recording.close()
    await quick.close('done')
    expect(await code(recording.begin(makeCall()).decided(makeJudged()))).toBe('ERR_RECORDING_FAILED')
    await closed
    expect(
      entries(`${A}.jsonl`)
        .slice(3)
        .map(({ type, call, ending }) => [type, call, ending]),
    ).toEqual(
      expect.arrayContaining([
        ['end', 'quick', 'done'],
        ['end', 'slow', 'abandoned'],
      ]),
    )
    expect(entries(`${A}.jsonl`).at(-1)).toMatchObject({ type: 'seal', ending: 'closed' })
    const sealed = read(`${A}.jsonl`)
    expect(await code(slow.shown(ROWS))).toBe('ERR_RECORDING_FAILED')
    await slow.close('done')
    expect(
      await code(recording.refused({ tool: 't', payload: '', error: new SallyportError('ERR_INVALID_INPUT', 'x') })),
    ).toBe('ERR_RECORDING_FAILED')
    expect(read(`${A}.jsonl`)).toBe(sealed)
    await recorder.close()
    expect((await check()).problems).toEqual([])
  })

  it('ends a call whose result is still being written with all of it', async () => {
    const written: (() => void)[] = []
    const slow: Disk = {
      ...disk,
      writeLater: async (fd, bytes) => {
        await new Promise<void>((resolve) => written.push(resolve))
        return disk.writeLater(fd, bytes)
      },
    }
    const recorder = makeRecorder(folders, { disk: slow, closeWaitMs: 0 })
    const recording = await recorder.open(session(A))
    const entry = recording.begin(makeCall({ id: 'long' }))
    await entry.decided(makeJudged())
    await entry.shown(HEAD)
    const shown = entry.shown({ kind: 'data', channel: 'stdout', bytes: Buffer.alloc(100_000) })
    const closed = recording.close()
    await new Promise((resolve) => setImmediate(resolve))
    for (const resolve of written) resolve()
    await Promise.all([shown, closed])
    await recorder.close()
    expect(entries(`${A}.jsonl`)[2]).toMatchObject({ type: 'end', ending: 'abandoned', bulk: { frames: 2 } })
    expect((await check()).problems).toEqual([])
  })

  it('records administrative acts, and nothing once it is closed', async () => {
    const recorder = makeRecorder(folders)
    await recorder.admin({ by: 'maria', act: 'approval.vote', subject: 't-1', facts: { vote: 'approve' } })
    await recorder.close()
    expect(entries('journal')[1]).toMatchObject({ type: 'admin', by: 'maria', act: 'approval.vote', subject: 't-1' })
    expect(await code(recorder.admin({ by: 'maria', act: 'login' }))).toBe('ERR_SHUTTING_DOWN')
    expect(await code(recorder.open(session(A)))).toBe('ERR_SHUTTING_DOWN')
  })

  it('accounts for a file that was removed with a recorded act, and for no other', async () => {
    const first = makeRecorder(folders)
    await recordCall(await first.open(session(A)))
    await recordCall(await first.open(session(B)))
    await first.close()
    const name = path.basename(fileOf(`${A}.jsonl`))
    const second = makeRecorder(folders)
    await second.admin({ by: 'maria', act: 'recording.remove', subject: name })
    await second.close()
    execFileSync('rm', [fileOf(`${A}.jsonl`), fileOf(`${A}.bulk`)])
    const report = await check()
    expect(report.problems).toEqual([])
    expect(report.files).toContainEqual({ file: `gw-1/${name}`, kind: 'session', status: 'removed', entries: 0 })
    execFileSync('rm', [fileOf(`${B}.jsonl`)])
    expect((await check()).problems.map(({ reason }) => reason)).toContain('missing')
  })
})

describe('the files', () => {
  it('are readable by their owner only and named without a word of a caller', async () => {
    const recorder = makeRecorder(folders)
    const recording = await recorder.open({ ...session('../../etc/passwd'), run: '../run' })
    await recordCall(recording)
    await recorder.close()
    for (const name of readdirSync(folder())) {
      expect(name).toMatch(/^(\d{8}T\d{6}Z-[0-9a-f]{32}\.(jsonl|bulk)|journal-\d{8}\.jsonl)$/)
      expect(lstatSync(path.join(folder(), name)).mode & 0o777).toBe(0o600)
    }
    expect(lstatSync(folder()).mode & 0o777).toBe(0o700)
    expect(lstatSync(path.join(folders.stateDir, 'recording-key.pem')).mode & 0o777).toBe(0o600)
    expect((await check()).problems).toEqual([])
  })

  it('are never written through a link', async () => {
    const recorder = makeRecorder(folders)
    await recordCall(await recorder.open(session(A)))
    const victim = path.join(folders.stateDir, 'victim')
    writeFileSync(victim, 'untouched')
    const journal = fileOf('journal')
    execFileSync('rm', [journal])
    symlinkSync(victim, journal)
    await code(makeRecorder(folders).recover())
    expect(readFileSync(victim, 'utf8')).toBe('untouched')
  })

  it('keep one key over restarts, and refuse a damaged or open one', async () => {
    for (let run = 0; run < 2; run++) {
      const recorder = makeRecorder(folders)
      await recordCall(await recorder.open(session(run === 0 ? A : B)))
      await recorder.close()
    }
    expect(readdirSync(path.join(folders.dir, 'keys'))).toHaveLength(1)
    const key = path.join(folders.stateDir, 'recording-key.pem')
    execFileSync('chmod', ['644', key])
    expect(await code(makeRecorder(folders).recover())).toBe('ERR_CONFIG_INVALID')
    writeFileSync(key, 'nonsense')
    execFileSync('chmod', ['600', key])
    expect(await code(makeRecorder(folders).recover())).toBe('ERR_CONFIG_INVALID')
  })

  it('hold no control, directional or invisible character, and neither does a transcript', async () => {
    const recorder = makeRecorder(folders)
    const recording = await recorder.open({ ...session(A), principal: { ...PRINCIPAL, id: 'a\u001b[2J' } })
    const evil = 'SELECT 1 \u202e--\u0007\u2028\u009b31m\u{e0041}\ufeff\nFROM t'
    await recordCall(recording, makeCall({ id: 'c1' }), makeJudged({ text: evil }))
    await recorder.close()
    const unseen = /[\p{Cc}\p{Cf}\p{Zl}\p{Zp}]/u
    expect(
      read(`${A}.jsonl`)
        .split('\n')
        .filter((line) => unseen.test(line)),
    ).toEqual([])
    expect(entries(`${A}.jsonl`)[1]).toMatchObject({ request: { text: evil } })
    const shown: string[] = []
    for await (const line of transcript(fileOf(`${A}.jsonl`), { resultBytesMax: 1000 })) shown.push(line)
    expect(shown.filter((line) => unseen.test(line))).toEqual([])
    expect(shown.join('\n')).toContain('SELECT 1 \\u202e--\\u0007')
    expect(shown.join('\n')).toContain('    | [["1"],["2"],[null]]')
  })

  it.runIf(has('openssl'))('verify with the tools the format description names', async () => {
    const recorder = makeRecorder(folders)
    await recordCall(await recorder.open(session(A)))
    await recorder.close()
    const readme = readFileSync(path.join(import.meta.dirname, '../../recordings/README.md'), 'utf8')
    const scripts = [...readme.matchAll(/```sh\n([\s\S]*?)```/g)].map((match) => match[1] ?? '')
    expect(scripts.length).toBeGreaterThanOrEqual(3)
    const key = path.join(folders.dir, 'keys', readdirSync(path.join(folders.dir, 'keys'))[0] ?? '')
    const run = (): string =>
      execFileSync('bash', ['--norc', '-euo', 'pipefail', '-c', scripts.join('\n')], {
        env: { PATH: process.env['PATH'], FILE: fileOf(`${A}.jsonl`), KEY: key },
        cwd: folder(),
        encoding: 'utf8',
      })
    expect(run()).toMatch(/chain ok\n[\s\S]*Signature Verified Successfully[\s\S]*result ok\n/)
    writeFileSync(fileOf(`${A}.jsonl`), read(`${A}.jsonl`).replace('SELECT id', 'SELECT no'))
    expect(run).toThrow(/./)
  })
})

describe('list', () => {
  it('returns every recording with what its header says', async () => {
    const recorder = makeRecorder(folders)
    await recordCall(await recorder.open({ ...session(A), run: 'nightly' }))
    expect((await list(folders.dir)).map(({ kind, isSealed }) => [kind, isSealed])).toEqual([
      ['journal', false],
      ['session', false],
    ])
    await recorder.close()
    expect(await partsOf(folders.dir, A)).toMatchObject([
      {
        instance: 'gw-1',
        session: A,
        principal: 'agent-7',
        owner: 'maria',
        door: 'mcp',
        run: 'nightly',
        isSealed: true,
      },
    ])
    expect(await partsOf(folders.dir, B)).toEqual([])
    expect(await loadHead(folders.stateDir, 'gw-1')).toMatchObject({ instance: 'gw-1', file: 'journal-00000001.jsonl' })
  })
})
