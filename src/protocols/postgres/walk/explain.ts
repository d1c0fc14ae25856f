import { asList, text, unwrap, type Ast } from '../ast.ts'
import { spoken } from '../names.ts'
import type { Output } from '../scope.ts'
import { OPEN, TOP } from './context.ts'
import type { Explained } from './findings.ts'
import type { Walker } from './walker.ts'

/** EXPLAIN of a statement. */
export function walkExplain(walk: Walker, fields: Ast): Output {
  const { unknowns, ...explain } = explainOptions(fields)
  for (const unknown of unknowns) walk.unknown(unknown)
  walk.explain = explain
  const query = unwrap(fields['query'])
  if (query === undefined) walk.unknown('EXPLAIN without a statement')
  else walk.statement(query.type, query.fields, { ...TOP })
  return OPEN
}

/** What the options of EXPLAIN ask for, with a sentence for each that is not understood. */
export function explainOptions(fields: Ast): Explained & { readonly unknowns: readonly string[] } {
  let analyze = false
  let measuresRows = false
  const unknowns: string[] = []
  for (const option of asList(fields['options'])) {
    const name = text(unwrap(option)?.fields['defname'])
    // Any mention counts, also `analyze off`: the last of several wins, and spellings are many.
    if (name === 'analyze') analyze = true
    else if (name === 'wal') measuresRows = true
    else if (!EXPLAIN_OPTIONS.has(name)) unknowns.push(`an option of EXPLAIN, ${spoken(name)}, is not understood`)
  }
  return { analyze, measuresRows, unknowns }
}

const EXPLAIN_OPTIONS = new Set([
  'verbose',
  'costs',
  'settings',
  'generic_plan',
  'buffers',
  'wal',
  'timing',
  'summary',
  'memory',
  'format',
])
