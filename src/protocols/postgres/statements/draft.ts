import type { AttributeValue, Part } from '../../../core/action.ts'
import type { Ast } from '../ast.ts'
import type { Catalog, CatalogFunction, Relation } from '../catalog.ts'
import { isBuiltin, judgeFunction } from '../functions.ts'
import { step } from '../scope.ts'
import type { SessionEffect, SessionView } from '../session.ts'
import type { FunctionUse } from '../walk/findings.ts'

/**
 * What a database with masks makes of a kind of statement: `free` can show nothing; `query` runs a query, which is
 * rewritten like any other; `unmasked` is sound as long as nothing it names or reads has a masked column; `refused`
 * could carry masked data out, or change what the masks rest on.
 */
export type UnderMasks = 'free' | 'query' | 'unmasked' | 'refused'

/** What a part costs, in steps: it is judged by every rule, and recorded. */
const PART_STEPS = 30

/** What has been understood of one statement that is no query. Handlers fill it in. */
export class Draft {
  readonly catalog: Catalog
  readonly session: SessionView
  readonly parts: Part[] = []
  /** Relations it names as objects by other means than a `RangeVar`. */
  readonly named: Relation[] = []
  /** Functions it will make the server run, with what will: `trigger`, `cast` … */
  readonly functions: { readonly fn: CatalogFunction; readonly via: string }[] = []
  /** One sentence each; not empty means not understood. */
  readonly unknowns: string[] = []
  /** Names by which its expressions may speak of rows. */
  readonly rowNames: string[] = []
  effect: SessionEffect | undefined
  /** The statement that EXECUTE or FETCH runs. */
  runs: { readonly kind: 'prepared' | 'cursor'; readonly name: string } | undefined
  underMasks: UnderMasks
  /** Understands a statement inside this one. */
  readonly inside: (draft: Draft, type: string, fields: Ast) => void
  changesCatalog = false
  outsideTransaction = false
  /** Why a door without a session cannot run it, and what can be sent instead. */
  needsSession: string | undefined
  /** Set when it must not run anywhere, whatever the policy says. */
  refused: { readonly construct: string; readonly message: string; readonly hint?: string } | undefined
  returnsRows = false
  /** Its constants are secrets: passwords, connection strings. They are shown to nobody. */
  hidesValues = false
  /** Nothing in it writes, apart from what its query does. */
  isRead = false

  constructor(catalog: Catalog, session: SessionView, underMasks: UnderMasks, inside: Draft['inside']) {
    this.catalog = catalog
    this.session = session
    this.underMasks = underMasks
    this.inside = inside
  }

  /** Adds a part; without a name its resource is `-`. */
  part(verb: string, name: string | undefined, attributes: Readonly<Record<string, AttributeValue>>): void {
    step(PART_STEPS)
    // A list that all parts share is judged, recorded and shown once for each of them.
    for (const word in attributes) {
      const value = attributes[word]
      if (Array.isArray(value)) step(value.length)
    }
    this.parts.push({ verb, resource: name === undefined ? { type: 'none' } : { type: 'sql', name }, attributes })
  }

  /** It may fire event triggers, whose functions then run as well. Their tags are not looked at: all are counted. */
  fires(): void {
    for (const oid of this.catalog.eventFunctions ?? []) {
      const fn = this.catalog.functionsByOid.get(oid)
      // Fail closed: what it runs is not known.
      if (fn === undefined) this.unknown('an event trigger runs a function that is not known')
      else this.functions.push({ fn, via: 'event_trigger' })
    }
  }

  /** Functions it will make the server run that need a rule of their own. */
  calls(): readonly FunctionUse[] {
    return this.functions.flatMap(({ fn, via }): readonly FunctionUse[] => {
      const isNotable = !isBuiltin(fn) || judgeFunction(this.catalog, fn.schema, fn.name, undefined).calls.includes(fn)
      return isNotable ? [{ fn, via, refusedUnderMasks: true }] : []
    })
  }

  unknown(reason: string): void {
    this.unknowns.push(reason)
  }
}

/** Understands one kind of statement. */
export type Handler = (draft: Draft, fields: Ast) => void
