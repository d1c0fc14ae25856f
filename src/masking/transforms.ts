import { createHmac, type Hmac } from 'node:crypto'
import type { Transform } from '../core/decision.ts'
import { DETECTORS } from './detectors/index.ts'

/** Turns found values into what may be seen. */
export interface Replacer {
  /** @param value as it reads once disguises are undone. */
  replace(kind: string, transform: Transform, value: string): string
  /** Starts the replacement of a value that arrives in pieces. */
  pieces(kind: string, transform: Transform): { add(piece: string): void; end(): string }
}

/** @param key of the HMAC; whoever has it can test guesses, so it never leaves the gateway. */
export function createReplacer(key: Uint8Array): Replacer {
  const begin = (kind: string): Hmac => createHmac('sha256', key).update(`${kind}\0`)
  return {
    replace(kind, transform, value) {
      const detector = DETECTORS.get(kind)
      switch (transform) {
        case 'redact':
          return redacted(kind)
        case 'null':
          return ''
        case 'partial':
          return detector?.partial?.(value) ?? redacted(kind)
        default:
          return hashed(kind, begin(kind).update(detector?.canonical?.(value) ?? value))
      }
    },
    pieces(kind, transform) {
      const hmac = transform === 'hash' ? begin(kind) : undefined
      return {
        add: (piece) => void hmac?.update(piece),
        end: () => (hmac === undefined ? this.replace(kind, transform, '') : hashed(kind, hmac)),
      }
    },
  }
}

/** What `redact` leaves of a value. */
export function redacted(kind: string): string {
  return `[REDACTED:${kind}]`
}

function hashed(kind: string, hmac: Hmac): string {
  const digest = hmac.digest('hex')
  // Sixteen characters without a long run of decimal digits: a hash must never look like a card number itself.
  const parts = [0, 16, 32, 48].map((from) => digest.slice(from, from + 16))
  return `[HASH:${kind}:h${parts.find((part) => !/\d{12}/.test(part)) ?? 'f'.repeat(16)}]`
}

const PLACEHOLDER =
  /\[(?:REDACTED:((?:custom:)?[A-Za-z][\w-]{0,63})|HASH:((?:custom:)?[A-Za-z][\w-]{0,63}):h[0-9a-f]{16})\]/g

/** An earlier replacement in a text. What begins in it up to `heldUntil` is its own text. */
export interface Placeholder {
  readonly start: number
  readonly heldUntil: number
  readonly end: number
}

/**
 * Returns the earlier replacements in a text, so that masking twice changes nothing.
 *
 * Only the exact form for a kind that exists counts, so nothing can be smuggled in a redaction. The digits of a hash
 * are searched like other text: somebody could have written a number there.
 */
export function placeholdersIn(text: string, kinds: ReadonlySet<string>): readonly Placeholder[] {
  if (!text.includes('[REDACTED:') && !text.includes('[HASH:')) return []
  const found: Placeholder[] = []
  for (const { 0: whole, 1: redactedKind, 2: hashedKind = '', index } of text.matchAll(PLACEHOLDER)) {
    const kind = redactedKind ?? hashedKind
    if (!DETECTORS.has(kind) && !kinds.has(kind)) continue
    const end = index + whole.length
    found.push({ start: index, heldUntil: redactedKind === undefined ? end - 18 : end - 1, end })
  }
  return found
}
