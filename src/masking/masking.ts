/**
 * Detectors: what replaces sensitive values in text that no protocol can mask at its source.
 *
 * A decision names declared detectors and operator patterns; this room finds their values on every channel (C10) and
 * replaces them. It never decides what is sensitive, does no I/O and reads no clock. `detectors/` holds the kinds,
 * `spans.ts` finds, `text.ts` follows a text that arrives in pieces; `docs/detectors.md` says what each kind promises.
 *
 * @packageDocumentation
 */
import type { ShownRequest } from '../core/call.ts'
import type { Chunk } from '../core/chunk.ts'
import type { Decision } from '../core/decision.ts'
import { type ErrorFacts, framesOf, SallyportError } from '../core/errors.ts'
import { compileDetections } from './compile.ts'
import { maskFields } from './fields.ts'
import { maskShown } from './shown.ts'
import { maskStream } from './stream.ts'
import { maskText } from './text.ts'
import { createReplacer } from './transforms.ts'

/** Replaces what the decision's obligations say must not be seen, on every channel (C10). Pure but for its key. */
export interface Masking {
  /**
   * Masks a result as it streams; holds back what might still become a match (no chunk border hides anything). Without
   * detectors the source itself is returned.
   *
   * @throws SallyportError `ERR_POLICY_INVALID` when a detector cannot be used.
   */
  stream(source: AsyncIterable<Chunk>, decision: Decision): AsyncIterable<Chunk>
  /** Masks the fields of a request's data, first of all; what cannot be read by fields is withheld. */
  fields(shown: ShownRequest, decision: Decision): ShownRequest
  /** Masks a request for recordings and approvers. */
  request(shown: ShownRequest, decision: Decision): ShownRequest
  /** Masks one text. */
  text(text: string, decision: Decision): string
  /** Masks an error's message, facts and detail. Its cause keeps only its name, code and frames. */
  error(error: SallyportError, decision: Decision): SallyportError
}

const KEY_BYTES_MIN = 16

/**
 * Builds the masking of one gateway.
 *
 * @param options.hashKey key of the `hash` transform, at least 16 random bytes. Values hashed under one key can be
 * joined; a new key breaks that.
 * @throws SallyportError `ERR_CONFIG_INVALID` for a short key.
 */
export function createMasking(options: { readonly hashKey: Uint8Array }): Masking {
  if (options.hashKey.byteLength < KEY_BYTES_MIN) {
    throw new SallyportError('ERR_CONFIG_INVALID', `The key for hashed values needs at least ${KEY_BYTES_MIN} bytes.`)
  }
  const replacer = createReplacer(Uint8Array.from(options.hashKey))

  function text(value: string, decision: Decision): string {
    if (decision.obligations.detect.length === 0) return value
    return maskText(value, compileDetections(decision.obligations.detect), replacer, () => undefined)
  }

  return {
    stream(source, decision) {
      const { detect, fields = [] } = decision.obligations
      const read = fields.length === 0 ? source : maskFields(source, fields, replacer)
      if (detect.length === 0) return read
      return maskStream(read, compileDetections(detect), replacer)
    },

    fields: (shown, decision) => maskShown(shown, decision.obligations.fields ?? [], replacer),

    request(shown, decision) {
      if (decision.obligations.detect.length === 0) return shown
      return {
        ...shown,
        text: text(shown.text, decision),
        ...(shown.params && { params: shown.params.map((param) => maskParam(param, decision)) }),
      }
    },

    text,

    error(error, decision) {
      if (decision.obligations.detect.length === 0) return error
      const mask = (value: string): string => text(value, decision)
      const masked = new SallyportError(error.code, mask(error.message), {
        facts: maskFacts(error.facts, mask),
        ...(error.detail !== undefined && { detail: mask(error.detail) }),
        ...(error.cause !== undefined && { cause: withoutMessage(error.cause) }),
      })
      masked.stack = `${masked.name}: ${masked.message}\n${framesOf(error)}`
      return masked
    },
  }

  function maskParam(param: string | null, decision: Decision): string | null {
    if (param === null) return null
    const shown = text(param, decision)
    return shown === '' && param !== '' ? null : shown
  }
}

function maskFacts(facts: ErrorFacts, mask: (value: string) => string): ErrorFacts {
  return {
    ...facts,
    ...(facts.hint !== undefined && { hint: mask(facts.hint) }),
    ...(facts.construct !== undefined && { construct: mask(facts.construct) }),
  }
}

/**
 * Returns a stand-in for a cause. What a backend or a driver wrote into its message may quote a row, and detectors
 * promise less than silence does, so the log gets what names the place and nothing that could be data.
 */
function withoutMessage(cause: unknown): Error {
  const stand = new Error('')
  stand.name = 'Cause'
  stand.stack = ''
  if (!(cause instanceof Error)) return stand
  if (/^[A-Za-z]{1,64}$/.test(cause.name)) stand.name = cause.name
  stand.stack = `${stand.name}\n${framesOf(cause)}`
  const code: unknown = 'code' in cause ? cause.code : undefined
  return typeof code === 'string' && /^[A-Z0-9_]{1,64}$/.test(code) ? Object.assign(stand, { code }) : stand
}
