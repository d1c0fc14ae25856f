/**
 * FunctionCall messages: a function by its OID, without a statement (PostgreSQL manual, 55.2.6).
 *
 * What such a message means is a statement that calls the function by its full name, with each argument of its declared
 * type. That statement is what is planned, decided, recorded and run (C1), so that nothing can be done by number that
 * could not be done by name; only the answer differs: one value instead of rows.
 *
 * @packageDocumentation
 */
import { z } from 'zod'
import type { Chunk } from '../../../core/chunk.ts'
import { SallyportError } from '../../../core/errors.ts'
import { BackendReader } from '../messages/backend.ts'
import { BodyReader, MessageWriter } from '../messages/bytes.ts'
import type { FunctionCall } from '../messages/function-call.ts'
import { pinned } from '../names.ts'
import type { PortalRequest, WireCall } from './payload.ts'

/** Tells which function has an OID. Every name in it is the server's own, wherever the session looks names up. */
export const FUNCTION_SQL = `SELECT pg_catalog.json_build_object(
    'schema', n.nspname, 'name', p.proname, 'kind', p.prokind, 'returnsSet', p.proretset,
    'arguments', (SELECT pg_catalog.json_agg(pg_catalog.json_build_object(
        'oid', t.oid::pg_catalog.int8, 'schema', s.nspname, 'name', t.typname, 'kind', t.typtype) ORDER BY a.place)
      FROM pg_catalog.unnest(p.proargtypes::pg_catalog.oid[]) WITH ORDINALITY AS a (oid, place)
      JOIN pg_catalog.pg_type t ON t.oid OPERATOR(pg_catalog.=) a.oid
      JOIN pg_catalog.pg_namespace s ON s.oid OPERATOR(pg_catalog.=) t.typnamespace))::pg_catalog.text
  FROM pg_catalog.pg_proc p JOIN pg_catalog.pg_namespace n ON n.oid OPERATOR(pg_catalog.=) p.pronamespace
  WHERE p.oid OPERATOR(pg_catalog.=) $1::pg_catalog.oid`

const named = z.object({ schema: z.string(), name: z.string(), kind: z.string() })
const facts = named.extend({
  returnsSet: z.boolean(),
  arguments: z.array(named.extend({ oid: z.number() })).nullable(),
})

/**
 * Returns the portal that does what a FunctionCall message asks for.
 *
 * @param found what {@link FUNCTION_SQL} said.
 * @param upstreamName the portal's name at the backend.
 * @throws SallyportError `ERR_INVALID_INPUT` for what the server would refuse as well, and for what cannot be said by name.
 */
export function portalOf(call: FunctionCall, found: string | undefined, upstreamName: string): PortalRequest {
  if (found === undefined) throw refused('42883', `function with OID ${call.oid} does not exist`)
  const { schema, name, kind, returnsSet, arguments: declared } = facts.parse(JSON.parse(found))
  const types = declared ?? []
  if (kind !== 'f' || returnsSet)
    throw refused('0A000', 'only a plain function that returns one value can be called by OID')
  if (types.length !== call.args.length) {
    const count = `${call.args.length} arguments but the function requires ${types.length}`
    throw refused('08P01', `function call message contains ${count}`)
  }
  // Fail closed: of what type such an argument is, only a statement tells.
  if (types.some((type) => type.kind === 'p')) {
    throw refused(
      '0A000',
      'a function whose arguments have no type of their own cannot be called by OID; use a statement',
    )
  }
  const args = types.map((type, index) => `$${index + 1}::${pinned(type)}`)
  const sql = `SELECT ${pinned({ schema, name })}(${args.join(', ')})`
  return {
    statement: {
      sql,
      paramTypes: types.map(({ oid }) => oid),
      upstreamName: '',
      wanted: sql,
      sent: undefined,
      // No client waits for answers to these.
      isAnswered: true,
    },
    bind: {
      type: 'Bind',
      portal: '',
      statement: '',
      paramFormats: call.argFormats,
      params: call.args,
      resultFormats: [call.resultFormat],
    },
    upstreamName,
    commands: [{ do: 'execute', rowsMax: 0 }],
    withSync: true,
    state: 'open',
    isOpened: false,
    tag: '',
  }
}

/** Makes of the answer to that portal the answer to a FunctionCall message. */
export class FunctionAnswer {
  readonly #reader = new BackendReader()
  #value: Buffer | null | undefined

  constructor() {
    this.#reader.readsRows = true
  }

  /** Takes a chunk of the call; returns what its client is told at once: notices. */
  take(chunk: Chunk, wire: WireCall): readonly Buffer[] {
    if (chunk.kind !== 'data') return []
    if (chunk.channel === 'rows') {
      for (const [cell = null] of chunk.rows) this.#value = cell === null ? null : Buffer.from(cell)
      const control = chunk.rows.length === 0 ? wire.controls.shift() : undefined
      if (control !== undefined) this.#reader.push(control)
    } else if (chunk.channel === 'wire') this.#reader.push(Buffer.from(chunk.bytes))
    const notices: Buffer[] = []
    for (let piece = this.#reader.next(); piece !== undefined; piece = this.#reader.next()) {
      if (piece.kind !== 'message') continue
      if (piece.letter === 'N') notices.push(Buffer.from(piece.bytes))
      if (piece.letter === 'D') this.#value = onlyValue(piece.body)
    }
    return notices
  }

  /** FunctionCallResponse. @throws SallyportError when there was no value. */
  response(): Buffer {
    if (this.#value === undefined) throw new SallyportError('ERR_UPSTREAM_REJECTED', 'The function returned nothing.')
    return new MessageWriter('V').value(this.#value).done()
  }
}

function onlyValue(row: Buffer): Buffer | null {
  const reader = new BodyReader('DataRow', row)
  reader.count()
  const value = reader.value()
  // The reader goes on to use its memory.
  return value && Buffer.from(value)
}

function refused(sqlstate: string, message: string): SallyportError {
  return new SallyportError('ERR_INVALID_INPUT', message, {
    facts: { sqlstate, construct: 'sql.function_call_message' },
  })
}
