/** `sallyport doctor` and `policy check --against` from the command line, beside a running gateway. */
import { afterAll, beforeAll, describe, expect, it } from 'vitest'
import { openWorld, type World } from './world.ts'

const POLICY = `
targets: [db]
rules:
  - {id: read, effect: allow, principals: [group:agents], actions: [sql.select], resources: [public.people, public.gone]}
masks:
  - {columns: [public.people.ssn], transform: redact}
`

describe('the doctor, from the command line', () => {
  let world: World
  beforeAll(async () => {
    world = await openWorld({
      schema: `CREATE TABLE people (id int, ssn text, note text);
        INSERT INTO people VALUES (1, '123-45-6789', 'born with 123-45-6789')`,
      grants: 'GRANT SELECT ON people TO $role',
      policy: POLICY,
      config: '    masking: enforced\n',
    })
  })
  afterAll(() => world?.close())

  it('reports, prints what heals, and is content with that', async () => {
    const before = await world.run(['doctor', 'db', '--json'])
    expect(before.code).toBe(6)
    expect(JSON.parse(before.stdout)).toMatchObject({ ok: false, demanded: 'enforced', masking: 'rewrite' })
    expect((await world.run(['doctor'])).stdout).toContain('public.people (ssn)')
    const copies = await world.run(['policy', 'check', '--against', 'db'])
    expect(copies.code).toBe(3)
    expect(copies.stdout).toMatch(/Rule "read" names public\.gone/u)
    expect(copies.stdout).toMatch(/public\.people\.note hold values of public\.people\.ssn/u)
    expect(copies.stdout).not.toContain('123-45')
    const printed = await world.run(['doctor', 'db', '--emit-sql'])
    expect(printed.code).toBe(0)
    await world.db.admin.query(printed.stdout)
    const after = await world.run(['doctor', 'db', '--json'])
    expect(JSON.parse(after.stdout)).toMatchObject({ ok: true, masking: 'enforced' })
    expect(after.code).toBe(0)
    expect((await world.run(['doctor', 'nowhere'])).code).not.toBe(0)
  })
})
