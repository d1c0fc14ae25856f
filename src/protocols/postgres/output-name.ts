import { asList, text, unwrap, words } from './ast.ts'

/**
 * The name PostgreSQL gives an unnamed output column (`FigureColname` in `parse_target.c`), or undefined where that is
 * not certain. Only certain names may end the search for a column.
 */
export function outputName(value: unknown): string | undefined {
  const one = unwrap(value)
  switch (one?.type) {
    case 'ColumnRef': {
      const last = unwrap(asList(one.fields['fields']).at(-1))
      return last?.type === 'String' ? text(last.fields['sval']) : undefined
    }
    case 'FuncCall':
      return words(one.fields['funcname'])?.at(-1)
    case 'TypeCast':
    case 'CollateClause': {
      const inner = unwrap(one.fields['arg'])
      return inner?.type === 'ColumnRef' || inner?.type === 'FuncCall' ? outputName(one.fields['arg']) : undefined
    }
    case 'CoalesceExpr':
      return 'coalesce'
    default:
      return undefined
  }
}
