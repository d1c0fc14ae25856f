/**
 * kubectl's command line as the tool takes it: words, never a text. Each verb has its flags; a flag that is unknown, or
 * given twice, is refused and not guessed, and so is every flag about where to connect and as whom.
 *
 * @packageDocumentation
 */
import { SallyportError } from '../../core/errors.ts'
import { insteadOf } from './instead.ts'
import type { ToolPayload } from './payload.ts'

type Fields = { -readonly [key in keyof ToolPayload]?: ToolPayload[key] }

interface Flag {
  readonly name: string
  readonly short?: string
  /** Takes a value; else it is set by being there. */
  readonly reads?: (value: string, fields: Fields) => void
  readonly sets?: (fields: Fields) => void
}

/** Flags that say where to connect, as whom, or what to read from elsewhere. */
const FORBIDDEN: ReadonlySet<string> = new Set([
  'server',
  's',
  'kubeconfig',
  'context',
  'cluster',
  'user',
  'token',
  'as',
  'as-group',
  'as-uid',
  'as-user-extra',
  'client-certificate',
  'client-key',
  'certificate-authority',
  'insecure-skip-tls-verify',
  'tls-server-name',
  'username',
  'password',
  'cache-dir',
  'profile',
  'profile-output',
  'log-file',
  'log-dir',
  'v',
  'vmodule',
  'raw',
  'f',
  'filename',
  'k',
  'kustomize',
  'patch-file',
  'from-file',
  'template',
  'allow-missing-template-keys',
  'kuberc',
  'proxy-url',
])

const integer = (value: string, flag: string): number => {
  if (!/^\d{1,9}$/u.test(value)) throw invalid(`--${flag} takes a number.`)
  return Number(value)
}

const FLAGS = {
  namespace: { name: 'namespace', short: 'n', reads: (value, fields) => (fields.namespace = value) },
  all: { name: 'all-namespaces', short: 'A', sets: (fields) => (fields.all_namespaces = true) },
  selector: { name: 'selector', short: 'l', reads: (value, fields) => (fields.selector = value) },
  fieldSelector: { name: 'field-selector', reads: (value, fields) => (fields.field_selector = value) },
  output: {
    name: 'output',
    short: 'o',
    reads: (value, fields) => {
      const known = (['json', 'yaml', 'table', 'name'] as const).find((one) => one === value)
      if (known === undefined)
        throw invalid('The output is json, yaml, table or name; it is written here, after masking.')
      fields.output = known
    },
  },
  limit: { name: 'limit', reads: (value, fields) => (fields.limit = integer(value, 'limit')) },
  container: { name: 'container', short: 'c', reads: (value, fields) => (fields.container = value) },
  tail: { name: 'tail', reads: (value, fields) => (fields.tail_lines = integer(value, 'tail')) },
  since: {
    name: 'since',
    reads: (value, fields) => {
      const [, digits, unit = ''] = /^(\d{1,6})([smh])$/u.exec(value) ?? []
      if (digits === undefined) throw invalid('--since takes a time such as 10m.')
      fields.since_seconds = Number(digits) * ({ s: 1, m: 60, h: 3600 }[unit] ?? 1)
    },
  },
  previous: { name: 'previous', short: 'p', sets: (fields) => (fields.previous = true) },
  timestamps: { name: 'timestamps', sets: (fields) => (fields.timestamps = true) },
  replicas: { name: 'replicas', reads: (value, fields) => (fields.replicas = integer(value, 'replicas')) },
  patch: { name: 'patch', short: 'p', reads: (value, fields) => (fields.patch = value) },
  type: {
    name: 'type',
    reads: (value, fields) => {
      const known = (['strategic', 'merge', 'json'] as const).find((one) => one === value)
      if (known === undefined) throw invalid('--type is strategic, merge or json.')
      fields.patch_type = known
    },
  },
  overwrite: { name: 'overwrite', sets: () => undefined },
  toRevision: { name: 'to-revision', reads: (value, fields) => (fields.revision = integer(value, 'to-revision')) },
  dryRun: {
    name: 'dry-run',
    reads: (value, fields) => {
      if (value !== 'server') throw invalid('--dry-run=server is the only form: nothing is tried out here.')
      fields.dry_run = true
    },
  },
  grace: { name: 'grace-period', reads: (value, fields) => (fields.grace_seconds = integer(value, 'grace-period')) },
  cascade: {
    name: 'cascade',
    reads: (value, fields) => {
      const known = { background: 'Background', foreground: 'Foreground', orphan: 'Orphan' } as const
      const found = Object.entries(known).find(([name]) => name === value)?.[1]
      if (found === undefined) throw invalid('--cascade is background, foreground or orphan.')
      fields.propagation = found
    },
  },
  ignoreDaemonsets: { name: 'ignore-daemonsets', sets: (fields) => (fields.ignore_daemonsets = true) },
  emptydir: { name: 'delete-emptydir-data', sets: (fields) => (fields.delete_emptydir_data = true) },
  subresource: { name: 'subresource', reads: (value, fields) => (fields.subresource = value) },
} as const satisfies Readonly<Record<string, Flag>>

type FlagName = keyof typeof FLAGS

interface Verb {
  readonly flags: readonly FlagName[]
  /** Takes the words that are no flags. */
  readonly words: (words: readonly string[], fields: Fields) => void
}

const object = (words: readonly string[], fields: Fields): void => {
  const [resource, name, ...more] = words
  if (more.length > 0) throw invalid('Name one object: several are several calls.')
  if (resource !== undefined) fields.resource = resource
  if (name !== undefined) fields.name = name
}

/** `web-1`, `pod/web-1`; the kind is known. */
const one = (words: readonly string[], fields: Fields): void => {
  const [name, ...more] = words
  if (more.length > 0) throw invalid('Name one object.')
  if (name?.includes('/') === true) fields.resource = name
  else if (name !== undefined) fields.name = name
}

const keyed =
  (which: 'labels' | 'annotations') =>
  (words: readonly string[], fields: Fields): void => {
    const at = words.findIndex((word, index) => index > 0 && (word.includes('=') || word.endsWith('-')))
    if (at < 0) throw invalid('Give at least one key=value, or key- to take it away.')
    object(words.slice(0, at), fields)
    const values = new Map<string, string | null>()
    for (const word of words.slice(at)) {
      const [, key = '', value] = /^([^=]+?)(?:=(.*)|-)$/su.exec(word) ?? []
      if (key === '') throw invalid('Write key=value, or key- to take it away.')
      if (values.has(key)) throw invalid('A key is given twice.')
      values.set(key, value ?? null)
    }
    fields[which] = Object.fromEntries(values)
  }

const VERBS: Readonly<Record<string, Verb>> = {
  get: { flags: ['namespace', 'all', 'selector', 'fieldSelector', 'output', 'limit', 'subresource'], words: object },
  describe: { flags: ['namespace'], words: object },
  events: { flags: ['namespace', 'all', 'fieldSelector', 'output', 'limit'], words: object },
  logs: { flags: ['namespace', 'container', 'tail', 'since', 'previous', 'timestamps'], words: one },
  top: { flags: ['namespace', 'all', 'selector', 'output'], words: object },
  patch: { flags: ['namespace', 'patch', 'type', 'dryRun', 'output', 'subresource'], words: object },
  label: { flags: ['namespace', 'overwrite', 'dryRun', 'output'], words: keyed('labels') },
  annotate: { flags: ['namespace', 'overwrite', 'dryRun', 'output'], words: keyed('annotations') },
  scale: { flags: ['namespace', 'replicas', 'dryRun', 'output'], words: object },
  delete: { flags: ['namespace', 'dryRun', 'grace', 'cascade'], words: object },
  cordon: { flags: ['dryRun'], words: one },
  uncordon: { flags: ['dryRun'], words: one },
  drain: { flags: ['dryRun', 'ignoreDaemonsets', 'emptydir'], words: one },
  exec: { flags: ['namespace', 'container'], words: one },
  'rollout status': { flags: ['namespace', 'output'], words: object },
  'rollout restart': { flags: ['namespace', 'dryRun', 'output'], words: object },
  'rollout undo': { flags: ['namespace', 'dryRun', 'output', 'toRevision'], words: object },
  'auth can-i': {
    flags: ['namespace', 'all', 'subresource'],
    words: ([verb, ...rest], fields) => {
      if (verb !== undefined) fields.ask_verb = verb
      object(rest, fields)
    },
  },
}

/** Verbs whose object comes as a manifest, which a command line has no place for. */
const BY_MANIFEST = new Set(['create', 'apply', 'replace'])

/**
 * Reads a command line.
 *
 * @throws SallyportError `ERR_INVALID_INPUT`, naming the flag or the accepted form.
 */
export function readArgv(argv: readonly string[]): ToolPayload {
  const words = argv[0] === 'kubectl' ? argv.slice(1) : argv
  const [first = '', second = ''] = words
  if (first.startsWith('-')) throw invalid('The command line starts with the verb; flags follow it.')
  const isPair = first === 'rollout' || first === 'auth'
  const name = isPair ? `${first} ${second}` : first
  if (BY_MANIFEST.has(name)) throw invalid(`${name} takes no argv here: give verb and manifest.`)
  const verb = Object.hasOwn(VERBS, name) ? VERBS[name] : undefined
  if (verb === undefined) {
    throw invalid(`This verb is none of ${Object.keys(VERBS).join(', ')}, create, apply.${insteadOf(name)}`)
  }
  const fields: Fields = {}
  const rest = takeFlags(words.slice(isPair ? 2 : 1), verb, fields, name === 'exec')
  verb.words(rest, fields)
  const called = name === 'auth can-i' ? 'can_i' : name.replace(' ', '_')
  return { ...fields, kind: 'tool', verb: called }
}

function takeFlags(words: readonly string[], verb: Verb, fields: Fields, isExec: boolean): readonly string[] {
  const plain: string[] = []
  const seen = new Set<string>()
  for (let index = 0; index < words.length; index++) {
    const word = words[index] ?? ''
    if (word === '--') {
      const rest = words.slice(index + 1)
      if (!isExec) throw invalid('-- belongs to exec.')
      if (rest.length === 0) throw invalid('Give the command after --.')
      fields.command = [...rest]
      return plain
    }
    if (!word.startsWith('-') || word === '-') {
      if (word === '-') throw invalid('Nothing is read from standard input: give the manifest or patch itself.')
      plain.push(word)
      continue
    }
    const { flag, value } = flagOf(word, verb)
    if (seen.has(flag.name)) throw invalid(`--${flag.name} is given twice.`)
    seen.add(flag.name)
    if (flag.reads === undefined) {
      if (value !== undefined && value !== 'true') throw invalid(`--${flag.name} takes no value.`)
      flag.sets?.(fields)
      continue
    }
    const given = value ?? words[++index]
    if (given === undefined) throw invalid(`--${flag.name} needs a value.`)
    flag.reads(given, fields)
  }
  if (isExec) throw invalid('Write -- before the command, as in exec web-1 -- date.')
  return plain
}

function flagOf(word: string, verb: Verb): { readonly flag: Flag; readonly value?: string } {
  const known: readonly Flag[] = verb.flags.map((name) => FLAGS[name])
  const [, long, short, value] = /^(?:--([A-Za-z][\w-]*)|-([A-Za-z]))(?:=([\s\S]*))?$/u.exec(word) ?? []
  const given = long ?? short
  // Several letters behind one dash are one flag with a value to kubectl, and several flags to people.
  if (given === undefined) throw invalid('Write each flag by itself, as in -n web or --namespace=web.')
  if (FORBIDDEN.has(given) && !known.some((flag) => flag.short === short && short !== undefined)) {
    throw invalid(
      `-${long === undefined ? '' : '-'}${given} is not for callers: the gateway knows the cluster, and nothing is read from files or addresses.`,
    )
  }
  const flag = known.find((one) => (long === undefined ? one.short === short : one.name === long))
  if (flag === undefined) {
    const instead = insteadOf(given === 'w' ? 'watch' : given)
    throw invalid(`${long === undefined ? `-${given}` : `--${given}`} is not known for this verb.${instead}`)
  }
  return { flag, ...(value !== undefined && { value }) }
}

function invalid(message: string): SallyportError {
  return new SallyportError('ERR_INVALID_INPUT', message)
}
