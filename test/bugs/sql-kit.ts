/** Databases that differ only in masked values, and what the real planner and connector let a caller see of each. */
import { SallyportError } from '../../src/core/errors.ts'
import type { ColumnMask, Transform } from '../../src/core/decision.ts'
import type { Target } from '../../src/core/target.ts'
import { createPostgres, endpointOf, postgresOptions, postgresSchema } from '../../src/protocols/postgres/index.ts'
import { createDatabase, type TestDatabase, type TestRole } from '../services/postgres.ts'
import { callOf, permitOf } from '../postgres/connector-kit.ts'

export interface Copies {
  /** One answer per copy: chunks as JSON, or `refused <construct>`. */
  ask(sql: string, params?: readonly (string | null)[]): Promise<readonly string[]>
  readonly databases: readonly TestDatabase[]
  close(): Promise<void>
}

/** Masks `table.column` of schema public. */
export function mask(name: string, transform: Transform = 'redact'): ColumnMask {
  const [table = '', column = ''] = name.split('.')
  return { schema: 'public', table, column, transform }
}

/** Makes one database per schema; the gateway's role may read and write everything in public. */
export async function copies(
  schemas: readonly string[],
  masks: readonly ColumnMask[],
  settings: { readonly trusted_functions?: string[]; readonly trusted_side_effects?: string[] } = {},
): Promise<Copies> {
  const protocol = createPostgres()
  const made: { readonly db: TestDatabase; readonly role: TestRole; readonly target: Target }[] = []
  for (const schema of schemas) {
    const db = await createDatabase(schema)
    await db.admin.query('VACUUM ANALYZE')
    const role = await db.role('GRANT SELECT, INSERT, UPDATE, DELETE ON ALL TABLES IN SCHEMA public TO $role')
    const { host, port, name } = db
    const options = postgresOptions(
      postgresSchema.parse({ host, port, database: name, tls: 'disable', pool: 1, ...settings }),
    )
    const target: Target = {
      name: 'db',
      protocol: 'postgres',
      labels: {},
      mode: 'enforce',
      record: 'full',
      endpoint: endpointOf(options),
      options,
    }
    made.push({ db, role, target })
  }

  async function askOne({ db, role, target }: (typeof made)[number], payload: object): Promise<string> {
    const { signal } = new AbortController()
    const secret = { user: role.user, value: role.password }
    const call = callOf(target, payload, signal)
    const seen: unknown[] = []
    try {
      const plan = await protocol.plan(call, { masks, secret: async () => secret, signal })
      if (plan.refused !== undefined) return `refused ${plan.refused.construct}`
      for await (const chunk of protocol.execute(call, plan, permitOf(signal), secret)) seen.push(chunk)
    } catch (error) {
      if (!(error instanceof SallyportError)) throw error
      if (error.facts.construct !== undefined) return `refused ${error.facts.construct}`
      seen.push({ code: error.code, message: error.message, facts: error.facts })
    }
    return JSON.stringify(seen).replaceAll(db.name, 'DB')
  }

  return {
    databases: made.map(({ db }) => db),
    ask: (sql, params) => Promise.all(made.map((copy) => askOne(copy, { sql, ...(params && { params }) }))),
    async close() {
      await protocol.close()
      for (const { db } of made) await db.drop()
    },
  }
}
