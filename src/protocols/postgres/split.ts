import { fromBytes, parse, type Parsed, type Unparsed } from './parse.ts'

/** One statement of a text, exactly as it stands there, without the semicolon. */
export interface StatementText {
  readonly text: string
  /** Position in the whole text, in UTF-16 units. */
  readonly start: number
}

/** What a text holds. */
export type Split = { readonly ok: true; readonly statements: readonly StatementText[] } | Unparsed

/**
 * Splits a text where PostgreSQL's own grammar ends one statement and begins the next. Empty statements are left out.
 *
 * Every text can be planned and sent by itself. That it means the same there is not taken for granted: it is parsed
 * again, and must hold exactly one statement.
 */
export function splitStatements(sql: string): Split {
  const parsed = parse(sql)
  return parsed.ok ? { ok: true, statements: statementsIn(sql, parsed) } : parsed
}

/** The same of a text that was parsed already. */
export function statementsIn(sql: string, { statements, bytes }: Parsed): readonly StatementText[] {
  if (statements.length === 1 && sql.length === bytes.length && !bytes.includes(';')) return [{ text: sql, start: 0 }]
  let at = 0
  let start = 0
  return statements.map((raw) => {
    const from = typeof raw['stmt_location'] === 'number' ? raw['stmt_location'] : 0
    const length = typeof raw['stmt_len'] === 'number' ? raw['stmt_len'] : bytes.length - from
    start += fromBytes(bytes.slice(at, from)).length
    at = from
    return { text: fromBytes(bytes.slice(from, from + length)), start }
  })
}
