import { cp, readdir, readFile, writeFile } from 'node:fs/promises'
import path from 'node:path'
import { verify } from '../../recording/index.ts'
import type { Stage } from './stage.ts'
import { DemoBroken } from './story.ts'

/** Verifies what was recorded, then changes one word in a copy and shows that it is caught. */
export async function prove(stage: Stage, recordings: string, scratch: string): Promise<void> {
  stage.scene(
    'The recording, and a forgery',
    'Every call was written down before it ran, chained by hashes, and sealed with a signature.',
  )
  stage.does('anybody', 'sallyport recordings verify')
  const report = await verify(recordings)
  if (!report.ok) throw new DemoBroken(`the recording does not verify: ${report.problems[0]?.message ?? ''}`)
  const entries = report.files.reduce((sum, file) => sum + file.entries, 0)
  stage.outcome('good', `${report.files.length} files with ${entries} entries are as they were written.`)

  const copy = path.join(scratch, 'forged')
  await cp(recordings, copy, { recursive: true })
  const forged = await forge(copy)
  stage.does('a forger', `changes one word in a copy: "effect":"deny" becomes "allow" in line ${forged.line}`)
  const after = await verify(copy)
  const caught = after.problems[0]
  if (after.ok || caught === undefined) throw new DemoBroken('a forged recording verified')
  const at = caught.line === undefined ? '' : `, line ${caught.line}`
  stage.outcome('stopped', `Caught${at}: ${caught.message}.`)
}

/** Turns the first refusal into a consent. */
async function forge(dir: string): Promise<{ readonly line: number }> {
  for (const entry of await readdir(dir, { recursive: true, withFileTypes: true })) {
    if (!entry.isFile() || !entry.name.endsWith('.jsonl')) continue
    const file = path.join(entry.parentPath, entry.name)
    const lines = (await readFile(file, 'utf8')).split('\n')
    const index = lines.findIndex((line) => line.includes('"effect":"deny"'))
    if (index === -1) continue
    lines[index] = (lines[index] ?? '').replace('"effect":"deny"', '"effect":"allow"')
    await writeFile(file, lines.join('\n'))
    return { line: index + 1 }
  }
  throw new DemoBroken('no refusal was recorded')
}
