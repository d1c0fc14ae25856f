import { createHmac, timingSafeEqual } from 'node:crypto'
import { readFile } from 'node:fs/promises'
import type { Adapter } from 'lowdb'
import { SallyportError } from '../core/errors.ts'
import { writeDurably } from './durable-file.ts'
import { errnoOf } from './store.ts'

/** A document as the file holds it. */
export interface StoredDocument {
  readonly version: number
  readonly value: object
}

/** All documents, by collection and id. Both levels have no prototype, so that no id means anything but itself. */
export type StoreData = Readonly<Record<string, Readonly<Record<string, StoredDocument>>>>

/** What the file adapter needs to know. */
export interface StoreFileOptions {
  readonly file: string
  /** Authenticates the content, so that a damaged or edited file is noticed instead of believed. */
  readonly key: Uint8Array
  /** Whether a missing file is an error. Only the very first start may create one. */
  readonly mustExist: boolean
}

const HEAD = '{"format":1,"mac":"'
const MIDDLE = '","data":'
const TAIL = '}\n'
const MAC_CHARS = 64

/**
 * lowdb's adapter for a file that is replaced whole and durably, and carries an HMAC of its content.
 *
 * The file stays plain JSON. Its frame is written in one fixed form, so that the HMAC is over exact bytes.
 */
export function storeFile(options: StoreFileOptions): Adapter<StoreData> {
  const macOf = (body: string): Buffer => createHmac('sha256', options.key).update(body).digest()
  return {
    async read() {
      const text = await textOf(options)
      return text === undefined ? null : parse(text)
    },
    async write(data) {
      const body = jsonOf(data)
      await writeDurably(options.file, `${HEAD}${macOf(body).toString('hex')}${MIDDLE}${body}${TAIL}`)
    },
  }

  function parse(text: string): StoreData {
    const bodyAt = HEAD.length + MAC_CHARS + MIDDLE.length
    const framed =
      text.startsWith(HEAD) && text.slice(HEAD.length + MAC_CHARS, bodyAt) === MIDDLE && text.endsWith(TAIL)
    if (!framed) throw damaged(options.file, 'it is cut short or was not written by Sallyport')
    const body = text.slice(bodyAt, -TAIL.length)
    const stated = Buffer.from(text.slice(HEAD.length, HEAD.length + MAC_CHARS), 'hex')
    const actual = macOf(body)
    if (stated.length !== actual.length || !timingSafeEqual(stated, actual)) {
      throw damaged(
        options.file,
        'its content does not match its checksum, or keys.json is not the one it was written with',
      )
    }
    return withoutPrototypes(JSON.parse(body))
  }
}

const jsonByValue = new WeakMap<object, string>()

/**
 * The data as JSON. Values are frozen, so the text of each is made once and not at every write: of a thousand documents a
 * commit changes one or two.
 */
function jsonOf(data: StoreData): string {
  const collections = Object.entries(data).map(([name, documents]) => {
    const members = Object.entries(documents).map(([id, { version, value }]) => {
      let json = jsonByValue.get(value)
      if (json === undefined) jsonByValue.set(value, (json = JSON.stringify(value)))
      return `${JSON.stringify(id)}:{"version":${version},"value":${json}}`
    })
    return `${JSON.stringify(name)}:{${members.join(',')}}`
  })
  return `{${collections.join(',')}}`
}

async function textOf({ file, mustExist }: StoreFileOptions): Promise<string | undefined> {
  try {
    return await readFile(file, 'utf8')
  } catch (error) {
    if (errnoOf(error) !== 'ENOENT') {
      throw new SallyportError('ERR_STORE_FAILED', `${file} cannot be read (${errnoOf(error)}).`, { cause: error })
    }
    // Fail closed: an empty store would forget every token, ticket and unknown outcome.
    if (mustExist) throw damaged(file, 'it is missing')
    return undefined
  }
}

function damaged(file: string, what: string): SallyportError {
  return new SallyportError(
    'ERR_STORE_FAILED',
    `${file} cannot be used: ${what}. Restore it from a backup, or, to begin anew without any token or ticket, ` +
      'move the whole state directory away.',
  )
}

function withoutPrototypes(data: StoreData): StoreData {
  const collections: Record<string, Readonly<Record<string, StoredDocument>>> = Object.create(null)
  for (const [name, documents] of Object.entries(data)) {
    collections[name] = Object.assign(Object.create(null), deepFreeze(documents))
  }
  return collections
}

/** Freezes a JSON value all the way down. */
export function deepFreeze<T>(value: T): T {
  if (typeof value === 'object' && value !== null && !Object.isFrozen(value)) {
    Object.freeze(value)
    for (const inner of Object.values(value)) deepFreeze(inner)
  }
  return value
}
