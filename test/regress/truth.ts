/**
 * Whether a plan says at least as much as the server did: by the server's own command tags, by what it wrote, and by the
 * locks it holds, which tell of each relation how it was touched.
 */
import { findRelation, type Catalog, type Relation } from '../../src/protocols/postgres/catalog.ts'
import type { Part } from '../../src/core/action.ts'
import { taxonomy } from '../../src/protocols/postgres/taxonomy.ts'
import type { Deed, Lock } from './tap.ts'

/** How far the server's word for what it did and the plan's verbs must agree; the first that fits counts. */
const VERBS_OF_TAG: readonly (readonly [tag: RegExp, verbs: RegExp])[] = [
  // CREATE TABLE AS and EXECUTE are told as what they ran.
  [/^SELECT\b/u, /^sql\./u],
  [/^INSERT\b/u, /^sql\.insert$/u],
  [/^UPDATE\b/u, /^sql\.update$/u],
  [/^DELETE\b/u, /^sql\.delete$/u],
  [/^MERGE\b/u, /^sql\.merge$/u],
  [/^COPY\b/u, /^sql\.copy/u],
  [/^(?:BEGIN|START TRANSACTION)$/u, /^sql\.begin$/u],
  [/^(?:COMMIT|PREPARE TRANSACTION|COMMIT PREPARED)$/u, /^sql\.(?:commit|rollback|prepare_transaction)/u],
  // A COMMIT of a failed transaction ends as ROLLBACK.
  [/^ROLLBACK/u, /^sql\.(?:rollback|commit)/u],
  [/^(?:SAVEPOINT|RELEASE)$/u, /^sql\.savepoint$/u],
  [/^(?:SET|RESET|SET CONSTRAINTS)$/u, /^sql\.set/u],
  [/^SHOW$/u, /^sql\.show$/u],
  [/^EXPLAIN$/u, /^sql\.explain$/u],
  [/^ALTER DEFAULT PRIVILEGES$/u, /^sql\.(?:grant|alter)/u],
  [/^ALTER SYSTEM$/u, /^sql\.(?:alter|admin)/u],
  [/^(?:ALTER|REASSIGN OWNED)\b/u, /^sql\.(?:alter|grant)/u],
  [/^(?:CREATE|IMPORT FOREIGN SCHEMA)\b/u, /^sql\.(?:create|grant)/u],
  [/^DROP\b/u, /^sql\.drop/u],
  [/^TRUNCATE TABLE$/u, /^sql\.truncate$/u],
  [/^(?:GRANT|REVOKE)\b/u, /^sql\.grant/u],
  [/^(?:COMMENT|SECURITY LABEL)$/u, /^sql\.(?:comment|label)/u],
  [/^(?:VACUUM|ANALYZE|REINDEX|CLUSTER|CHECKPOINT|REFRESH MATERIALIZED VIEW)$/u, /^sql\.maintain/u],
  [/^DO$/u, /^sql\.do$/u],
  [/^LOAD$/u, /^sql\.load$/u],
  [/^CALL$/u, /^sql\.call$/u],
  [/^DISCARD\b/u, /^sql\.discard/u],
  [/^(?:PREPARE|DEALLOCATE|DEALLOCATE ALL)$/u, /^sql\.prepare$/u],
  [/^(?:DECLARE CURSOR|FETCH|MOVE|CLOSE CURSOR|CLOSE CURSOR ALL)\b/u, /^sql\.cursor$/u],
  [/^(?:NOTIFY|LISTEN|UNLISTEN)$/u, /^sql\.notify$/u],
  // The weakest lock is a read; any other one the locks that are held would tell of.
  [/^LOCK TABLE$/u, /^sql\.(?:lock_table|select)$/u],
]

const CLASSES = new Map(taxonomy.verbs.map((spec) => [spec.verb, spec.class]))
/** Classes a rule that lets reads through does not allow. */
const STRONG = new Set(['write', 'exec', 'admin', 'unknown'])
/** Functions and views of PostgreSQL that tell how a relation is defined or how large it is: they hold it still meanwhile. */
const DESCRIBES =
  /\bpg_get_[a-z]+|\bpg_[a-z_]*_size\b|\bpg_partition_(?:tree|ancestors|root)\b|\b(?:information_schema|pg_rules|pg_views|pg_policies|pg_sequences)\b/iu

/** What the plan of a deed left out; empty when it says enough. */
export function leftOut(deed: Deed): readonly string[] {
  const { plan, tags, held, catalog } = deed
  if (plan === undefined) return []
  const { parts } = plan.action
  if (parts.some(({ verb }) => verb === 'sql.unknown')) return []
  const missing = tags.flatMap((tag) => {
    const verbs = VERBS_OF_TAG.find(([pattern]) => pattern.test(tag))?.[1]
    if (verbs === undefined) return [`nothing is known of ${tag}`]
    // What was prepared or declared is judged by the statement inside.
    const fits = parts.some(({ verb }) => verbs.test(verb) || verb === 'sql.prepare')
    return fits ? [] : [`the server did ${tag}`]
  })
  if (plan.readOnly && deed.sqlstate === '25006') missing.push('it was planned as read-only and tried to write')
  if (held === undefined || deed.sqlstate !== undefined || catalog === undefined) return missing
  const isStrong = parts.some(({ verb }) => STRONG.has(CLASSES.get(verb) ?? 'unknown'))
  // A transaction that asks for its own number is given one; a view of the suite does.
  const asksForNumber = /txid_current|pg_current_xact_id|\bmy_locks\b/iu.test(deed.sql)
  if (held.wrote && plan.readOnly && !asksForNumber) missing.push('it was planned as read-only and wrote')
  if (held.wrote && !isStrong && !asksForNumber) missing.push('it wrote and no part is more than a read')
  // What code does is not told by parts: it needs a rule of its own. Immutable functions have no business with tables.
  const runsCode = parts.some(
    ({ verb, attributes }) =>
      ['exec', 'admin'].includes(CLASSES.get(verb) ?? '') && attributes['volatility'] !== 'immutable',
  )
  if (runsCode) return missing
  if (held.advisory > 0) missing.push('it took an advisory lock')
  const reach = new Reach(catalog, parts)
  const locks = DESCRIBES.test(deed.sql) ? held.locks.filter((lock) => !reach.isStill(lock)) : held.locks
  for (const lock of locks) if (!reach.explains(lock)) missing.push(`${lock.mode} on ${lock.name}`)
  return missing
}

/** Relations a plan's parts stand for. */
class Reach {
  readonly #catalog: Catalog
  readonly #named = new Set<Relation>()
  readonly #written = new Set<Relation>()
  readonly #locked = new Set<Relation>()
  readonly #read: ReadonlySet<Relation>

  constructor(catalog: Catalog, parts: readonly Part[]) {
    this.#catalog = catalog
    for (const { verb, resource } of parts) {
      if (resource.type !== 'sql') continue
      const relation = relationNamed(catalog, resource.name)
      if (relation === undefined) continue
      this.#named.add(relation)
      if (/^sql\.(?:insert|update|delete|merge)$/u.test(verb)) this.#written.add(relation)
      if (verb === 'sql.lock') this.#locked.add(relation)
    }
    this.#read = closure(catalog, this.#named, true)
  }

  /** Whether a relation is only kept as it is; a sequence is locked like this by whoever asks for its last value. */
  isStill(lock: Lock): boolean {
    const isSequence = this.#catalog.relationsByOid.get(lock.oid)?.kind === 'sequence'
    return lock.mode === 'AccessShareLock' || (isSequence && lock.mode === 'RowExclusiveLock')
  }

  /** A part says so, or the catalog does: a view's tables, partitions, the other end of a foreign key. */
  explains(lock: Lock): boolean {
    const relation = this.#catalog.relationsByOid.get(lock.oid)
    // Made by the statement itself, or by another session since.
    if (relation === undefined) return false
    if (lock.mode === 'AccessShareLock') return this.#read.has(relation)
    if (lock.mode === 'RowShareLock') {
      return this.#written.size > 0
        ? this.#read.has(relation)
        : closure(this.#catalog, this.#locked, false).has(relation)
    }
    if (lock.mode !== 'RowExclusiveLock') return false
    // A default of a serial column draws from its sequence.
    if (relation.kind === 'sequence') return this.#written.size > 0
    return closure(this.#catalog, this.#written, false).has(relation)
  }
}

function relationNamed(catalog: Catalog, name: string): Relation | undefined {
  for (const relations of catalog.relationsBySchema.values()) {
    for (const relation of relations.values()) {
      if (name === `${relation.schema}.${relation.name}`) return relation
    }
  }
  const [, schema, last = name] = /^(.*)\.([^.]*)$/u.exec(name.replaceAll('"', '')) ?? []
  return findRelation(catalog, schema, last)
}

/** Those relations and what comes with them. `asReader` adds what is only looked at on the way. */
function closure(catalog: Catalog, start: ReadonlySet<Relation>, asReader: boolean): ReadonlySet<Relation> {
  const found = new Set<Relation>()
  const left = [...start]
  for (let relation = left.pop(); relation !== undefined; relation = left.pop()) {
    if (found.has(relation)) continue
    found.add(relation)
    const next = [...relation.children, ...relation.dependsOn]
    if (asReader) {
      next.push(...relation.policyDependsOn, ...relation.parents, ...relation.foreignKeys.map((key) => key.references))
      for (const other of catalog.relations) {
        if (other.foreignKeys.some((key) => key.references === relation.oid)) next.push(other.oid)
      }
    }
    for (const oid of next) {
      const other = catalog.relationsByOid.get(oid)
      if (other !== undefined) left.push(other)
    }
  }
  return found
}
