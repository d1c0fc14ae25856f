/** A value an attribute may have; the taxonomy says which one each attribute has. */
export type AttributeValue =
  | string
  | number
  | boolean
  | null
  | readonly AttributeValue[]
  | { readonly [key: string]: AttributeValue }

/** What a part touches. `none` is written `-` in policies, logs and docs. */
export type Resource =
  | { readonly type: 'none' }
  /** `name` is canonical: `schema.relation`, `schema.fn(argtypes)`, a setting's name. Compared case-sensitively. */
  | { readonly type: 'sql'; readonly name: string; readonly columns?: readonly string[] }
  /**
   * A command. From `dynamicFrom` on only the remote shell knows the words, or how many there are: no pattern but an open
   * `rest` vouches for them, and every deny counts them as its own.
   */
  | { readonly type: 'argv'; readonly argv: readonly string[]; readonly dynamicFrom?: number }
  /** `also` are other kinds under which the same object is reached: a deny written for one of them meets it. */
  | {
      readonly type: 'k8s'
      readonly kind: string
      readonly also?: readonly string[]
      readonly namespace?: string
      readonly name?: string
    }
  /** `host` only where the target leaves it to the caller. `path` is beneath the target's base URL, as it is sent. */
  | { readonly type: 'http'; readonly path: string; readonly host?: string }
  | { readonly type: 'file'; readonly path: string }

/** One verb on one resource, with the facts a condition may test. The taxonomy lists verbs and attributes. */
export interface Part {
  readonly verb: string
  readonly resource: Resource
  readonly attributes: Readonly<Record<string, AttributeValue>>
  /** The account at the target it runs as, where the protocol has accounts; what a rule's `as` is about. */
  readonly account?: Account
  /**
   * Set on what does nothing itself and only opens the way for calls that are each decided anew, with what only they
   * know. It is let through where one of them could be: conditions that cannot be answered yet count for nothing, and
   * whoever must be asked is asked by those calls.
   */
  readonly announces?: true
}

/** An account at a target. */
export interface Account {
  readonly name: string
  /** Whether it is the one the gateway logs in as. A rule without `as` vouches for no other. */
  readonly isLogin: boolean
}

/** What a call turned out to be. An action without parts is denied (C3). */
export interface Action {
  readonly parts: readonly Part[]
  /** Facts about the whole call, such as `statement_count`. */
  readonly attributes: Readonly<Record<string, AttributeValue>>
}

/** Classes a rule can name as `class:…`. */
export type ActionClass = 'read' | 'write' | 'admin' | 'exec' | 'session' | 'unknown'

/** How an attribute is typed, for the check of conditions at load and for the docs. */
export type AttributeType = 'string' | 'int' | 'double' | 'bool' | 'list(string)' | 'map' | 'dyn'

/** One verb of a protocol. */
export interface VerbSpec {
  readonly verb: string
  readonly class: ActionClass
  readonly summary: string
  /** Set for what no wildcard and no class reaches: a rule has to name it. */
  readonly byNameOnly?: true
  /** Attributes of a part with this verb, by name. */
  readonly attributes: Readonly<Record<string, AttributeSpec>>
}

/** One attribute: its type and, in one sentence, what it means. */
export interface AttributeSpec {
  readonly type: AttributeType
  readonly summary: string
  /**
   * Another attribute, and its values under which this one stands for something nobody can read. Whatever a condition asks
   * of it then fails, also whether it has a field.
   */
  readonly unreadableIf?: { readonly attribute: string; readonly is: readonly string[] }
}

/** Everything policies may say about one protocol, as data. Docs and validation are made from it. */
export interface Taxonomy {
  readonly protocol: string
  /** The first word of every verb: `sql`, `ssh`, `k8s`, `http`. */
  readonly prefix: string
  readonly verbs: readonly VerbSpec[]
  /** Attributes of the whole action. */
  readonly actionAttributes: Readonly<Record<string, AttributeSpec>>
  /** Named sets of allow-rules for what clients need to breathe, such as `sql.client`. */
  readonly bundles: Readonly<Record<string, BundleSpec>>
  /**
   * Set where an answer holds objects at any depth (lists, changes, descriptions): there the path of a masked field begins
   * at whichever object has it.
   */
  readonly fieldsAnywhere?: true
}

/** A named set of (verb, resource pattern) pairs. */
export interface BundleSpec {
  readonly summary: string
  readonly grants: readonly { readonly verb: string; readonly resources: readonly string[] }[]
}
