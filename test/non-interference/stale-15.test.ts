import { describe } from 'vitest'
import { has } from '../setup/needs.ts'
import { proveStaleness } from './stale.ts'

describe.runIf(has('postgresql-15'))('the oldest server', () => {
  proveStaleness('15')
})
