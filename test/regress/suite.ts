/**
 * Runs PostgreSQL's own regression SQL with the real psql, each file in a copy of a small database, and tells of every
 * statement what was planned and what the server did. Results of queries are not compared: the server is not on trial.
 */
import { spawn } from 'node:child_process'
import { once } from 'node:events'
import { chmod, cp, mkdir, mkdtemp, readFile, rm, writeFile } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import path from 'node:path'
import { Client } from 'pg'
import { startEmbeddedPostgres } from '../../src/cli/demo/embedded-postgres.ts'
import { loadParser } from '../../src/protocols/postgres/parse.ts'
import { installedPostgres, postgresSource } from '../services/postgres-source.ts'
import { startTap, type Deed } from './tap.ts'
import { leftOut } from './truth.ts'

/** What came of the whole suite. */
export interface Report {
  /** Texts the server was sent. */
  readonly statements: number
  /** Of them, those that were planned. */
  readonly planned: number
  /** Texts sent while the session read text in another way than the plan would (C7); refused in the product. */
  readonly unpinned: number
  /** Texts sent when the session's role could not read the catalog. */
  readonly blind: number
  /** Statements whose locks and writes were looked at. */
  readonly lookedAt: number
  readonly crashes: readonly string[]
  /** What a plan left out, with its statement. */
  readonly leftOut: readonly string[]
  /** Statements that ran and were planned as `sql.unknown`, by reason. */
  readonly unknown: ReadonlyMap<string, number>
  /** Statements that ran and were not understood. */
  readonly notUnderstood: number
  readonly slowest: { readonly ms: number; readonly sql: string }
  /** How often the catalog was compared for no reason, and how often it then was another one than the plan's. */
  readonly catalogs: { readonly loaded: number; readonly checked: number; readonly stale: number }
  readonly seconds: number
  /** CPU of this process, which plans and listens; the server and psql have their own. */
  readonly cpuSeconds: number
}

const INSTALLATION = '/usr/lib/postgresql/15'
/** What nearly every file builds on. */
export const BASE = ['test_setup', 'create_index', 'create_misc', 'create_function_c']
/** Files that need what others leave behind, as the schedule and its comments say. */
const NEEDED: Readonly<Record<string, readonly string[]>> = {
  aggregates: ['create_aggregate'],
  amutils: ['create_index_spgist', 'hash_index', 'brin', 'gin', 'spgist'],
  geometry: ['point', 'lseg', 'line', 'box', 'path', 'polygon', 'circle'],
  horology: ['date', 'time', 'timetz', 'timestamp', 'timestamptz', 'interval'],
  multirangetypes: ['rangetypes'],
  psql: ['create_am'],
  select_views: ['create_view'],
  copyselect: ['copy'],
  portals_p2: ['portals'],
  drop_operator: ['create_operator'],
}
const SESSIONS = 2
/** Texts of statements in messages are cut after this. */
const SHOWN_CHARS = 240

/** Runs the files named, or all of them. */
export async function runSuite(
  only?: readonly string[],
  log: (line: string) => void = () => undefined,
): Promise<Report> {
  await loadParser()
  const started = performance.now()
  const source = await postgresSource(await installedPostgres())
  const home = await mkdtemp(path.join(tmpdir(), 'sallyport-regress-'))
  // The server reads data from here as another user.
  await chmod(home, 0o777)
  const hba = path.join(home, 'pg_hba.conf')
  await writeFile(hba, 'host all all 127.0.0.1/32 trust\n')
  const server = await startEmbeddedPostgres({ installation: INSTALLATION, settings: { ...SETTINGS, hba_file: hba } })
  try {
    const regress = path.join(home, 'regress')
    await cp(source.regress, regress, { recursive: true })
    await mkdir(path.join(regress, 'results'))
    const schedule = await readFile(path.join(regress, 'parallel_schedule'), 'utf8')
    const runner = new Runner(server, regress, log)
    await runner.run(chains(filesOf(schedule), only))
    return runner.report((performance.now() - started) / 1000)
  } finally {
    await server.stop()
    await rm(home, { recursive: true, force: true })
  }
}

const SETTINGS = {
  shared_buffers: '128MB',
  synchronous_commit: 'off',
  max_prepared_transactions: '4',
  max_connections: '50',
  autovacuum: 'off',
  lc_messages: 'C',
  log_min_messages: 'log',
  wal_level: 'logical',
}

export function filesOf(schedule: string): readonly string[] {
  return [...schedule.matchAll(/^test: (.+)$/gmu)].flatMap(([, names = '']) => names.trim().split(/\s+/u))
}

/** Files in the order in which they run, those that need each other together. */
export function chains(files: readonly string[], only: readonly string[] | undefined): readonly (readonly string[])[] {
  const needed = new Set([...BASE, ...Object.values(NEEDED).flat()])
  const wanted = files.filter((file) => only?.includes(file) ?? !needed.has(file))
  return wanted.map((file) => [...(NEEDED[file] ?? []), file])
}

class Runner {
  readonly #server: { readonly host: string; readonly port: number; readonly user: string }
  readonly #regress: string
  readonly #log: (line: string) => void
  readonly #crashes: string[] = []
  readonly #leftOut: string[] = []
  readonly #unknown = new Map<string, number>()
  readonly #counts = { statements: 0, planned: 0, unpinned: 0, blind: 0, lookedAt: 0, notUnderstood: 0 }
  readonly #catalogs = { loaded: 0, checked: 0, stale: 0 }
  readonly #cpu = process.cpuUsage()
  #slowest = { ms: 0, sql: '' }

  constructor(
    server: { readonly host: string; readonly port: number; readonly user: string },
    regress: string,
    log: (line: string) => void,
  ) {
    this.#server = server
    this.#regress = regress
    this.#log = log
  }

  async run(all: readonly (readonly string[])[]): Promise<void> {
    await this.#database('regress_base', 'template0')
    for (const file of BASE) await this.#file(file, 'regress_base')
    const left = [...all].reverse()
    await Promise.all(
      Array.from({ length: SESSIONS }, async (_, index) => {
        const name = `regress_${index}`
        for (let chain = left.pop(); chain !== undefined; chain = left.pop()) {
          await this.#database(name, 'regress_base')
          for (const file of chain) await this.#file(file, name)
        }
      }),
    )
  }

  report(seconds: number): Report {
    const { user, system } = process.cpuUsage(this.#cpu)
    return {
      ...this.#counts,
      crashes: this.#crashes,
      leftOut: this.#leftOut,
      unknown: this.#unknown,
      slowest: this.#slowest,
      catalogs: this.#catalogs,
      seconds,
      cpuSeconds: (user + system) / 1e6,
    }
  }

  /** A fresh database with the settings `pg_regress` gives its own. */
  async #database(name: string, template: string): Promise<void> {
    const client = new Client({ ...this.#server, database: 'postgres' })
    await client.connect()
    try {
      await client.query(`DROP DATABASE IF EXISTS ${name} WITH (FORCE)`)
      await client.query(`CREATE DATABASE ${name} TEMPLATE ${template}`)
      await client.query(`ALTER DATABASE ${name} SET timezone_abbreviations TO 'Default'`)
      await client.query(`ALTER DATABASE ${name} SET bytea_output TO 'hex'`)
    } finally {
      await client.end()
    }
  }

  async #file(file: string, database: string): Promise<void> {
    const started = performance.now()
    const before = this.#counts.statements
    const tap = await startTap(this.#server, (deed) => this.#note(file, deed))
    const child = spawn(
      path.join(INSTALLATION, 'bin/psql'),
      ['-X', '-a', '-q', '-d', database, '-f', `sql/${file}.sql`],
      {
        cwd: this.#regress,
        stdio: ['ignore', 'ignore', 'ignore'],
        env: {
          ...process.env,
          PGHOST: '127.0.0.1',
          PGPORT: String(tap.port),
          PGUSER: this.#server.user,
          PGTZ: 'PST8PDT',
          PGDATESTYLE: 'Postgres, MDY',
          PGSSLMODE: 'disable',
          PGGSSENCMODE: 'disable',
          PG_ABS_SRCDIR: this.#regress,
          PG_ABS_BUILDDIR: this.#regress,
          PG_LIBDIR: path.join(INSTALLATION, 'lib'),
          PG_DLSUFFIX: '.so',
        },
      },
    )
    await once(child, 'exit')
    await tap.close()
    this.#catalogs.loaded += tap.counts.catalogs
    this.#catalogs.checked += tap.counts.checked
    this.#catalogs.stale += tap.counts.stale
    for (const failure of tap.counts.failures) this.#log(`${file}: ${failure}`)
    const ms = performance.now() - started
    const { catalogs, catalogMs } = tap.counts
    this.#log(
      `${file} ${this.#counts.statements - before} statements ${ms.toFixed(0)} ms, ${catalogs} catalogs ${catalogMs.toFixed(0)} ms`,
    )
  }

  #note(file: string, deed: Deed): void {
    const counts = this.#counts
    const shown = `${file}: ${deed.sql.replaceAll(/\s+/gu, ' ').slice(0, SHOWN_CHARS)}`
    counts.statements += 1
    if (deed.crash !== undefined) this.#crashes.push(`${shown} :: ${deed.crash}`)
    if (deed.plan === undefined) {
      if (!deed.isPinned) counts.unpinned += 1
      else if (deed.crash === undefined) counts.blind += 1
      return
    }
    counts.planned += 1
    if (deed.held !== undefined) counts.lookedAt += 1
    if (deed.planMs > this.#slowest.ms) this.#slowest = { ms: deed.planMs, sql: shown }
    const said = deed.plan.action.parts.map(
      ({ verb, resource }) => `${verb} ${'name' in resource ? (resource.name ?? '') : '-'}`,
    )
    for (const what of leftOut(deed)) this.#leftOut.push(`${what} :: ${shown} :: ${said.join(', ')}`)
    const unknown = deed.plan.action.parts.find(({ verb }) => verb === 'sql.unknown')
    if (unknown === undefined || deed.tags.length === 0) return
    counts.notUnderstood += 1
    const reasons = unknown.attributes['reasons']
    for (const reason of Array.isArray(reasons) ? reasons : []) {
      const kind = String(reason).replaceAll(/"[^"]*"/gu, '…')
      this.#unknown.set(kind, (this.#unknown.get(kind) ?? 0) + 1)
    }
  }
}
