/**
 * The corpora: text files of one statement a line with what becomes of it, under headings.
 *
 * `same | select 1` was answered, and alike by all copies; `refused sql.mask.predicate | …` names the construct, `error
 * 22P02 | …` PostgreSQL's own. What differs on another server or under another role follows after a slash: `same / 15:
 * error 42601 | …`. `⏎` stands for the end of a line, `{ssn}` for a masked value of the first copy.
 *
 * SALLYPORT_CORPUS=write writes the verdicts of this moment into the files, for a person to
 * read the difference. That nothing leaks is asserted whatever they say.
 */
import { mkdirSync, readFileSync, renameSync, rmdirSync, writeFileSync } from 'node:fs'
import type { ServerVersion } from '../services/postgres.ts'
import { VARIANTS } from './secrets.ts'
import type { Mode } from './world.ts'

export type CorpusName = 'leaks' | 'legitimate'

/** One statement. */
export interface Line {
  readonly sql: string
  /** What becomes of it in a world. */
  verdict(version: ServerVersion, mode: Mode): string
}

export interface Section {
  readonly heading: string
  readonly lines: readonly Line[]
}

type Key = '15' | 'enforced' | '15 enforced'

export function readCorpus(name: CorpusName): readonly Section[] {
  const sections: { heading: string; lines: Line[] }[] = []
  for (const row of rows(name)) {
    if (row.startsWith('# ')) sections.push({ heading: row.slice(2), lines: [] })
    else if (row !== '') sections.at(-1)?.lines.push(lineOf(row))
  }
  return sections
}

/** Writes down what became of each statement in one world. */
export function recordVerdicts(
  name: CorpusName,
  version: ServerVersion,
  mode: Mode,
  seen: ReadonlyMap<string, string>,
): void {
  const lock = new URL(`corpus/${name}.lock`, import.meta.url)
  while (!tryLock(lock));
  const written = rows(name).map((row) => {
    if (row.startsWith('# ') || row === '') return row
    const { verdicts, text } = taken(row)
    const verdict = seen.get(statementOf(text))
    if (verdict === undefined) return row
    const all = new Map<string, string>(
      (['18 rewrite', '15 rewrite', '18 enforced', '15 enforced'] as const).map((world) => {
        const [v, m] = world.split(' ') as [ServerVersion, Mode]
        return [world, v === version && m === mode ? verdict : verdictIn(verdicts, v, m)]
      }),
    )
    return `${shortest(all)} | ${text}`
  })
  const draft = new URL(`corpus/${name}.draft`, import.meta.url)
  writeFileSync(draft, written.join('\n'))
  renameSync(draft, fileOf(name))
  rmdirSync(lock)
}

/** Both servers write into one file. */
function tryLock(directory: URL): boolean {
  try {
    mkdirSync(directory)
    return true
  } catch {
    return false
  }
}

function fileOf(name: CorpusName): URL {
  return new URL(`corpus/${name}.txt`, import.meta.url)
}

function rows(name: CorpusName): readonly string[] {
  return readFileSync(fileOf(name), 'utf8').split('\n')
}

function lineOf(row: string): Line {
  const { verdicts, text } = taken(row)
  return { sql: statementOf(text), verdict: (version, mode) => verdictIn(verdicts, version, mode) }
}

function taken(row: string): { readonly verdicts: ReadonlyMap<string, string>; readonly text: string } {
  const [said = '', ...rest] = row.split(' | ')
  const verdicts = new Map<string, string>()
  for (const one of said.split(' / ')) {
    const [, key = '', verdict = ''] = /^(?:(15 enforced|15|enforced): )?(.*)$/u.exec(one) ?? []
    verdicts.set(key, verdict)
  }
  return { verdicts, text: rest.join(' | ') }
}

function statementOf(text: string): string {
  return text.replaceAll('⏎', '\n').replaceAll('{ssn}', VARIANTS[0]?.ssn[0] ?? '')
}

function verdictIn(verdicts: ReadonlyMap<string, string>, version: ServerVersion, mode: Mode): string {
  const keys: Key[] = []
  if (version === '15' && mode === 'enforced') keys.push('15 enforced')
  if (version === '15') keys.push('15')
  if (mode === 'enforced') keys.push('enforced')
  const key = keys.find((one) => verdicts.has(one)) ?? ''
  return verdicts.get(key) ?? ''
}

/** Says no more than what differs. */
function shortest(all: ReadonlyMap<string, string>): string {
  const verdicts = new Map([['', all.get('18 rewrite') ?? '']])
  for (const [key, world] of [
    ['15', '15 rewrite'],
    ['enforced', '18 enforced'],
    ['15 enforced', '15 enforced'],
  ] as const) {
    const [version, mode] = world.split(' ') as [ServerVersion, Mode]
    const verdict = all.get(world) ?? ''
    if (verdictIn(verdicts, version, mode) !== verdict) verdicts.set(key, verdict)
  }
  return [...verdicts].map(([key, verdict]) => (key === '' ? verdict : `${key}: ${verdict}`)).join(' / ')
}
