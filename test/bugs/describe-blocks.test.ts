/** Describing a large catalog took a third of a second in one piece, in which nobody else was served. */
import { expect, it } from 'vitest'
import type { DescribedTable } from '../../src/core/call.ts'
import { describe } from '../../src/gateway/describe.ts'
import { kit } from '../gateway/kit.ts'

const TABLES = 3_000

it('lets others be served while a large catalog is described', async () => {
  const world = kit({ async *execute() {} })
  const names = Array.from({ length: 40 }, (_, index) => `c${index}`)
  const tables = Array.from({ length: TABLES }, (_, index): DescribedTable => {
    return {
      schema: 'public',
      name: `t${index}`,
      kind: 'table',
      columns: names.map((name) => ({ name, type: 'integer', nullable: true })),
      reading: () => ({ verb: 'ssh.exec', resource: { type: 'none' }, attributes: { words: 1 } }),
    }
  })
  const protocol = world.rooms.protocols.ssh
  if (protocol === undefined) throw new Error('the kit has a protocol')
  const rooms = { ...world.rooms, protocols: { ssh: { ...protocol, describe: async () => tables } } }
  let turns = 0
  const timer = setInterval(() => turns++, 1)
  try {
    expect(await describe(world.call({ verb: 'ssh.exec' }), rooms)).toHaveLength(TABLES)
  } finally {
    clearInterval(timer)
  }
  expect(turns).toBeGreaterThan(3)
})
