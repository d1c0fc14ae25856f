/**
 * A request → what it means and exactly what will be sent. Pure: no name is looked up here, because a look-up already
 * tells whoever owns the name what the caller wanted to say. Read `request.ts` for how a payload becomes one request,
 * `taxonomy.ts` for what policies see of it.
 *
 * @packageDocumentation
 */
import type { Part } from '../../core/action.ts'
import type { Plan, PlanRefusal } from '../../core/call.ts'
import type { ColumnMask } from '../../core/decision.ts'
import { refuseAddress } from './addresses.ts'
import { fieldsOf, mediaTypeOf, readBody } from './body.ts'
import { headerOf } from './headers.ts'
import type { HttpOptions } from './options.ts'
import { buildRequest, literalOf, METHODS, portOf, type HttpRequest } from './request.ts'
import { shownRequest } from './shown.ts'

/** What one HTTP call means and exactly what will be sent. */
export interface HttpPlan extends Plan {
  readonly request: HttpRequest
  /** Whether the body is the call's `input`. */
  readonly streams: boolean
}

/** What a plan is made under. */
export interface PlanUnder {
  readonly masks: readonly ColumnMask[]
  readonly streams: boolean
  /** Addresses of hosts, where somebody wants to know what would be said of them. */
  readonly resolve?: Readonly<Record<string, readonly string[]>>
}

/** Names under which clouds hand out credentials; their addresses are refused as well. */
const METADATA_NAMES = new Set([
  'metadata',
  'metadata.google.internal',
  'metadata.goog',
  'metadata.internal',
  'instance-data',
  'instance-data.ec2.internal',
  'metadata.azure.internal',
  'metadata.platformequinix.com',
])

/**
 * Plans one request.
 *
 * @throws SallyportError `ERR_INVALID_INPUT`, `ERR_TOO_LARGE`.
 */
export function planRequest(payload: unknown, options: HttpOptions, under: PlanUnder): HttpPlan {
  const request = buildRequest(payload, options)
  const { method, url, headers, bodyDigest, upgrade } = request
  const refused = refusalOf(request, options, under)
  return {
    request,
    streams: under.streams,
    action: { parts: partsOf(request, under.streams), attributes: {} },
    exact: {
      method,
      url: url.href,
      headers: headers.map(([name, value]) => [name, value]),
      body: under.streams ? 'stream' : (bodyDigest ?? null),
      auth: options.auth.kind,
      ...(upgrade !== undefined && { upgrade: [...upgrade.protocols] }),
    },
    shown: shownRequest(request, options.auth, under.streams),
    masks: under.masks,
    ...(refused !== undefined && { refused }),
  }
}

/** A WebSocket is the GET it begins with, and what it becomes: a deny of the one or of the other is enough. */
function partsOf(request: HttpRequest, streams: boolean): readonly Part[] {
  const part = partOf(request, streams)
  return request.upgrade === undefined ? [part] : [part, { ...part, verb: 'http.upgrade' }]
}

function partOf(request: HttpRequest, streams: boolean): Part {
  const { method, url, host, path, headers, body } = request
  const contentType = headerOf(headers, 'content-type')
  const isBody = streams && request.upgrade === undefined
  const facts = isBody ? ({ kind: 'opaque', value: null } as const) : readBody(body, contentType)
  const isKnown = METHODS.some((known) => known === method)
  return {
    verb: isKnown ? `http.${method.toLowerCase()}` : 'http.unknown',
    resource: { type: 'http', path, ...(host !== undefined && { host }) },
    attributes: {
      method,
      scheme: url.protocol.slice(0, -1),
      host: host ?? url.hostname,
      port: portOf(url),
      path,
      query: fieldsOf(url.search.slice(1)),
      headers: headers.map(([name]) => name),
      content_type: mediaTypeOf(contentType) ?? '',
      body_kind: facts.kind,
      body_bytes: isBody ? -1 : (body?.length ?? 0),
      body: facts.value,
    },
  }
}

/** What no rule can let through: an address that is not the service's, or that hands out credentials. */
function refusalOf({ url, host }: HttpRequest, options: HttpOptions, under: PlanUnder): PlanRefusal | undefined {
  if (host !== undefined && METADATA_NAMES.has(host)) return refusal(`${host} is a metadata service.`)
  const literal = literalOf(url)
  const addresses = literal === undefined ? toldOf(url.hostname, under.resolve) : [literal]
  for (const address of addresses) {
    const why = refuseAddress(address, options.allowAddresses)
    // One bad address is enough: which of several a connection takes is nobody's promise.
    if (why !== undefined) return refusal(`The address of ${host ?? 'the service'} ${why}.`)
  }
  return undefined
}

/** The addresses somebody says a host has. */
function toldOf(host: string, told: PlanUnder['resolve'] = {}): readonly string[] {
  const plain = (name: string): string => name.toLowerCase().replace(/\.$/u, '')
  return Object.entries(told).flatMap(([name, addresses]) => (plain(name) === plain(host) ? addresses : []))
}

function refusal(message: string): PlanRefusal {
  return {
    construct: 'http.address',
    message,
    hint: 'Internal services are targets of their own, with base_url and allow_addresses.',
  }
}
