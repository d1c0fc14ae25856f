import { beforeAll, describe, expect, it } from 'vitest'
import { has } from '../setup/needs.ts'
import { runSuite, type Report } from './suite.ts'

/** Of PostgreSQL's own statements, those that ran and were not understood: the number may only shrink. */
const NOT_UNDERSTOOD_MAX = 2150

describe.runIf(has('postgresql-15') && has('postgresql-15-source'))(
  "PostgreSQL 15's regression SQL through the planner",
  () => {
    let report: Report

    beforeAll(async () => {
      report = await runSuite()
      const { leftOut: _leftOut, crashes: _crashes, unknown, ...told } = report
      console.log(JSON.stringify(told))
      const reasons = [...unknown].sort(([, a], [, b]) => b - a).slice(0, 12)
      console.log(reasons.map(([reason, count]) => `${count} × ${reason}`).join('\n'))
    }, 900_000)

    it('is all of it', () => {
      expect(report.statements).toBeGreaterThan(44_000)
      expect(report.planned).toBeGreaterThan(44_000)
      expect(report.lookedAt).toBeGreaterThan(20_000)
    })

    it('crashes nothing', () => {
      expect(report.crashes).toEqual([])
    })

    it('is nowhere planned as something weaker than what the server did', () => {
      expect(report.leftOut).toEqual([])
    })

    it('is planned with the catalog of the moment', () => {
      expect(report.catalogs.checked).toBeGreaterThan(100)
      expect(report.catalogs.stale / report.catalogs.checked).toBeLessThan(0.05)
    })

    it('is understood but for a part that may only shrink', () => {
      expect(report.notUnderstood).toBeLessThanOrEqual(NOT_UNDERSTOOD_MAX)
    })
  },
)
