import { beforeAll, describe, expect, it } from 'vitest'
import { has } from '../setup/needs.ts'
import { runThroughDoor, type DoorReport } from './door.ts'

/** A tenth of the suite, with what it needs: `npm run regress` runs all of it. */
const FILES = [
  'test_setup',
  'boolean',
  'char',
  'varchar',
  'text',
  'float8',
  'strings',
  'temp',
  'prepare',
  'transactions',
  'namespace',
  'guc',
  'plancache',
]

const isThere = has('postgresql-15') && has('postgresql-15-source') && has('postgresql-15-headers')

describe.runIf(isThere)("PostgreSQL 15's regression suite through the PostgreSQL door", () => {
  let report: DoorReport

  beforeAll(async () => {
    report = await runThroughDoor({ files: FILES })
  }, 600_000)

  it('C4: comes out as without a gateway where the policy lets everything through', () => {
    expect(report.differing).toEqual([])
    expect(report.ran).toBe(FILES.length)
  })
})
