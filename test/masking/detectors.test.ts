import { describe, expect, it } from 'vitest'
import { DETECTORS } from '../../src/masking/detectors/index.ts'
import { looking, masking } from './support.ts'

/** Kind, text, and what `redact` by that detector alone leaves, with `#` for the placeholder. */
const FINDS: readonly (readonly [kind: string, text: string, shown: string])[] = [
  ['email', 'write to jane@example.com.', 'write to #.'],
  ['email', '<bob.smith+tag@mail.example.co.uk>', '<#>'],
  ['email', 'to=jane@example.com&x=1', 'to=#&x=1'],
  ['email', 'a@b.io,c@d.io', '#,#'],
  ['email', `${'x'.repeat(200)}@example.com`, '#'],
  ['email', 'jörg@müller.example', '#'],
  ['email', "'jane@example.com'", "'#'"],
  ['email', 'mailto:jane@example.com', 'mailto:#'],
  ['credit_card', '4111111111111111', '#'],
  ['credit_card', '4111 1111 1111 1111', '#'],
  ['credit_card', '5500-0000-0000-0004', '#'],
  ['credit_card', '3782.822463.10005', '#'],
  ['credit_card', '378282246310005', '#'],
  ['credit_card', '6011000990139424 exp 12/30', '# exp 12/30'],
  ['credit_card', '4111 1111 1111 1111 123', '# 123'],
  ['credit_card', 'no 12 4111 1111 1111 1111', 'no 12 #'],
  ['credit_card', '4111111111111111 5500000000000004', '# #'],
  ['credit_card', '4111111111111111,5500000000000004', '#,#'],
  ['credit_card', 'x4111111111111111', 'x#'],
  ['credit_card', 'VISA4111111111111111', 'VISA#'],
  ['credit_card', '2221000000000009', '#'],
  ['credit_card', '4222222222222', '#'],
  ['us_ssn', '123-45-6789', '#'],
  ['us_ssn', '123 45 6789, x', '#, x'],
  ['us_ssn', 'SSN123-45-6789', 'SSN#'],
  ['us_ssn', 'ssn: 123456789', 'ssn: #'],
  ['us_ssn', '{"ssn":"123456789"}', '{"ssn":"#"}'],
  ['us_ssn', 'social security number is 123456789', 'social security number is #'],
  ['phone', 'call +49 30 1234567', 'call #'],
  ['phone', '+14155552671', '#'],
  ['phone', '(415) 555-2671', '#'],
  ['phone', '415-555-2671 x', '# x'],
  ['phone', '1-415-555-2671', '#'],
  ['iban', 'DE89 3704 0044 0532 0130 00', '#'],
  ['iban', 'GB82WEST12345698765432.', '#.'],
  ['iban', 'nl91abna0417164300', '#'],
  ['ipv4', 'from 10.1.2.3:8080', 'from #:8080'],
  ['ipv4', 'host10.1.2.3', 'host#'],
  ['ipv4', 'at 192.168.0.1.', 'at #.'],
  ['ipv6', '2001:db8::1', '#'],
  ['ipv6', '[2001:0db8:0000:0000:0000:ff00:0042:8329]:443', '[#]:443'],
  ['ipv6', 'fe80::1%eth0', '#%eth0'],
  ['ipv6', '::ffff:192.0.2.128', '#'],
  ['aws_access_key', 'AKIAIOSFODNN7EXAMPLE', '#'],
  ['aws_access_key', 'key=ASIAY34FZKBOKMUTVV7A;', 'key=#;'],
  ['aws_secret_key', 'wJalrXUtnFEMI/K7MDENG/bPxRfiCYEXAMPLEKEY', '#'],
  ['aws_secret_key', 'secret_access_key = "wJalrXUtnFEMI0K7MDENG9bPxRfiCYEXAMPLEKEY"', 'secret_access_key = "#"'],
  ['github_token', 'ghp_0123456789abcdefghijABCDEFGHIJ012345', '#'],
  ['github_token', 'xghp_0123456789abcdefghijABCDEFGHIJ012345', 'x#'],
  ['github_token', `github_pat_${'a1B2_'.repeat(16)}`, '#'],
  ['slack_token', 'xoxb-1234567890-abcdefghij', '#'],
  ['slack_token', 'https://hooks.slack.com/services/T00000000/B00000000/XXXXXXXXXXXXXXXXXXXXXXXX', 'https://#'],
  ['stripe_key', 'sk_live_4eC39HqLyjWDarjtT1zdp7dc', '#'],
  ['stripe_key', 'whsec_0123456789abcdef0123', '#'],
  ['google_api_key', 'AIzaSyA1234567890abcdefghijklmnopqrstuv', '#'],
  ['google_api_key', 'ya29.a0AfH6SMBx1234567890abcdef', '#'],
  ['jwt', 'eyJhbGciOiJIUzI1NiJ9.eyJzdWIiOiIxIn0.dozjgNryP4J3jVmNHl0w5N_XgL0n3I9PlFUP0THsR8U', '#'],
  ['jwt', 'eyJhbGciOiJub25lIn0.eyJzdWIiOiIxIn0.', '#.'],
  ['jwt', 'eyJx.eyJhbGciOiJIUzI1NiJ9.eyJzdWIiOiIxIn0.abc', 'eyJx.#'],
  ['private_key', '-----BEGIN PRIVATE KEY-----\nMIIEvQ==\n-----END PRIVATE KEY-----', '#'],
  [
    'private_key',
    'a\n-----BEGIN OPENSSH PRIVATE KEY-----\nb3BlbnNzaC1rZXk\n-----END OPENSSH PRIVATE KEY-----\nb',
    'a\n#\nb',
  ],
  ['private_key', '{"k":"-----BEGIN RSA PRIVATE KEY-----\\nMII\\n-----END RSA PRIVATE KEY-----\\n"}', '{"k":"#\\n"}'],
  ['private_key', '-----BEGIN RSA PRIVATE KEY-----\nProc-Type: 4,ENCRYPTED\n\nMIIEpAIBAAKCAQEA0Z3\nabc==', '#'],
  [
    'private_key',
    '-----BEGIN RSA PRIVATE KEY-----\nMIIEpAIBAAKCAQEA0Z3\nand this is prose again',
    '#\nand this is prose again',
  ],
  [
    'private_key',
    '---- BEGIN SSH2 ENCRYPTED PRIVATE KEY ----\nP2/56wAAAgIAAAAm\n---- END SSH2 ENCRYPTED PRIVATE KEY ----',
    '#',
  ],
  ['private_key', '-----BEGIN PGP PRIVATE KEY BLOCK-----\n\nlQOYBF\n=abcd\n-----END PGP PRIVATE KEY BLOCK-----!', '#!'],
  [
    'private_key',
    '1:-----BEGIN RSA PRIVATE KEY-----\n2:MIIEpAIBAAKCAQEA0Z3\n3:abc=\n4:-----END RSA PRIVATE KEY-----\n5:x',
    '1:#\n5:x',
  ],
  ['bearer', 'Authorization: Bearer abcdef1234567890', 'Authorization: Bearer #'],
  ['bearer', '-H "authorization: basic dXNlcjpwYXNz" http://x', '-H "authorization: basic #" http://x'],
  ['bearer', '{"Authorization":"Token 0a1b"}', '{"Authorization":"Token #"}'],
  ['bearer', 'sent Bearer abcdef1234567890', 'sent Bearer #'],
  [
    'bearer',
    'Proxy-Authorization: Digest username="u", response="r"',
    'Proxy-Authorization: Digest #"u", response="r"',
  ],
  ['password_assignment', 'password=hunter2', 'password=#'],
  ['password_assignment', 'PGPASSWORD=x psql', 'PGPASSWORD=# psql'],
  ['password_assignment', '{"password": "s3c\\"ret", "a": 1}', '{"password": "#", "a": 1}'],
  ['password_assignment', '{"password":1234,"a":1}', '{"password":#,"a":1}'],
  ['password_assignment', 'db_pass: foo', 'db_pass: #'],
  ['password_assignment', 'mysql --password hunter2 db', 'mysql --password # db'],
  ['password_assignment', "ALTER ROLE app PASSWORD 'abc'", "ALTER ROLE app PASSWORD '#'"],
  ['password_assignment', "CREATE USER x IDENTIFIED BY 'abc'", "CREATE USER x IDENTIFIED BY '#'"],
  ['password_assignment', '<password>a b</password>', '<password>#</password>'],
  ['password_assignment', `password=${'p'.repeat(5000)} x`, 'password=# x'],
  ['password_assignment', 'password="open', 'password="#'],
  ['url_password', 'postgres://app:s3cret@db/shop', 'postgres://app:#@db/shop'],
  ['url_password', 'postgres://app:p@ss@db/shop', 'postgres://app:#@db/shop'],
  ['url_password', 'postgres://app:p#s/s@db/shop', 'postgres://app:#@db/shop'],
  ['url_password', 'redis://:s3cret@cache', 'redis://:#@cache'],
  ['url_password', 'https://0123456789abcdef01234567@github.com/x', 'https://#@github.com/x'],
  ['generic_secret', 'token=abcd1234efgh5678', 'token=#'],
  ['generic_secret', 'api_key: "Zx81kLmQ02vTyU"', 'api_key: "#"'],
  ['generic_secret', 'CLIENT_SECRET=8f14e45fceea167a5a36dedd4bea2543', 'CLIENT_SECRET=#'],
]

/** Kind, and a text in which it must find nothing. */
const LEAVES: readonly (readonly [kind: string, text: string])[] = [
  ['email', 'user@localhost, @mention, a@b, icon@2x.png, x@'],
  ['credit_card', '4111111111111112'], // wrong check digit
  ['credit_card', '9999999999999995'], // no issuer
  ['credit_card', '41111111111111110000000'], // inside a longer number
  ['credit_card', 'deadbeef4111111111111111'], // inside a hash
  ['credit_card', '4111111111111111abcdef'],
  ['credit_card', '0.4111111111111111'],
  ['credit_card', '41111111-1111-1111-1111-411111111111'],
  ['credit_card', '2024-01-15 10:00:00 1700000000000'],
  ['us_ssn', '000-12-3456 666-12-3456 900-12-3456 999-99-9999 123-00-4567 123-45-0000'],
  ['us_ssn', '123456789 and order 123456789'],
  ['us_ssn', '123-45-67890 1123-45-6789 123-45.6789'],
  ['phone', '4155552671 1700000000 2024-01-15 10.20.30.40 +12 1+14155552671'],
  ['phone', '115-555-2671 415-155-2671'],
  ['iban', 'DE00370400440532013000 XX89370400440532013000 DE8937040044053201300'],
  ['ipv4', 'v1.2.3.4 1.2.3.4.5 256.1.1.1 1.2.3'],
  ['ipv6', '10:00:00 aa:bb:cc:dd:ee:ff std::vector A::B :: a:b'],
  ['aws_access_key', 'AKIASHORT AKIAIOSFODNN7EXAMPLEX akiaiosfodnn7example'],
  ['aws_secret_key', 'da39a3ee5e6b4b0d3255bfef95601890afd80709'],
  ['aws_secret_key', 'src/components/somewhere/deep/and/lower1'],
  ['github_token', 'ghp_short github_pat_x'],
  ['slack_token', 'xoxb- xox'],
  ['stripe_key', 'pk_live_4eC39HqLyjWDarjtT1zdp7dc sk_live_x task_live_x'],
  ['google_api_key', 'AIzaShort'],
  ['jwt', 'eyJxxxxxxxxxxxxxxx.abc.def eyJ'],
  ['private_key', '-----BEGIN PUBLIC KEY-----\nMIIBIjAN\n-----END PUBLIC KEY-----\n-----BEGIN CERTIFICATE-----\nMII\n'],
  ['bearer', 'Basic authentication is a bearer of news'],
  ['bearer', 'Authorization: Bearer ${TOKEN}'],
  ['password_assignment', 'password IS NOT NULL, password text, max_tokens=4096, pass the salt, passwords: 3'],
  ['password_assignment', 'password=$1 password=? password: null password=**** password=${PW} password={{ pw }}'],
  ['password_assignment', 'password::text'],
  ['url_password', 'https://example.com:80/x@y https://user@example.com/ http://a.b/c'],
  ['generic_secret', 'token=placeholder-value max_tokens=4096 secretKeyRef: name token_type=bearer'],
]

function redact(kind: string, text: string): string {
  return masking.text(text, looking({ detector: kind, transform: 'redact' }))
}

describe('a detector', () => {
  it.each(FINDS)('%s finds its value in %j', (kind, text, shown) => {
    expect(redact(kind, text)).toBe(shown.replaceAll('#', `[REDACTED:${kind}]`))
  })

  it.each(LEAVES)('%s leaves %j alone', (kind, text) => {
    expect(redact(kind, text)).toBe(text)
  })

  it.each([...DETECTORS.keys()])('%s has rows in both tables', (kind) => {
    expect(FINDS.filter(([found]) => found === kind)).not.toHaveLength(0)
    expect(LEAVES.filter(([left]) => left === kind)).not.toHaveLength(0)
  })

  it.each(FINDS)('%s triggers on whatever it finds in %j', (kind, text) => {
    const detector = DETECTORS.get(kind)
    expect(detector?.trigger(text)).toBe(true)
  })
})

const PARTIALS: readonly (readonly [kind: string, value: string, shown: string])[] = [
  ['email', 'jane@example.com', 'j•••@example.com'],
  ['email', 'jo@example.com', '•••@example.com'],
  ['credit_card', '4111-1111-1111-1111', '••••••••••••1111'],
  ['us_ssn', '123-45-6789', '•••-••-6789'],
  ['phone', '+49 30 1234567', '••••••67'],
  ['iban', 'DE89 3704 0044 0532 0130 00', 'DE••••••••3000'],
  ['ipv4', '10.1.2.3', '10.1.•.•'],
  ['ipv6', '2001:db8::1', '2001:•••'],
  ['aws_access_key', 'AKIAIOSFODNN7EXAMPLE', 'AKIA••••••••MPLE'],
  ['github_token', 'ghp_0123456789abcdefghijABCDEFGHIJ012345', 'ghp_••••••••'],
  ['slack_token', 'xoxb-1234567890-abcdefghij', 'xoxb-••••••••'],
  ['stripe_key', 'sk_live_4eC39HqLyjWDarjtT1zdp7dc', 'sk_live_••••••••'],
  ['google_api_key', 'AIzaSyA1234567890abcdefghijklmnopqrstuv', 'AIza••••••••'],
  ['password_assignment', 'password=hunter2', 'password=[REDACTED:password_assignment]'],
  ['private_key', '-----BEGIN PRIVATE KEY-----\nMII', '[REDACTED:private_key]'],
]

describe('the transforms', () => {
  it.each(PARTIALS)('partial keeps of %s %j only a harmless piece', (kind, value, shown) => {
    expect(masking.text(value, looking({ detector: kind, transform: 'partial' }))).toBe(shown)
  })

  it('hash gives equal values equal names, whatever their spelling, and kinds different ones', () => {
    const hash = (detector: string, text: string) => masking.text(text, looking({ detector, transform: 'hash' }))
    const one = hash('credit_card', '4111111111111111')
    expect(one).toMatch(/^\[HASH:credit_card:h[0-9a-f]{16}\]$/)
    expect(hash('credit_card', '4111 1111 1111 1111')).toBe(one)
    expect(hash('credit_card', '４１１１１１１１１１１１１１１１')).toBe(one)
    expect(hash('credit_card', '5500000000000004')).not.toBe(one)
    expect(hash('email', 'Jane@Example.com')).toBe(hash('email', 'jane@example.com'))
    expect(hash('us_ssn', '123-45-6789').slice(-18)).not.toBe(hash('phone', '+123456789').slice(-18))
  })

  it('null removes the value from a text', () => {
    expect(masking.text('a jane@example.com b', looking({ detector: 'email', transform: 'null' }))).toBe('a  b')
  })
})

/** Texts made to make a careless pattern slow. `n` is how many characters they have, about. */
const ADVERSARIAL: Readonly<Record<string, (n: number) => string>> = {
  digits: (n) => '4'.repeat(n),
  'spaced digits': (n) => '4 '.repeat(n / 2),
  'digits and separators': (n) => '4-1.1,1 '.repeat(n / 8),
  'groups of four': (n) => '4111 '.repeat(n / 5),
  words: (n) => 'a'.repeat(n),
  hex: (n) => 'abcdef0123'.repeat(n / 10),
  'at signs': (n) => '@'.repeat(n),
  'almost addresses': (n) => 'a@a.'.repeat(n / 4),
  dots: (n) => 'a.'.repeat(n / 2),
  octets: (n) => '1.1.1.'.repeat(n / 6),
  colons: (n) => ':'.repeat(n),
  'groups and colons': (n) => '1:a:'.repeat(n / 4),
  'headers of tokens': (n) => 'eyJ'.repeat(n / 3),
  'headers with dots': (n) => 'eyJhbGciOi.eyJ.'.repeat(n / 15),
  'password chains': (n) => 'password='.repeat(n / 9),
  'password and blanks': (n) => `password${' '.repeat(n)}`,
  'open quotes': (n) => 'password="\\'.repeat(n / 11),
  'token chains': (n) => 'token="'.repeat(n / 7),
  'token colon': (n) => 'token: secret: '.repeat(n / 15),
  schemes: (n) => 'a://b:c'.repeat(n / 7),
  'schemes and at': (n) => `${'a://b:'.repeat(n / 6)}@`,
  bearers: (n) => 'Bearer '.repeat(n / 7),
  authorizations: (n) => 'authorization:'.repeat(n / 14),
  prefixes: (n) => 'AKIAghp_xoxb-sk_live_AIza'.repeat(n / 25),
  'slack dashes': (n) => `xoxb${'-'.repeat(n)}`,
  countries: (n) => 'DE89 '.repeat(n / 5),
  'iban run': (n) => `DE89${'A '.repeat(n / 2)}`,
  'key marks': (n) => '-----BEGIN '.repeat(n / 11),
  dashes: (n) => '-'.repeat(n),
  'keys on lines': (n) => '-----BEGIN PRIVATE KEY-----\nx y z prose\n'.repeat(n / 40),
  escapes: (n) => '\\u0040'.repeat(n / 6),
  backslashes: (n) => '\\'.repeat(n),
  percents: (n) => '%41%'.repeat(n / 4),
  'terminal escapes': (n) => '\u001b['.repeat(n / 2),
  'open terminal titles': (n) => '\u001b]'.repeat(n / 2),
  'zero widths': (n) => '\u200b'.repeat(n),
  placeholders: (n) => '[REDACTED:email]'.repeat(n / 16),
  'plus signs': (n) => '+1 ('.repeat(n / 4),
  'ssn words': (n) => 'ssn 12345678'.repeat(n / 12),
  base64: (n) => 'aB3/'.repeat(n / 4),
}

describe('against a text made to be slow', () => {
  const decision = looking(...[...DETECTORS.keys()].map((detector) => ({ detector, transform: 'redact' as const })))
  // Processor time, because the machine does other things as well.
  const timed = (text: string): number => {
    const start = process.cpuUsage()
    masking.text(text, decision)
    return process.cpuUsage(start).user / 1_000
  }

  it.each(Object.entries(ADVERSARIAL))('stays linear on %s', (_name, make) => {
    const line = 30_000
    timed(make(line)) // compiled and warm
    const one = Math.min(...[0, 1, 2].map(() => timed(make(line))))
    const two = Math.min(...[0, 1, 2].map(() => timed(make(2 * line))))
    // Quadratic cost would be 4; a collection of garbage in between is forgiven.
    expect(two).toBeLessThan(3 * one + 25)
  })

  it.each(Object.entries(ADVERSARIAL))('takes 300 kilobytes of %s in bounded time', (_name, make) => {
    expect(timed(make(300_000))).toBeLessThan(2_000)
  })
})
