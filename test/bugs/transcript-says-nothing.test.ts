/** A transcript showed `?` for how a call ended, for approvals and for seals: entries without a target did not parse. */
import { readdirSync } from 'node:fs'
import path from 'node:path'
import { expect, it } from 'vitest'
import { transcript } from '../../src/recording/index.ts'
import { makeCall, makeFolders, makeRecorder, recordCall, session } from '../recording/support.ts'

it('a transcript says how each call ended, who approved, and how the session was sealed', async () => {
  const folders = await makeFolders()
  try {
    const recorder = makeRecorder(folders)
    const opened = session('11111111-1111-4111-8111-111111111111')
    const recording = await recorder.open(opened)
    await recordCall(recording, makeCall({ id: 'c1' }))
    const call = recording.begin(makeCall({ id: 'c2' }))
    await call.approval({ ticket: 't1', state: 'granted', by: ['lena'] })
    await call.close('cancelled')
    await recorder.close()
    const folder = path.join(folders.dir, 'gw-1')
    const file = readdirSync(folder).find((name) => name.includes(opened.id) && name.endsWith('.jsonl')) ?? ''
    const lines: string[] = []
    for await (const line of transcript(path.join(folder, file))) lines.push(line)
    const text = lines.join('\n')
    expect(text).toMatch(/done after \d+ ms/u)
    expect(text).toContain('approval t1: granted by lena')
    expect(text).toMatch(/cancelled after \d+ ms/u)
    expect(text).toContain('sealed (closed)')
    expect(text).not.toContain('?')
  } finally {
    await folders.remove()
  }
})
