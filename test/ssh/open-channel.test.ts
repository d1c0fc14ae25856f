/** A channel of a host that answers too late: whoever asked for it has gone, and nothing may go on running on it. */
import { EventEmitter } from 'node:events'
import type { Client, ClientChannel } from 'ssh2'
import { afterEach, beforeEach, describe, expect, it, vi } from 'vitest'
import { openChannel, type Opened } from '../../src/protocols/ssh/open-channel.ts'

describe('a channel a host was asked for', () => {
  beforeEach(() => void vi.useFakeTimers())
  afterEach(() => void vi.useRealTimers())

  function asked() {
    const client = Object.assign(new EventEmitter(), { _sock: new EventEmitter() })
    const end = new AbortController()
    const channel = Object.assign(new EventEmitter(), { destroy: vi.fn<() => void>() })
    const answer: Opened[] = []
    const take = vi.fn<(opened: ClientChannel) => string>(() => 'taken')
    const opening = openChannel(
      client as unknown as Client,
      { target: 'box', what: 'to run a command', signal: end.signal },
      (done) => void answer.push(done),
      take,
    )
    return { end, channel, take, opening, open: () => answer[0]?.(undefined, channel as unknown as ClientChannel) }
  }

  it('is handed over when it comes soon after the call was stopped, so that what began on it is ended', async () => {
    const { end, channel, take, opening, open } = asked()
    end.abort()
    open()
    await expect(opening).resolves.toBe('taken')
    expect(take).toHaveBeenCalledOnce()
    expect(channel.destroy).not.toHaveBeenCalled()
  })

  it('is closed when it comes after nobody waited for it any more', async () => {
    const { end, channel, take, opening, open } = asked()
    end.abort()
    const ended = opening.then(
      () => 'opened',
      (error: unknown) => error,
    )
    await vi.runAllTimersAsync()
    expect(await ended).toMatchObject({ code: 'ERR_CANCELLED' })
    open()
    expect(channel.destroy).toHaveBeenCalledOnce()
    expect(take).not.toHaveBeenCalled()
  })
})
