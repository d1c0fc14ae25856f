/**
 * Runs what the tool asked for: one request, or the steps of a command that takes several. Only requests of the plan are
 * sent; one that was planned open is completed from what an earlier one said, and from nothing else.
 *
 * @packageDocumentation
 */
import type { Call, Permit } from '../../core/call.ts'
import type { Chunk } from '../../core/chunk.ts'
import { SallyportError } from '../../core/errors.ts'
import { parseJson, writeJson, type JsonValue } from '../../core/json.ts'
import { runRemote } from './connect-remote.ts'
import { mapError, withoutEffect } from './connect-errors.ts'
import { send, wholeOf, type Upstream } from './connect-send.ts'
import { acceptUnder } from './connector.ts'
import { dated } from './connect-dated.ts'
import { drainNode } from './connect-drain.ts'
import { isGuarded, readGuard, sendGuarded, stale } from './connect-guard.ts'
import { hashOfUndo } from './connect-preview.ts'
import { RefusedByServer, refusalOf, type Step } from './connect-step.ts'
import { maskValue } from './masks.ts'
import { trimRows } from './table-rows.ts'
import type { KubePlan } from './plan.ts'
import { bodyOf } from './read-body.ts'
import type { KubeRequest } from './request.ts'
import type { ToolCommand } from './tool.ts'
import { undoPatch } from './undo.ts'

/** Runs a tool call. */
export async function* runTool(
  call: Call,
  plan: KubePlan,
  permit: Permit,
  upstream: Upstream,
): AsyncGenerator<Chunk, void, undefined> {
  const { tool, requests } = plan
  const [first] = requests
  if (tool === undefined || first === undefined)
    throw new SallyportError('ERR_INVALID_INPUT', 'There is nothing to run.', { facts: { noEffect: true } })
  if (first.verb === 'exec') yield* command(call, first, permit, upstream)
  else if (first.verb === 'logs') yield* log(first, permit, upstream)
  else yield* objects(tool, requests, permit, upstream)
}

async function* objects(
  tool: ToolCommand,
  requests: readonly KubeRequest[],
  permit: Permit,
  upstream: Upstream,
): AsyncGenerator<Chunk, void, undefined> {
  const bytesMax = Math.min(permit.obligations.bytesMax ?? Number.POSITIVE_INFINITY, upstream.options.bytesMax)
  const guard = permit.guard === undefined ? [] : readGuard(permit.guard)
  const step: Step = (request) => stepOf(request, permit, upstream, isGuarded(request) ? guard[0] : undefined)
  const result = await resultOf(tool, requests, step, upstream, guard[1])
  const [first] = requests
  const { value, count } = maskValue(result, first ?? {})
  const bytes = Buffer.from(writeJson(first === undefined ? value : trimRows(value, first)), 'utf8')
  yield {
    kind: 'head',
    attributes: {
      ':status': '200',
      ':command': tool.command,
      ':output': tool.output,
      'content-type': 'application/json',
    },
  }
  const isCut = bytes.length > bytesMax
  if (isCut) {
    yield { kind: 'notice', severity: 'WARNING', text: 'The result is withheld: it is longer than this call may read.' }
  } else yield { kind: 'data', channel: 'body', bytes }
  yield {
    kind: 'exit',
    status: '0',
    truncated: isCut,
    ...(isCut && { truncatedBy: 'bytes' as const }),
    ...(count > 0 && { masked: { kubernetes: count } }),
  }
}

async function resultOf(
  tool: ToolCommand,
  requests: readonly KubeRequest[],
  step: Step,
  upstream: Upstream,
  undone: string | undefined,
): Promise<JsonValue> {
  const [first, second, third] = requests
  if (first === undefined) throw new SallyportError('ERR_INVALID_INPUT', 'There is nothing to run.')
  if (tool.command === 'describe' && second !== undefined) {
    return new Map([
      ['object', await step(first)],
      ['events', await step(second)],
    ])
  }
  if (tool.command === 'rollout_undo' && second !== undefined && third !== undefined) {
    const read = (request: KubeRequest): Promise<JsonValue> =>
      step(request).catch((error: unknown) => {
        throw withoutEffect(error, upstream.signal)
      })
    const patch = undoPatch(await read(first), await read(second), tool.revision)
    const { isOpen: _, ...change } = third
    const request = { ...change, body: bodyOf(patch, 'application/json-patch+json') }
    if (undone !== undefined && hashOfUndo(request) !== undone) {
      throw stale('The template the deployment would go back to is no longer the one the approvers were shown.')
    }
    return step(request)
  }
  if (tool.command === 'drain') return drainNode(tool, requests, step, upstream.signal)
  return tool.command === 'top' ? measured(step(first)) : step(first)
}

async function measured(metrics: Promise<JsonValue>): Promise<JsonValue> {
  try {
    return await metrics
  } catch (error) {
    // A group that is not served has no words of its own.
    if (!(error instanceof RefusedByServer) || error.status !== 404 || !/page not found/u.test(error.message))
      throw error
    throw new SallyportError('ERR_UPSTREAM_REJECTED', 'The cluster measures nothing: it serves no metrics.k8s.io.', {
      facts: { noEffect: true, hint: 'Its administrators would install metrics-server.' },
    })
  }
}

async function stepOf(
  request: KubeRequest,
  permit: Permit,
  upstream: Upstream,
  guard: string | undefined,
): Promise<JsonValue> {
  const sent = dated(request)
  const accept = acceptUnder(sent, permit)
  const answer =
    guard === undefined ? await send(sent, upstream, accept) : await sendGuarded(sent, guard, upstream, accept)
  const bytes = await wholeOf(answer, upstream.options.bytesMax, upstream.signal)
  const text = bytes.toString('utf8')
  const parsed = parseJson(text)
  if (answer.statusCode >= 400) throw refusalOf(sent, answer.statusCode, parsed?.value, text)
  if (parsed === undefined) {
    throw new SallyportError('ERR_UPSTREAM_REJECTED', 'The API server answered with something that is no JSON.')
  }
  return parsed.value
}

async function* log(request: KubeRequest, permit: Permit, upstream: Upstream): AsyncGenerator<Chunk, void, undefined> {
  const bytesMax = Math.min(permit.obligations.bytesMax ?? Number.POSITIVE_INFINITY, upstream.options.bytesMax)
  const answer = await send(request, upstream)
  try {
    if (answer.statusCode >= 400) {
      const text = (await wholeOf(answer, 64 * 1024, upstream.signal)).toString('utf8')
      throw refusalOf(request, answer.statusCode, parseJson(text)?.value, text)
    }
    yield { kind: 'head', attributes: { ':status': '200', ':command': 'logs', 'content-type': 'text/plain' } }
    let left = bytesMax
    let isCut = false
    for await (const piece of answer.body as AsyncIterable<Buffer>) {
      const shown = piece.subarray(0, left)
      left -= shown.length
      if (shown.length > 0) yield { kind: 'data', channel: 'stdout', bytes: shown }
      isCut = shown.length < piece.length
      if (isCut) break
    }
    yield { kind: 'exit', status: '0', truncated: isCut, ...(isCut && { truncatedBy: 'bytes' as const }) }
  } catch (error) {
    throw mapError(error, upstream.signal, true)
  } finally {
    answer.body.on('error', () => undefined).destroy()
  }
}

async function* command(
  call: Call,
  request: KubeRequest,
  permit: Permit,
  upstream: Upstream,
): AsyncGenerator<Chunk, void, undefined> {
  let status = 0
  let refused = ''
  for await (const chunk of runRemote(call, request, permit, upstream)) {
    if (chunk.kind === 'head') {
      status = Number(chunk.attributes?.[':status'])
      if (status !== 101) continue
      yield { kind: 'head', attributes: { ':status': '101', ':command': 'exec' } }
    } else if (status === 101) yield chunk
    else if (chunk.kind === 'data' && chunk.channel === 'body') refused += Buffer.from(chunk.bytes).toString('utf8')
  }
  if (status !== 101) throw refusalOf(request, status, parseJson(refused)?.value, refused)
}
