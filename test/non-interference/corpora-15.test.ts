import { describe } from 'vitest'
import { has } from '../setup/needs.ts'
import { proveCorpora } from './prove.ts'

describe.runIf(has('postgresql-15'))('the oldest server', () => {
  proveCorpora('15')
})
