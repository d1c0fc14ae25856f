import { asList, text, unwrap } from '../ast.ts'
import type { Draft, Handler } from './draft.ts'
import { fieldsOf, optionValue, relationName } from './objects.ts'

/**
 * COPY. What it reads and fills are parts of their own; to move rows through the connection is `sql.copy` besides, and to
 * have the server read or write its own files or run a program is another verb each, which no rule for `sql.copy` covers.
 */
export const copy: Handler = (draft, fields) => {
  const direction = fields['is_from'] === true ? 'in' : 'out'
  const hasFile = text(fields['filename']) !== '' || fields['filename'] !== undefined
  const name = fields['relation'] === undefined ? undefined : relationName(draft, fields['relation'])
  const format = formatOf(fields['options'])
  if (fields['is_program'] === true) place(draft, 'sql.copy_program', direction, format)
  else if (hasFile) place(draft, 'sql.copy_file', direction, format)
  else {
    draft.part('sql.copy', name, { direction, format })
    draft.effect = { does: direction === 'in' ? 'copy_in' : 'copy_out' }
    draft.isRead = direction === 'out'
    draft.needsSession =
      direction === 'in'
        ? 'there is no stream the data could come on; send an INSERT with params'
        : 'there is no stream the data could go to; send the SELECT itself'
  }
  // Rows in binary form are nothing a mask or a detector could be checked on.
  if (format === 'binary') draft.underMasks = 'refused'
}

function place(draft: Draft, verb: string, direction: string, format: string): void {
  draft.part(verb, undefined, { direction, format })
  draft.underMasks = 'refused'
  draft.hidesValues = true
}

function formatOf(list: unknown): string {
  let format = 'text'
  for (const option of asList(list)) {
    const { defname, arg } = fieldsOf(option)
    if (defname === 'format') format = optionValue(unwrap(arg) === undefined ? undefined : arg).toLowerCase()
  }
  return format
}
