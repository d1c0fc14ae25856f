import { describe, expect, it } from 'vitest'
import { has } from '../setup/needs.ts'
import { fuzz } from './fuzz-kit.ts'

const SEED = Number(process.env['SALLYPORT_SEED'] ?? Math.floor(Date.now() % 2 ** 31))
const COMPARED = Number(process.env['SALLYPORT_STATEMENTS'] ?? 100_000)

describe.runIf(has('bash'))('the planner and bash, for longer', () => {
  it(`agree on ${COMPARED} random scripts of seed ${SEED}`, () => {
    const { inputs, compared, commands, missed } = fuzz(SEED, COMPARED)
    console.log(`seed ${SEED}: of ${inputs} inputs ${compared} were understood; bash looked for ${commands} commands`)
    expect(missed).toEqual([])
  })
})
