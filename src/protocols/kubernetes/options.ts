import { z } from 'zod'
import { durationMs, sizeBytes } from '../shared/measure.ts'

/** Settings of one Kubernetes target, complete. Holds no secret. */
export interface KubeOptions {
  /** The API server, `https://host:port`, perhaps with a path before the API's own. */
  readonly server: URL
  readonly tls: { readonly caFile?: string; readonly serverName?: string }
  /** What the secret is: a bearer token, a certificate with its key in PEM, or a kubeconfig that holds either. */
  readonly auth: 'token' | 'client_certificate' | 'kubeconfig'
  /** Where the tool looks when its arguments name no namespace. */
  readonly namespace: string
  readonly connectionsMax: number
  readonly connectTimeoutMs: number
  /** Until the headers of an answer are complete, and between two pieces of what does not follow. */
  readonly responseTimeoutMs: number
  /** Bytes of an answer when neither policy nor caller says less. */
  readonly bytesMax: number
}

/** The protocol's own keys of a target in the configuration. */
export const kubernetesSchema = z
  .strictObject({
    server: z.string(),
    tls: z.strictObject({ ca: z.string().min(1).optional(), server_name: z.string().min(1).optional() }).default({}),
    auth: z.enum(['token', 'client_certificate', 'kubeconfig']).default('token'),
    namespace: z
      .string()
      .regex(/^[a-z0-9](?:[a-z0-9-]{0,61}[a-z0-9])?$/u, 'must be the name of a namespace')
      .default('default'),
    connections: z.int().min(1).max(10_000).default(256),
    connect_timeout: durationMs('10s').default(10_000),
    response_timeout: durationMs('60s').default(60_000),
    bytes: sizeBytes('32MiB').default(32 * 1024 ** 2),
  })
  .superRefine(({ server }, context) => {
    const problem = problemOf(server)
    if (problem !== undefined) context.addIssue({ code: 'custom', path: ['server'], message: problem })
  })

type Checked = z.output<typeof kubernetesSchema>

/** Completes what the schema checked. `resolvePath` makes a path of the configuration absolute. */
export function kubernetesOptions(
  checked: Checked,
  resolvePath: (path: string) => string = (path) => path,
): KubeOptions {
  return {
    server: new URL(checked.server),
    tls: {
      ...(checked.tls.ca !== undefined && { caFile: resolvePath(checked.tls.ca) }),
      ...(checked.tls.server_name !== undefined && { serverName: checked.tls.server_name }),
    },
    auth: checked.auth,
    namespace: checked.namespace,
    connectionsMax: checked.connections,
    connectTimeoutMs: checked.connect_timeout,
    responseTimeoutMs: checked.response_timeout,
    bytesMax: checked.bytes,
  }
}

/** Names the cluster an approval holds for, so that it cannot move to another one (C11). */
export function endpointOf({ server, tls }: KubeOptions): string {
  return `${server.href}?server_name=${encodeURIComponent(tls.serverName ?? '')}`
}

/** What the configuration needs of this protocol. */
export const KUBERNETES_SETTINGS = {
  schema: kubernetesSchema,
  finish(raw: unknown, resolvePath: (path: string) => string) {
    const options = kubernetesOptions(raw as Checked, resolvePath)
    return { options, endpoint: endpointOf(options) }
  },
} as const

function problemOf(text: string): string | undefined {
  const url = URL.canParse(text) ? new URL(text) : undefined
  // A token in the clear would be anybody's.
  if (url?.protocol !== 'https:') return 'must be an https URL, such as https://10.0.0.1:6443'
  if (url.username !== '' || url.password !== '') return 'must not hold a password; name one under credential'
  if (url.search !== '' || url.hash !== '') return 'must not have a query or a fragment'
  if (url.href !== text && url.href !== `${text}/`) return `is another spelling of ${url.href}; write that`
  return /%|\/\//u.test(url.pathname) ? 'must have a plain path' : undefined
}
