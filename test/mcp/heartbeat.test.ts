import { afterEach, beforeEach, describe, expect, it, vi } from 'vitest'
import { startHeartbeat } from '../../src/doors/mcp/heartbeat.ts'

beforeEach(() => {
  vi.useFakeTimers()
})
afterEach(() => {
  vi.useRealTimers()
})

describe('a heartbeat', () => {
  it('beats in its time, each with a larger number, and at once when there is news', () => {
    const beats: [number, string][] = []
    const heartbeat = startHeartbeat(10_000, 'running', async (...beat) => void beats.push(beat))
    vi.advanceTimersByTime(20_000)
    heartbeat.say('waiting')
    vi.advanceTimersByTime(10_000)
    heartbeat.stop()
    expect(beats).toEqual([
      [1, 'running'],
      [2, 'running'],
      [3, 'waiting'],
      [4, 'waiting'],
    ])
  })

  it('is silent and holds no timer once it is stopped', () => {
    const beats: number[] = []
    const heartbeat = startHeartbeat(10, 'running', async (progress) => void beats.push(progress))
    heartbeat.stop()
    vi.advanceTimersByTime(1000)
    expect(beats).toEqual([])
    expect(vi.getTimerCount()).toBe(0)
  })

  it('goes on when a beat does not arrive', async () => {
    let beats = 0
    const heartbeat = startHeartbeat(10, 'running', async () => {
      beats++
      throw new Error('the stream is gone')
    })
    await vi.advanceTimersByTimeAsync(30)
    heartbeat.stop()
    expect(beats).toBe(3)
  })
})
