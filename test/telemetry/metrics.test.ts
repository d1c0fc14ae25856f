import { describe, expect, it } from 'vitest'
import { createMetrics, type Metrics } from '../../src/telemetry/metrics.ts'

function metrics(): Metrics {
  return createMetrics(
    {
      isTool: (name) => name === 'query_database',
      isTarget: (name) => name === 'shop-db',
      live: () => 3,
      held: () => 2,
      sessions: () => Number.NaN,
    },
    { process: false },
  )
}

describe('metrics', () => {
  it('count calls by tool, target, effect and ending', async () => {
    const counted = metrics()
    const call = { tool: 'query_database', target: 'shop-db', effect: 'allow', ending: 'done', seconds: 0.02 } as const
    counted.called({ ...call, masked: { email: 3, us_ssn: 1 } })
    counted.called({ ...call, masked: { email: 1 } })
    const text = await counted.render()
    expect(text).toContain(
      'sallyport_calls_total{tool="query_database",target="shop-db",effect="allow",ending="done"} 2',
    )
    expect(text).toContain('sallyport_masked_values_total{detector="email"} 4')
    expect(text).toContain('sallyport_call_seconds_bucket{le="0.025",ending="done"} 2')
    expect(text).toContain('sallyport_live_calls 3')
    expect(text).toContain('sallyport_held_tickets 2')
    expect(text).toContain('sallyport_sessions 0')
    expect(text).toContain('sallyport_policy_loads_total{outcome="failed"} 0')
  })

  it('do not grow by names a caller invents, nor show them', async () => {
    const counted = metrics()
    for (let index = 0; index < 1_000; index++) {
      counted.called({
        tool: `secret-${index}`,
        target: `jane${index}@example.com`,
        ending: 'denied',
        seconds: 1,
        code: 'ERR_UNKNOWN_TOOL',
        masked: { [`custom:n${index}`]: 1, 'jane@example.com': 1 },
      })
    }
    const text = await counted.render()
    expect(text).toContain('sallyport_calls_total{tool="other",target="other",effect="none",ending="denied"} 1000')
    expect(text).not.toContain('secret-')
    expect(text).not.toContain('example.com')
    expect(text.split('\n').filter((line) => line.startsWith('sallyport_masked_values_total')).length).toBe(201)
  })

  it('take no damage from what is no number', async () => {
    const counted = metrics()
    counted.called({ tool: '', ending: 'failed', seconds: Number.NaN, masked: { email: -1 } })
    counted.decided({ effect: 'deny', seconds: Number.POSITIVE_INFINITY })
    counted.recordingFailed()
    counted.policyLoaded({ isGood: false })
    const text = await counted.render()
    expect(text).toContain('sallyport_recording_failures_total 1')
    expect(text).toContain('sallyport_policy_loads_total{outcome="failed"} 1')
    expect(text).toContain('sallyport_decision_seconds_count{effect="deny"} 1')
  })

  it('report the process when asked', async () => {
    const source = { isTool: () => true, isTarget: () => true, live: () => 0, held: () => 0, sessions: () => 0 }
    const counted = createMetrics(source)
    expect(await counted.render()).toContain('process_resident_memory_bytes')
    expect(counted.contentType).toContain('text/plain')
  })
})
