/**
 * Every declared detector. To add one, write its file, add it here, add rows to `test/masking/detectors.test.ts`.
 *
 * @packageDocumentation
 */
import { genericSecret, passwordAssignment } from './assignment.ts'
import { bearer } from './authorization.ts'
import { awsAccessKey, awsSecretKey, googleApiKey } from './cloud-keys.ts'
import type { Detector } from './detector.ts'
import { email } from './email.ts'
import { jwt } from './jwt.ts'
import { ipv4, ipv6 } from './network.ts'
import { creditCard, iban } from './payment.ts'
import { phone } from './phone.ts'
import { privateKey } from './private-key.ts'
import { githubToken, slackToken, stripeKey } from './service-tokens.ts'
import { urlPassword } from './url-password.ts'
import { usSsn } from './us-ssn.ts'

/** By kind, as policies name them. */
export const DETECTORS: ReadonlyMap<string, Detector> = new Map(
  [
    email,
    creditCard,
    usSsn,
    phone,
    iban,
    ipv4,
    ipv6,
    awsAccessKey,
    awsSecretKey,
    githubToken,
    slackToken,
    stripeKey,
    googleApiKey,
    jwt,
    privateKey,
    bearer,
    passwordAssignment,
    urlPassword,
    genericSecret,
  ].map((detector) => [detector.kind, detector]),
)
