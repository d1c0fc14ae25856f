import type { Account, Part } from '../../core/action.ts'
import type { Argv } from './argv.ts'
import { isPowerful } from './programs.ts'
import type { ParsedScript } from './syntax.ts'
import type { Dialect } from './wrappers.ts'

/** Where in a command something stands. */
export interface Context {
  readonly account: Account
  /** Wrappers around it, outermost first. */
  readonly via: readonly string[]
  readonly dialect: Dialect
  /** Whether it stands in a substitution. */
  readonly isInside: boolean
  readonly nested: Nested
}

/** How whatever finds a script inside a command hands it on. */
export interface Nested {
  /** A script as text, such as that behind `sh -c`. */
  text(text: string, context: Context, findings: Findings): void
  /** A script the parser has read already, such as a substitution. */
  script(script: ParsedScript, context: Context, findings: Findings): void
}

/** Most parts of one action: each costs every rule a look. */
const PARTS_MAX = 256

/** Collects what a command was found to do. */
export class Findings {
  readonly #parts: Part[] = []
  readonly #reasons = new Set<string>()
  #isDetached = false

  /** Everything found. What was not understood is one part, with each reason once. */
  get parts(): readonly Part[] {
    const unknown = this.#reasons.size === 0 ? [] : [unknownPart([...this.#reasons])]
    return [...this.#parts, ...(this.#isDetached ? [DETACHED] : []), ...unknown]
  }

  unknown(reason: string): void {
    this.#reasons.add(reason)
  }

  /** A node the walk does not list. The parameter proves to the compiler that all are listed. */
  unlisted(_node: never): void {
    this.unknown('It holds a construct that is not understood.')
  }

  /** Something only bash has: another shell would read the same text as something else. */
  bashOnly(what: string, { dialect }: Context): void {
    if (dialect !== 'bash') this.unknown(`It uses ${what}, which sh reads differently; use bash -c.`)
  }

  /** Something goes on running when the command has ended. */
  detached(): void {
    this.#isDetached = true
  }

  command(verb: 'ssh.exec' | 'ssh.code' | 'ssh.wrap', argv: Argv, context: Context): void {
    const { account, via } = context
    this.#add({
      verb,
      resource: {
        type: 'argv',
        argv: argv.words,
        ...(argv.dynamicFrom !== undefined && { dynamicFrom: argv.dynamicFrom }),
      },
      attributes: {
        argv: argv.words,
        words: argv.words.length,
        dynamic: argv.dynamicFrom !== undefined,
        user: account.name,
        via,
      },
      account,
    })
  }

  builtin(argv: readonly string[], { account, via }: Context): void {
    this.#add({
      verb: 'ssh.builtin',
      resource: { type: 'argv', argv },
      attributes: { user: account.name, via },
      account,
    })
  }

  /** @param value `undefined` when it is computed. */
  assigned(name: string, value: string | undefined, { account }: Context): void {
    if (!/^[A-Za-z_][A-Za-z0-9_]*$/u.test(name)) return this.unknown('It assigns to something that is no plain name.')
    if (isPowerful(name)) return this.unknown(`It assigns ${name}, which decides what other commands mean.`)
    this.#add({
      verb: 'ssh.assign',
      resource: { type: 'argv', argv: [name, value ?? ''], ...(value === undefined && { dynamicFrom: 1 }) },
      attributes: { name, user: account.name },
      account,
    })
  }

  file(verb: 'ssh.read' | 'ssh.write', path: string, { account, via }: Context): void {
    this.#add({ verb, resource: { type: 'file', path }, attributes: { user: account.name, via }, account })
  }

  #add(part: Part): void {
    if (this.#parts.length < PARTS_MAX) this.#parts.push(part)
    else this.unknown(`It has more than ${PARTS_MAX} parts.`)
  }
}

const DETACHED: Part = { verb: 'ssh.detach', resource: { type: 'none' }, attributes: {} }

/** The part of what was not understood (C4). */
export function unknownPart(reasons: readonly string[]): Part {
  return { verb: 'ssh.unknown', resource: { type: 'none' }, attributes: { reasons } }
}
