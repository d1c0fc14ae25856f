import { createClosers } from './closers.ts'
import type { Config } from './config.ts'
import { SallyportError } from './core/errors.ts'
import { createIdentity, type CreatedToken } from './identity/identity.ts'
import { classOf } from './known.ts'
import { recordIdentity } from './main-records.ts'
import { instanceOf, openStateOf } from './main-state.ts'
import { createRecorder } from './recording/index.ts'
import { createLog } from './telemetry/log.ts'

/**
 * Makes the first operator of a gateway that does not run: the one act that needs no token, because whoever owns the
 * state directory owns the gateway. It is recorded like every other.
 *
 * @param options.beginAnew makes one although there are tokens, and lets operators make approvers alone again: the way
 * back when all of them are gone.
 * @throws SallyportError `ERR_STATE_LOCKED` while the gateway runs, `ERR_FORBIDDEN` when there are tokens already.
 */
export async function makeOperator(
  config: Config,
  name: string,
  options: { readonly beginAnew?: boolean; readonly expiresInMs?: number } = {},
): Promise<CreatedToken> {
  const log = createLog({ level: 'warn' })
  const closers = createClosers((room, error) => log.error({ err: error, room }, 'a room did not close cleanly'))
  try {
    const state = await openStateOf(config, log)
    closers.add('state', () => state.close())
    const recorder = createRecorder({
      dir: config.recordings.dir,
      stateDir: config.stateDir,
      instance: instanceOf(state.ownKeys),
      payloadKey: state.ownKeys.derive('recording'),
      classOf,
      now: Date.now,
      log,
      fsync: config.recordings.fsync,
    })
    closers.add('recorder', () => recorder.close())
    await recorder.recover()
    const onEvent = (event: Parameters<typeof recordIdentity>[0]): Promise<void> => recordIdentity(event, recorder)
    const identity = createIdentity({
      store: state.store,
      now: Date.now,
      onEvent,
      saltKey: state.keys.derive('scram'),
    })
    closers.add('identity', () => identity.close())
    if (options.beginAnew === true) return await identity.beginAnew(name, options.expiresInMs)
    const made = await identity.bootstrap(name, options.expiresInMs)
    if (made !== undefined) return made
    throw new SallyportError('ERR_FORBIDDEN', 'There are tokens already, so an operator makes further ones.', {
      facts: { hint: 'If all operators or approvers are gone: sallyport operator <name> --begin-anew' },
    })
  } finally {
    await closers.close()
  }
}
