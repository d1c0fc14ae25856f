/**
 * Finds the injected secret in what a service answers. Debug pages and error bodies repeat the request they got; the
 * caller must not read its credential there, in whatever encoding the page chose.
 *
 * @packageDocumentation
 */

/** What stands for a secret that was found. */
export const ECHO_PLACEHOLDER = '[REDACTED:credential]'

/** Shorter secrets occur by chance; replacing them would destroy answers and tell where they matched. */
const SECRET_CHARS_MIN = 6

/** Replaces a secret in texts and in streams of bytes. */
export interface EchoFilter {
  text(value: string): string
  /** Masks bytes that arrive in pieces; what may be the beginning of the secret is held back. */
  stream(): { push(piece: Buffer): Buffer; end(): Buffer }
}

/** Builds the filter of one call; `undefined` when there is nothing to look for. */
export function createEchoFilter(secrets: readonly string[]): EchoFilter | undefined {
  const needles = [...new Set(secrets.filter((secret) => secret.length >= SECRET_CHARS_MIN).flatMap(encodings))].sort(
    (a, b) => b.length - a.length,
  )
  const [longest] = needles
  if (longest === undefined) return undefined
  const lower = needles.map((needle) => needle.toLowerCase())
  const pattern = new RegExp(needles.map(literally).join('|'), 'giu')
  // How much of a text's end may be the beginning of a form; everything before goes on at once, as events need it to.
  const heldOf = (text: string): number => {
    const tail = text.slice(-(longest.length - 1)).toLowerCase()
    for (let from = 0; from < tail.length; from++) {
      if (lower.some((needle) => needle.length > tail.length - from && needle.startsWith(tail.slice(from)))) {
        return tail.length - from
      }
    }
    return 0
  }
  return {
    text: (value) => value.replace(pattern, ECHO_PLACEHOLDER),
    stream: () => {
      // One character per byte, so that nothing depends on where a piece ends or on what encoding it has.
      let rest = ''
      return {
        push(piece) {
          const text = (rest + piece.toString('latin1')).replace(pattern, ECHO_PLACEHOLDER)
          const cut = text.length - heldOf(text)
          rest = text.slice(cut)
          return Buffer.from(text.slice(0, cut), 'latin1')
        },
        end: () => Buffer.from(rest, 'latin1'),
      }
    },
  }
}

/** The forms in which a page may repeat a secret, each as the bytes it would have, one character per byte. */
function encodings(secret: string): readonly string[] {
  const bytes = Buffer.from(secret, 'utf8')
  const json = JSON.stringify(secret).slice(1, -1)
  const escaped = Array.from(secret, (sign) => `\\u${sign.charCodeAt(0).toString(16).padStart(4, '0')}`).join('')
  const html = secret.replace(/[&<>"']/gu, (sign) => `&#${sign.charCodeAt(0)};`)
  const named = secret
    .replaceAll('&', '&amp;')
    .replaceAll('<', '&lt;')
    .replaceAll('>', '&gt;')
    .replaceAll('"', '&quot;')
  return [
    bytes.toString('latin1'),
    bytes.toString('hex'),
    encodeURIComponent(secret),
    new URLSearchParams([['', secret]]).toString().slice(1),
    [...bytes].map((byte) => `%${byte.toString(16).padStart(2, '0')}`).join(''),
    ...[json, json.replaceAll('/', '\\/'), escaped, html, named, Array.from(secret).reverse().join('')].map((text) =>
      Buffer.from(text, 'utf8').toString('latin1'),
    ),
    ...base64Forms(bytes),
  ].filter((form) => form.length >= SECRET_CHARS_MIN)
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

function literally(text: string): string {
  return text.replace(/[\\^$.*+?()[\]{}|/-]/gu, '\\$&')
}
