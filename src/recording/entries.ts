/** The members of entries that readers rely on, by type. Members a reader does not know are left alone. */
import { z } from 'zod'

const hex64 = z.string().regex(/^[0-9a-f]{64}$/)
const count = z.int().nonnegative()

const headSchema = z.object({ file: z.string(), seq: count, hash: hex64 })

const principalSchema = z.object({ id: z.string(), kind: z.string(), owner: z.string() }).loose()

export const sessionHeaderSchema = z.object({
  format: z.literal('sallyport-recording/1'),
  file: z.string(),
  kind: z.literal('session'),
  instance: z.string(),
  session: z.string(),
  part: z.int().positive(),
  continues: headSchema.optional(),
  principal: principalSchema,
  door: z.string(),
  run: z.string().optional(),
  started_at: z.string(),
  key: z.string(),
  journal: z.string(),
  checkpoint: hex64,
})

export const journalHeaderSchema = z.object({
  format: z.literal('sallyport-recording/1'),
  file: z.string(),
  kind: z.literal('journal'),
  instance: z.string(),
  started_at: z.string(),
  key: z.string(),
  previous: headSchema.nullable(),
  continues: z.literal(true).optional(),
})

export const rangeSchema = z.object({
  file: z.string(),
  offset: count,
  end: count,
  frames: count,
  bytes: count,
  sha256: hex64,
})

export const endSchema = z.object({ call: z.string(), ending: z.string(), bulk: rangeSchema.optional() })

export const decisionSchema = z.object({ call: z.string() })

export const sealSchema = z.object({ ending: z.enum(['closed', 'crashed']), key: z.string() })

export const bulkListSchema = z.array(z.object({ file: z.string(), length: count, broken: z.literal(true).optional() }))

export const sessionEntrySchema = z.object({ file: z.string(), session: z.string(), hash: hex64 })

export const sealedEntrySchema = z.object({ session: z.string(), head: headSchema })

export const checkpointSchema = z.object({ key: z.string(), heads: z.array(headSchema) })

/** The act that accounts for a file which is no longer there, with the file as its subject. */
export const removalSchema = z.object({ by: z.string(), act: z.literal('recording.remove'), subject: z.string() })

export type SessionHeader = z.infer<typeof sessionHeaderSchema>
export type JournalHeader = z.infer<typeof journalHeaderSchema>
export type Range = z.infer<typeof rangeSchema>
