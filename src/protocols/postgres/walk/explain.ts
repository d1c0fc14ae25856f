import { asList, text, unwrap, type Ast } from '../ast.ts'
import { spoken } from '../names.ts'
import type { Output } from '../scope.ts'
import { OPEN, TOP } from './context.ts'
import type { Walker } from './walker.ts'

/** EXPLAIN of a statement. */
export function walkExplain(walk: Walker, fields: Ast): Output {
  let analyze = false
  let measuresRows = false
  for (const option of asList(fields['options'])) {
    const one = unwrap(option)
    const name = text(one?.fields['defname'])
    // Any mention counts, also `analyze off`: the last of several wins, and spellings are many.
    if (name === 'analyze') analyze = true
    else if (name === 'wal') measuresRows = true
    else if (!EXPLAIN_OPTIONS.has(name)) walk.unknown(`an option of EXPLAIN, ${spoken(name)}, is not understood`)
  }
  walk.explain = { analyze, measuresRows }
  const query = unwrap(fields['query'])
  if (query === undefined) walk.unknown('EXPLAIN without a statement')
  else walk.statement(query.type, query.fields, { ...TOP })
  return OPEN
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
