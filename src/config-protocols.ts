import type { z } from 'zod'
import type { ProtocolName } from './core/target.ts'
import { HTTP_SETTINGS } from './protocols/http/options.ts'
import { KUBERNETES_SETTINGS } from './protocols/kubernetes/options.ts'
import { POSTGRES_SETTINGS } from './protocols/postgres/options.ts'
import { SSH_SETTINGS } from './protocols/ssh/options.ts'

/** How one protocol's own keys of a target are checked and completed. */
export interface ProtocolSettings {
  /** Strict: an unknown key is a mistake. */
  readonly schema: z.ZodType
  /** Makes paths absolute and names the backend itself, so that an approval cannot move to another one (C11). */
  finish(
    options: unknown,
    resolvePath: (path: string) => string,
  ): { readonly options: unknown; readonly endpoint: string }
}

/** The protocols this version serves. */
export const PROTOCOL_SETTINGS: Readonly<Partial<Record<ProtocolName, ProtocolSettings>>> = {
  postgres: POSTGRES_SETTINGS,
  http: HTTP_SETTINGS,
  ssh: SSH_SETTINGS,
  kubernetes: KUBERNETES_SETTINGS,
}
