/**
 * Copies of one database that differ in masked values only, each behind a gateway of its own, and the question asked of
 * all of them: can anybody tell them apart?
 */
import { classOf } from '../../src/known.ts'
import { createDatabase, type ServerVersion, type TestDatabase, type TestRole } from '../services/postgres.ts'
import { openGateway, type Answer, type Gateway } from './gateway.ts'
import { FULL_GRANTS, LEAST_GRANTS, rowsOf, STRUCTURE } from './schema.ts'
import { rawIn, rawInWritten, VARIANTS, type Secrets } from './secrets.ts'

/** Whether the backend's role may read what is masked. */
export type Mode = 'rewrite' | 'enforced'

/** Something that should not have been seen. */
export interface Finding {
  readonly sql: string
  readonly what: string
  readonly seen: readonly string[]
}

/** What became of one statement. */
export interface Outcome {
  /** Of the first copy; equal for all of them unless there is a finding. */
  readonly answer: Answer
  readonly finding?: Finding
}

export interface World {
  readonly version: ServerVersion
  readonly mode: Mode
  readonly role: TestRole
  readonly databases: readonly TestDatabase[]
  readonly gateways: readonly Gateway[]
  /** Puts the statement to every copy. */
  ask(sql: string, params?: readonly (string | null)[]): Promise<Outcome>
  /** Runs administrators' statements in every copy. */
  admin(sql: string): Promise<void>
  /** Puts every row back as it was. */
  reset(): Promise<void>
  /** What recordings and log of any gateway show of masked values. */
  searchWritten(): Promise<string | undefined>
  close(): Promise<void>
}

export interface WorldOptions {
  readonly server: ServerVersion
  readonly mode: Mode
  /** How many copies, at most one for each set of secrets. */
  readonly copies?: number
  readonly statementTimeout?: string
  /** Called with each copy between planning and execution. */
  readonly between?: (db: TestDatabase) => Promise<void>
}

/** Dice fall alike now and then, and hardly ever this often. */
const NOISE_TRIES = 12
/** How often a difference must show again. */
const AGAIN_TRIES = 2

/** Makes the copies. The last one holds the same secrets as the first: what differs even there is no secret. */
export async function openWorld({
  server,
  mode,
  copies = VARIANTS.length,
  statementTimeout,
  between,
}: WorldOptions): Promise<World> {
  const secrets = [...VARIANTS.slice(0, copies), VARIANTS[0]].filter((one) => one !== undefined)
  const template = await createDatabase(STRUCTURE, { server })
  const role = await template.role(mode === 'rewrite' ? FULL_GRANTS : LEAST_GRANTS)
  await template.admin.end()
  const databases: TestDatabase[] = []
  for (const one of secrets) {
    const db = await createDatabase('', { server, template: template.name })
    await db.admin.query(rowsOf(one))
    await db.admin.query('VACUUM ANALYZE')
    databases.push(db)
  }
  const gateways = await Promise.all(
    databases.map((db) =>
      openGateway(db, role, {
        masking: mode,
        ...(between !== undefined && { between: () => between(db) }),
        ...(statementTimeout !== undefined && { statementTimeout }),
      }),
    ),
  )
  const shown = gateways.slice(0, -1)
  const control = gateways.at(-1) as Gateway

  /** Whether two answers to the same question, by the same secrets, differ as well. */
  async function isNoise(
    sql: string,
    params: readonly (string | null)[] | undefined,
    before: Answer,
  ): Promise<boolean> {
    for (let tries = 0; tries < NOISE_TRIES; tries++) {
      const [again, twin] = await Promise.all([shown[0]?.ask(sql, params), control.ask(sql, params)])
      if (again?.text !== before.text || twin.text !== before.text) return true
    }
    return false
  }

  async function differsAgain(sql: string, params: readonly (string | null)[] | undefined): Promise<boolean> {
    for (let tries = 0; tries < AGAIN_TRIES; tries++) {
      const answers = await Promise.all(shown.map((gateway) => gateway.ask(sql, params)))
      if (answers.every(({ text }) => text === answers[0]?.text)) return false
    }
    return true
  }

  async function ask(sql: string, params?: readonly (string | null)[]): Promise<Outcome> {
    const answers = await Promise.all(shown.map((gateway) => gateway.ask(sql, params)))
    const [answer] = answers as [Answer]
    const mayHaveWritten = !answer.verdict.startsWith('refused') && !isPlannedAsRead(answer)
    const twin = mayHaveWritten ? await control.ask(sql, params) : undefined
    const seen = answers.map(({ text }) => text)
    const raw = seen.map(rawIn).find((found) => found !== undefined)
    if (raw !== undefined) return { answer, finding: { sql, what: `shows ${raw}`, seen } }
    if (seen.every((text) => text === seen[0])) return { answer }
    // Whoever ran out of time may have been slower by chance.
    if (answers.some(({ verdict }) => verdict === 'ERR_TIMEOUT')) return { answer }
    if (twin === undefined ? await isNoise(sql, params, answer) : twin.text !== answer.text) return { answer }
    // What a read tells of a secret it tells each time; a busy machine does not.
    if (twin === undefined && !(await differsAgain(sql, params))) return { answer }
    return { answer, finding: { sql, what: 'differs', seen: seen.map((text) => whereDiffers(text, seen)) } }
  }

  return {
    version: server,
    mode,
    role,
    databases,
    gateways,
    ask,
    async admin(sql) {
      for (const db of databases) await db.admin.query(sql)
    },
    async reset() {
      await Promise.all(
        databases.map(async (db, i) => {
          const { rows } = await db.admin.query<{ names: string }>(TABLES)
          const names = rows[0]?.names ?? ''
          await db.admin.query(`TRUNCATE ${names} RESTART IDENTITY; SELECT lo_unlink(424242)`)
          await db.admin.query(`${rowsOf(secrets[i] as Secrets)}; ANALYZE ${names}`)
        }),
      )
    },
    async searchWritten() {
      for (const gateway of gateways) {
        const found = rawInWritten(await gateway.written())
        if (found !== undefined) return found
      }
      return undefined
    },
    async close() {
      for (const gateway of gateways) await gateway.close()
      for (const db of databases) await db.drop()
      await template.drop()
    },
  }
}

/** The surroundings of the first place at which the answers differ. */
export function whereDiffers(text: string, all: readonly string[]): string {
  let at = 0
  while (at < text.length && all.every((other) => other[at] === text[at])) at += 1
  return text.slice(Math.max(0, at - 80), at + 160)
}

const TABLES = `SELECT string_agg(oid::regclass::text, ', ') AS names FROM pg_class
  WHERE relkind IN ('r', 'p') AND relnamespace IN ('public'::regnamespace, 'other'::regnamespace)`

/** Whether every part of it reads, or only looks at or asks for something of the session. */
export function isPlannedAsRead({ judged }: Answer): boolean {
  const parts = judged?.plan.action.parts ?? []
  return parts.length > 0 && parts.every(({ verb }) => classOf(verb) === 'read' || verb === 'sql.show')
}
