import type { Closers } from './closers.ts'
import type { Target } from './core/target.ts'
import { govern } from './gateway/gateway.ts'
import { listen, type Listener } from './listen.ts'
import type { Building } from './main.ts'
import { createKubernetesListener } from './protocols/kubernetes/listener.ts'
import { derivedCertificate, type Certificate } from './self-signed.ts'

/** How long answers that are complete may take to be read at the end. */
const GRACE_MS = 1_000

/** Opens the Kubernetes door, when the configuration names a place for it. */
export async function openKubernetes(
  building: Building,
  targets: ReadonlyMap<string, Target>,
  closers: Closers,
): Promise<Listener | undefined> {
  const { config, identity, sessions, traffic, rooms, kubernetesSeed, log } = building
  const address = config.listen.kubernetes
  if (address === undefined) return undefined
  const door = createKubernetesListener({
    authenticate: (token) => identity.authenticate(token),
    sessions,
    run: (call) => traffic.count(call, govern(call, rooms)),
    target: (name) => targets.get(name),
    holdMs: config.approvals.holdMs,
    now: () => performance.now(),
    onFault: (error) => log.error({ door: 'kubernetes', code: error.code, err: error.cause }, error.message),
  })
  const listener = await listen('listen.kubernetes', door.onRequest, address, config.tls, {
    upgrade: door.onUpgrade,
    certificate: doorCertificate(kubernetesSeed),
  })
  closers.add('listen.kubernetes', () => listener.close(GRACE_MS))
  return listener
}

/** The certificate of a door that was given none: the same after a restart, since clients keep it in their kubeconfig. */
export function doorCertificate(seed: Uint8Array): Certificate {
  return derivedCertificate(seed, { dnsNames: ['localhost'], addresses: [LOOPBACK_V4, LOOPBACK_V6] })
}

const LOOPBACK_V4 = [127, 0, 0, 1]
const LOOPBACK_V6 = [0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1]
