/**
 * Whether values that a statement assigns are surely short.
 *
 * An index takes rows up to a length, all its columns together. Who makes one of them as long as the index just takes
 * learns from success or failure how long the others are, masked or not.
 *
 * @packageDocumentation
 */
import { asList, text, unwrap, type Ast } from './ast.ts'
import type { CatalogColumn } from './catalog.ts'
import type { Request } from './plan-request.ts'

/**
 * Longest value, in UTF-16 units, that tells nothing: a row of a B-tree may have 2,704 bytes (`BTMaxItemSize`), so only
 * masked values of far more than a thousand bytes could meet that limit beside it.
 */
export const SHORT_CHARS_MAX = 256

/** Looks at the values of one request. */
export class Lengths {
  /** Whether the plan is made of what the parameters hold. */
  readsParams = false
  readonly #params: Request['params'] | undefined
  readonly #request: Request | undefined
  readonly #isUnbound: boolean

  /** @param request undefined for a statement whose parameters are not those of the call, such as PREPARE. */
  constructor(request: Request | undefined) {
    this.#request = request
    this.#params = request?.areUnseen === true ? undefined : request?.params
    this.#isUnbound = request?.isUnbound === true && request.areUnseen !== true
  }

  /** Whether every one of those expressions yields a short value. */
  areShort(values: readonly unknown[] | undefined): boolean {
    return values?.every((value) => this.#isShort(value)) === true
  }

  /** Fail closed: what is neither written out nor a parameter may be of any length. */
  #isShort(value: unknown): boolean {
    const one = unwrap(value)
    switch (one?.type) {
      case 'SetToDefault':
        return true
      case 'A_Const':
        return isShortConstant(one.fields)
      case 'ParamRef':
        return this.#isShortParam(one.fields['number'])
      case 'MultiAssignRef':
        return this.#isShort(partOf(one.fields))
      default:
        return false
    }
  }

  #isShortParam(number: unknown): boolean {
    this.readsParams = true
    // Nothing runs before the statement is planned again with its values.
    if (this.#isUnbound) return true
    if (typeof number !== 'number') return false
    const param = this.#params?.[number - 1]
    if (param === undefined || param === null) return param === null
    return param.length <= SHORT_CHARS_MAX && (!mayGrow(param) || this.#isKept(number))
  }

  /** Whether a parameter is kept as it is written: as a text, or as a value of the very column it is assigned to. */
  #isKept(number: number): boolean {
    const { sql = '', paramTypes = [] } = this.#request ?? {}
    const type = paramTypes[number - 1] ?? 0
    if (type !== 0 && type !== UNKNOWN) return AS_WRITTEN.has(type)
    // The server takes the type from the first place it stands at. Fail closed: any second one may be that.
    return [...sql.matchAll(new RegExp(`\\$0*${number}(?!\\d)`, 'gu'))].length === 1
  }
}

/** OIDs of types (`catalog/pg_type.dat`). */
const UNKNOWN = 705
/** bytea, "char", name, text, bpchar, varchar, uuid. */
const AS_WRITTEN: ReadonlySet<number> = new Set([17, 18, 19, 25, 1042, 1043, 2950])

/** Whether a text may stand for a value that is far longer when it becomes a text again: 1e131000, or one in binary form. */
function mayGrow(param: string): boolean {
  return /[\d.]e/iu.test(param) || param.startsWith('\\x')
}

/** What `(a, b) = ('x', 'y')` gives one of its columns; undefined where the row is no list of expressions. */
function partOf({ source, colno }: Ast): unknown {
  const row = unwrap(source)
  if (row?.type !== 'RowExpr' || typeof colno !== 'number') return undefined
  return asList(row.fields['args'])[colno - 1]
}

/** A number may be written into a text, digit by digit; one with an exponent has more of them than it shows. */
function isShortConstant(fields: Ast): boolean {
  const { sval, bsval, fval } = fields as { readonly [kind in 'sval' | 'bsval' | 'fval']?: Ast }
  const written = [sval?.['sval'], bsval?.['bsval'], fval?.['fval']].map((value) => text(value))
  return written.every((value) => value.length <= SHORT_CHARS_MAX) && !/e/iu.test(text(fval?.['fval']))
}

/** Whether values of a column may be longer than that. */
export function mayBeLong({ baseType, type, typeKind }: CatalogColumn): boolean {
  if (typeKind === 'e') return false
  const name = typeKind === 'd' ? baseType : type
  const [, length] = /\((\d+)(?:,-?\d+)?\)$/u.exec(name) ?? []
  if (length !== undefined && Number(length) <= SHORT_CHARS_MAX) return false
  // `timestamp(3) with time zone` has its modifier in the middle.
  return !FIXED.has(name.replace(/\(\d+\)/u, ''))
}

/** Types whose values all have about the same, small size. */
const FIXED = new Set([
  'bigint',
  'boolean',
  '"char"',
  'cidr',
  'date',
  'double precision',
  'inet',
  'integer',
  'interval',
  'macaddr',
  'macaddr8',
  'money',
  'name',
  'oid',
  'real',
  'smallint',
  'time without time zone',
  'time with time zone',
  'timestamp without time zone',
  'timestamp with time zone',
  'uuid',
])

/** Adds what one more assignment gives a column. */
export function noteValue(into: Map<string, unknown[]>, column: string, value: unknown): void {
  const known = into.get(column)
  if (known === undefined) into.set(column, [value])
  else known.push(value)
}
