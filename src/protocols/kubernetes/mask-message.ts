/**
 * Messages of the server quote what they are about: the bytes around a mistake in a body, whole structures with every
 * variable of a pod, or the difference between the object that is there and the one that was sent. Nothing in them tells
 * which of it is secret, so everything that is a quotation of an object goes.
 */
export function scrubMessage(text: string, isSecret: boolean): string {
  // A server lists every mistake there is; nobody reads the ten thousandth, and each costs a look at all that follow.
  return scrubbed(text.length > MESSAGE_MAX ? `${text.slice(0, MESSAGE_MAX)} … (cut)` : text, isSecret)
}

/** Characters of a message that are shown. */
const MESSAGE_MAX = 16 * 1024

function scrubbed(text: string, isSecret: boolean): string {
  // apimachinery's decoder: `…, error found in #10 byte of ...|<body>|..., bigger context ...|<more body>|...`
  const decoded = text.replace(/,? ?error found in #\d+ byte of[\s\S]*$/u, '')
  // Field errors: `spec.template: Invalid value: core.PodTemplateSpec{…}: field is immutable`.
  const valued = decoded.replace(
    /(Invalid value|Unsupported value|Duplicate value): (?!$)([\s\S]*)$/u,
    (_, what: string, rest: string) => {
      const plain = isSecret
        ? undefined
        : /^(?:"[^"\\\n]{0,128}"|-?\d+(?:\.\d+)?|true|false|null)(?=:|,|\]|$)/u.exec(rest)
      if (plain === null || plain === undefined) return `${what}: (not shown)`
      return `${what}: ${plain[0]}${scrubbed(rest.slice(plain[0].length), isSecret)}`
    },
  )
  // Differences follow on lines of their own.
  const [line = ''] = valued.split(/[\n\r]/u)
  const cut = /\b[a-z0-9]+\.[A-Z]\w*\{/u.exec(line)
  return cut === null ? line : `${line.slice(0, cut.index)}(not shown)`
}
