/**
 * PostgreSQL's own regression suite through a gateway with masks on columns no file reads, statement by statement beside a
 * server of its own (see `twin.ts`): output files are of no use here, because with masks a gateway refuses definitions and
 * withholds words, and nearly every file holds both.
 */
import { spawn } from 'node:child_process'
import { once } from 'node:events'
import { chmod, cp, mkdir, mkdtemp, readFile, rm, writeFile } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import path from 'node:path'
import { startEmbeddedPostgres, type EmbeddedPostgres } from '../../src/cli/demo/embedded-postgres.ts'
import { installedPostgres, postgresSource } from '../services/postgres-source.ts'
import { asAdmin, compile, DATABASE, INSTALLATION, makeDatabase, settingsOf, SETTINGS, startGateway } from './door.ts'
import { BASE, chains, filesOf } from './suite.ts'
import { startTwin, type Compared } from './twin.ts'

/** A masked table beside those of the suite. */
const MASKED = ['CREATE SCHEMA sallyport_unused', 'CREATE TABLE sallyport_unused.people (id int, ssn text)']
const FUNCTIONS = `SELECT 'public.' || p.proname || '(' || array_to_string(ARRAY(
  SELECT format_type(a.oid, NULL) FROM unnest(p.proargtypes::oid[]) WITH ORDINALITY a (oid, at) ORDER BY a.at), ',') || ')'
  FROM pg_proc p WHERE p.pronamespace = 'public'::regnamespace`
const MASKS = 'masks:\n  - {columns: [sallyport_unused.people.ssn], transform: redact}\n'
/** What the files build on, done by the owners of both servers; each file has a copy of it. */
const TEMPLATE = 'regress_base'
/** The masked table alone, for the files that others build on. */
const EMPTY = 'regress_empty'

/** What came of one file. */
export interface MaskedFile {
  readonly name: string
  readonly alike: number
  /** Alike but for words of the database that are withheld. */
  readonly withheld: number
  /** Refused, by reason. */
  readonly refused: ReadonlyMap<string, number>
  readonly apart: readonly Compared[]
}

/** Runs the files named, or the whole schedule; `onFile` hears of each as it ends. */
export async function runUnderMasks(
  only: readonly string[],
  onFile: (file: MaskedFile) => void = () => undefined,
): Promise<readonly MaskedFile[]> {
  const source = await postgresSource(await installedPostgres())
  const home = await mkdtemp(path.join(tmpdir(), 'sallyport-masked-'))
  const servers: EmbeddedPostgres[] = []
  try {
    // Servers are other users: they read data from here, and write files that they read again.
    await chmod(home, 0o777)
    const regress = path.join(home, 'regress')
    await cp(source.regress, regress, { recursive: true })
    await mkdir(path.join(regress, 'results'))
    await chmod(path.join(regress, 'results'), 0o777)
    const libraries = path.join(home, 'lib')
    await compile(regress, libraries)
    const hba = path.join(home, 'pg_hba.conf')
    await writeFile(hba, 'host all all 127.0.0.1/32 trust\n')
    const settings = { ...SETTINGS, autovacuum: 'off', hba_file: hba }
    for (let i = 0; i < 2; i++) servers.push(await startEmbeddedPostgres({ installation: INSTALLATION, settings }))
    const [governed, direct] = servers
    if (governed === undefined || direct === undefined) throw new Error('There are no servers.')
    const psql = (file: string, port: number, password: string, database: string): Promise<void> =>
      runPsql({ file, port, password, database, regress, libraries })
    for (const server of servers) {
      await makeDatabase(server, EMPTY)
      await asAdmin(server, EMPTY, MASKED)
      await asAdmin(server, 'postgres', copyOf(EMPTY, TEMPLATE))
      for (const file of BASE) await psql(file, server.port, server.password, TEMPLATE)
    }
    // As an operator must, this one vouches for the functions of the schema.
    const trusted = await asAdmin(governed, TEMPLATE, ['SET search_path = pg_catalog', FUNCTIONS])
    const gateway = await startGateway(home, governed, {
      policy: MASKS,
      target: `    trusted_functions: ${JSON.stringify(trusted)}\n`,
    })
    try {
      const schedule = await readFile(path.join(regress, 'parallel_schedule'), 'utf8')
      const files: MaskedFile[] = []
      const all = filesOf(schedule)
      for (const chain of chains(all, only.length > 0 ? only : all)) {
        const base = BASE.indexOf(chain.at(-1) ?? '')
        const before = base === -1 ? chain.slice(0, -1) : BASE.slice(0, base)
        for (const server of servers) {
          await forgetLinks(server)
          await asAdmin(server, 'postgres', [
            `DROP DATABASE IF EXISTS ${DATABASE} WITH (FORCE)`,
            ...copyOf(base === -1 ? TEMPLATE : EMPTY, DATABASE),
          ])
          for (const file of before) await psql(file, server.port, server.password, DATABASE)
        }
        const seen: Compared[] = []
        const places = { gateway: gateway.port, governed: governed.port, direct: direct.port }
        const twin = await startTwin(places, (compared) => seen.push(compared))
        const name = chain.at(-1) ?? ''
        await psql(name, twin.port, gateway.token, DATABASE)
        await twin.close()
        const file = summed(name, seen)
        files.push(file)
        onFile(file)
      }
      return files
    } finally {
      await gateway.stop()
    }
  } finally {
    for (const server of servers) await server.stop()
    await rm(home, { recursive: true, force: true })
  }
}

function copyOf(template: string, name: string): readonly string[] {
  return [`CREATE DATABASE ${name} TEMPLATE ${template}`, ...settingsOf(name)]
}

/** What a file left that ties its database to the rest of the server, so that it could not be dropped. */
async function forgetLinks(server: EmbeddedPostgres): Promise<void> {
  const [isThere] = await asAdmin(server, 'postgres', [`SELECT 1 FROM pg_database WHERE datname = '${DATABASE}'`])
  if (isThere === undefined) return
  const undo = await asAdmin(server, DATABASE, [
    `SELECT format(step, subname) FROM pg_subscription, unnest(ARRAY['ALTER SUBSCRIPTION %I DISABLE',
       'ALTER SUBSCRIPTION %I SET (slot_name = NONE)', 'DROP SUBSCRIPTION %I']) WITH ORDINALITY s (step, at)
     WHERE subdbid = (SELECT oid FROM pg_database WHERE datname = current_database())
     UNION ALL SELECT format('ROLLBACK PREPARED %L', gid) FROM pg_prepared_xacts WHERE database = current_database()`,
  ])
  await asAdmin(server, DATABASE, undo)
}

function summed(name: string, seen: readonly Compared[]): MaskedFile {
  const refused = new Map<string, number>()
  for (const { outcome, told } of seen) if (outcome === 'refused') refused.set(told, (refused.get(told) ?? 0) + 1)
  return {
    name,
    alike: seen.filter(({ outcome }) => outcome === 'alike').length,
    withheld: seen.filter(({ outcome }) => outcome === 'withheld').length,
    refused,
    apart: seen.filter(({ outcome }) => outcome === 'apart'),
  }
}

/** One file as `pg_regress` runs it. */
async function runPsql(what: {
  readonly file: string
  readonly port: number
  readonly password: string
  readonly database: string
  readonly regress: string
  readonly libraries: string
}): Promise<void> {
  const { file, port, password, database, regress, libraries } = what
  const child = spawn(
    path.join(INSTALLATION, 'bin/psql'),
    ['-X', '-a', '-q', '-d', database, '-v', 'HIDE_TABLEAM=on', '-f', `sql/${file}.sql`],
    {
      cwd: regress,
      stdio: ['ignore', 'ignore', 'ignore'],
      env: {
        ...process.env,
        PGHOST: '127.0.0.1',
        PGPORT: String(port),
        PGUSER: 'postgres',
        PGPASSWORD: password,
        PGTZ: 'PST8PDT',
        PGDATESTYLE: 'Postgres, MDY',
        PGOPTIONS: '-c intervalstyle=postgres_verbose',
        PGSSLMODE: 'disable',
        PGGSSENCMODE: 'disable',
        PG_ABS_SRCDIR: regress,
        PG_ABS_BUILDDIR: regress,
        PG_LIBDIR: libraries,
        PG_DLSUFFIX: '.so',
      },
    },
  )
  await once(child, 'exit')
}
