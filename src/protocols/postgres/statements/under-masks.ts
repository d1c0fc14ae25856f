import { SallyportError } from '../../../core/errors.ts'
import { findRelation, type Catalog, type Relation } from '../catalog.ts'
import type { BoundMasks } from '../masks.ts'
import { resourceName } from '../names.ts'
import { text, type Ast } from '../ast.ts'
import type { Findings } from '../walk/findings.ts'
import type { UnderMasks } from './draft.ts'

/**
 * Refuses a statement that is no query where it could carry masked data out of the database, or change what its masks
 * rest on (R13, R14).
 *
 * @param named relations it names as objects.
 * @throws SallyportError `ERR_DENIED` with `facts.construct`
 */
export function refuseUtility(
  statement: string,
  underMasks: UnderMasks,
  findings: Findings,
  named: readonly Relation[],
  masks: BoundMasks,
): void {
  if (masks.byRelation.size === 0 || underMasks === 'free' || underMasks === 'query') return
  if (underMasks === 'refused') {
    refuse(`A ${statement} statement could carry out what this database masks, or change what its masks rest on.`)
  }
  for (const relation of [...named, ...findings.uses.map((use) => use.relation)]) {
    if (!masks.byRelation.has(relation.oid) && !masks.tainted.has(relation.oid)) continue
    refuse(`A ${statement} statement on ${resourceName(relation)}, which has masked columns or shows some.`)
  }
}

/**
 * Refuses what works on a table outside of any transaction: no guard can share one with it, so the name may be that of
 * another table by then, and whether a unique index can be built tells whether values of a column repeat (R2).
 *
 * @throws SallyportError `ERR_DENIED` with `facts.construct`
 */
export function refuseAlone(
  statement: string,
  findings: Findings,
  named: readonly Relation[],
  masks: BoundMasks,
): void {
  if (masks.byRelation.size === 0 || (named.length === 0 && findings.uses.length === 0)) return
  throw new SallyportError(
    'ERR_DENIED',
    `A ${statement} statement that the database runs outside of any transaction.`,
    {
      facts: {
        construct: 'sql.outside_transaction',
        hint: 'This database has masked columns: leave CONCURRENTLY out.',
      },
    },
  )
}

/** Relations that `RangeVar`s outside of queries mention, as far as the catalog has them. */
export function relationsOf(catalog: Catalog, refs: readonly Ast[]): readonly Relation[] {
  return refs.flatMap((ref) => {
    const schema = ref['schemaname'] === undefined ? undefined : text(ref['schemaname'])
    return findRelation(catalog, schema, text(ref['relname'])) ?? []
  })
}

function refuse(message: string): never {
  throw new SallyportError('ERR_DENIED', message, {
    facts: {
      construct: 'sql.mask.statement',
      hint: 'Whoever runs the database can do this outside the gateway.',
    },
  })
}
