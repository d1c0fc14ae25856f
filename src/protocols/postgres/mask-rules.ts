/**
 * What a database with masks refuses, each with a code that names the construct (C9, R12–R15).
 *
 * A refusal here is not a decision about the caller: these are statements whose result would show what a mask hides,
 * overwrite it with its mask, or be silently wrong because a predicate would compare with the mask.
 *
 * @packageDocumentation
 */
import { SallyportError } from '../../core/errors.ts'
import type { Relation } from './catalog.ts'
import type { Change, Effects, SideEffect } from './effects.ts'
import type { UnmetMasks } from './mask-backing.ts'
import { mayBeLong, SHORT_CHARS_MAX, type Lengths } from './lengths.ts'
import { saidOfTrial } from './mask-trials.ts'
import type { BoundMasks, RelationMasks } from './masks.ts'
import { functionName, resourceName } from './names.ts'
import type { Use } from './scope.ts'
import { isShownByPolicy } from './mask-taint.ts'
import { isCountersName, isSensitiveRead } from './sensitive-catalogs.ts'
import type { CopyOut, Findings } from './walk/findings.ts'

/** What an operator vouches for: it reads nothing a mask hides. */
export interface Trusted {
  /** Functions by their name in policies, such as `public.add(integer,integer)`. */
  readonly functions: ReadonlySet<string>
  /** Tables, as `schema.table`, with whatever runs when they are read or written. */
  readonly tables: ReadonlySet<string>
}

/**
 * Refuses what rewriting cannot make safe.
 *
 * @throws SallyportError `ERR_DENIED` with `facts.construct`
 */
export function refuseUnderMasks(
  findings: Findings,
  effects: Effects,
  masks: BoundMasks,
  trusted: Trusted,
  lengths: Lengths,
): void {
  if (masks.byRelation.size === 0) return
  for (const { fn, refusedUnderMasks, via } of [...findings.functions, ...effects.functions]) {
    if (!refusedUnderMasks || trusted.functions.has(functionName(fn))) continue
    refuse(
      'sql.mask.function',
      `${functionName(fn)}${via === '' ? '' : ` (${via})`} could read what this database masks.`,
    )
  }
  refuseExplain(findings, effects, masks)
  refuseCounters(findings, masks)
  for (const { relation } of effects.through) {
    if (!masks.byRelation.has(relation.oid) && !masks.tainted.has(relation.oid)) continue
    const name = resourceName(relation)
    refuse('sql.mask.view_write', `The view is written in ${name}, which has masked columns.`, `Write ${name} itself.`)
  }
  for (const effect of effects.sideEffects) refuseSideEffect(effect, trusted)
  for (const use of findings.uses) refuseUse(use, masks)
  const writes = findings.uses.filter((use) => use.role !== 'read').length
  for (const use of findings.uses) {
    const named = masks.byRelation.get(use.relation.oid)
    if (named === undefined) continue
    // What one write returns another one could store, mask and all.
    if (use.role !== 'read') refuseTarget(use, named, writes > 1)
    else if (writes > 0) refuseSource(use, named, writes > 1)
    if (use.role === 'read') refusePredicate(use, named)
  }
  for (const copy of findings.copies) refuseCopy(copy, masks)
  for (const change of effects.changes) refuseTies(change, masks, lengths)
  for (const { relation, columns } of effects.consulted) {
    const hidden = masks.byRelation.get(relation.oid)
    if (hidden === undefined || !columns.some((column) => hidden.has(column))) continue
    refuse(
      'sql.mask.foreign_key',
      `Whether this succeeds would show values of a masked column of ${resourceName(relation)}.`,
    )
  }
  for (const { relation, columns } of effects.cascades) {
    const hidden = masks.byRelation.get(relation.oid)
    if (hidden === undefined || ![...columns].some((column) => hidden.get(column)?.allowWrite === false)) continue
    refuse('sql.mask.update', `A foreign key would change a masked column of ${resourceName(relation)}.`)
  }
}

/** What EXPLAIN tells of rows besides what they show: where they lie, and how long they are. */
function refuseExplain({ explain, uses }: Findings, effects: Effects, masks: BoundMasks): void {
  if (explain === undefined) return
  if (explain.measuresRows && effects.changes.some(({ relation }) => masks.byRelation.has(relation.oid))) {
    refuse(
      'sql.mask.explain',
      'EXPLAIN (WAL) tells how long the rows are that it writes, masked columns included.',
      'Leave WAL out.',
    )
  }
  for (const { relation, read } of uses) {
    const name = resourceName(relation)
    // How many rows of each partition there are, or pages of a table, tells on which side of a bound a value lies.
    if (masks.sorted.has(relation.oid)) {
      const why = `The rows of ${name} lie where a masked column says, and EXPLAIN tells where they are found.`
      refuse('sql.mask.explain', why, 'Run the statement without EXPLAIN.')
    }
    const measured = [...read].find((column) => isComputed(relation, column, masks))
    if (measured === undefined) continue
    // The mask is made of the value, which lies in the nodes below: their widths and their memory tell its length.
    refuse(
      'sql.mask.explain',
      `EXPLAIN tells how long the values of ${name}.${measured} are, which is masked in part.`,
      'Leave the column out.',
    )
  }
}

/** Where a masked column decides in which partition a row is, the partition whose counters move, that grows or has locks tells it. */
function refuseCounters({ uses, readsCounters }: Findings, masks: BoundMasks): void {
  if (masks.pieces.size === 0) return
  if (!readsCounters && !uses.some(({ relation }) => relation.builtin && isCountersName(relation.name))) return
  refuse(
    'sql.mask.catalog',
    'Counters, sizes and locks of tables tell which partition a row is in, and a table of this database is partitioned by a masked column.',
  )
}

/** Whether the mask of a column is made of its value, by the statement that is sent. */
function isComputed({ oid }: Relation, column: string, masks: BoundMasks): boolean {
  const mask = masks.byRelation.get(oid)?.get(column)
  if (mask === undefined || mask.transform !== 'partial' || mask.isNull) return false
  return masks.standIns.get(oid)?.has(column) !== true
}

/** What EXPLAIN would tell of a statement is looked at where the statement stands, not where it goes by a name. */
export function refuseExplainedName(): never {
  refuse(
    'sql.mask.explain',
    'EXPLAIN of a prepared statement that touches a table with masked columns.',
    'EXPLAIN the statement itself.',
  )
}

/**
 * Code that runs at a write sees whole rows, and any table: RETURNING, how many rows were written and whether it failed
 * would tell what it saw, and it may store what it saw where no mask is. The same goes for what decides which rows are
 * there.
 */
function refuseSideEffect({ fn, via, relation }: SideEffect, trusted: Trusted): void {
  const table = resourceName(relation)
  if (trusted.functions.has(functionName(fn)) || trusted.tables.has(table)) return
  refuse(
    'sql.mask.side_effects',
    `${functionName(fn)}, which runs by a ${via} of ${table}, could read what this database masks.`,
    `An operator who knows what it does can name it under trusted_functions, or ${table} under trusted_side_effects.`,
  )
}

function refuseUse(use: Use, masks: BoundMasks): void {
  const name = resourceName(use.relation)
  if (masks.tainted.has(use.relation.oid)) {
    refuse(
      'sql.view_over_mask',
      `${name} is a view over a table with masked columns, or may read one.`,
      'Read the table itself, or have the operator mask columns of the view.',
    )
  }
  if (isSensitiveRead(use.relation, use.read)) {
    refuse('sql.mask.catalog', `${name} shows data of columns that this database masks.`)
  }
  if (isShownByPolicy(use.relation, masks)) {
    refuse(
      'sql.mask.policy',
      `A row security policy of ${name} compares with masked values, so which rows there are would tell of them.`,
    )
  }
  if (!masks.byRelation.has(use.relation.oid)) return
  refuseUnmet(name, masks.unmet.get(use.relation.oid))
  const sqlstate = masks.rejected.get(use.relation.oid)
  if (sqlstate !== undefined) {
    refuse(
      'sql.mask.rejected',
      saidOfTrial(use.relation, sqlstate),
      'The operator masks the column in another way, or grants USAGE on its type and the schema of that.',
    )
  }
  if (use.system.size > 0 && masks.guarded.has(use.relation.oid)) {
    const why = `The database role may not read all of ${name}, so PostgreSQL shows it no system column.`
    refuse('sql.mask.system_column', why, 'Use the primary key.')
  }
  if (masks.pieces.has(use.relation.oid)) {
    refuse(
      'sql.mask.partition',
      `Which rows are in ${name} tells of the masked column it is partitioned by.`,
      'Use the partitioned table.',
    )
  }
  if (masks.sorted.has(use.relation.oid)) refuseOrdered(use, name)
}

/** Of a table that lies in the order of masked values, nothing may be seen of where its rows lie. */
function refuseOrdered(use: Use, name: string): void {
  const why = `The rows of ${name} lie in the order of a masked column`
  if (use.system.size > 0) refuse('sql.mask.system_column', `${why}.`, 'Use the primary key.')
  if (use.sampled) refuse('sql.mask.tablesample', `${why}.`, 'Use ORDER BY random() LIMIT n.')
  if (use.role !== 'read' && use.returning) {
    refuse('sql.mask.row_order', `${why}, and RETURNING would show it.`, 'Leave RETURNING out.')
  }
}

/** Fail closed: the target demands that PostgreSQL itself stands behind its masks, and it does not. */
function refuseUnmet(name: string, unmet: UnmetMasks | undefined): void {
  if (unmet === undefined) return
  const { readable, withoutStandIn } = unmet
  const said =
    readable.length > 0
      ? `This target demands "masking: enforced", and its database role may read ${listed(name, readable)}.`
      : `The database role may not read ${listed(name, withoutStandIn)}, and no generated column holds the partial mask.`
  refuse(
    'sql.mask.enforced',
    `${said} Nothing of ${name} is shown until that is put right.`,
    'The operator finds the SQL that does it with: sallyport doctor <target> --emit-sql.',
  )
}

/** The weakest lock is what a dump takes first; restored, its masks would stand where the values were (R20). */
export function refuseDump(relations: readonly Relation[], masks: BoundMasks): void {
  const masked = relations.find(({ oid }) => masks.byRelation.has(oid))
  if (masked === undefined) return
  const name = resourceName(masked)
  refuse(
    'sql.mask.dump',
    `${name} has masked columns: a dump of it would hold masks, and restoring it would destroy the data.`,
    `Leave the table out: pg_dump --exclude-table=${name}.`,
  )
}

/** PostgreSQL wants a privilege on the whole table for LOCK, which a role that may not read some column does not have. */
export function refuseLock(relations: readonly Relation[], masks: BoundMasks): void {
  if (masks.mode !== 'enforced') return
  const masked = relations.find(({ oid }) => masks.byRelation.has(oid))
  if (masked === undefined) return
  refuse(
    'sql.mask.lock_table',
    `LOCK TABLE on ${resourceName(masked)} needs rights on all of it, and the database role may not read its masked columns.`,
    'Lock the rows you change: SELECT … FOR UPDATE.',
  )
}

function listed(relation: string, columns: readonly string[]): string {
  return columns.map((column) => `${relation}.${column}`).join(', ')
}

/** The target of a write is the real table: what is read of it there is not masked (R13). */
function refuseTarget(use: Use, hidden: RelationMasks, isStored: boolean): void {
  const name = resourceName(use.relation)
  const returned = among(isStored ? difference(use.read, use.consulted) : use.returned, hidden)
  if (returned !== undefined) {
    refuse(
      'sql.mask.returning',
      `RETURNING computes something of ${name}.${returned}, which is masked, or hands it to another write.`,
      `Return columns as they are, such as ${clear(use, hidden)}.`,
    )
  }
  const read = among(use.consulted, hidden)
  if (read !== undefined) {
    refuse('sql.mask.dml_read', `The statement reads ${name}.${read}, which is masked, of the table it writes.`)
  }
  const written = [...use.updated].find((column) => hidden.get(column)?.allowWrite === false)
  const writesUnique = use.relation.uniqueColumns.some((column) => hidden.has(column))
  if (written !== undefined) {
    refuse(
      'sql.mask.update',
      `${name}.${written} is masked: writing it back would put the mask in place of the value.`,
      'Leave the column out, or have the operator set allow_write on its mask.',
    )
  }
  if (
    use.writes.has('update') &&
    writesUnique &&
    use.relation.uniqueColumns.some((column) => use.updated.has(column) && hidden.get(column)?.allowWrite !== true)
  ) {
    refuse('sql.mask.unique', `A unique constraint of ${name} over a masked column would tell whether a value exists.`)
  }
  if (!use.writes.has('insert')) return
  const guessed = use.relation.columns.find(
    (column) =>
      hidden.get(column.name)?.allowWrite === false &&
      (use.relation.uniqueColumns.includes(column.name) || isForeignKey(use, column.name)) &&
      (use.inserted.has(column.name) || column.hasDefault),
  )
  if (guessed !== undefined) {
    refuse(
      'sql.mask.unique',
      `Whether inserting ${name}.${guessed.name} succeeds would tell whether a masked value exists.`,
      'Leave the column out, or have the operator set allow_write on its mask.',
    )
  }
}

/** COPY reads the one table it names, in the order its rows lie in (R9). */
function refuseCopy({ use }: CopyOut, masks: BoundMasks): void {
  if (!masks.byRelation.has(use.relation.oid) || use.relation.kind !== 'partitioned_table') return
  const name = resourceName(use.relation)
  refuse('sql.mask.copy', `COPY cannot read ${name}, which is partitioned.`, `Use COPY (SELECT … FROM ${name}) TO.`)
}

/** Whether a write succeeds must not depend on a masked value, of the rows it changes or of others. */
function refuseTies(change: Change, masks: BoundMasks, lengths: Lengths): void {
  const { relation, verb, columns } = change
  if (verb === 'delete') return
  const name = resourceName(relation)
  const isGiven = (column: string): boolean =>
    columns.has(column) || (verb === 'insert' && relation.columns.some((one) => one.name === column && one.hasDefault))
  for (const key of relation.foreignKeys) {
    const looked = masks.byRelation.get(key.references)
    if (looked === undefined || !key.referencedColumns.some((column) => looked.has(column))) continue
    if (key.columns.some(isGiven)) {
      refuse('sql.mask.foreign_key', `Whether this succeeds would tell whether a masked value exists (${name}).`)
    }
  }
  if (isShownByPolicy(relation, masks)) {
    refuse('sql.mask.policy', `A row security policy of ${name} compares with masked values.`)
  }
  const hidden = masks.byRelation.get(relation.oid)
  if (hidden === undefined) return
  const computed = new Set(generatedFrom(relation, columns))
  const changed = new Set([...columns, ...computed])
  for (const tie of relation.ties) {
    // Of a column that callers may write, and do, success tells what the operator accepted. One that is computed from it
    // tells no more; what else it is computed from is tied to it, and looked at here as well.
    const isTold = (column: string): boolean => {
      if (computed.has(column)) return false
      return !(hidden.get(column)?.allowWrite === true && (verb === 'insert' ? isGiven(column) : columns.has(column)))
    }
    const masked = tie.columns.filter((column) => hidden.has(column) && isTold(column))
    if (masked.length === 0) continue
    if (verb === 'insert') {
      if (tie.kind !== 'unique' || !(tie.countsNull || masked.some(isGiven))) continue
      refuse('sql.mask.unique', `Whether inserting into ${name} succeeds would tell whether a masked value exists.`)
    }
    const given = among(changed, new Set(tie.columns))
    if (given === undefined) continue
    if (tie.kind === 'index' && !tie.evaluates) {
      refuseLong(change, tie.columns, masked[0] ?? '', computed, lengths)
      continue
    }
    refuse(
      'sql.mask.constraint',
      `Whether changing ${name}.${given} succeeds would tell something of ${name}.${masked[0] ?? ''}, which is masked.`,
    )
  }
}

/** An index takes rows up to a length: how long the others of its columns are would show where one of them is long. */
function refuseLong(
  { relation, columns, values }: Change,
  tied: readonly string[],
  masked: string,
  computed: ReadonlySet<string>,
  lengths: Lengths,
): void {
  const long = relation.columns.find(
    (column) =>
      tied.includes(column.name) &&
      mayBeLong(column) &&
      (computed.has(column.name) || (columns.has(column.name) && !lengths.areShort(values?.get(column.name)))),
  )
  if (long === undefined) return
  const name = resourceName(relation)
  refuse(
    'sql.mask.constraint',
    `An index keeps ${name}.${long.name} beside ${name}.${masked}, which is masked: whether a long value fits would tell how long that one is.`,
    `Give ${long.name} a value of at most ${SHORT_CHARS_MAX} characters, written out or as a parameter.`,
  )
}

/** Columns that are computed from any of those. */
function generatedFrom(relation: Relation, columns: ReadonlySet<string>): readonly string[] {
  return relation.columns
    .filter(({ generatedFrom: sources }) => sources.some((source) => columns.has(source)))
    .map(({ name }) => name)
}

/** What a write reads elsewhere would be stored as its mask. */
function refuseSource(use: Use, hidden: RelationMasks, isStored: boolean): void {
  const read = among(isStored ? use.read : use.consulted, hidden)
  if (read === undefined) return
  refuse(
    'sql.mask.dml_source',
    `The statement writes, and reads ${resourceName(use.relation)}.${read}, which is masked.`,
    `Name the columns it needs: ${clear(use, hidden)}.`,
  )
}

/** A predicate would compare with the mask and quietly find the wrong rows (R15); NULL finds none, as in SQL itself. */
function refusePredicate(use: Use, named: RelationMasks): void {
  for (const column of use.tested) {
    const mask = named.get(column)
    if (mask === undefined || mask.isNull || mask.comparesMask) continue
    refuse(
      'sql.mask.predicate',
      `${resourceName(use.relation)}.${column} is masked, so a condition on it would compare with the mask.`,
      `Use conditions on ${clear(use, named)}.`,
    )
  }
}

function isForeignKey(use: Use, column: string): boolean {
  return use.relation.foreignKeys.some((key) => key.columns.includes(column))
}

function among(columns: ReadonlySet<string>, hidden: Pick<ReadonlySet<string>, 'has'>): string | undefined {
  for (const column of columns) if (hidden.has(column)) return column
  return undefined
}

function difference(all: ReadonlySet<string>, without: ReadonlySet<string>): ReadonlySet<string> {
  return new Set([...all].filter((one) => !without.has(one)))
}

function clear(use: Use, hidden: RelationMasks): string {
  const names = use.relation.columns.map((column) => column.name).filter((name) => !hidden.has(name))
  return names.length === 0 ? 'columns that are not masked' : names.join(', ')
}

function refuse(construct: string, message: string, hint?: string): never {
  throw new SallyportError('ERR_DENIED', message, { facts: { construct, ...(hint !== undefined && { hint }) } })
}
