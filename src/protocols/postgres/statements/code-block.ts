import { asList, text } from '../ast.ts'
import type { Handler } from './draft.ts'
import { fieldsOf, options } from './objects.ts'

/** DO: code that nobody here reads. */
export const doBlock: Handler = (draft, fields) => {
  const language = options(fields['args']).find(({ name }) => name === 'language')?.value
  draft.part('sql.do', undefined, { language: language ?? 'plpgsql' })
  draft.changesCatalog = true
}

/** CALL: the procedure is a part like any function that is called, and may do anything. */
export const call: Handler = (draft, fields) => {
  if (asList(fieldsOf(fields['funccall'])['funcname']).length === 0 || text(fields['name']) !== '') {
    draft.unknown('CALL is not understood')
  }
  draft.changesCatalog = true
  draft.returnsRows = true
}
