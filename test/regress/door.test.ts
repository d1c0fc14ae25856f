import { beforeAll, describe, expect, it } from 'vitest'
import { has } from '../setup/needs.ts'
import { runThroughDoor, type DoorReport } from './door.ts'

const isThere = has('postgresql-15') && has('postgresql-15-source') && has('postgresql-15-headers')

describe.runIf(isThere)("PostgreSQL 15's regression suite through the PostgreSQL door", () => {
  let report: DoorReport
  let differing: readonly string[]

  beforeAll(async () => {
    report = await runThroughDoor()
    differing = report.differing
    if (differing.length === 0) return
    console.log(`differing: ${differing.join(', ')} (${report.output})`)
    // Files that look at statistics or at their neighbours' locks differ now and then without a gateway, too.
    const again = await runThroughDoor()
    differing = differing.filter((name) => again.differing.includes(name))
  }, 1_800_000)

  it('C4: comes out as without a gateway where the policy lets everything through', () => {
    expect(differing).toEqual([])
    expect(report.ran).toBeGreaterThan(200)
  })
})
