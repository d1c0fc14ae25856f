import { spawn } from 'node:child_process'
import { appendFileSync, mkdirSync, readdirSync, readFileSync, truncateSync, writeFileSync } from 'node:fs'
import path from 'node:path'
import { createInterface } from 'node:readline'
import { afterEach, beforeEach, describe, expect, it } from 'vitest'
import { loadHead, verify } from '../../src/recording/index.ts'
import type { Report } from '../../src/recording/index.ts'
import { makeCall, makeFolders, makeJudged, makeRecorder, recordCall, ROWS, session } from './support.ts'
import type { Folders } from './support.ts'

const S = 'aaaaaaaa-0000-4000-8000-000000000000'

let folders: Folders
beforeEach(async () => {
  folders = await makeFolders()
})
afterEach(() => folders.remove())

const folder = (): string => path.join(folders.dir, 'gw-1')
const files = (end: string): string[] => readdirSync(folder()).filter((name) => name.endsWith(end))
const text = (name: string): string => readFileSync(path.join(folder(), name), 'utf8')

interface AnyEntry {
  readonly type: string
  readonly call?: string
  readonly ending?: string
  readonly bulk?: unknown
  readonly [key: string]: unknown
}

function entries(name: string): AnyEntry[] {
  return text(name)
    .trimEnd()
    .split('\n')
    .map((line) => JSON.parse(line) as AnyEntry)
}

const entriesOfAll = (): AnyEntry[] => files('.jsonl').flatMap(entries)

async function check(): Promise<Report> {
  const head = await loadHead(folders.stateDir, 'gw-1')
  return verify(folders.dir, head === undefined ? {} : { heads: [head] })
}

/** Starts a gateway's worth of recording, kills it when it has said `lines` lines, and returns all it said. */
async function killAfter(lines: number, prefix: string): Promise<string[]> {
  const child = spawn(
    process.execPath,
    ['--import', 'tsx', path.join(import.meta.dirname, 'crash-child.ts'), folders.dir, folders.stateDir, prefix],
    {
      stdio: ['ignore', 'pipe', 'inherit'],
    },
  )
  const said: string[] = []
  for await (const line of createInterface({ input: child.stdout })) {
    said.push(line)
    if (said.length === lines) child.kill('SIGKILL')
  }
  return said
}

describe('after kill -9', () => {
  it('C15, C16: everything that was promised is in the file, verified, whenever the process dies', async () => {
    const said: string[] = []
    for (let kill = 0; kill < 15; kill++)
      said.push(...(await killAfter(1 + Math.floor(Math.random() ** 2 * 1500), kill.toString(16))))
    const recorder = makeRecorder(folders)
    const recovery = await recorder.recover()
    expect(recovery.gaps).toEqual([])
    await recorder.close()

    const report = await check()
    expect(report.problems).toEqual([])
    expect(report.open).toBe(0)
    const all = entriesOfAll()
    const decided = new Set(all.filter(({ type }) => type === 'decision').map(({ call }) => call))
    const ends = new Map(all.filter(({ type }) => type === 'end').map((entry) => [entry.call, entry]))
    const lost = said.filter((line) => line.startsWith('decided ') && !decided.has(line.slice(8)))
    expect(lost).toEqual([])
    expect(said.filter((line) => line.startsWith('ended ') && ends.get(line.slice(6))?.ending !== 'done')).toEqual([])
    expect(said.filter((line) => line.startsWith('shown ') && ends.get(line.slice(6))?.bulk === undefined)).toEqual([])
    expect([...decided].filter((call) => !ends.has(call))).toEqual([])
    expect([...ends.values()].some(({ ending }) => ending === 'crashed')).toBe(true)
    expect(said.filter((line) => line.startsWith('decided ')).length).toBeGreaterThan(100)
  })
})

describe('recovery', () => {
  /** A recorder that is left as a dead process leaves it: nothing closed. */
  async function abandonRun(): Promise<string> {
    const recorder = makeRecorder(folders)
    const recording = await recorder.open(session(S))
    await recordCall(recording, makeCall({ id: 'whole' }))
    const open = recording.begin(makeCall({ id: 'open' }))
    await open.decided(makeJudged())
    await open.shown(ROWS)
    return files(`${S}.jsonl`)[0] ?? ''
  }

  async function restart(): Promise<Awaited<ReturnType<ReturnType<typeof makeRecorder>['recover']>>> {
    const recorder = makeRecorder(folders)
    const recovery = await recorder.recover()
    await recorder.close()
    return recovery
  }

  it('C16: ends open calls as crashed, with what they had shown, and seals', async () => {
    const name = await abandonRun()
    const { sealed, gaps } = await restart()
    expect(gaps).toEqual([])
    expect(sealed).toMatchObject([{ session: S, ending: 'crashed' }])
    expect(entries(name).slice(-2)).toMatchObject([
      { type: 'end', call: 'open', ending: 'crashed', recovered: true, bulk: { frames: 1 } },
      { type: 'seal', ending: 'crashed', calls: 2 },
    ])
    expect(await check()).toMatchObject({ ok: true, open: 0 })
  })

  it('turns a torn last line into an entry that holds it, at every length', async () => {
    let name = await abandonRun()
    const torn = '{"seq":5,"at":"2026-11-23T06:30:13.905Z","type":"end","prev":"91"'
    for (let length = 1; length <= torn.length; length += 7) {
      const before = text(name)
      appendFileSync(path.join(folder(), name), torn.slice(0, length))
      await restart()
      const cut = entries(name).find(({ type, bytes }) => type === 'cut' && bytes === length)
      expect(Buffer.from(String(cut?.['data']), 'base64').toString()).toBe(torn.slice(0, length))
      expect(text(name).startsWith(before)).toBe(true)
      const report = await check()
      expect(report.problems).toEqual([])
      expect(report.notes.some(({ text }) => text.includes(`${length} bytes were cut off`))).toBe(true)
      await folders.remove()
      mkdirSync(folders.stateDir, { recursive: true })
      name = await abandonRun()
    }
  })

  it('records the torn end of a sidecar and of a journal', async () => {
    const name = await abandonRun()
    appendFileSync(
      path.join(folder(), name.replace('jsonl', 'bulk')),
      '{"at":386,"call":"open","n":1,"kind":"data","chan',
    )
    const [journal = ''] = files('.jsonl').filter((name) => name.startsWith('journal'))
    appendFileSync(path.join(folder(), journal), '{"seq":2,')
    await restart()
    expect(await check()).toMatchObject({
      problems: [],
      notes: [{ file: `gw-1/${journal}` }, { file: `gw-1/${name}` }],
    })
  })

  it('is the same when it is interrupted and run again, and when there is nothing to do', async () => {
    const name = await abandonRun()
    const unfinished = makeRecorder(folders)
    await unfinished.recover()
    const after = text(name)
    expect((await restart()).sealed).toEqual([])
    expect((await restart()).sealed).toEqual([])
    expect(text(name)).toBe(after)
    expect(await check()).toMatchObject({ ok: true, open: 0 })
  })

  it('removes a file that was created and never used, and says so', async () => {
    const name = await abandonRun()
    const unused = name.replace(S, 'bbbbbbbb-0000-4000-8000-000000000000')
    writeFileSync(path.join(folder(), unused), '')
    writeFileSync(path.join(folder(), 'journal-00000002.jsonl'), '{"seq":0,"at"')
    expect((await restart()).unbegun).toEqual([
      { file: unused, bytes: 0 },
      { file: 'journal-00000002.jsonl', bytes: 13 },
    ])
    const report = await check()
    expect(report.problems).toEqual([])
    expect(report.notes).toHaveLength(2)
  })

  it('does not sign a broken chain, a sidecar damaged in the middle, or a file cut behind a checkpoint', async () => {
    const damage: readonly [string, (name: string) => void, string][] = [
      [
        'a changed line',
        (name) => writeFileSync(path.join(folder(), name), text(name).replace('SELECT id', 'SELECT no')),
        'broken',
      ],
      [
        'a dropped line',
        (name) => writeFileSync(path.join(folder(), name), text(name).split('\n').toSpliced(1, 1).join('\n')),
        'broken',
      ],
      ['a cut', (name) => truncateSync(path.join(folder(), name), text(name).indexOf('\n') + 1), 'rolled_back'],
      [
        'another header',
        (name) =>
          writeFileSync(
            path.join(folder(), name),
            text(name).replace('agent-7', 'agent-8').split('\n').slice(0, 1).join('') + '\n',
          ),
        'rolled_back',
      ],
      ['a damaged sidecar', (name) => writeFileSync(path.join(folder(), name.replace('jsonl', 'bulk')), 'x'), 'broken'],
    ]
    for (const [what, harm, reason] of damage) {
      const recorder = makeRecorder(folders)
      await recordCall(await recorder.open(session(S)), makeCall({ id: 'whole' }))
      await recorder.checkpoint()
      const name = files(`${S}.jsonl`)[0] ?? ''
      harm(name)
      const harmed = text(name)
      const { gaps } = await restart()
      expect({ what, gaps }).toMatchObject({ what, gaps: [{ reason }] })
      expect({ what, text: text(name) }).toEqual({ what, text: harmed })
      expect({ what, ok: (await check()).ok }).toEqual({ what, ok: false })
      await folders.remove()
      mkdirSync(folders.stateDir, { recursive: true })
    }
  })

  it('does not adopt a file that somebody planted', async () => {
    const name = await abandonRun()
    const planted = name.replace(S, 'cccccccc-0000-4000-8000-000000000000')
    writeFileSync(path.join(folder(), planted), text(name))
    await restart()
    expect(entries(planted).at(-1)?.type).not.toBe('seal')
    expect((await check()).problems.map(({ reason }) => reason)).toContain('unlisted')
  })

  it('notices at the start that the last journal was cut or removed, and so does every later verification', async () => {
    const first = makeRecorder(folders)
    await first.admin({ by: 'maria', act: 'token.create', subject: 'agent-9' })
    await first.close()
    const [journal = ''] = files('.jsonl')
    writeFileSync(path.join(folder(), journal), text(journal).split('\n').slice(0, 1).join('') + '\n')
    expect((await restart()).gaps).toMatchObject([{ reason: 'rolled_back', file: journal }])
    expect((await restart()).gaps).toEqual([])
    const { problems } = await check()
    expect(new Set(problems.map(({ file }) => file))).toEqual(new Set([`gw-1/${journal}`]))
    expect(problems.map(({ reason }) => reason)).toContain('rolled_back')
    expect((await verify(folders.dir)).ok).toBe(false)
  })
})
