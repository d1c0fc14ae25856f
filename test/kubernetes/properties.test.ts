import { describe, expect, it } from 'vitest'
import * as readers from './reader-properties.ts'
import * as streams from './stream-properties.ts'

describe('whatever comes', () => {
  it('a command line is read as one thing or refused, and never with a flag about whom and where', () => {
    expect(readers.argvIsStrict(1500)).toBeGreaterThan(20)
  })
  it('C1: a path means to the gateway what it means to an API server', () => {
    expect(readers.pathsMeanWhatTheServerReads(3000)).toBeGreaterThan(20)
  })
  it('a query means one thing', () => expect(readers.queriesMeanOneThing(500)).toBeUndefined())
  it('C1: what is sent is read again as the same request', () => {
    expect(readers.requestsAreStable(800)).toBeUndefined()
  })
  it('SPDY ends or is taken, in whichever pieces', async () => {
    expect(await streams.spdyTakesAnything(150)).toBeUndefined()
  })
  it('changed header blocks are refused or short', async () => {
    expect(await streams.headerBlocksTakeAnything(100)).toBeUndefined()
  })
  it('messages go on where they were asked for, and nowhere else', async () => {
    expect(await streams.messagesAreTakenAsAsked(150)).toBeUndefined()
  })
  it('C10: no masked value survives, wherever an object stands', () => {
    expect(streams.masksHold(400)).toBeUndefined()
  })
  it('C10: no masked value survives in a change, however it is cut', async () => {
    expect(await streams.watchesAreMasked(60)).toBeUndefined()
  })
})
