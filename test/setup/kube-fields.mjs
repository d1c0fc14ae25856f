// Makes src/protocols/kubernetes/protobuf/fields.ts: which field of which kind has which number in Kubernetes' protobuf.
// Give it checkouts of kubernetes/api and kubernetes/apimachinery, and of older releases behind them, which add what is gone
// by now; numbers are never used again: node test/setup/kube-fields.mjs API APIMACHINERY [API APIMACHINERY …] > …/fields.ts
// Made of the releases 1.37 (its development), 1.30, 1.25 and 1.20.
//
// Numbers and wire types stand in generated.proto, names in JSON and what is flattened there in the tags of the Go types.
import { existsSync, readdirSync, readFileSync } from 'node:fs'
import path from 'node:path'

const checkouts = process.argv.slice(2)

/** Groups whose objects no client sends, and versions no server since 1.20 serves. */
const LEFT_OUT = /^(?:admission|imagepolicy|apidiscovery|apiserverinternal)\/|\/v\d+alpha\d+$|^apps\/v1beta/

const SCALARS = { string: 's', bool: 'b', int32: 'i', int64: 'l', bytes: 'x' }
const SPECIAL = {
  'k8s.io.apimachinery.pkg.api.resource.Quantity': 'q',
  'k8s.io.apimachinery.pkg.util.intstr.IntOrString': 'o',
  'k8s.io.apimachinery.pkg.apis.meta.v1.Time': 't',
  'k8s.io.apimachinery.pkg.apis.meta.v1.MicroTime': 'm',
  'k8s.io.apimachinery.pkg.apis.meta.v1.Duration': 'd',
  'k8s.io.apimachinery.pkg.apis.meta.v1.FieldsV1': 'f',
  'k8s.io.apimachinery.pkg.runtime.RawExtension': 'r',
}

const packages = new Map()
for (let i = 0; i + 1 < checkouts.length; i += 2) {
  const [apiDir = '', machineryDir = ''] = checkouts.slice(i, i + 2)
  for (const group of subdirectories(apiDir)) {
    for (const version of subdirectories(path.join(apiDir, group))) {
      const dir = path.join(apiDir, group, version)
      if (!existsSync(path.join(dir, 'generated.proto')) || LEFT_OUT.test(`${group}/${version}`)) continue
      add(`k8s.io.api.${group}.${version}`, read(dir, apiVersionIn(dir, version)))
    }
  }
  add('k8s.io.apimachinery.pkg.apis.meta.v1', read(path.join(machineryDir, 'pkg/apis/meta/v1'), 'meta'))
}

/** Adds what an older release has besides. */
function add(name, older) {
  const known = packages.get(name)
  if (known === undefined) {
    packages.set(name, older)
    return
  }
  for (const [message, old] of older.messages) {
    const newer = known.messages.get(message)
    if (newer === undefined) known.messages.set(message, old)
    else {
      const has = new Set(newer.fields.map((field) => field[5]))
      for (const field of old.fields) {
        if (has.has(field[5])) continue
        newer.fields.push(field)
        newer.tags.set(Number(field[5]), old.tags.get(Number(field[5])))
      }
    }
  }
}

function subdirectories(dir) {
  return readdirSync(dir, { withFileTypes: true }).flatMap((entry) => (entry.isDirectory() ? [entry.name] : []))
}

function apiVersionIn(dir, version) {
  const [, group = ''] = /GroupName\s*=\s*"([^"]*)"/.exec(readFileSync(path.join(dir, 'register.go'), 'utf8')) ?? []
  return group === '' ? version : `${group}/${version}`
}

function read(dir, apiVersion) {
  const go = readdirSync(dir)
    .filter((file) => file.endsWith('.go') && !/^(?:generated|zz_generated|types_swagger)|_test\.go$/.test(file))
    .map((file) => readFileSync(path.join(dir, file), 'utf8'))
    .join('\n')
  const tags = new Map()
  const roots = new Set()
  for (const [, name, body] of go.matchAll(/^type (\w+) struct \{\n([\s\S]*?)^\}/gm)) {
    const fields = new Map()
    for (const line of body.split('\n')) {
      const [, type, json, number] = /^\s+(\w.*?)\s+`json:"([^"]*)".*? protobuf:"\w+,(\d+)/.exec(line) ?? []
      if (number === undefined) {
        if (/^\s+(?:\w+\.)?TypeMeta\s/.test(line)) roots.add(name)
        continue
      }
      fields.set(Number(number), { json: json.split(',')[0], isPointer: /(?:^|\s)\*/.test(type) })
    }
    tags.set(name, fields)
  }
  const proto = readFileSync(path.join(dir, 'generated.proto'), 'utf8').replaceAll(/\/\/.*$/gm, '')
  const own = /^package ([\w.]+);/m.exec(proto)?.[1] ?? ''
  const messages = new Map()
  for (const [, name, body] of proto.matchAll(/^message (\w+) \{\n([\s\S]*?)^\}/gm)) {
    const fields = [
      ...body.matchAll(/^\s*(optional|repeated|required|map<string, ?([^>]+)>) ?([.\w]*) (\w+) = (\d+);/gm),
    ]
    messages.set(name, { fields, tags: tags.get(name), isRoot: roots.has(name) && !name.endsWith('List') })
  }
  return { apiVersion, own, messages }
}

/** Names as the tables have them; messages are looked up in their own package unless they say another one. */
function typeOf(type, from) {
  const plain = type.replace(/^\./, '')
  const full = plain.includes('.') ? plain : SCALARS[plain] === undefined ? `${from.own}.${plain}` : plain
  const known = SCALARS[full] ?? SPECIAL[full]
  if (known !== undefined) return known
  const at = full.lastIndexOf('.')
  const found = packages.get(full.slice(0, at))
  const name = full.slice(at + 1)
  const message = found?.messages.get(name)
  // Of a version that is left out: a field nobody here knows, which is then refused.
  if (message === undefined) return undefined
  // A list of texts with a name of its own: a message here, a plain list in JSON.
  if (message.tags === undefined && message.fields.length === 1 && message.fields[0][4] === 'items') return 'n'
  needed.push([found, name])
  return found === from ? name : `${found.apiVersion}.${name}`
}

const needed = []
const done = new Map()
for (const one of packages.values()) {
  for (const [name, { isRoot }] of one.messages) if (isRoot) needed.push([one, name])
}
for (let next = needed.pop(); next !== undefined; next = needed.pop()) {
  const [from, name] = next
  const lines = done.get(from.apiVersion) ?? new Map()
  done.set(from.apiVersion, lines)
  if (lines.has(name)) continue
  lines.set(name, '')
  const { fields, tags } = from.messages.get(name)
  const written = fields.flatMap(([, label, inMap, type, , number]) => {
    const tag = tags?.get(Number(number))
    if (tag === undefined) throw new Error(`no tag for field ${number} of ${from.apiVersion} ${name}`)
    const known = typeOf(inMap ?? type, from)
    const shape = inMap !== undefined ? '{}' : label === 'repeated' ? '[]' : ''
    return known === undefined ? [] : [`${number}:${tag.json}:${shape}${known}${tag.isPointer ? '*' : ''}`]
  })
  lines.set(name, `${name} ${written.join(' ')}`)
}

process.stdout.write(`/**
 * Which field of which kind has which number in Kubernetes' protobuf (\`generated.proto\` of kubernetes/api, whose numbers
 * stay what they are). Made by \`test/setup/kube-fields.mjs\`; do not edit.
 *
 * One line for each message, by API version; \`meta\` is what all of them share. A field is \`number:name:type\`, without a
 * name where JSON has its fields one level up. \`[]\` is a list, \`{}\` a map by text, and \`*\` tells zero from nothing. Types are
 * s text, b boolean, i and l integers of 32 and 64 bits, x bytes, q quantity, o integer or text, t time, m time with
 * microseconds, d duration, r any object, f fields of an owner, n a list of texts; anything else is a message.
 */
export const FIELDS: Readonly<Record<string, string>> = {
`)
const byText = (a, b) => (a < b ? -1 : 1)
for (const [apiVersion, lines] of [...done].sort(([a], [b]) => byText(a, b))) {
  const key = /^\w+$/.test(apiVersion) ? apiVersion : `'${apiVersion}'`
  const text = [...lines.values()].sort(byText).map((line) => line.trim())
  process.stdout.write(`  ${key}: \`\n${text.join('\n')}\n\`,\n`)
}
process.stdout.write('}\n')
