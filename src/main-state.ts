/**
 * Where a gateway keeps what it must not forget, and where it reads the secrets of its backends.
 *
 * @packageDocumentation
 */
import type { Config } from './config.ts'
import { FREEZES } from './control/control.ts'
import { POLICIES } from './control/policies.ts'
import { createCredentials, readSecret, type Credentials } from './credentials/credentials.ts'
import { parseMaster, type Keys } from './store/keys.ts'
import { openState, type State } from './store/state-dir.ts'
import type { Log } from './telemetry/log.ts'

/**
 * The name a gateway records under. It comes from its keys, so that two gateways with a state directory each never write
 * into one journal, although they may share a recordings directory.
 */
export function instanceOf(keys: Keys): string {
  return `gateway-${Buffer.from(keys.derive('instance')).toString('hex').slice(0, 12)}`
}

/** Backend secrets of a configuration: read per use, kept nowhere. */
export function openCredentials(config: Config): Credentials {
  return createCredentials(config.credentials)
}

/** Documents that every call may ask for and that change seldom. With a shared store they are read from memory. */
const MIRRORED = ['tokens', FREEZES, POLICIES]

/**
 * Opens the state of a gateway: in its directory, or in the store that the configuration says several instances share.
 *
 * @throws SallyportError `ERR_STATE_LOCKED`, `ERR_STORE_FAILED`, `ERR_CREDENTIAL_MISSING`, `ERR_CONFIG_INVALID`
 */
export async function openStateOf(
  { stateDir, store }: Config,
  log: Log,
  onLost: (isLost: boolean) => void = () => undefined,
): Promise<State> {
  if (store === undefined) return openState(stateDir)
  const { address, staleMaxMs } = store
  return openState(stateDir, Date.now, {
    address,
    staleMaxMs,
    mirrored: MIRRORED,
    password: () => readSecret('password of the shared store', store.password),
    master: parseMaster(await readSecret('key of the shared store', store.key)),
    onConnection({ isLost, error }) {
      onLost(isLost)
      if (isLost) log.error({ err: error }, 'the shared store does not answer; what needs it is denied until it does')
      else log.warn({}, 'the shared store answers again')
    },
  })
}

/** Secrets may come later than the gateway, so one that is missing is said and stops nothing. */
export async function warnOfCredentials(config: Config, log: Log): Promise<void> {
  const credentials = openCredentials(config)
  const problems = await Promise.all(config.targets.map((target) => credentials.problem(target)))
  for (const problem of problems)
    if (problem !== undefined) log.warn({}, `${problem} Its calls fail until it is there.`)
}
