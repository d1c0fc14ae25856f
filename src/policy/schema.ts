/**
 * The shape of a policy file. Unknown keys are errors everywhere: a misspelt `unless` that is skipped would widen a
 * rule without a word. What the words mean together (known verbs, known targets, conditions) is checked in `load.ts`.
 *
 * @packageDocumentation
 */
import { z } from 'zod'
import { parseBytes, parseDuration, parseRate } from './units.ts'

/** Control and invisible characters look like nothing and match nothing; a pattern with one can never be reviewed. */
const INVISIBLE = /[\p{Cc}\p{Cf}\p{Zl}\p{Zp}]/u

const text = (lengthMax: number) =>
  z
    .string()
    .min(1, 'This must not be empty.')
    .max(lengthMax)
    .refine((value) => !INVISIBLE.test(value), 'This holds a control or invisible character.')
    .refine((value) => value.trim() === value, 'This starts or ends with a space.')

const prose = z.string().min(1).max(1000)

/** Ids are names of people and software: what identity allows, nothing that needs quoting. */
const identifier = text(128).regex(/^[A-Za-z0-9][\w.:-]*$/, 'An id is a word of letters, digits and . _ : -')

const principal = text(256).refine(
  (value) => value === '*' || /^(?:group|id):.+$/.test(value) || /^kind:(?:agent|person|service)$/.test(value),
  'A principal is group:<name>, id:<name>, kind:agent, kind:person, kind:service or "*".',
)

const approver = text(256).regex(/^(?:group|id):.+$/, 'An approver is group:<name> or id:<name>.')

const nonEmpty = <T extends z.ZodType>(item: T) => z.array(item).min(1, 'This list must not be empty.').max(1000)

const targetSelector = tagged(
  text(128),
  { labels: z.strictObject({ labels: z.record(text(128), text(256)) }) },
  'A target is a name, "*" or {labels: {name: value}}.',
)

function measured(parse: (text: string) => number | undefined, example: string) {
  return z.union([z.string(), z.number()]).transform((value, context) => {
    const parsed = parse(String(value))
    if (parsed === undefined) context.addIssue({ code: 'custom', message: `Write this as ${example}.` })
    return parsed ?? 0
  })
}

const duration = measured(parseDuration, '500ms, 10s, 15m, 1h or 7d')
const bytes = measured(parseBytes, '64KiB, 1MiB or a number of bytes')
const count = z.int().min(1).max(1_000_000_000)

const rate = z.string().transform((value, context) => {
  const parsed = parseRate(value)
  if (parsed === undefined) context.addIssue({ code: 'custom', message: 'Write a rate as 60/min, 10/s or 100/15m.' })
  return parsed ?? { max: 0, windowMs: 1 }
})

const limits = z.strictObject({
  rows: count.optional(),
  bytes: bytes.optional(),
  timeout: duration.optional(),
  rate: rate.optional(),
  concurrency: count.optional(),
})

const APPROVAL_EXPIRES_MAX_MS = 7 * 86_400_000

const COVERS_FOR_MAX_MS = 86_400_000

const covers = z.strictObject({
  same_statement: z.literal(true, 'Write same_statement: true; there is no other way to cover calls.'),
  for: duration.refine(
    (value) => value >= 1_000 && value <= COVERS_FOR_MAX_MS,
    'An approval covers further calls for 1s to 24h.',
  ),
  uses: z.int().min(2, 'uses counts the approved call too, so that fewer than 2 cover nothing.').max(1_000),
})

const approvers = z.strictObject({
  any_of: nonEmpty(approver),
  count: z.int().min(1).max(20).default(1),
  expires: duration
    .refine((value) => value <= APPROVAL_EXPIRES_MAX_MS, 'An approval waits at most 7d.')
    .default(15 * 60_000),
  reason_required: z.boolean().default(false),
  approve_in_tx: z.boolean().optional(),
  self_confirm: z.boolean().optional(),
  covers: covers.optional(),
})

const argvWord = tagged(
  text(4096),
  {
    in: z.strictObject({ in: nonEmpty(text(4096)) }),
    match: z.strictObject({ match: text(4096) }),
    rest: z.strictObject({ rest: z.enum(['any', 'flags']), in: nonEmpty(text(4096)).optional() }),
  },
  'An argv word is a text, {in: […]}, {match: …} or, at the end, {rest: any} or {rest: flags, in: […]}.',
  // `{rest: flags, in: […]}` holds both words; `rest` says what it is.
  ['rest'],
)

const resource = tagged(
  text(1024),
  {
    argv: z.strictObject({ argv: nonEmpty(argvWord) }),
    kind: z.strictObject({
      kind: text(256),
      namespaces: nonEmpty(text(256)).optional(),
      names: nonEmpty(text(256)).optional(),
    }),
    path: z.strictObject({ path: text(2048), host: text(253).optional() }),
  },
  'A resource is a SQL name such as public.orders, "-", "**", {argv: […]}, {kind: …} or {path: …}.',
)

const rule = z.strictObject({
  id: identifier,
  effect: z.enum(['allow', 'deny', 'require_approval']),
  targets: nonEmpty(targetSelector).optional(),
  principals: nonEmpty(principal).optional(),
  unless: nonEmpty(principal).optional(),
  actions: nonEmpty(text(128)),
  resources: nonEmpty(resource).optional(),
  when: z.string().min(1).optional(),
  limits: limits.optional(),
  approvers: approvers.optional(),
  as: nonEmpty(text(64)).optional(),
  reason: prose.optional(),
  hint: prose.optional(),
})

const transform = z.enum(['redact', 'null', 'partial', 'hash'], 'A transform is redact, null, partial or hash.')

const detector = tagged(
  text(64),
  { name: z.strictObject({ name: text(64).regex(/^[a-z][a-z0-9_]*$/), pattern: z.string().min(1).max(1000) }) },
  'A detector is a name such as email, or {name: …, pattern: …} in RE2 syntax.',
)

const columnName = text(256)

const mask = z.strictObject({
  columns: nonEmpty(columnName).optional(),
  fields: nonEmpty(text(512)).optional(),
  detect: nonEmpty(detector).optional(),
  transform,
  targets: nonEmpty(targetSelector).optional(),
  unless: nonEmpty(principal).optional(),
  allow_write: z.boolean().optional(),
  on_predicate: z.enum(['deny', 'mask'], 'on_predicate is deny or mask.').optional(),
})

const budget = z.strictObject({
  id: identifier,
  per: nonEmpty(z.enum(['principal', 'target', 'session'])),
  principals: nonEmpty(principal).optional(),
  unless: nonEmpty(principal).optional(),
  actions: nonEmpty(text(128)),
  targets: nonEmpty(targetSelector).optional(),
  max: count,
  window: duration,
  on_exceed: z.enum(['deny', 'require_approval']).default('deny'),
  approvers: approvers.optional(),
})

const threshold = z
  .strictObject({ warn: z.int().min(2).max(200), stop: z.int().min(2).max(200) })
  .refine(({ warn, stop }) => warn < stop, 'A caller is warned before it is stopped: warn must be smaller than stop.')

const LOOP_WINDOW_MAX_MS = 86_400_000

const loop = z.strictObject({
  id: identifier,
  principals: nonEmpty(principal).optional(),
  unless: nonEmpty(principal).optional(),
  actions: nonEmpty(text(128)),
  targets: nonEmpty(targetSelector).optional(),
  window: duration.refine((value) => value <= LOOP_WINDOW_MAX_MS, 'A loop is looked for within 1d at most.'),
  repeats: threshold.optional(),
  cycles: threshold.optional(),
  errors: threshold.optional(),
  empty: threshold.optional(),
  on_stop: z.enum(['suspend', 'require_approval']).default('suspend'),
  suspend: duration
    .refine((value) => value >= 1_000 && value <= 86_400_000, 'A suspension is 1s to 1d.')
    .default(300_000),
  approvers: approvers.optional(),
})

/** A whole policy file. */
export const policyFileSchema = z.strictObject({
  targets: nonEmpty(targetSelector).optional(),
  rules: z.array(rule).max(10_000).optional(),
  masks: z.array(mask).max(1000).optional(),
  budgets: z.array(budget).max(1000).optional(),
  loops: z.array(loop).max(1000).optional(),
})

export type PolicyFile = z.output<typeof policyFileSchema>
export type RuleSpec = z.output<typeof rule>
export type MaskSpec = z.output<typeof mask>
export type BudgetSpec = z.output<typeof budget>
export type LoopSpec = z.output<typeof loop>

/**
 * A text, or an object known by one of its keys. Unlike a plain union it reports what is wrong inside the object that
 * was meant, at its own place, instead of "invalid input" for the whole.
 */
function tagged<S extends z.ZodType, Shapes extends Readonly<Record<string, z.ZodType>>>(
  scalar: S,
  shapes: Shapes,
  message: string,
  first: readonly (keyof Shapes & string)[] = [],
) {
  type Output = z.output<S> | z.output<Shapes[keyof Shapes]>
  const order = [...first, ...Object.keys(shapes).filter((key) => !first.includes(key))]
  return z.unknown().transform((value, context): Output => {
    const key =
      typeof value === 'object' && value !== null && !Array.isArray(value)
        ? order.find((name) => Object.hasOwn(value, name))
        : undefined
    const schema = typeof value === 'string' ? scalar : key === undefined ? undefined : shapes[key]
    if (schema === undefined) {
      context.addIssue({ code: 'custom', message })
      return z.NEVER
    }
    const result = schema.safeParse(value)
    if (result.success) return result.data as Output
    for (const issue of result.error.issues) {
      const inner: unknown = issue.code === 'custom' ? issue.params?.['keys'] : undefined
      const keys = issue.code === 'unrecognized_keys' ? issue.keys : inner
      context.addIssue({ code: 'custom', message: issue.message, path: issue.path, params: { keys } })
    }
    return z.NEVER
  })
}
