import type { Closers } from './closers.ts'
import type { Rooms } from './gateway/gateway.ts'
import { createHttp } from './protocols/http/index.ts'
import { createKubernetes } from './protocols/kubernetes/index.ts'
import { createPostgres } from './protocols/postgres/index.ts'
import { createSsh } from './protocols/ssh/index.ts'
import type { PostgresProtocol } from './protocols/postgres/protocol.ts'

/** Every protocol this version serves, each closed with the rest. Heavy parts of one are loaded when it is first used. */
export function openProtocols(closers: Closers): Rooms['protocols'] & { readonly postgres: PostgresProtocol } {
  const postgres = createPostgres()
  closers.add('postgres', () => postgres.close())
  const http = createHttp()
  closers.add('http', () => http.close())
  const ssh = createSsh()
  closers.add('ssh', () => ssh.close())
  const kubernetes = createKubernetes()
  closers.add('kubernetes', () => kubernetes.close())
  return { postgres, http, ssh, kubernetes }
}
