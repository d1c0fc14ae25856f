/**
 * Plans Kubernetes calls: purely, from the payload and what discovery said. Read `request.ts` for what a request is,
 * `read-request.ts` for how an API path becomes one, `tool.ts` for how a tool's arguments do, `taxonomy.ts` for what
 * policies see.
 *
 * @packageDocumentation
 */
import type { Canonical, Plan, PlanRefusal } from '../../core/call.ts'
import type { ColumnMask, FieldMask } from '../../core/decision.ts'
import { SallyportError } from '../../core/errors.ts'
import { readArgv } from './argv.ts'
import { refusalUnderFields } from './field-masks.ts'
import { partOf } from './part.ts'
import { readPayload, type ApiPayload } from './payload.ts'
import { readRequest } from './read-request.ts'
import { targetOf, type KubeRequest } from './request.ts'
import { refusalOf } from './refuse.ts'
import { commandOf, type Lookups, type ToolCommand } from './tool.ts'
import { withWholeRows } from './table-rows.ts'
import { shownRequests } from './shown.ts'

/** What one call means and exactly what will be sent. */
export interface KubePlan extends Plan {
  readonly door: 'api' | 'tool'
  /** Every request the call may send. At the API door it is one. */
  readonly requests: readonly KubeRequest[]
  /** Whether the caller takes streams, or sends one along: standard input, or the other side of a forwarded port. */
  readonly streams: boolean
  /** What the tool was asked for. */
  readonly tool?: ToolCommand
}

/** What a plan is made under. */
export interface PlanUnder {
  readonly masks: readonly ColumnMask[]
  /** Fields whose values this caller must not see. */
  readonly fields?: readonly FieldMask[]
  /** Whether the call has an `input`. */
  readonly streams: boolean
}

/**
 * Plans a request of the API door.
 *
 * @throws SallyportError `ERR_INVALID_INPUT` for what has two readings, `ERR_TOO_LARGE`.
 */
export function planApi(payload: unknown, under: PlanUnder): KubePlan {
  const read = readPayload(payload)
  if (read?.kind !== 'api') throw new SallyportError('ERR_INVALID_INPUT', 'This is no request to an API server.')
  const request = opened(readRequest(writtenOf(read)), read)
  return planOf('api', [request], { ...under, streams: under.streams || read.upgrade === true })
}

/**
 * Plans a call of the tool.
 *
 * @throws SallyportError `ERR_INVALID_INPUT`, naming what to write instead.
 */
export async function planTool(
  payload: unknown,
  namespace: string,
  under: PlanUnder,
  lookups: Lookups,
): Promise<KubePlan> {
  const read = readPayload(payload)
  if (read === undefined || read.kind === 'api') {
    throw new SallyportError('ERR_INVALID_INPUT', 'Give verb and resource, or argv as kubectl has it.')
  }
  const input = read.kind === 'argv' ? readArgv(read.argv) : read
  const tool = await commandOf(input, namespace, lookups)
  return planOf('tool', tool.requests, under, tool)
}

function opened(request: KubeRequest, { opening }: ApiPayload): KubeRequest {
  if (opening !== true) return request
  // Fail closed: only of a forwarding without a port is it true that it does nothing.
  if (request.verb === 'portforward' && !request.query.some(([name]) => name === 'ports')) {
    return { ...request, isOpening: true }
  }
  throw new SallyportError('ERR_INVALID_INPUT', 'Only a forwarding is opened before it is used, and without `ports`.')
}

function writtenOf({
  method,
  path,
  content_type: contentType,
  accept,
  body,
}: ApiPayload): Parameters<typeof readRequest>[0] {
  return { method, path, contentType, accept, ...(body !== undefined && { body: Buffer.from(body, 'base64') }) }
}

/** The plan of requests that were understood. */
export function planOf(
  door: KubePlan['door'],
  understood: readonly KubeRequest[],
  { masks, fields = [], streams }: PlanUnder,
  tool?: ToolCommand,
): KubePlan {
  const requests = understood.map(withWholeRows)
  const command = tool?.command ?? ''
  const refused = firstRefusal(requests, fields)
  return {
    door,
    requests,
    streams,
    ...(tool !== undefined && { tool }),
    action: { parts: requests.map(partOf), attributes: { door, command } },
    exact: {
      command,
      // What decides between several requests.
      revision: tool?.revision ?? null,
      drain: tool?.drain === undefined ? null : drainOf(tool.drain),
      requests: requests.map((request) => ({
        method: request.method,
        target: targetOf(request),
        accept: request.accept,
        type: request.body?.type ?? null,
        body: request.body === undefined ? null : Buffer.from(request.body.bytes).toString('utf8'),
        open: request.isOpen === true,
        ...(request.isOpening === true && { opening: true }),
      })),
      streams,
    },
    shown: shownRequests(requests, command === '' ? '' : `kubectl ${command}`),
    masks,
    ...(refused !== undefined && { refused }),
  }
}

function drainOf({ pods, ...choice }: NonNullable<ToolCommand['drain']>): Canonical {
  return { ...choice, pods: pods === undefined ? null : pods.map((pod) => ({ ...pod })) }
}

function firstRefusal(requests: readonly KubeRequest[], fields: readonly FieldMask[]): PlanRefusal | undefined {
  for (const request of requests) {
    const refused = refusalOf(request) ?? refusalUnderFields(request, fields)
    if (refused !== undefined) return refused
  }
  return undefined
}
