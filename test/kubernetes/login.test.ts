import { describe, expect, it } from 'vitest'
import { SallyportError } from '../../src/core/errors.ts'
import { loginOf } from '../../src/protocols/kubernetes/connect-login.ts'
import { kubernetesOptions, kubernetesSchema, type KubeOptions } from '../../src/protocols/kubernetes/options.ts'

const CERT = '-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----'
const KEY = '-----BEGIN EC PRIVATE KEY-----\nc2VjcmV0LWtleQ==\n-----END EC PRIVATE KEY-----'
const base64 = (text: string): string => Buffer.from(text).toString('base64')

const options = (auth: KubeOptions['auth']): KubeOptions =>
  kubernetesOptions(kubernetesSchema.parse({ server: 'https://127.0.0.1:6443', auth }))

const kubeconfig = (user: string, current = 'here'): string => `apiVersion: v1
kind: Config
clusters: [{name: c, cluster: {server: "https://elsewhere.example:6443"}}]
users: [{name: u, user: ${user}}, {name: other, user: {token: not-this-one}}]
contexts: [{name: here, context: {cluster: c, user: u}}, {name: nobody, context: {cluster: c, user: gone}}]
current-context: ${current}
`

describe('what proves the gateway to an API server', () => {
  it('is a token', async () => {
    expect(await loginOf({ value: 'tok-1\n' }, options('token'))).toEqual({ authorization: 'Bearer tok-1' })
  })

  it('is a certificate with its key, in either order', async () => {
    for (const value of [`${CERT}\n${KEY}\n`, `${KEY}\n${CERT}\n`]) {
      expect(await loginOf({ value }, options('client_certificate'))).toEqual({ certificate: { cert: CERT, key: KEY } })
    }
  })

  it('is the current user of a kubeconfig, with the data inside', async () => {
    const auth = options('kubeconfig')
    expect(await loginOf({ value: kubeconfig('{token: tok-2}') }, auth)).toEqual({ authorization: 'Bearer tok-2' })
    const user = `{client-certificate-data: ${base64(CERT)}, client-key-data: ${base64(KEY)}}`
    expect(await loginOf({ value: kubeconfig(user) }, auth)).toEqual({ certificate: { cert: CERT, key: KEY } })
  })

  it.each([
    ['a program', kubeconfig('{exec: {apiVersion: client.authentication.k8s.io/v1, command: s3cret-helper}}')],
    ['a program beside a token', kubeconfig('{token: s3cret, exec: {command: helper}}')],
    ['a provider', kubeconfig('{auth-provider: {name: gcp, config: {cmd-path: s3cret}}}')],
    ['a file for the token', kubeconfig('{tokenFile: /etc/s3cret}')],
    ['a file for the key', kubeconfig(`{client-certificate-data: ${base64(CERT)}, client-key: /etc/s3cret}`)],
    ['a password', kubeconfig('{username: u, password: s3cret}')],
    ['a user that is not there', kubeconfig('{token: s3cret}', 'nobody')],
    ['what is no kubeconfig', 's3cret: [unclosed'],
  ])('is no kubeconfig with %s, and the refusal quotes nothing of it', async (_what, value) => {
    const refusal: unknown = await loginOf({ value }, options('kubeconfig')).catch((error: unknown) => error)
    expect(refusal).toBeInstanceOf(SallyportError)
    expect(refusal).toMatchObject({ code: 'ERR_CREDENTIAL_MISSING' })
    expect((refusal as SallyportError).message).not.toContain('s3cret')
  })

  it.each([
    ['token', 'two words'],
    ['token', 'line\r\nImpersonate-User: admin'],
    ['token', ''],
    ['client_certificate', CERT],
    ['client_certificate', KEY],
  ] as const)('is refused as %s when it is not one: %j', async (auth, value) => {
    await expect(loginOf({ value }, options(auth))).rejects.toMatchObject({ code: 'ERR_CREDENTIAL_MISSING' })
  })
})
