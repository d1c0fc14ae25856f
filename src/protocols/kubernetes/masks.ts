/**
 * What no caller sees, whatever the policy says: values of Secrets and of variables named like secrets, in every form the
 * server has for them, and wherever a copy of an object stands inside another one. Policies mask more by field and by
 * detector; nothing takes these away.
 *
 * A value is masked by where it stands, never by what it looks like, and the shape stays: clients go on working.
 *
 * @packageDocumentation
 */
import { isJsonObject, parseJson, writeJson, type JsonObject, type JsonValue } from '../../core/json.ts'
import { scrubMessage } from './mask-message.ts'
import { isSensitiveKey, isSensitiveName } from './mask-names.ts'
import { isForeign } from './table-rows.ts'
import type { KubeRequest } from './request.ts'

/** Stands for a masked text. */
export const MASKED = '***'
/** The same in base64, for fields that clients decode. */
export const MASKED_BASE64 = Buffer.from(MASKED, 'utf8').toString('base64')

/** A value without what must not be seen. */
export interface MaskedValue {
  readonly value: JsonValue
  /** How many values were replaced. */
  readonly count: number
}

/** Which objects a request is about, as far as it decides what is masked. */
export type MaskContext = Pick<KubeRequest, 'group' | 'resource'>

/** Masks one value the server sent, or one body on its way to a recording or an approver. */
export function maskValue(value: JsonValue, about: MaskContext): MaskedValue {
  const walk = new Walk(isForeign(about))
  const isSecret = about.resource === 'secrets' && (about.group ?? '') === ''
  const masked = walk.value(value, isSecret)
  return { value: masked, count: walk.count }
}

/** Where lists, tables and changes hold whole objects. */
const HOLDERS = new Set(['items', 'rows', 'object'])
/** Annotations of a Secret that are names by definition. Any other may be a copy of it. */
const PLAIN_ANNOTATION =
  /^(?:kubernetes\.io\/service-account\.(?:name|uid)|meta\.helm\.sh\/release-(?:name|namespace)|cert-manager\.io\/(?:certificate-name|common-name|issuer-kind|issuer-name|issuer-group))$/u
const LAST_APPLIED = 'kubectl.kubernetes.io/last-applied-configuration'
/** Maps from the names of variables to their values. */
export const VARIABLE_MAPS: ReadonlySet<string> = new Set([
  'env',
  'envvars',
  'environment',
  'environmentvariables',
  'extraenv',
])

class Walk {
  count = 0
  /** How many fields were left out. */
  #dropped = 0
  /** Whether cells of tables may be copies of anything. */
  readonly #isForeign: boolean
  /** What was masked in the object of the row at hand. */
  #gone: string[] | undefined

  constructor(isForeignKind: boolean) {
    this.#isForeign = isForeignKind
  }

  /** @param isSecret whether objects here are Secrets though they do not say so, as items of a list do not. */
  value(value: JsonValue, isSecret: boolean): JsonValue {
    if (isJsonObject(value)) return this.#object(value, isSecret)
    if (Array.isArray(value)) return this.#items(value as readonly JsonValue[], isSecret)
    return typeof value === 'string' ? this.#text(value, isSecret) : value
  }

  /** What has nothing to be masked is passed on as it is: most of a list is. */
  #items(items: readonly JsonValue[], isSecret: boolean): readonly JsonValue[] {
    let shown: JsonValue[] | undefined
    for (const [index, item] of items.entries()) {
      const masked = this.value(item, isSecret)
      if (shown === undefined && masked !== item) shown = items.slice(0, index)
      shown?.push(masked)
    }
    return shown ?? items
  }

  #object(object: JsonObject, isHeld: boolean): JsonValue {
    const kind = object.get('kind')
    const kindText = typeof kind === 'string' ? kind : ''
    if (kindText === 'Table' && this.#isForeign) return this.#table(object, isHeld)
    const isList = kindText === 'SecretList'
    const isSecret = kindText === 'Secret' || (isHeld && isObjectOrPart(object)) || isHelmRelease(object)
    let fields: Map<string, JsonValue> | undefined
    for (const [key, field] of object) {
      if (key === 'managedFields' && Array.isArray(field)) {
        this.#dropped++
        fields ??= before(object, key)
        continue
      }
      let shown: JsonValue
      // Whatever calls itself a status may be any object: what it says is scrubbed, and it is masked like any other.
      if (key === 'message' && kindText === 'Status' && typeof field === 'string') shown = this.#message(field, isHeld)
      else if (key === 'details' && kindText === 'Status') shown = this.#details(field, isHeld)
      else shown = this.#field(object, key, field, isSecret, isHeld || isList)
      if (shown !== field) fields ??= before(object, key)
      fields?.set(key, shown)
    }
    return fields ?? object
  }

  #field(object: JsonObject, key: string, field: JsonValue, isSecret: boolean, isHeld: boolean): JsonValue {
    if (isSecret) {
      if (key === 'data' || key === 'binaryData') return this.#all(field, MASKED_BASE64)
      if (key === 'stringData') return this.#all(field, MASKED)
      if (key === 'metadata' && isJsonObject(field)) return this.#metadata(field)
    }
    if (HOLDERS.has(key)) return this.value(field, isHeld)
    if (key === 'value' && typeof field === 'string' && isNamedSensitive(object)) return this.#one(field)
    if (typeof field === 'string' && field !== '' && isSensitiveKey(key)) return this.#one(field)
    if (isJsonObject(field) && VARIABLE_MAPS.has(key.toLowerCase())) return this.#variables(field)
    // A patch of a Secret names nothing but its fields, at whatever depth.
    return this.value(field, false)
  }

  #table(table: JsonObject, isHeld: boolean): JsonValue {
    const fields = new Map<string, JsonValue>()
    for (const [key, field] of table) {
      const isRows = key === 'rows' && Array.isArray(field)
      // Any kind may call itself a table: its other fields are masked like those of any object.
      fields.set(
        key,
        isRows
          ? (field as readonly JsonValue[]).map((row) => this.#row(row, isHeld))
          : this.#field(table, key, field, false, isHeld),
      )
    }
    return fields
  }

  /** Cells say again what stands in the object: what is masked there is masked here. */
  #row(row: JsonValue, isHeld: boolean): JsonValue {
    if (!isJsonObject(row)) return this.value(row, isHeld)
    const object = row.get('object') ?? null
    const gone: string[] = []
    this.#gone = gone
    const masked = this.value(object, isHeld)
    this.#gone = undefined
    const isWhole = isJsonObject(object) && object.get('kind') !== 'PartialObjectMetadata'
    const metadata = isJsonObject(object) ? object.get('metadata') : undefined
    const name = isJsonObject(metadata) ? metadata.get('name') : undefined
    const fields = new Map<string, JsonValue>()
    for (const [key, field] of row) {
      if (key === 'object') fields.set(key, masked)
      else if (key !== 'cells' || !Array.isArray(field)) fields.set(key, this.#field(row, key, field, false, isHeld))
      else
        fields.set(
          key,
          (field as readonly JsonValue[]).map((cell) => this.#cell(cell, gone, isWhole, name)),
        )
    }
    return fields
  }

  #cell(cell: JsonValue, gone: readonly string[], isWhole: boolean, name: JsonValue | undefined): JsonValue {
    const text = typeof cell === 'string' ? cell : writeJson(cell)
    // Fail closed: without the object nobody knows what the cell was made of.
    const isShown = isWhole ? !gone.some((value) => text.includes(value)) : cell === name || typeof cell !== 'string'
    return isShown ? this.value(cell, false) : this.#one(cell)
  }

  /** Metadata of a Secret: labels are selectable and therefore public, annotations are anybody's copies. */
  #metadata(metadata: JsonObject): JsonValue {
    const annotations = metadata.get('annotations')
    if (!isJsonObject(annotations)) return this.#object(metadata, false)
    return this.#object(new Map([...metadata, ['annotations', this.#annotations(annotations)]]), false)
  }

  #annotations(annotations: JsonObject): JsonValue {
    const fields = new Map<string, JsonValue>()
    for (const [key, text] of annotations) {
      if (PLAIN_ANNOTATION.test(key)) fields.set(key, text)
      else if (key === LAST_APPLIED && typeof text === 'string') fields.set(key, this.#copy(text))
      else fields.set(key, text === '' || text === null ? text : this.#one(text))
    }
    return fields
  }

  /** The copy `kubectl apply` keeps of what was applied. Clients compare with it, so it stays an object. */
  #copy(text: string): string {
    const parsed = parseJson(text)
    if (parsed === undefined || !isJsonObject(parsed.value)) return this.#one(text)
    return writeJson(this.#object(parsed.value, true))
  }

  #variables(map: JsonObject): JsonValue {
    const fields = new Map<string, JsonValue>()
    for (const [name, field] of map) {
      const isPlain = typeof field === 'string' && isSensitiveName(name)
      fields.set(name, isPlain ? this.#one(field) : this.value(field, false))
    }
    return fields
  }

  /** What went wrong, without what the server quotes of objects to say so. */
  #details(details: JsonValue, isSecret: boolean): JsonValue {
    const quoted = (value: JsonValue): JsonValue => {
      if (Array.isArray(value)) return (value as readonly JsonValue[]).map(quoted)
      if (!isJsonObject(value)) return value
      return new Map(
        [...value].map(([key, field]) => [
          key,
          key === 'message' && typeof field === 'string' ? this.#message(field, isSecret) : quoted(field),
        ]),
      )
    }
    return quoted(this.value(details, false))
  }

  #message(text: string, isSecret: boolean): string {
    const scrubbed = scrubMessage(text, isSecret)
    if (scrubbed !== text) this.count++
    return scrubbed
  }

  /** A text that is itself JSON holds objects like any other place. */
  #text(text: string, isSecret: boolean): string {
    if (!/^\s*[[{]/u.test(text)) return text
    const parsed = parseJson(text)
    if (parsed === undefined) return text
    const before = this.count + this.#dropped
    const value = this.value(parsed.value, isSecret)
    // Of two equal keys the masked one may be the one that is not kept.
    return this.count + this.#dropped > before || parsed.hasDuplicates ? writeJson(value) : text
  }

  #all(value: JsonValue, mask: string): JsonValue {
    if (isJsonObject(value)) {
      return new Map([...value].map(([key, field]) => [key, field === null ? null : this.#one(field, mask)]))
    }
    return value === null ? null : this.#one(value, mask)
  }

  #one(value: JsonValue, mask: string = MASKED): string {
    this.count++
    if (value !== '') this.#gone?.push(typeof value === 'string' ? value : writeJson(value))
    return mask
  }
}

/** The fields of an object that come before one of them. */
function before(object: JsonObject, end: string): Map<string, JsonValue> {
  const fields = new Map<string, JsonValue>()
  for (const [key, field] of object) {
    if (key === end) break
    fields.set(key, field)
  }
  return fields
}

/** Whether a map is an object of the API, or the fields of one in a patch; and not merely what holds some. */
function isObjectOrPart(object: JsonObject): boolean {
  return ['metadata', 'data', 'stringData', 'binaryData'].some((key) => isJsonObject(object.get(key)))
}

/** Releases that Helm keeps in ConfigMaps hold every value of a chart, compressed. */
function isHelmRelease(object: JsonObject): boolean {
  const metadata = object.get('metadata')
  if (!isJsonObject(metadata)) return false
  // Its labels may be taken away by whoever may change it; its name stays, and so does how its values begin (gzip).
  const name = metadata.get('name')
  if (typeof name === 'string' && name.startsWith('sh.helm.release.v1.')) return true
  const data = object.get('data')
  const release = isJsonObject(data) ? data.get('release') : undefined
  if (typeof release === 'string' && /^\s*H4sI/u.test(release)) return true
  const labels = metadata.get('labels')
  if (!isJsonObject(labels)) return false
  return labels.get('owner') === 'helm' || labels.get('OWNER') === 'TILLER'
}

/** Either name counts: of two, one may have been put there to hide the other. */
function isNamedSensitive(object: JsonObject): boolean {
  return ['name', 'key'].some((key) => {
    const name = object.get(key)
    return typeof name === 'string' && isSensitiveName(name)
  })
}
