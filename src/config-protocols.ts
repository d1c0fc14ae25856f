import { z } from 'zod'
import type { ProtocolName } from './core/target.ts'

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

const postgres = z.strictObject({
  host: z.string().min(1),
  port: z.int().min(1).max(65_535).default(5432),
  database: z.string().min(1),
  /** `verify` checks the server's name too; `off` must be asked for. */
  tls: z.enum(['verify', 'off']).default('verify'),
  ca: z.string().min(1).optional(),
})

/** The protocols this version serves. */
export const PROTOCOL_SETTINGS: Readonly<Partial<Record<ProtocolName, ProtocolSettings>>> = {
  postgres: {
    schema: postgres,
    finish(raw, resolvePath) {
      const { ca, ...options } = raw as z.output<typeof postgres>
      return {
        options: { ...options, ...(ca !== undefined && { ca: resolvePath(ca) }) },
        endpoint: `postgres://${options.host}:${options.port}/${encodeURIComponent(options.database)}`,
      }
    },
  },
}
