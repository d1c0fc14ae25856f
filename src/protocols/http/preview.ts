import type { Preview } from '../../core/preview.ts'
import type { HttpOptions } from './options.ts'
import type { HttpPlan } from './plan.ts'
import { credentialLine, plainHeaders } from './sent-headers.ts'
import { writeRequest } from './shown.ts'

/** Methods whose length is said even where there is no body (RFC 9110, section 8.6). */
const WITH_LENGTH = new Set(['POST', 'PUT', 'PATCH'])

/**
 * The request as it will be sent, but for the credential: what a service would do with it cannot be tried, so nothing is
 * sent and no name is looked up.
 */
export function previewRequest(plan: HttpPlan, { auth }: HttpOptions): Preview {
  const { request, streams } = plan
  const { method, url, body, upgrade } = request
  const credential = credentialLine(auth)
  const length = body?.length ?? (WITH_LENGTH.has(method) ? 0 : undefined)
  const lines = [
    `host: ${url.host}`,
    ...Object.entries(plainHeaders(plan)).map(([name, value]) => `${name}: ${value}`),
    ...(credential === undefined ? [] : [credential]),
    ...(streams || length === undefined ? [] : [`content-length: ${length}`]),
  ]
  const section = { title: 'The request as it will be sent', ...writeRequest(request, lines, streams) }
  if (upgrade !== undefined) return { sections: [section], missing: 'What a WebSocket will say is not known before.' }
  if (streams) return { sections: [section], missing: 'A body that streams is not known before it is sent.' }
  return { sections: [section] }
}
