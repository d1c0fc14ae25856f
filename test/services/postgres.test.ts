import { afterAll, beforeAll, describe, expect, it } from 'vitest'
import { spawn } from 'node:child_process'
import { once } from 'node:events'
import { connect } from 'node:net'
import { Client } from 'pg'
import { shopSql } from '../../src/cli/demo/shop.ts'
import { has } from '../setup/needs.ts'
import { createDatabase, type TestDatabase } from './postgres.ts'

describe('the private PostgreSQL', () => {
  let db: TestDatabase
  beforeAll(async () => {
    db = await createDatabase(shopSql())
  })
  afterAll(() => db.drop())

  it('serves the shop, the same every time', async () => {
    const { rows } = await db.admin.query(
      `SELECT (SELECT count(*) FROM customers)::int AS customers, (SELECT count(*) FROM products)::int AS products,
              (SELECT count(*) FROM orders)::int AS orders, (SELECT count(*) FROM orders WHERE note LIKE '%@%') > 10 AS mail,
              (SELECT bool_and(o.total = i.total) FROM orders o JOIN
                (SELECT order_id, sum(quantity * price) AS total FROM order_items GROUP BY 1) i ON i.order_id = o.id) AS adds_up`,
    )
    expect(rows).toEqual([{ customers: 50, products: 40, orders: 300, mail: true, adds_up: true }])
    expect(shopSql()).toBe(shopSql())
  })

  it.runIf(has('postgresql-15'))('has a brother of version 15', async () => {
    const older = await createDatabase(shopSql(), { server: '15' })
    const versions = await Promise.all([db, older].map(({ admin }) => admin.query('SHOW server_version_num')))
    expect(versions.map(({ rows }) => Math.floor(rows[0].server_version_num / 10_000))).toEqual([18, 15])
    await older.drop()
  })

  it('refuses a wrong password', async () => {
    const client = new Client({ ...db, database: db.name, password: 'wrong' })
    await expect(client.connect()).rejects.toMatchObject({ code: '28P01' })
  })

  it('makes roles that may do nothing but what they were granted', async () => {
    const role = await db.role('GRANT SELECT ON public.orders TO $role')
    const client = new Client({ ...db, ...role, database: db.name })
    await client.connect()
    await expect(client.query('SELECT id FROM orders LIMIT 1')).resolves.toMatchObject({ rowCount: 1 })
    await expect(client.query('SELECT id FROM customers LIMIT 1')).rejects.toMatchObject({ code: '42501' })
    await client.end()
  })

  it.each(['SIGKILL', 'SIGTERM', 'SIGINT'] as const)(
    'leaves nothing running when its owner gets %s',
    async (signal) => {
      const script = `const { startEmbeddedPostgres } = await import('./src/cli/demo/embedded-postgres.ts')
      console.log((await startEmbeddedPostgres()).port); setInterval(() => undefined, 1000)`
      const owner = spawn(process.execPath, ['--import', 'tsx', '--input-type=module', '-e', script], {
        stdio: ['ignore', 'pipe', 'inherit'],
      })
      const [line] = (await once(owner.stdout, 'data')) as [Buffer]
      const port = Number(line.toString())
      expect(await answers(port)).toBe(true)
      owner.kill(signal)
      await once(owner, 'exit')
      while (await answers(port)) await new Promise((resolve) => setImmediate(resolve))
    },
  )
})

function answers(port: number): Promise<boolean> {
  return new Promise((resolve) => {
    const socket = connect(port, '127.0.0.1')
    socket.once('connect', () => resolve(true))
    socket.once('error', () => resolve(false))
    socket.once('connect', () => socket.destroy())
  })
}
