import { deepFreeze } from '../store-file.ts'
import type { Versioned, Where } from '../store.ts'
import type { FeedRow } from './feed.ts'
import type { DocumentSeal } from './sealed.ts'

/**
 * Documents kept in memory: those that every call asks for and that change seldom, such as tokens and freezes.
 *
 * It is only as true as its feed; who asks looks first how old that is.
 */
export class Mirror {
  readonly #collections: ReadonlyMap<string, Map<string, Versioned<object>>>
  readonly #seal: DocumentSeal
  /** Places whose document could not be opened: to be asked for at the store, which says what is wrong. */
  readonly #broken = new Set<string>()

  constructor(collections: readonly string[], seal: DocumentSeal) {
    this.#collections = new Map(collections.map((name) => [name, new Map<string, Versioned<object>>()]))
    this.#seal = seal
  }

  holds(collection: string): boolean {
    // Fail closed: with one document that cannot be read, nothing is said about the others either.
    return this.#collections.has(collection) && ![...this.#broken].some((place) => place.startsWith(`${collection}/`))
  }

  get(collection: string, id: string): Versioned<object> | undefined {
    return this.#collections.get(collection)?.get(id)
  }

  list(collection: string, where: Where): readonly Versioned<object>[] {
    const documents = [...(this.#collections.get(collection)?.values() ?? [])]
    return documents.filter(({ value }) => matches(value, where))
  }

  reload(rows: readonly FeedRow[]): void {
    this.#broken.clear()
    for (const documents of this.#collections.values()) documents.clear()
    this.apply(rows)
  }

  apply(rows: readonly FeedRow[]): void {
    for (const { collection, id, document } of rows) {
      const documents = this.#collections.get(collection)
      if (documents === undefined) continue
      this.#broken.delete(`${collection}/${id}`)
      documents.delete(id)
      if (document === undefined) continue
      try {
        documents.set(id, openDocument(this.#seal, collection, id, document.version, document.value))
      } catch {
        this.#broken.add(`${collection}/${id}`)
      }
    }
  }
}

/** Opens a document as the database holds it. @throws SallyportError `ERR_STORE_FAILED`. */
export function openDocument<T extends object>(
  seal: DocumentSeal,
  collection: string,
  id: string,
  version: number,
  value: Uint8Array,
): Versioned<T> {
  return { id, version, value: deepFreeze(JSON.parse(seal.open(collection, id, value)) as T) }
}

/** Whether the fields at the top of a document are as asked. */
export function matches(value: object, where: Where): boolean {
  return Object.entries(where).every(([name, wanted]) => {
    return Object.hasOwn(value, name) && (value as Readonly<Record<string, unknown>>)[name] === wanted
  })
}
