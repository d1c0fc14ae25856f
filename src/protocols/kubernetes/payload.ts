import { z } from 'zod'

const text = z.string().max(4096)

/** A request at the API door, as its client wrote it. */
const api = z.strictObject({
  kind: z.literal('api'),
  method: z.string().max(16),
  /** Path and query, as they stood in the request line. */
  path: z.string().max(64 * 1024),
  content_type: text.optional(),
  accept: text.optional(),
  /** The body's bytes in base64. */
  body: z.string().optional(),
  /** Set for a request that came as an upgrade, whose caller therefore can take streams. */
  upgrade: z.literal(true).optional(),
  /** Set for a forwarding that is asked for before anybody connects to a port of it. */
  opening: z.literal(true).optional(),
})

/** Arguments of the tool, structured. */
const structured = z.strictObject({
  kind: z.literal('tool'),
  verb: z.string().max(64),
  resource: text.optional(),
  name: text.optional(),
  namespace: text.optional(),
  all_namespaces: z.boolean().optional(),
  selector: text.optional(),
  field_selector: text.optional(),
  container: text.optional(),
  previous: z.boolean().optional(),
  timestamps: z.boolean().optional(),
  since_seconds: z.int().min(1).optional(),
  tail_lines: z.int().min(0).max(1_000_000).optional(),
  limit: z.int().min(1).max(10_000).optional(),
  manifest: z.union([z.string(), z.record(z.string(), z.unknown())]).optional(),
  patch: z.unknown().optional(),
  patch_type: z.enum(['strategic', 'merge', 'json']).optional(),
  replicas: z.int().min(0).max(1_000_000).optional(),
  revision: z.int().min(1).optional(),
  labels: z.record(z.string(), z.string().nullable()).optional(),
  annotations: z.record(z.string(), z.string().nullable()).optional(),
  command: z
    .array(z.string().max(128 * 1024))
    .min(1)
    .max(1024)
    .optional(),
  propagation: z.enum(['Background', 'Foreground', 'Orphan']).optional(),
  grace_seconds: z.int().min(0).optional(),
  force: z.boolean().optional(),
  ignore_daemonsets: z.boolean().optional(),
  delete_emptydir_data: z.boolean().optional(),
  dry_run: z.boolean().optional(),
  subresource: text.optional(),
  ask_verb: text.optional(),
  output: z.enum(['json', 'yaml', 'table', 'name']).optional(),
})

/** Words of a command line, read by a strict parser into the same. */
const words = z.strictObject({
  kind: z.literal('argv'),
  argv: z
    .array(z.string().max(128 * 1024))
    .min(1)
    .max(1024),
})

const payload = z.discriminatedUnion('kind', [api, structured, words])

/** A request as it came from the tool or the door. */
export type KubePayload = z.output<typeof payload>
export type ApiPayload = z.output<typeof api>
export type ToolPayload = z.output<typeof structured>

/** Reads a payload, or returns `undefined`: then nobody can say what it means. */
export function readPayload(raw: unknown): KubePayload | undefined {
  const read = payload.safeParse(raw)
  return read.success ? read.data : undefined
}
