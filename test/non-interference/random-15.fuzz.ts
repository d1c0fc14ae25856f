import { describe } from 'vitest'
import { has } from '../setup/needs.ts'
import { fuzz } from './random.ts'

describe.runIf(has('postgresql-15'))('the oldest server', () => {
  fuzz('15')
})
