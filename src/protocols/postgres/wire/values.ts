/**
 * Parameter values as people can read them. Binary forms are those of PostgreSQL's own send functions; what is not known
 * here is shown in hexadecimal digits, so that nothing bound is left out of what is recorded and approved.
 *
 * @packageDocumentation
 */
import { formatAt, type Bind } from '../messages/bind.ts'

/** OIDs of types (`catalog/pg_type.dat`). */
const BOOL = 16
const INT8 = 20
const INT2 = 21
const INT4 = 23
const OID = 26
const FLOAT4 = 700
const FLOAT8 = 701
const UUID = 2950
/** Types whose binary form is their text: text, varchar, bpchar, name, char, json, xml, unknown. */
const TEXTUAL: ReadonlySet<number> = new Set([25, 1043, 1042, 19, 18, 114, 142, 705])

/** Returns the value at `index` as text. */
export function shownValue(
  value: Buffer | null,
  bind: Pick<Bind, 'paramFormats'>,
  paramTypes: readonly number[],
  index: number,
): string | null {
  if (value === null) return null
  if (formatAt(bind.paramFormats, index) === 0) return value.toString('utf8')
  return decoded(value, paramTypes[index] ?? 0) ?? `\\x${value.toString('hex')}`
}

/** Whether {@link shownValue} says exactly what the value is. */
export function isReadableValue(
  value: Buffer | null,
  paramFormats: Bind['paramFormats'],
  paramTypes: readonly number[],
  index: number,
): boolean {
  return value === null || formatAt(paramFormats, index) === 0 || decoded(value, paramTypes[index] ?? 0) !== undefined
}

function decoded(value: Buffer, type: number): string | undefined {
  if (TEXTUAL.has(type)) return value.toString('utf8')
  switch (type) {
    case BOOL:
      return value.length === 1 ? String(value[0] !== 0) : undefined
    case INT2:
      return value.length === 2 ? String(value.readInt16BE()) : undefined
    case INT4:
      return value.length === 4 ? String(value.readInt32BE()) : undefined
    case OID:
      return value.length === 4 ? String(value.readUInt32BE()) : undefined
    case INT8:
      return value.length === 8 ? String(value.readBigInt64BE()) : undefined
    case FLOAT4:
      return value.length === 4 ? String(value.readFloatBE()) : undefined
    case FLOAT8:
      return value.length === 8 ? String(value.readDoubleBE()) : undefined
    case UUID:
      return value.length === 16
        ? value.toString('hex').replace(/^(.{8})(.{4})(.{4})(.{4})(.{12})$/u, '$1-$2-$3-$4-$5')
        : undefined
    default:
      return undefined
  }
}
