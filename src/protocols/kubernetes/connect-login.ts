import { SallyportError } from '../../core/errors.ts'
import type { Secret } from '../../core/call.ts'
import type { KubeOptions } from './options.ts'

/** What proves us to an API server. Held as long as a request takes, or a connection that was made with it. */
export interface Login {
  readonly authorization?: string
  /** Certificate and key in PEM. */
  readonly certificate?: { readonly cert: string; readonly key: string }
}

/**
 * Reads a secret as what the target says it is.
 *
 * @throws SallyportError `ERR_CREDENTIAL_MISSING`, which says nothing of what was found.
 */
export async function loginOf({ value }: Secret, { auth }: KubeOptions): Promise<Login> {
  if (auth === 'token') return bearer(value.trim())
  if (auth === 'client_certificate') return certificate(value)
  return fromKubeconfig(value)
}

function bearer(token: string): Login {
  if (!/^[\x21-\x7e]+$/u.test(token)) throw unusable('is not a token')
  return { authorization: `Bearer ${token}` }
}

function certificate(pem: string): Login {
  const blocks = pem.match(/-----BEGIN [A-Z ]+-----[\s\S]*?-----END [A-Z ]+-----/gu) ?? []
  const of = (kind: string): string[] =>
    blocks.filter((block) => /^-----BEGIN [A-Z ]+/u.exec(block)?.[0].endsWith(kind))
  const [key] = of('PRIVATE KEY')
  const certs = of('CERTIFICATE')
  if (key === undefined || certs.length === 0) throw unusable('must hold a certificate and its private key in PEM')
  return { certificate: { cert: certs.join('\n'), key } }
}

/** The user of the current context. Programs and files it names are not used: they would be somebody else’s code here. */
async function fromKubeconfig(text: string): Promise<Login> {
  // Loaded when it is first needed: most targets have a token.
  const { KubeConfig } = await import('@kubernetes/client-node')
  const config = new KubeConfig()
  try {
    config.loadFromString(text)
  } catch {
    // Its message quotes the file.
    throw unusable('is not a kubeconfig')
  }
  const user = config.getCurrentUser()
  if (user === null) throw unusable('is a kubeconfig without a user for its current context')
  if (user.exec !== undefined || user.authProvider !== undefined) {
    throw unusable('is a kubeconfig whose user runs a program; use credential.exec to run it here')
  }
  if (user.token !== undefined && user.token !== '') return bearer(user.token)
  const { certData, keyData } = user
  if (certData !== undefined && keyData !== undefined) {
    const decode = (data: string): string => Buffer.from(data, 'base64').toString('utf8')
    return certificate(`${decode(certData)}\n${decode(keyData)}`)
  }
  throw unusable('is a kubeconfig whose user has neither token nor client-certificate-data with client-key-data')
}

function unusable(why: string): SallyportError {
  return new SallyportError('ERR_CREDENTIAL_MISSING', `The credential of this target ${why}.`)
}
