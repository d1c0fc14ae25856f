import { generateKeyPairSync, sign } from 'node:crypto'
import type { KeyObject } from 'node:crypto'
import { readdirSync, readFileSync, rmSync, unlinkSync, writeFileSync } from 'node:fs'
import path from 'node:path'
import { asyncProperty, assert, double, integer, nat } from 'fast-check'
import { afterAll, beforeAll, beforeEach, describe, expect, it } from 'vitest'
import { SallyportError } from '../../src/core/errors.ts'
import { attachSignature, hashOf, spellLine } from '../../src/recording/format.ts'
import { loadHead, verify } from '../../src/recording/index.ts'
import type { InstanceHead, ProblemReason, Report } from '../../src/recording/index.ts'
import { keyIdOf } from '../../src/recording/keys.ts'
import { makeCall, makeFolders, makeJudged, makeRecorder, recordCall, session } from './support.ts'
import type { Folders } from './support.ts'

const A = 'aaaaaaaa-0000-4000-8000-000000000000'
const B = 'bbbbbbbb-0000-4000-8000-000000000000'
const C = 'cccccccc-0000-4000-8000-000000000000'

let folders: Folders
let folder: string
let publicKey: string
let head: InstanceHead
let firstHead: InstanceHead
/** Every file of the instance as it was written. */
const original = new Map<string, Buffer>()

beforeAll(async () => {
  folders = await makeFolders()
  folder = path.join(folders.dir, 'gw-1')
  firstHead = await recordRun([A, B])
  head = await recordRun([C])
  const key = readdirSync(path.join(folders.dir, 'keys'))[0] ?? ''
  publicKey = readFileSync(path.join(folders.dir, 'keys', key), 'utf8')
  for (const name of readdirSync(folder)) original.set(name, readFileSync(path.join(folder, name)))
})

beforeEach(restore)
afterAll(() => folders.remove())

/** One whole run of a gateway with every type of entry. */
async function recordRun(ids: readonly string[]): Promise<InstanceHead> {
  const recorder = makeRecorder(folders)
  await recorder.admin({ by: 'maria', act: 'login', facts: { door: 'admin' } })
  const open = await Promise.all(ids.map((id) => recorder.open(session(id))))
  for (const recording of open) {
    await Promise.all([recordCall(recording), recordCall(recording)])
    const held = recording.begin(makeCall({ id: 'held' }))
    await held.decided(makeJudged({ verb: 'sql.update', decision: { effect: 'require_approval' } }))
    await held.approval({ ticket: 't-1', state: 'granted', by: ['otto'] })
    await held.close('failed', new SallyportError('ERR_TIMEOUT', 'It took too long.'))
    await recording.refused({
      tool: 'query_database',
      payload: { sql: 1 },
      error: new SallyportError('ERR_INVALID_INPUT', 'No.'),
    })
    await recordCall(recording, makeCall({ record: { headBytes: 8 } }))
  }
  await recorder.checkpoint()
  await recorder.admin({ by: 'maria', act: 'policy.reload', subject: 'p2' })
  await recorder.close()
  const head = await loadHead(folders.stateDir, 'gw-1')
  if (head === undefined) throw new Error('no head was kept')
  return head
}

function restore(): void {
  for (const name of readdirSync(folder)) if (!original.has(name)) unlinkSync(path.join(folder, name))
  for (const [name, bytes] of original) put(name, bytes)
}

function put(name: string, bytes: Uint8Array | string): void {
  writeFileSync(path.join(folder, name), bytes)
}

const check = (): Promise<Report> => verify(folders.dir, { publicKey, heads: [head] })

/** Whether the tampering that was just done went unnoticed. */
const isMissed = async (): Promise<boolean> => (await check()).ok

async function reasons(): Promise<readonly ProblemReason[]> {
  return (await check()).problems.map(({ reason }) => reason)
}

const linesOf = (name: string): string[] => (original.get(name)?.toString() ?? '').split('\n').slice(0, -1)
const named = (part: string): string => [...original.keys()].find((name) => name.includes(part)) ?? ''
const journals = (): string[] => [...original.keys()].filter((name) => name.includes('journal')).sort()
const chains = (): string[] => [...original.keys()].filter((name) => name.endsWith('.jsonl'))
const sidecars = (): string[] => [...original.keys()].filter((name) => name.endsWith('.bulk'))

describe('verify', () => {
  it('finds nothing in what was not touched, and every type of entry is there', async () => {
    expect(await check()).toMatchObject({ ok: true, problems: [], notes: [], open: 0, isKeyTrusted: true })
    const types = new Set(
      chains().flatMap((name) => linesOf(name).map((line) => (JSON.parse(line) as { type: string }).type)),
    )
    const all = ['open', 'decision', 'approval', 'end', 'refused', 'session', 'sealed', 'admin', 'checkpoint', 'seal']
    expect([...types].sort()).toEqual(all.sort())
  })

  it('notices one changed bit in every line of every file', async () => {
    const missed: string[] = []
    for (const name of chains()) {
      let offset = 0
      for (const line of linesOf(name)) {
        const bytes = Buffer.from(original.get(name) ?? '')
        const at = offset + Math.floor(line.length / 2)
        bytes[at] = (bytes[at] ?? 0) ^ 1
        put(name, bytes)
        if (await isMissed()) missed.push(`${name} at ${at}`)
        offset += line.length + 1
      }
      restore()
    }
    expect(missed).toEqual([])
  })

  it('notices any changed byte anywhere', async () => {
    const files = [...original.keys()]
    await assert(
      asyncProperty(
        nat(files.length - 1),
        double({ min: 0, max: 1, noNaN: true, maxExcluded: true }),
        integer({ min: 1, max: 255 }),
        async (index, where, mask) => {
          const name = files[index] ?? ''
          const bytes = Buffer.from(original.get(name) ?? '')
          const at = Math.floor(where * bytes.length)
          bytes[at] = (bytes[at] ?? 0) ^ mask
          put(name, bytes)
          try {
            expect({ what: `${name} at ${at} ^ ${mask}`, isMissed: await isMissed() }).toMatchObject({
              isMissed: false,
            })
          } finally {
            restore()
          }
        },
      ),
      { numRuns: 250 },
    )
  })

  it('notices a line that was dropped, repeated or moved', async () => {
    const missed: string[] = []
    for (const name of chains()) {
      const lines = linesOf(name)
      for (let index = 0; index < lines.length; index++) {
        const line = lines[index] ?? ''
        put(name, joined(lines.toSpliced(index, 1)))
        if (await isMissed()) missed.push(`${name} without line ${index + 1}`)
        put(name, joined(lines.toSpliced(index, 0, line)))
        if (await isMissed()) missed.push(`${name} with line ${index + 1} twice`)
        if (index === 0) continue
        put(name, joined(lines.toSpliced(index - 1, 2, line, lines[index - 1] ?? '')))
        if (await isMissed()) missed.push(`${name} with line ${index + 1} moved up`)
      }
      restore()
    }
    expect(missed).toEqual([])
  })

  it('notices a file cut off at any line, and in the middle of any line', async () => {
    const missed: string[] = []
    for (const name of chains()) {
      let text = ''
      for (const line of linesOf(name)) {
        put(name, text)
        if (await isMissed()) missed.push(`${name} cut at ${text.length}`)
        put(name, text + line.slice(0, line.length / 2))
        if (await isMissed()) missed.push(`${name} cut in the middle behind ${text.length}`)
        put(name, text + line)
        if (await isMissed()) missed.push(`${name} without a newline at ${text.length}`)
        text += `${line}\n`
      }
      restore()
    }
    expect(missed).toEqual([])
  })

  it('notices bytes behind the end of any file', async () => {
    const missed: string[] = []
    for (const [name, bytes] of original) {
      put(name, Buffer.concat([bytes, Buffer.from('x')]))
      if (await isMissed()) missed.push(name)
      put(name, bytes)
    }
    expect(missed).toEqual([])
  })

  it('notices a file that was removed, emptied or stands in for another', async () => {
    const missed: string[] = []
    for (const name of original.keys()) {
      unlinkSync(path.join(folder, name))
      expect({ name, reasons: await reasons() }).toEqual({
        name,
        reasons: expect.arrayContaining([name.endsWith('.bulk') ? 'bulk_missing' : 'missing']) as unknown,
      })
      put(name, '')
      if (await isMissed()) missed.push(`${name} emptied`)
      restore()
    }
    for (const kind of [chains(), sidecars()]) {
      const [one = '', other = ''] = kind
      put(one, original.get(other) ?? '')
      put(other, original.get(one) ?? '')
      if (await isMissed()) missed.push(`${one} for ${other}`)
      restore()
    }
    expect(missed).toEqual([])
  })

  it('notices frames of a sidecar that were dropped, moved or repeated', async () => {
    for (const name of sidecars()) {
      const frames = framesOf(original.get(name) ?? Buffer.alloc(0))
      expect(frames.length).toBeGreaterThan(5)
      for (let index = 0; index < frames.length; index++) {
        const frame = frames[index] ?? Buffer.alloc(0)
        put(name, Buffer.concat(frames.toSpliced(index, 1)))
        expect((await check()).ok).toBe(false)
        put(name, Buffer.concat(frames.toSpliced(index, 0, frame)))
        expect((await check()).ok).toBe(false)
        if (index === 0) continue
        put(name, Buffer.concat(frames.toSpliced(index - 1, 2, frame, frames[index - 1] ?? frame)))
        expect((await check()).ok).toBe(false)
      }
      restore()
    }
  })

  it('does not take a chain that was made anew for the one that was sealed', async () => {
    const name = named(`${C}.jsonl`)
    put(name, rechained(linesOf(name), undefined))
    expect(await reasons()).toContain('forged')
    const own = generateKeyPairSync('ed25519').privateKey
    put(name, rechained(linesOf(name), own))
    expect(await reasons()).toEqual(expect.arrayContaining(['wrong_key', 'rolled_back']))
  })

  it('does not take recordings that were all made anew with another key', async () => {
    const own = generateKeyPairSync('ed25519')
    const folders2 = await makeFolders()
    const recorder = makeRecorder(folders2)
    await recordCall(await recorder.open(session(A)))
    await recorder.close()
    expect((await verify(folders2.dir)).ok).toBe(true)
    expect(await verify(folders2.dir, { publicKey })).toMatchObject({ ok: false, isKeyTrusted: true })
    const pem = own.publicKey.export({ type: 'spki', format: 'pem' }).toString()
    expect(await verify(folders.dir, { publicKey: pem })).toMatchObject({ ok: false })
    await folders2.remove()
  })

  it('notices a file no journal knows', async () => {
    const name = named(`${C}.jsonl`)
    put(name.replace(C, 'dddddddd-0000-4000-8000-000000000000'), original.get(name) ?? '')
    expect(await reasons()).toEqual(expect.arrayContaining(['unlisted', 'header']))
    restore()
    put(named(`${C}.bulk`).replace(C, `${C}.2`), 'x')
    expect(await reasons()).toContain('unlisted')
    restore()
    put(named(`${C}.bulk`).replace(C, 'eeeeeeee-0000-4000-8000-000000000000'), 'x')
    expect(await reasons()).toEqual(['unlisted'])
  })

  it('notices that a whole run is gone, by the run after it', async () => {
    const [first = ''] = journals()
    for (const name of [...original.keys()].filter((name) => name === first || name.includes(A) || name.includes(B))) {
      unlinkSync(path.join(folder, name))
    }
    expect(await reasons()).toEqual(['missing'])
  })

  it('needs a head from elsewhere to notice that the last run is gone, and has one in the state directory', async () => {
    const [, last = ''] = journals()
    for (const name of [...original.keys()].filter((name) => name === last || name.includes(C)))
      unlinkSync(path.join(folder, name))
    expect((await verify(folders.dir, { publicKey })).ok).toBe(true)
    expect((await verify(folders.dir, { publicKey, heads: [firstHead] })).ok).toBe(true)
    expect(await reasons()).toEqual(['missing'])
  })

  it('says open, not sealed, of a run whose journal lost its seal, and counts it as a problem where all should be closed', async () => {
    const [, last = ''] = journals()
    put(last, joined(linesOf(last).slice(0, -1)))
    expect(await verify(folders.dir, { publicKey })).toMatchObject({ ok: true, open: 1 })
    expect((await verify(folders.dir, { publicKey, isClosed: true })).problems.map(({ reason }) => reason)).toEqual([
      'unsealed',
    ])
    expect(await reasons()).toEqual(['rolled_back'])
  })

  it('finds nothing in order where there is nothing', async () => {
    for (const name of original.keys()) unlinkSync(path.join(folder, name))
    expect(await reasons()).toContain('missing')
    expect((await verify(folders.dir, { publicKey })).problems.map(({ reason }) => reason)).toEqual(['empty'])
    rmSync(folder, { recursive: true })
    expect((await verify(folders.dir, { publicKey, heads: [head] })).ok).toBe(false)
    await expect(verify(path.join(folders.dir, 'nowhere'))).rejects.toThrow(SallyportError)
    const { mkdirSync } = await import('node:fs')
    mkdirSync(folder)
  })
})

const joined = (lines: readonly string[]): string => lines.map((line) => `${line}\n`).join('')

function framesOf(bytes: Buffer): Buffer[] {
  const frames: Buffer[] = []
  for (let offset = 0; offset < bytes.length;) {
    const newline = bytes.indexOf(10, offset)
    const { bytes: length } = JSON.parse(bytes.toString('utf8', offset, newline)) as { bytes: number }
    frames.push(bytes.subarray(offset, newline + 1 + length + 1))
    offset = newline + 1 + length + 1
  }
  return frames
}

/** What a forger does: alters a request, then makes every hash right again, and signs as well as he can. */
function rechained(lines: readonly string[], key: KeyObject | undefined): string {
  let prev = '0'.repeat(64)
  let text = ''
  for (const line of lines) {
    const {
      seq,
      at,
      type,
      prev: _,
      sig,
      ...body
    } = JSON.parse(line.replace('SELECT id', 'SELECT no')) as Record<string, unknown>
    if (key !== undefined && 'key' in body && sig !== undefined)
      body['key'] = keyIdOf(generateKeyPairSync('ed25519').publicKey)
    let spelled = spellLine(seq as number, at as string, type as 'end', prev, body)
    if (typeof sig === 'string') {
      spelled = attachSignature(
        spelled,
        key === undefined ? sig : sign(null, Buffer.from(spelled), key).toString('hex'),
      )
    }
    prev = hashOf(`${spelled}\n`)
    text += `${spelled}\n`
  }
  return text
}
