import type { Secret } from '../../core/call.ts'
import type { HttpAuth, HttpOptions } from './options.ts'
import type { HttpPlan } from './plan.ts'

/** Headers of the request as it is sent, with the credential. */
export function sentHeaders(plan: HttpPlan, { auth }: HttpOptions, secret: Secret): Record<string, string> {
  const headers = plainHeaders(plan)
  switch (auth.kind) {
    case 'bearer':
      headers['authorization'] = `Bearer ${secret.value}`
      break
    case 'basic':
      headers['authorization'] = `Basic ${basicOf(secret)}`
      break
    case 'header':
      headers[auth.name] = auth.prefix + secret.value
      break
    default:
      auth.kind satisfies 'none'
  }
  return headers
}

/** The same headers without the credential. */
export function plainHeaders({ request, streams }: HttpPlan): Record<string, string> {
  const headers: Record<string, string> = Object.fromEntries(request.headers)
  headers['accept-encoding'] = 'gzip, deflate, br'
  if ((request.body !== undefined || streams) && headers['content-type'] === undefined) {
    headers['content-type'] = 'application/octet-stream'
  }
  return headers
}

/** A line that stands for the header with the credential. */
export function credentialLine(auth: HttpAuth): string | undefined {
  if (auth.kind === 'none') return undefined
  return auth.kind === 'header' ? `${auth.name}: [credential]` : `authorization: [${auth.kind} credential]`
}

/** What an answer must not hold. */
export function secretsOf(secret: Secret, { auth }: HttpOptions): readonly string[] {
  if (auth.kind === 'none') return []
  return auth.kind === 'basic' ? [secret.value, basicOf(secret)] : [secret.value]
}

function basicOf({ user = '', value }: Secret): string {
  return Buffer.from(`${user}:${value}`, 'utf8').toString('base64')
}
