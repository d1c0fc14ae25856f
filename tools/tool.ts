/**
 * What an agent sees. Each tool is a file of its own: how it is described to a model, how its arguments become the
 * payload of a call, and how the chunks of a result become an answer.
 *
 * A tool decides nothing and reaches nothing. It checks only the *form* of its arguments; whether the call may run is
 * the policy's business, and running it is the gateway's.
 *
 * @packageDocumentation
 */
import * as z from 'zod'
import type { Chunk } from '../src/core/chunk.ts'
import { SallyportError } from '../src/core/errors.ts'
import type { ProtocolName } from '../src/core/target.ts'
import type { Answer } from './answer.ts'
import type { PagedResult } from './paged.ts'

/** A JSON Schema whose root is an object, as `tools/list` carries it. */
export interface ObjectSchema {
  readonly type: 'object'
  readonly [keyword: string]: unknown
}

/** What `tools/list` says of a tool. */
export interface ToolDescription {
  readonly name: string
  readonly title: string
  /** Set for a tool that only persons with the role approver are offered. */
  readonly isForApprovers?: true
  /** Written for a model: when to use it, what comes back, what to do with a refusal. */
  readonly description: string
  readonly inputSchema: ObjectSchema
  readonly outputSchema: ObjectSchema
  /** Hints for clients. No decision rests on them. */
  readonly annotations: {
    readonly readOnlyHint: boolean
    readonly destructiveHint?: boolean
    readonly idempotentHint?: boolean
    readonly openWorldHint: boolean
  }
}

/** Arguments of a tool, read: what is needed to make a call of them. */
export interface ToolRequest {
  readonly target: string
  readonly payload: unknown
  readonly reason?: string
  readonly newRequest?: string
  /** The most rows of one answer, where the tool gives the rest in others. */
  readonly pageRows?: number
}

/** Arguments that ask for more of a result. */
export interface MoreRequest {
  readonly cursor: string
  readonly pageRows?: number
}

/** A tool that runs something at a target. */
export interface RunTool extends ToolDescription {
  readonly kind: 'run'
  /** The only protocol its payload means anything to. */
  readonly protocol: ProtocolName
  /** @throws SallyportError `ERR_INVALID_INPUT` */
  read(args: unknown): ToolRequest
  /**
   * Reads arguments that ask for more of an earlier result; `undefined` when these do not.
   *
   * @throws SallyportError `ERR_INVALID_INPUT`
   */
  readMore?(args: unknown): MoreRequest | undefined
  /** Reads a result to its end, or to where it may pause, and holds as much of it as the context has room for. */
  answer(result: AsyncIterable<Chunk> | PagedResult, context: AnswerContext): Promise<Answer>
  /**
   * Returns the request an answer asks for, such as the next hop of a redirect. It becomes a call of its own, with a
   * decision of its own.
   */
  next?(request: ToolRequest, answer: Answer): ToolRequest | undefined
}

/** What an answer says beside the result itself. */
export interface AnswerContext {
  readonly target: string
  /** The most of a result, in bytes, this answer may hold; the rest is cut, and said to be. */
  readonly bytesMax: number
  /** Takes room for so many bytes more; `false` when there is none, and then the rest is cut in the same way. */
  readonly takeRoom?: (bytes: number) => boolean
  /** Where the door keeps results that are read in several answers. */
  readonly page?: {
    /** The most rows of this answer. */
    readonly rowsMax?: number
    /** Takes a place for the rest; `undefined` when there is none, and then the rest is cut. */
    pause(): { readonly cursor: string; readonly expiresInMs: number } | undefined
  }
  /** Unguessable text around data, so that data cannot pretend to end. */
  readonly fence: string
}

/** Most characters the agent's own words may have. */
const REASON_CHARS_MAX = 2000

/** Every tool takes it. */
export const reason = z
  .string()
  .max(REASON_CHARS_MAX)
  .optional()
  .describe('Why you need this, in one sentence. A person who is asked to approve the call reads it as your words.')

/** The name of a target, as `targets://` lists it. */
export const target = z.string().min(1).max(128).describe('Name of the target, as the resource `targets://` lists it.')

/** The JSON Schema of what a reader of arguments accepts. */
export function inputSchemaOf(schema: z.ZodObject): ObjectSchema {
  const { $schema: _, ...root } = z.toJSONSchema(schema, { io: 'input' })
  return { ...root, type: 'object' }
}

/**
 * Reads arguments strictly. The message names every argument that is wrong, and never quotes a value: nobody can say
 * what in it is secret.
 *
 * @throws SallyportError `ERR_INVALID_INPUT`
 */
export function readArguments<S extends z.ZodObject>(tool: string, schema: S, args: unknown): z.output<S> {
  const read = schema.safeParse(args ?? {}, { reportInput: false })
  if (read.success) return read.data
  const issues = read.error.issues.slice(0, 8).map((issue) => `${pathOf(issue.path)}: ${wordsOf(issue)}`)
  throw new SallyportError('ERR_INVALID_INPUT', `Invalid arguments for ${tool}. ${issues.join('; ')}.`)
}

function pathOf(path: readonly PropertyKey[]): string {
  return path.length === 0 ? 'arguments' : path.map(String).join('.').slice(0, 128)
}

function wordsOf(issue: z.core.$ZodIssue): string {
  if (issue.code === 'unrecognized_keys') return 'has arguments this tool does not take'
  return issue.message.slice(0, 200)
}
