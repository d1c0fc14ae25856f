/** A session that was just being opened when the gateway ended was left open, and its recording without a seal. */
import { expect, it } from 'vitest'
import type { SessionRecording } from '../../src/core/recording.ts'
import { createSessions } from '../../src/gateway/sessions.ts'
import { AGENT, codeOf } from '../gateway/kit.ts'

it('C16: a session that is being opened while the gateway ends is closed with the others', async () => {
  let sealed = 0
  let open: (() => void) | undefined
  const recording = { close: async () => void sealed++ } as unknown as SessionRecording
  const sessions = createSessions({
    open: () =>
      new Promise((resolve) => {
        open = () => resolve(recording)
      }),
  })
  const opening = sessions.open({ principal: AGENT, door: 'test' })
  const closing = sessions.close()
  open?.()
  const { session } = await opening
  await closing
  expect(sealed).toBe(1)
  expect(session.signal.aborted).toBe(true)
  expect(await codeOf(sessions.open({ principal: AGENT, door: 'test' }))).toBe('ERR_SHUTTING_DOWN')
})
