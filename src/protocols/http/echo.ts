/**
 * Finds the injected secret in what a service answers. Debug pages and error bodies repeat the request they got; the
 * caller must not read its credential there, in whatever encoding the page chose.
 *
 * @packageDocumentation
 */
import { FormScan } from './echo-scan.ts'

/** What stands for a secret that was found. */
export const ECHO_PLACEHOLDER = '[REDACTED:credential]'

/** Shorter secrets occur by chance; replacing them would destroy answers and tell where they matched. */
const SECRET_CHARS_MIN = 6

/** How long the forms of a secret outlive their last use: a gateway that is idle holds no secret. */
const FORGOTTEN_MS = 2_000

/** Replaces a secret in texts and in streams of bytes. */
export interface EchoFilter {
  /** Masks a text whose characters are bytes, such as the value of a header. */
  text(value: string): string
  /** Masks bytes that are complete. */
  whole(bytes: Buffer): Buffer
  /** Masks bytes that arrive in pieces; what may be the beginning of the secret is held back. */
  stream(): EchoStream
}

/** One stream under a filter. */
export interface EchoStream {
  push(piece: Buffer): Buffer
  end(): Buffer
}

/** Builds the filter of some secrets; `undefined` when there is nothing to look for. */
export function createEchoFilter(secrets: readonly string[]): EchoFilter | undefined {
  const forms = [...new Set(secrets.filter((secret) => secret.length >= SECRET_CHARS_MIN).flatMap(encodings))]
  if (forms.length === 0) return undefined
  const scan = new FormScan(forms, Buffer.from(ECHO_PLACEHOLDER))
  const whole = (bytes: Buffer): Buffer => scan.replace(bytes, true).shown
  return {
    text: (value) => whole(Buffer.from(value, 'latin1')).toString('latin1'),
    whole,
    stream: () => {
      let rest: Buffer = Buffer.alloc(0)
      return {
        push(piece) {
          const { shown, held } = scan.replace(rest.length === 0 ? piece : Buffer.concat([rest, piece]), false)
          rest = held
          return shown
        },
        end: () => whole(rest),
      }
    },
  }
}

/** Keeps the filter of the last secrets for as long as they are in use: building one takes longer than a small answer. */
export class EchoFilters {
  #secrets: readonly string[] = []
  #filter: EchoFilter | undefined
  #timer: NodeJS.Timeout | undefined

  /** The filter of these secrets; `undefined` when there is nothing to look for. */
  of(secrets: readonly string[]): EchoFilter | undefined {
    const isKnown = secrets.length === this.#secrets.length && secrets.every((one, at) => one === this.#secrets[at])
    if (!isKnown) {
      this.#filter = createEchoFilter(secrets)
      this.#secrets = secrets
    }
    if (secrets.length > 0) this.#keep()
    return this.#filter
  }

  close(): void {
    clearTimeout(this.#timer)
    this.#timer = undefined
    this.#secrets = []
    this.#filter = undefined
  }

  #keep(): void {
    if (this.#timer === undefined) this.#timer = setTimeout(() => this.close(), FORGOTTEN_MS).unref()
    else this.#timer.refresh()
  }
}
/** The forms in which a page may repeat a secret, each as the bytes it would have, one character per byte. */
function encodings(secret: string): readonly string[] {
  const bytes = Buffer.from(secret, 'utf8')
  const json = JSON.stringify(secret).slice(1, -1)
  const escaped = secret.replace(/[^]/g, unicodeEscape)
  // Encoders for pages write signs of HTML in JSON so; Go's does it always.
  const jsonInHtml = json.replace(/[&<>]/gu, unicodeEscape)
  const url = encodeURIComponent(secret)
  return [
    bytes.toString('latin1'),
    bytes.toString('hex'),
    url,
    // Python's `quote` leaves slashes, RFC 3986 also wants what JavaScript leaves.
    url.replaceAll('%2F', '/'),
    url.replace(/[!'()*]/gu, (sign) => `%${sign.charCodeAt(0).toString(16)}`),
    new URLSearchParams([['', secret]]).toString().slice(1),
    [...bytes].map((byte) => `%${byte.toString(16).padStart(2, '0')}`).join(''),
    ...[
      json,
      json.replaceAll('/', '\\/'),
      jsonInHtml,
      jsonInHtml.replaceAll('/', '\\/'),
      // Python's writes so what is not ASCII.
      json.replace(/[\u0080-\uffff]/g, unicodeEscape),
      escaped,
      ...HTML_ESCAPES.map((escapes) => secret.replace(/[&<>"']/gu, (sign) => escapes[sign] ?? sign)),
      Array.from(secret).reverse().join(''),
    ].map((text) => Buffer.from(text, 'utf8').toString('latin1')),
    ...base64Forms(bytes),
  ].filter((form) => form.length >= SECRET_CHARS_MIN)
}

const NAMED = { '&': '&amp;', '<': '&lt;', '>': '&gt;' } as const

/** How template engines write the five signs of HTML: by name, in decimal, or, as Python does, in hexadecimal. */
const HTML_ESCAPES: readonly Readonly<Record<string, string>>[] = [
  { ...NAMED, '"': '&quot;' },
  { ...NAMED, '"': '&quot;', "'": '&#39;' },
  { ...NAMED, '"': '&quot;', "'": '&#x27;' },
  { ...NAMED, '"': '&quot;', "'": '&apos;' },
  { ...NAMED, '"': '&#34;', "'": '&#39;' },
  { '&': '&#38;', '<': '&#60;', '>': '&#62;', '"': '&#34;', "'": '&#39;' },
]

/** One UTF-16 unit as JSON and JavaScript escape it. */
function unicodeEscape(unit: string): string {
  return `\\u${unit.charCodeAt(0).toString(16).padStart(4, '0')}`
}

/** Base64 of a text that holds the secret has one of three forms, by where in a group of three bytes it begins. */
function base64Forms(bytes: Buffer): readonly string[] {
  const forms: string[] = []
  for (const lead of [0, 1, 2]) {
    const text = Buffer.concat([Buffer.alloc(lead), bytes])
      .toString('base64')
      .replace(/=+$/u, '')
    // Characters that also hold bits of what stands before or after are not the secret's own.
    const first = lead === 0 ? 0 : lead + 1
    const isWhole = (lead + bytes.length) % 3 === 0
    const own = text.slice(first, isWhole ? undefined : -1)
    forms.push(own, own.replaceAll('+', '-').replaceAll('/', '_'))
  }
  return forms
}
