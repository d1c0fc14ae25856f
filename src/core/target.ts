/** The protocols a target can speak. */
export type ProtocolName = 'postgres' | 'ssh' | 'kubernetes' | 'http'

/** How much of a result the recording keeps; what is left out is an entry that says so. */
export type RecordDepth = 'full' | 'digest' | { readonly headBytes: number }

/** A registered backend. Holds no secret: `credential` only names where one is read. */
export interface Target {
  readonly name: string
  readonly protocol: ProtocolName
  readonly labels: Readonly<Record<string, string>>
  /** `observe` decides and records but neither denies nor holds; masks and recording stay on. */
  readonly mode: 'enforce' | 'observe'
  readonly record: RecordDepth
  /** Identifies the backend itself (host, port, database …), so that an approval cannot move to another one (C11). */
  readonly endpoint: string
  /** The protocol's own settings, already parsed by that protocol's schema. */
  readonly options: unknown
}
