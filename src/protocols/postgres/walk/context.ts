import { asList, text, unwrap, words, type Ast } from '../ast.ts'
import type { CteScope, Level, Output, Reading } from '../scope.ts'

/** Where in a statement the walk is: what can be spoken of there, and how it is read. */
export interface Context extends Reading {
  readonly level: Level | undefined
  readonly ctes: CteScope | undefined
  /** Beside the target of a write: whether `*` shows the columns of each item in order. */
  readonly isPlainFrom?: boolean
}

/** Outside of everything. */
export const TOP: Context = { level: undefined, ctes: undefined, isPredicate: false, isReturning: false }

/** Yields nothing. */
export const CLOSED: Output = { names: [], isOpen: false }
/** Yields who knows what. */
export const OPEN: Output = { names: [], isOpen: true }

/** The fields of a node, empty when it is absent. */
export function asFields(value: unknown): Ast {
  return typeof value === 'object' && value !== null ? (value as Ast) : {}
}

/** The alias of a FROM item. */
export function aliasOf(fields: Ast): { readonly name: string | undefined; readonly columns: readonly string[] } {
  const alias = fields['alias']
  if (typeof alias !== 'object' || alias === null) return { name: undefined, columns: [] }
  return { name: text((alias as Ast)['aliasname']), columns: words((alias as Ast)['colnames']) ?? [] }
}

/** The name a function in FROM goes by when it has no alias. */
export function functionAlias(fields: Ast): string | undefined {
  const first = unwrap(asList(fields['functions'])[0])
  const call = unwrap(asList(first?.fields['items'])[0])
  return call?.type === 'FuncCall' ? words(call.fields['funcname'])?.at(-1) : undefined
}
