import { closeSync, openSync, readdirSync, readSync, statSync } from 'node:fs'
import path from 'node:path'

/** One entry of a recording, as it is written. */
export type Entry = Readonly<Record<string, unknown>> & {
  readonly type: string
  readonly body?: Readonly<Record<string, unknown>>
}

/**
 * Reads recordings as they grow: each call returns the decisions and ends that were written since the one before. An
 * entry whose line is not complete yet comes with the next call.
 *
 * @param dir of the gateway, with `recordings` in it.
 */
export function newEntries(dir: string): () => readonly Entry[] {
  const seen = new Map<string, number>()
  return () => {
    const found: Entry[] = []
    const files = readdirSync(path.join(dir, 'recordings'), { recursive: true, withFileTypes: true })
    for (const file of files) {
      if (!file.isFile() || !file.name.endsWith('.jsonl')) continue
      const name = path.join(file.parentPath, file.name)
      const from = seen.get(name) ?? 0
      const text = textFrom(name, from)
      const end = text.lastIndexOf(0x0a) + 1
      seen.set(name, from + end)
      for (const line of text.subarray(0, end).toString('utf8').split('\n')) {
        if (line.includes('"type":"decision"') || line.includes('"type":"end"')) found.push(JSON.parse(line) as Entry)
      }
    }
    return found
  }
}

function textFrom(name: string, from: number): Buffer {
  const bytes = Buffer.alloc(statSync(name).size - from)
  const file = openSync(name, 'r')
  try {
    let at = 0
    while (at < bytes.length) {
      const read = readSync(file, bytes, at, bytes.length - at, from + at)
      if (read === 0) break
      at += read
    }
    return bytes.subarray(0, at)
  } finally {
    closeSync(file)
  }
}
