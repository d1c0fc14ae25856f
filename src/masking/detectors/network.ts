import { type Detector, eachMatch, HIDDEN, isAlphanumeric, isDigit } from './detector.ts'

/** IPv4 addresses in dotted decimal form. Longer dotted numbers and `v1.2.3.4` are versions. */
export const ipv4: Detector = {
  kind: 'ipv4',
  summary: 'IPv4 addresses in dotted decimal form.',
  trigger: (text) => /\d\.\d{1,3}\.\d{1,3}\.\d/.test(text),
  find: eachMatch(/(?<![\d.]|[vV])\d{1,3}\.\d{1,3}\.\d{1,3}\.\d{1,3}(?!\d|\.\d)/g, (value) =>
    value.split('.').every((octet) => Number(octet) <= 255),
  ),
  partial: (value) => `${value.split('.').slice(0, 2).join('.')}.${HIDDEN}.${HIDDEN}`,
}

/** IPv6 addresses (RFC 4291 §2.2), with or without `::` and an embedded IPv4 address. */
export const ipv6: Detector = {
  kind: 'ipv6',
  summary: 'IPv6 addresses, full, compressed or with an embedded IPv4 address.',
  trigger: (text) => /:[0-9a-f]{0,4}:/i.test(text),
  find(text, report) {
    const colons = /:[0-9A-Fa-f]{0,4}:/g
    for (let match = colons.exec(text); match !== null; match = colons.exec(text)) {
      let start = match.index
      let end = match.index + match[0].length
      while (start > 0 && isAddressChar(text.charCodeAt(start - 1))) start--
      while (end < text.length && isAddressChar(text.charCodeAt(end))) end++
      // Each run is looked at once.
      colons.lastIndex = end
      if (isAlphanumeric(text.charCodeAt(start - 1)) || isAlphanumeric(text.charCodeAt(end))) continue
      const address = text
        .slice(start, end)
        .replace(/\.{1,3}$/, '')
        .replace(/(?<!:):$/, '')
      if (isAddress(address)) report(start, start + address.length)
    }
  },
  canonical: (value) => value.toLowerCase(),
  partial: (value) => `${value.split(':')[0] ?? ''}:${HIDDEN.repeat(3)}`,
}

function isAddressChar(code: number): boolean {
  return isDigit(code) || code === 58 || code === 46 || (code >= 65 && code <= 70) || (code >= 97 && code <= 102)
}

function isAddress(text: string): boolean {
  if (text.length > 45 || text.length < 5) return false
  const halves = text.split('::')
  if (halves.length > 2) return false
  const groups = halves.flatMap((half) => (half === '' ? [] : half.split(':')))
  const last = groups.at(-1) ?? ''
  const hasIpv4 = last.includes('.')
  if (hasIpv4 && !/^(?:\d{1,3}\.){3}\d{1,3}$/.test(last)) return false
  const hex = hasIpv4 ? groups.slice(0, -1) : groups
  if (!hex.every((group) => /^[0-9A-Fa-f]{1,4}$/.test(group))) return false
  const count = hex.length + (hasIpv4 ? 2 : 0)
  if (halves.length === 1) return count === 8
  // `A::B` and `face::bad` are names in some languages; an address of a real host holds more than that.
  return count <= 7 && count >= 2 && /\d/.test(text)
}
