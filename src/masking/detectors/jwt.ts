import type { Detector } from './detector.ts'

/** JSON Web Tokens (RFC 7519; JWS and JWE compact form): the header must decode to a header. */
export const jwt: Detector = {
  kind: 'jwt',
  summary: 'JSON Web Tokens, signed, encrypted or unsecured.',
  trigger: (text) => text.includes('eyJ'),
  find(text, report) {
    for (const { 0: run, index } of text.matchAll(/eyJ[A-Za-z0-9_.-]{12,}/g)) {
      const start = tokenStart(run)
      if (start !== undefined) report(index + start, index + run.replace(/[.-]+$/, '').length)
    }
  },
}

/** How many beginnings in one run are looked at. Whoever glues more than that together is hiding something. */
const STARTS_MAX = 16

/** Returns where in a run of token characters the first token begins. */
function tokenStart(run: string): number | undefined {
  let tries = 0
  for (let start = 0; start >= 0; start = run.indexOf('eyJ', start + 1)) {
    const dot = run.indexOf('.', start)
    if (dot < 0 || run.length < dot + 3) return undefined
    // Fail closed: a run of many false headers is masked whole instead of searched for ever.
    if (++tries > STARTS_MAX || isHeader(run.slice(start, Math.min(dot, start + 8192)))) return start
  }
  return undefined
}

function isHeader(segment: string): boolean {
  const decoded = Buffer.from(segment, 'base64url').toString('latin1')
  return /^\{[\s\S]{0,6000}?"(?:alg|enc|typ|kid|cty)"/.test(decoded)
}
