import type { ObjectSchema } from './tool.ts'

/** How a tool call ended, for the one who called. */
export type Status =
  | 'ok'
  | 'invalid'
  | 'denied'
  | 'pending_approval'
  | 'limited'
  | 'cancelled'
  | 'failed'
  | 'outcome_unknown'

/** All of them, in the order the schema lists them. */
const STATUSES: readonly Status[] = [
  'ok',
  'invalid',
  'denied',
  'pending_approval',
  'limited',
  'cancelled',
  'failed',
  'outcome_unknown',
]

/** A JSON value in an answer. */
export type Json = string | number | boolean | null | readonly Json[] | { readonly [key: string]: Json }

/** What goes back to the model: the same facts twice, once to compute with and once to read. */
export interface Answer {
  readonly structured: { readonly status: Status; readonly [field: string]: Json }
  readonly text: string
  readonly isError: boolean
  /** Where the answer says the caller should go next, when this target can go there. For the door, not for the model. */
  readonly redirect?: string
}

const strings = { type: 'array', items: { type: 'string' } } as const

/** Fields any tool may answer with, whatever became of the call. */
const COMMON = {
  status: {
    type: 'string',
    enum: STATUSES,
    description: '`ok` is the only one that means the call ran and its whole result is here.',
  },
  code: { type: 'string', description: 'Stable code of what went wrong.' },
  reason: { type: 'string', description: 'Why the call did not run, or did not finish.' },
  rules: { ...strings, description: 'Ids of the policy rules this rests on.' },
  limit: { type: 'string', description: 'The limit that has no room: a rate or a budget.' },
  hint: { type: 'string', description: 'What would be allowed instead, or what to do next.' },
  construct: { type: 'string', description: 'The part of the request that could not be judged.' },
  sqlstate: { type: 'string', description: 'SQLSTATE of the database.' },
  retry_after_ms: { type: 'integer', description: 'When trying again makes sense.' },
  ticket: { type: 'string', description: 'The approval this call waits for. Hand it to `approval_status`.' },
  approvers: { ...strings, description: 'Who may answer.' },
  expires_at: { type: 'string', description: 'When the ticket expires (RFC 3339).' },
  poll_after_ms: { type: 'integer', description: 'When to ask again.' },
  resume: {
    type: 'object',
    description: 'The tool call that picks up the result once a person has approved.',
    properties: { tool: { type: 'string' }, arguments: { type: 'object' } },
  },
  replayed: {
    type: 'boolean',
    description: 'The call already ran under this approval; this is its stored result, not another run.',
  },
} as const

const columns = {
  type: 'array',
  items: {
    type: 'object',
    properties: {
      name: { type: 'string' },
      type: { type: 'string' },
      masked: { type: 'string', description: 'How every value of this column was replaced.' },
    },
    required: ['name', 'type'],
  },
} as const

const rows = {
  type: 'array',
  items: { type: 'array', items: { type: ['string', 'number', 'boolean', 'null'] } },
} as const

/** Fields of a result with rows. */
const ROWS = {
  target: { type: 'string' },
  columns,
  rows: {
    ...rows,
    description:
      'Cells in column order. smallint and integer are numbers, boolean is a boolean, NULL is null; every other type ' +
      'is the exact text of the database.',
  },
  results: {
    type: 'array',
    description:
      'Of several statements in one call: what each gave, in order. `columns` and `rows` above are left out then.',
    items: {
      type: 'object',
      properties: {
        columns,
        rows,
        row_count: { type: 'integer' },
        command: { type: 'string' },
        truncated: { type: 'boolean' },
        truncated_by: { type: 'string', enum: ['rows', 'bytes'] },
      },
      required: ['row_count', 'command', 'truncated'],
    },
  },
  row_count: { type: 'integer', description: 'Rows in this answer, or rows a statement changed.' },
  command: { type: 'string', description: 'How the database names what it did, such as `UPDATE 3`.' },
  truncated: { type: 'boolean', description: 'There was more. Do not count or sum what is here as if it were all.' },
  cursor: {
    type: 'string',
    description:
      'Call `query_database` with it for the rows that follow; the query does not run again. It works once and only for you.',
  },
  cursor_expires_in_ms: { type: 'integer', description: 'How long that is possible.' },
  truncated_by: { type: 'string', enum: ['rows', 'bytes'] },
  masked: {
    type: 'object',
    properties: {
      columns: { ...strings, description: 'Columns whose every value was replaced.' },
      detectors: {
        type: 'object',
        additionalProperties: { type: 'integer' },
        description: 'Values replaced in text, by kind.',
      },
      mode: {
        type: 'string',
        enum: ['rewrite', 'enforced'],
        description: 'What stands behind masked columns: the gateway alone, or the database itself too.',
      },
    },
  },
  notices: strings,
} as const

/** The output schema of a tool: every field optional but `status`, because any call may be refused or held. */
export function outputSchemaOf(fields: Readonly<Record<string, unknown>>): ObjectSchema {
  return { type: 'object', properties: { ...COMMON, ...fields }, required: ['status'] }
}

/** Fields of an HTTP answer. */
const HTTP = {
  target: { type: 'string' },
  http_status: { type: 'integer', description: 'What the service answered.' },
  headers: { type: 'object', additionalProperties: { type: 'string' } },
  body: { type: 'string', description: 'The body as text, after masking.' },
  truncated: { type: 'boolean', description: 'There was more.' },
  truncated_by: { type: 'string', enum: ['bytes'] },
  masked: {
    type: 'object',
    properties: {
      detectors: {
        type: 'object',
        additionalProperties: { type: 'integer' },
        description: 'Values replaced, by kind.',
      },
    },
  },
  redirects: { ...strings, description: 'Where the answer came from in the end, one entry for each hop.' },
  notices: strings,
} as const

/** The output schema of `http_request`. */
export const HTTP_SCHEMA: ObjectSchema = outputSchemaOf(HTTP)

/** The output schema of tools that answer with rows. */
export const ROWS_SCHEMA: ObjectSchema = outputSchemaOf(ROWS)
