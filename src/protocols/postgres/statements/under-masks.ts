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
