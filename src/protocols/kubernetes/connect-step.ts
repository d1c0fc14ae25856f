import { SallyportError } from '../../core/errors.ts'
import { isJsonObject, type JsonValue } from '../../core/json.ts'
import { failureOf } from './connect-errors.ts'
import { scrubMessage } from './mask-message.ts'
import type { KubeRequest } from './request.ts'

/** Sends one request of a plan and returns the object it answers with, not yet masked. */
export type Step = (request: KubeRequest) => Promise<JsonValue>

/** What the server said no with, as far as a caller may read it. */
export function refusalOf(
  request: Pick<KubeRequest, 'group' | 'resource' | 'verb'>,
  status: number,
  value: JsonValue | undefined,
  text: string,
): SallyportError {
  const isSecret = request.resource === 'secrets' && (request.group ?? '') === ''
  const message = isJsonObject(value) ? value.get('message') : text
  const reason = isJsonObject(value) ? value.get('reason') : undefined
  const words = scrubMessage(typeof message === 'string' ? message : 'no reason was given', isSecret).slice(0, 1000)
  const named = typeof reason === 'string' && /^[A-Za-z]{1,40}$/u.test(reason) ? ` ${reason}` : ''
  return new RefusedByServer(status, request, `The API server refused (${status}${named}): ${words}`)
}

/** A refusal with the status it came with. Whoever loops over requests tells one from another by it. */
export class RefusedByServer extends SallyportError {
  readonly status: number

  constructor(status: number, request: Pick<KubeRequest, 'verb'>, message: string) {
    // Nothing was done: a server that cannot say so answers otherwise (RFC 9110, section 15.5).
    super('ERR_UPSTREAM_REJECTED', message, {
      facts: failureOf(status, request).failed === 'no_effect' ? { noEffect: true } : {},
    })
    this.status = status
  }
}
