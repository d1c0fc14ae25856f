/**
 * Decisions for recorded or invented calls, one JSON line in, one JSON line out, executing nothing. Every line gets an
 * answer: what cannot be read is denied with the reason, as the gateway itself would.
 *
 * @packageDocumentation
 */
import { z } from 'zod'
import type { Action } from '../core/action.ts'
import type { Decision } from '../core/decision.ts'
import { SallyportError } from '../core/errors.ts'
import type { Principal, PrincipalKind } from '../core/principal.ts'

/** A call as a line spells it. */
export interface CallLine {
  readonly id: string
  readonly principal: { readonly id: string; readonly kind: PrincipalKind; readonly groups: readonly string[] }
  readonly target: string
  readonly tool: string
  readonly arguments: Readonly<Record<string, unknown>>
  /** Addresses of hosts, judged in place of those DNS would give. */
  readonly resolve?: Readonly<Record<string, readonly string[]>>
}

/** What the caller of {@link explainJsonl} knows and this room does not. */
export interface ExplainDeps {
  /** Completes the principal of a line. @throws SallyportError when there can be none. */
  readonly principalOf: (line: CallLine['principal']) => Principal
  /** Plans the call on the target's live catalog and decides it. @throws SallyportError for what cannot be planned. */
  readonly judge: (
    line: CallLine,
    principal: Principal,
  ) => Promise<{ readonly decision: Decision; readonly action: Action }>
}

/** Longer lines are answered without being read; their bytes are dropped as they come. */
export const LINE_BYTES_MAX = 1024 * 1024

const word = z.string().min(1).max(512)

/** `resolve` of a line or a fixture. @see CallLine */
export const resolveSchema = z.record(word, z.array(word).min(1).max(100)).optional()

const lineSchema = z.strictObject({
  id: word,
  principal: z.strictObject({
    id: word,
    kind: z.enum(['agent', 'person', 'service']).default('agent'),
    groups: z.array(word).max(1000).default([]),
  }),
  target: word,
  tool: word,
  arguments: z.record(z.string(), z.unknown()),
  resolve: resolveSchema,
})

/** Yields one line of JSON, without its line break, for each line of the input. Never throws for what a line holds. */
export async function* explainJsonl(
  input: AsyncIterable<Uint8Array>,
  deps: ExplainDeps,
): AsyncGenerator<string, void, undefined> {
  const seen = new Set<string>()
  let number = 0
  for await (const line of splitLines(input)) {
    number++
    if (line !== undefined && line.every((byte) => byte === 0x20 || byte === 0x09 || byte === 0x0d)) continue
    yield JSON.stringify(await answer(line, number, seen, deps))
  }
}

interface Answer {
  readonly id: string | null
  readonly effect: Decision['effect']
  readonly rules: readonly string[]
  readonly reason: string
  readonly obligations: Decision['obligations'] | null
  readonly action: Action | null
}

async function answer(
  bytes: Uint8Array | undefined,
  number: number,
  seen: Set<string>,
  deps: ExplainDeps,
): Promise<Answer> {
  const unread = (reason: string, id: string | null = null): Answer => {
    return { id, effect: 'deny', rules: [], reason: `Line ${number}: ${reason}`, obligations: null, action: null }
  }
  if (bytes === undefined) return unread(`it is longer than ${LINE_BYTES_MAX} bytes.`)
  const parsed = parseLine(bytes)
  if ('problem' in parsed) return unread(parsed.problem, parsed.id)
  const { line } = parsed
  // Two answers under one id could not be told apart by whoever reads them.
  if (seen.has(line.id)) return unread(`the id "${line.id}" was used on an earlier line.`, line.id)
  seen.add(line.id)
  try {
    const { decision, action } = await deps.judge(line, deps.principalOf(line.principal))
    const { effect, rules, reason, obligations } = decision
    return { id: line.id, effect, rules, reason, obligations, action }
  } catch (error) {
    return unread(SallyportError.from(error).message, line.id)
  }
}

function parseLine(
  bytes: Uint8Array,
): { readonly line: CallLine } | { readonly problem: string; readonly id: string | null } {
  let value: unknown
  try {
    value = JSON.parse(new TextDecoder('utf-8', { fatal: true, ignoreBOM: true }).decode(bytes))
  } catch (error) {
    return { problem: error instanceof TypeError ? 'it is not UTF-8.' : 'it is not JSON.', id: null }
  }
  const result = lineSchema.safeParse(value)
  if (result.success) {
    const { resolve, ...line } = result.data
    return { line: { ...line, ...(resolve !== undefined && { resolve }) } }
  }
  const id = word.safeParse((value as { readonly id?: unknown } | null)?.id)
  const [issue] = result.error.issues
  const where = issue === undefined || issue.path.length === 0 ? 'the line' : `"${issue.path.join('.')}"`
  return { problem: `${where} is not as it must be: ${issue?.message ?? 'invalid'}.`, id: id.success ? id.data : null }
}

/** Splits at line feeds. Yields `undefined` for a line that is too long, and holds no more than one line at a time. */
async function* splitLines(input: AsyncIterable<Uint8Array>): AsyncGenerator<Uint8Array | undefined> {
  let pieces: Uint8Array[] = []
  let length = 0
  const take = (): Uint8Array | undefined => {
    const line = length > LINE_BYTES_MAX ? undefined : Buffer.concat(pieces)
    pieces = []
    length = 0
    return line
  }
  const add = (piece: Uint8Array): void => {
    length += piece.length
    if (length > LINE_BYTES_MAX) pieces = []
    else pieces.push(piece)
  }
  for await (const chunk of input) {
    let start = 0
    for (let end = chunk.indexOf(0x0a); end >= 0; end = chunk.indexOf(0x0a, start)) {
      add(chunk.subarray(start, end))
      yield take()
      start = end + 1
    }
    // The rest is copied: whoever owns the chunk may write into it again while we wait for the next.
    if (start < chunk.length) add(chunk.slice(start))
  }
  if (length > 0) yield take()
}
