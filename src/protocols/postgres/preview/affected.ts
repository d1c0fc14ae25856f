/**
 * From an UPDATE, a DELETE or an INSERT … SELECT to the query that finds the rows it is about, without touching them.
 *
 * The query is put together from stretches of the statement's own text, parsed again, and compared with the statement node
 * by node. What does not compare gives no query.
 *
 * @packageDocumentation
 */
import { asList, eachChild, text, unwrap, type Ast } from '../ast.ts'
import { fromBytes, parse, scan, toBytes, type Token } from '../parse.ts'

/** The rows a statement is about. */
export interface Affected {
  readonly kind: 'update' | 'delete' | 'insert'
  /** The name by which the query refers to one of them. */
  readonly alias: string
  /** The query with these result columns. */
  select(list: string): string
  /** Numbers of the parameters the query mentions. */
  readonly params: ReadonlySet<number>
}

const NOT_NESTED = new Set(['(', '['])
const NESTED_END = new Set([')', ']'])

/** Returns the query, or `undefined` for a statement it cannot be made of. */
export function affectedBy(sql: string): Affected | undefined {
  const parsed = parse(sql)
  if (!parsed.ok || parsed.statements.length !== 1) return undefined
  const statement = unwrap(parsed.statements[0]?.['stmt'])
  const tokens = scan(sql)
  if (statement === undefined || tokens === undefined) return undefined
  const words = topLevel(tokens.filter(({ tokenType }) => !COMMENTS.has(tokenType)))
  const source = { bytes: toBytes(sql), words, fields: statement.fields }
  switch (statement.type) {
    case 'UpdateStmt':
      return ofTarget('update', source, 'UPDATE', ['SET'], 'fromClause')
    case 'DeleteStmt':
      return ofTarget('delete', source, 'FROM', ['USING', 'WHERE', 'RETURNING'], 'usingClause')
    case 'InsertStmt':
      return ofSource(source)
    default:
      return undefined
  }
}

interface Source {
  readonly bytes: string
  /** Tokens outside of all parentheses, in order. */
  readonly words: readonly Token[]
  readonly fields: Ast
}

const COMMENTS = new Set([275, 276])

function topLevel(tokens: readonly Token[]): readonly Token[] {
  const found: Token[] = []
  let depth = 0
  for (const token of tokens) {
    if (NESTED_END.has(token.text)) depth--
    if (depth === 0 && token.text !== ';') found.push(token)
    if (NOT_NESTED.has(token.text)) depth++
  }
  return found
}

function ofTarget(
  kind: 'update' | 'delete',
  { bytes, words, fields }: Source,
  opening: string,
  closing: readonly string[],
  others: 'fromClause' | 'usingClause',
): Affected | undefined {
  const verb = indexOfWord(words, kind === 'update' ? 'UPDATE' : 'DELETE', 0)
  const start = opening === 'FROM' ? indexOfWord(words, 'FROM', verb + 1) : verb
  if (verb < 0 || start < 0) return undefined
  const targetEnd = firstOf(words, closing, start + 1)
  const returning = lastOf(words, 'RETURNING', targetEnd)
  const end = returning < 0 ? words.length : returning
  const where = fields['whereClause'] === undefined ? -1 : indexOfWord(words, 'WHERE', targetEnd)
  const joined = fields[others] === undefined ? -1 : joinedFrom(words, kind === 'update' ? 'FROM' : 'USING', targetEnd)
  if ((fields['whereClause'] !== undefined && where < 0) || (fields[others] !== undefined && joined < 0))
    return undefined
  const slice = (from: number, to: number): string => {
    const first = words[from - 1]
    const last = words[to]
    return fromBytes(bytes.slice(first?.end ?? 0, last?.start ?? endOf(words, bytes)))
  }
  const before = fields['withClause'] === undefined ? '' : fromBytes(bytes.slice(0, words[verb]?.start ?? 0))
  const from = [slice(start + 1, targetEnd), ...(joined < 0 ? [] : [slice(joined + 1, where < 0 ? end : where)])]
  const predicate = where < 0 ? '' : `\nWHERE ${slice(where + 1, end)}`
  const relation = fields['relation'] as Ast
  const alias = text((relation['alias'] as Ast | undefined)?.['aliasname']) || text(relation['relname'])
  return checked(
    {
      kind,
      alias,
      select: (list) => `${before}\nSELECT ${list} FROM ${from.join('\n, ')}${predicate}\n`,
      params: new Set(),
    },
    {
      ...(fields['withClause'] !== undefined && { withClause: fields['withClause'] }),
      fromClause: [{ RangeVar: relation }, ...asList(fields[others])],
      ...(fields['whereClause'] !== undefined && { whereClause: fields['whereClause'] }),
    },
  )
}

/** The rows an INSERT … SELECT reads. Rows that stand in its text need no query. */
function ofSource({ bytes, words, fields }: Source): Affected | undefined {
  const source = unwrap(fields['selectStmt'])
  if (source?.type !== 'SelectStmt' || fields['withClause'] !== undefined) return undefined
  const into = indexOfWord(words, 'INTO', 0)
  const start = firstOf(words, ['SELECT', 'TABLE', 'WITH'], into + 2)
  const first = words[start]
  if (into < 0 || first === undefined) return undefined
  const ends = [lastOf(words, 'RETURNING', start), conflictOf(words, start)].filter((at) => at >= 0)
  const end = words[Math.min(words.length, ...ends)]?.start ?? endOf(words, bytes)
  const query = fromBytes(bytes.slice(first.start, end))
  const alias = 'sallyport_source'
  return checked(
    { kind: 'insert', alias, select: (list) => `SELECT ${list} FROM (${query}\n) AS ${alias}`, params: new Set() },
    { fromClause: [{ RangeSubselect: { subquery: fields['selectStmt'], alias: { aliasname: alias } } }] },
  )
}

/** Parses the query that was put together, and compares it with what it was put together from. */
function checked(affected: Affected, expected: Ast): Affected | undefined {
  // In parentheses, as it will be used: nothing in it can end them.
  const parsed = parse(`SELECT FROM (${affected.select('1')}) AS sallyport_rows`)
  if (!parsed.ok || parsed.statements.length !== 1) return undefined
  const outer = unwrap(parsed.statements[0]?.['stmt'])
  const [range, more] = asList(outer?.fields['fromClause'])
  const made = unwrap(unwrap(range)?.fields['subquery'])
  if (made?.type !== 'SelectStmt' || more !== undefined || outer?.fields['whereClause'] !== undefined) return undefined
  const { targetList: _, limitOption: __, op: ___, ...rest } = made.fields
  if (plain(rest) !== plain(expected)) return undefined
  const params = new Set<number>()
  gatherParams(made.type, made.fields, params)
  return { ...affected, params }
}

function gatherParams(type: string, fields: Ast, params: Set<number>): void {
  if (type === 'ParamRef' && typeof fields['number'] === 'number') params.add(fields['number'])
  eachChild(type, fields, (inner, of) => gatherParams(inner, of, params))
}

const POSITIONS = new Set(['location', 'name_location', 'list_start', 'list_end', 'rexpr_list_start', 'rexpr_list_end'])

/** A tree without the places in the text, keys in one order. */
function plain(tree: unknown): string {
  return JSON.stringify(tree, (key, value: unknown) => {
    if (POSITIONS.has(key)) return undefined
    if (typeof value !== 'object' || value === null || Array.isArray(value)) return value
    return Object.fromEntries(Object.entries(value).sort(([a], [b]) => (a < b ? -1 : 1)))
  })
}

function indexOfWord(words: readonly Token[], word: string, from: number): number {
  return firstOf(words, [word], from)
}

function firstOf(words: readonly Token[], which: readonly string[], from: number): number {
  const at = words.findIndex((token, index) => index >= from && which.includes(token.text.toUpperCase()))
  return at < 0 && which.length > 1 ? words.length : at
}

function lastOf(words: readonly Token[], word: string, from: number): number {
  return words.findLastIndex((token, index) => index > from && token.text.toUpperCase() === word)
}

/** The word that begins the other tables: never the one of `IS DISTINCT FROM`. */
function joinedFrom(words: readonly Token[], word: string, from: number): number {
  return words.findIndex((token, index) => {
    return index >= from && token.text.toUpperCase() === word && words[index - 1]?.text.toUpperCase() !== 'DISTINCT'
  })
}

function conflictOf(words: readonly Token[], from: number): number {
  return words.findLastIndex((token, index) => {
    return index > from && token.text.toUpperCase() === 'ON' && words[index + 1]?.text.toUpperCase() === 'CONFLICT'
  })
}

function endOf(words: readonly Token[], bytes: string): number {
  // Closing parentheses are no words of their own here, so the text ends where a semicolon or nothing stands.
  const trimmed = bytes.trimEnd()
  return Math.max(words.at(-1)?.end ?? 0, trimmed.endsWith(';') ? trimmed.length - 1 : trimmed.length)
}
