import path from 'node:path'
import { stringify } from 'yaml'
import type { KubernetesDoor } from '../doors/admin/rooms.ts'
import { adminClient, findLogin } from './admin-client.ts'
import { openTerminal } from './terminal.ts'

/** Options of `kubeconfig`. */
export interface KubeconfigOptions {
  readonly url?: string
  /** A file that holds the token of whoever will use it; kubectl reads it on each request. */
  readonly tokenFile?: string
  readonly namespace: string
}

/** Prints a kubeconfig for one target: the gateway as the server, and a token of the gateway as the user. */
export async function kubeconfig(target: string, options: KubeconfigOptions): Promise<void> {
  const terminal = openTerminal()
  const login = await findLogin(options)
  const door = await adminClient(login.url, login.token).get<KubernetesDoor>('/v1/kubernetes')
  const name = `sallyport-${target}`
  const user = options.tokenFile === undefined ? { token: login.token } : { tokenFile: path.resolve(options.tokenFile) }
  if (options.tokenFile === undefined) {
    terminal.note('This file holds your own token. For an agent, name a file with its token: --token-file.')
  }
  terminal.line(
    stringify({
      apiVersion: 'v1',
      kind: 'Config',
      clusters: [
        {
          name,
          cluster: {
            server: `${door.url}/${target}`,
            ...(door.certificate !== undefined && {
              'certificate-authority-data': Buffer.from(door.certificate).toString('base64'),
            }),
          },
        },
      ],
      users: [{ name, user }],
      contexts: [{ name, context: { cluster: name, user: name, namespace: options.namespace } }],
      'current-context': name,
    }).trimEnd(),
  )
}
