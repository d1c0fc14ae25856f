import { FIELDS } from './fields.ts'

/** What one number of a message stands for. */
export interface ProtoField {
  readonly number: number
  /** In JSON; empty for a message whose fields stand one level up there. */
  readonly name: string
  readonly shape: 'one' | 'list' | 'map'
  readonly type: ProtoType
  /** Whether nothing and zero are two things; of any other field zero is what is not there. */
  readonly isOptional: boolean
}

/** A letter of `fields.ts`, or another message. */
export type ProtoType = 's' | 'b' | 'i' | 'l' | 'x' | 'q' | 'o' | 't' | 'm' | 'd' | 'r' | 'f' | 'n' | ProtoMessage

/** A message; its fields are read when they are first asked for. */
export interface ProtoMessage {
  fields(): ReadonlyMap<number, ProtoField>
}

/** Finds the message of a kind; `undefined` for what no table has. */
export function messageOf(apiVersion: string, kind: string): ProtoMessage | undefined {
  // Options of a deletion come in the version of what is to be deleted.
  return find(kind === 'DeleteOptions' ? 'meta' : apiVersion, kind)
}

const LETTERS = /^[sbilxqotmdrfn]$/u
const FIELD = /^(\d+):([^:]*):(\[\]|\{\})?([^*]+)(\*)?$/u

const PACKAGES = new Map<string, ReadonlyMap<string, ProtoMessage>>()

function find(pack: string, name: string): ProtoMessage | undefined {
  const known = PACKAGES.get(pack)
  if (known !== undefined) return known.get(name)
  const text = Object.hasOwn(FIELDS, pack) ? (FIELDS[pack] ?? '') : ''
  if (text === '') return undefined
  const messages = new Map<string, ProtoMessage>()
  for (const line of text.trim().split('\n')) {
    const [message = '', ...fields] = line.split(' ')
    messages.set(message, lazy(pack, fields))
  }
  PACKAGES.set(pack, messages)
  return messages.get(name)
}

function lazy(pack: string, written: readonly string[]): ProtoMessage {
  let read: ReadonlyMap<number, ProtoField> | undefined
  return {
    fields() {
      read ??= new Map(written.map((text) => fieldOf(pack, text)).map((field) => [field.number, field]))
      return read
    },
  }
}

function fieldOf(pack: string, text: string): ProtoField {
  const [, number = '', name = '', shape, type = '', optional] = FIELD.exec(text) ?? []
  return {
    number: Number(number),
    name,
    shape: shape === '[]' ? 'list' : shape === '{}' ? 'map' : 'one',
    type: LETTERS.test(type) ? (type as ProtoType) : named(pack, type),
    isOptional: optional !== undefined,
  }
}

/** A message by its name in a table: alone in its own package, else behind the name of another one. */
function named(pack: string, type: string): ProtoMessage {
  const dot = type.lastIndexOf('.')
  const found = dot < 0 ? find(pack, type) : find(type.slice(0, dot), type.slice(dot + 1))
  if (found === undefined) throw new Error(`fields.ts has no message ${type}`)
  return found
}
