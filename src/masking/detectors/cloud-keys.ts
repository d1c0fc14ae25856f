import { charSet, type Detector, eachMatch, entropyOf, HIDDEN, holdsAny, nextRun } from './detector.ts'

/** AWS access key ids (IAM user guide, "Understanding unique ID prefixes"): those that come with a secret. */
export const awsAccessKey: Detector = {
  kind: 'aws_access_key',
  summary: 'AWS access key ids (`AKIA…`, `ASIA…` and older prefixes).',
  trigger: holdsAny('AKIA', 'ASIA', 'ABIA', 'ACCA', 'A3T'),
  find: eachMatch(/(?<![A-Z0-9])(?:AKIA|ASIA|ABIA|ACCA|A3T[A-Z0-9])[A-Z0-9]{16}(?![A-Z0-9])/g),
  partial: (value) => value.slice(0, 4) + HIDDEN.repeat(8) + value.slice(-4),
}

/**
 * AWS secret access keys: 40 characters of base64 that look random. A commit hash has 40 characters as well, but no
 * capitals; a path has slashes, but not that much entropy. A word on the line that says what it is lowers the bar.
 */
export const awsSecretKey: Detector = {
  kind: 'aws_secret_key',
  summary: 'AWS secret access keys: 40 random-looking base64 characters.',
  trigger: (text) => nextRun(text, 0, BASE64, SECRET_LENGTH) !== undefined,
  find(text, report) {
    for (
      let run = nextRun(text, 0, BASE64, SECRET_LENGTH);
      run !== undefined;
      run = nextRun(text, run.end, BASE64, SECRET_LENGTH)
    ) {
      const { start, end } = run
      if (end - start === SECRET_LENGTH && text.charAt(end) !== '=' && isSecret(text, start, end)) report(start, end)
    }
  },
}

const SECRET_LENGTH = 40

const BASE64 = charSet(/[A-Za-z0-9/+]/)

function isSecret(text: string, start: number, end: number): boolean {
  const value = text.slice(start, end)
  if (!/[A-Z]/.test(value) || !/[a-z]/.test(value) || !/\d/.test(value)) return false
  const line = text.slice(Math.max(0, start - 80), start)
  const isNamed = /aws|secret|access.?key|A[KS]IA/i.test(line.slice(line.lastIndexOf('\n') + 1))
  return entropyOf(value) >= (isNamed ? 3.5 : 4.3)
}

/** Google API keys, OAuth client secrets and access tokens. */
export const googleApiKey: Detector = {
  kind: 'google_api_key',
  summary: 'Google API keys (`AIza…`), OAuth client secrets (`GOCSPX-…`) and access tokens (`ya29.…`).',
  trigger: holdsAny('AIza', 'GOCSPX-', 'ya29.'),
  find: eachMatch(/AIza[A-Za-z0-9_-]{35}(?![A-Za-z0-9_-])|GOCSPX-[A-Za-z0-9_-]{20,}|ya29\.[A-Za-z0-9_-]{20,}/g),
  partial: (value) => value.slice(0, 4) + HIDDEN.repeat(8),
}
