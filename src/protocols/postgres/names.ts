/** Quotes an identifier for SQL text, always. */
export function quoteIdentifier(name: string): string {
  return `"${name.replaceAll('"', '""')}"`
}

/** `"schema"."name"`: a name that `search_path` cannot move (R4). */
export function pinned(object: { readonly schema: string; readonly name: string }): string {
  return `${quoteIdentifier(object.schema)}.${quoteIdentifier(object.name)}`
}

/**
 * The name of a resource as policies write it: `schema.name`. A word is quoted only when it holds a character that would
 * make two different objects share one name.
 */
export function resourceName(object: { readonly schema: string; readonly name: string }): string {
  return `${word(object.schema)}.${word(object.name)}`
}

/** `schema.fn(argtype, argtype)`, the name of a function in policies. */
export function functionName(fn: {
  readonly schema: string
  readonly name: string
  readonly argTypes: readonly string[]
}): string {
  return `${resourceName(fn)}(${fn.argTypes.join(',')})`
}

/** The name of something that lies in no schema: a role, a schema, a setting, a channel. */
export function word(name: string): string {
  return /[."*?(),\s]/.test(name) || name === '' ? quoteIdentifier(name) : name
}

/**
 * A name as a caller may be told it. Names a caller quoted may be values it meant to compare with, so only plain words
 * are repeated.
 */
export function spoken(...words: readonly string[]): string {
  return words.every((name) => /^[\p{L}_][\p{L}\p{N}_$]{0,62}$/u.test(name))
    ? `"${words.join('.')}"`
    : '(name not repeated)'
}
