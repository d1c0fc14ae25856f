import { describe, expect, it } from 'vitest'
import * as readers from './reader-properties.ts'
import * as streams from './stream-properties.ts'

const RUNS = Number(process.env['SALLYPORT_STATEMENTS'] ?? 100_000)

describe('whatever comes to Kubernetes, for longer', () => {
  it.each(Object.entries({ ...readers, ...streams }))('%s', async (_name, property) => {
    expect((await property(RUNS)) ?? 0).toBeGreaterThanOrEqual(0)
  })
})
