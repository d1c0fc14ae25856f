import type { AttributeType } from '../core/action.ts'

/** The type of a CEL expression as far as it is known at load. */
export type CelKind =
  | { readonly kind: Simple }
  | { readonly kind: 'list'; readonly element: CelKind }
  | { readonly kind: 'map'; readonly value: CelKind }
  /** One of the variables of a condition: its fields are known, every other is a mistake. */
  | { readonly kind: 'object'; readonly name: string; readonly fields: ReadonlyMap<string, CelKind> }

type Simple =
  | 'bool'
  | 'int'
  | 'uint'
  | 'double'
  | 'string'
  | 'bytes'
  | 'null'
  | 'timestamp'
  | 'duration'
  | 'type'
  | 'dyn'

export const BOOL: CelKind = { kind: 'bool' }
export const INT: CelKind = { kind: 'int' }
export const UINT: CelKind = { kind: 'uint' }
export const DOUBLE: CelKind = { kind: 'double' }
export const STRING: CelKind = { kind: 'string' }
export const BYTES: CelKind = { kind: 'bytes' }
export const NULL: CelKind = { kind: 'null' }
export const TIMESTAMP: CelKind = { kind: 'timestamp' }
export const DURATION: CelKind = { kind: 'duration' }
export const TYPE: CelKind = { kind: 'type' }
export const DYN: CelKind = { kind: 'dyn' }
export const STRINGS: CelKind = { kind: 'list', element: STRING }

/** The CEL type of an attribute. */
export function kindOf(type: AttributeType): CelKind {
  switch (type) {
    case 'string':
      return STRING
    case 'int':
      return INT
    case 'double':
      return DOUBLE
    case 'bool':
      return BOOL
    case 'list(string)':
      return STRINGS
    case 'map':
      return { kind: 'map', value: DYN }
    default:
      return DYN
  }
}

/** Writes a type the way CEL does. */
export function renderKind(type: CelKind): string {
  switch (type.kind) {
    case 'list':
      return `list(${renderKind(type.element)})`
    case 'map':
      return `map(string, ${renderKind(type.value)})`
    case 'object':
      return type.name
    default:
      return type.kind
  }
}

/** Whether a value of one type can be a value of the other. */
export function compatible(a: CelKind, b: CelKind): boolean {
  if (a.kind === 'dyn' || b.kind === 'dyn') return true
  if (a.kind === 'list' && b.kind === 'list') return compatible(a.element, b.element)
  if (a.kind === 'map' && b.kind === 'map') return compatible(a.value, b.value)
  return a.kind === b.kind && a.kind !== 'object'
}

/** Whether the two may be compared with `==`: compatible, both numbers, or one of them null. */
export function comparable(a: CelKind, b: CelKind): boolean {
  return compatible(a, b) || (isNumber(a) && isNumber(b))
}

export function isNumber(type: CelKind): boolean {
  return type.kind === 'int' || type.kind === 'uint' || type.kind === 'double'
}

/** The type of something that is one or the other. */
export function join(a: CelKind, b: CelKind): CelKind {
  if (a.kind === 'list' && b.kind === 'list') return { kind: 'list', element: join(a.element, b.element) }
  if (a.kind === 'map' && b.kind === 'map') return { kind: 'map', value: join(a.value, b.value) }
  return a.kind === b.kind && a.kind !== 'object' ? a : DYN
}
