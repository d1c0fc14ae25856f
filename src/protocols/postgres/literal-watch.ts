/**
 * Which literals of a text its plan was made of.
 *
 * While a statement is planned, the constants of its tree tell when their value is read. A plan is the same for every
 * text of the same shape whose literals are equal wherever one was read: whatever the others say, the planner did not
 * look at them. That holds for rules that are yet to be written, too, because nobody has to list what reads a literal.
 *
 * @packageDocumentation
 */
import type { Ast } from './ast.ts'
import type { Edit } from './rewrite-source.ts'
import { stringValue, type Shape } from './shape.ts'

/** What came to light about one text while it was planned. */
export class LiteralWatch {
  readonly shape: Shape
  /** By position among the literals: whether there is a constant for it, and nobody has read it. */
  readonly unread: boolean[]
  /** The edits that made the text that is sent. */
  edits: readonly Edit[] = []
  isPaused = false

  /** Puts watched values in place of the constants in `tree`, which is changed. */
  constructor(tree: unknown, shape: Shape) {
    this.shape = shape
    this.unread = shape.literals.map(() => false)
    const mismatched = new Set<number>()
    const byStart = new Map(shape.starts.map((start, index) => [start, index]))
    this.#watch(tree, byStart, mismatched)
    for (const index of mismatched) this.unread[index] = false
  }

  #watch(value: unknown, byStart: ReadonlyMap<number, number>, mismatched: Set<number>): void {
    if (typeof value !== 'object' || value === null) return
    if (Array.isArray(value)) {
      for (const item of value) this.#watch(item, byStart, mismatched)
      return
    }
    for (const name in value) {
      const child = (value as Ast)[name]
      if (typeof child !== 'object' || child === null) continue
      if (name === 'A_Const') this.#watchConstant(child as Record<string, unknown>, byStart, mismatched)
      else this.#watch(child, byStart, mismatched)
    }
  }

  #watchConstant(fields: Record<string, unknown>, byStart: ReadonlyMap<number, number>, mismatched: Set<number>): void {
    const { location } = fields
    const index = typeof location === 'number' ? byStart.get(location) : undefined
    if (index === undefined) return
    const kind = kindOf(this.shape.literals[index] ?? '')
    const inner = fields[kind.name]
    // A negative number, for one, is not what is written there.
    if (typeof inner !== 'object' || inner === null || (inner as Ast)[kind.name] !== kind.value) mismatched.add(index)
    else {
      this.unread[index] = true
      fields[kind.name] = this.#watched(kind.name, kind.value, index)
    }
  }

  #watched(name: string, value: unknown, index: number): Ast {
    const read = (): unknown => {
      if (!this.isPaused) this.unread[index] = false
      return value
    }
    return Object.defineProperty({}, name, { enumerable: true, get: read }) as Ast
  }
}

function kindOf(literal: string): { readonly name: string; readonly value: unknown } {
  if (literal.startsWith("'")) return { name: 'sval', value: utf8(stringValue(literal)) }
  return literal.includes('.') ? { name: 'fval', value: literal } : { name: 'ival', value: Number(literal) }
}

/** The characters behind bytes of UTF-8. */
function utf8(bytes: string): string {
  return Buffer.from(bytes, 'latin1').toString('utf8')
}

// Planning is synchronous, so that one watch serves one text at a time.
let current: LiteralWatch | undefined

/** Runs `work` on a tree while `watch` is told of its edits. */
export function watching<T>(watch: LiteralWatch, work: () => T): T {
  current = watch
  try {
    return work()
  } finally {
    current = undefined
  }
}

/** Notes the edits of the text that is planned just now, in order. */
export function noteEdits(edits: readonly Edit[]): void {
  if (current !== undefined) current.edits = edits
}

/**
 * Runs what compares values with themselves: that the tree of the text that is sent is the one it should be. It is asked
 * once per shape, because texts of one shape have the same tokens, and so the same tree but for the values.
 */
export function unwatched<T>(work: () => T): T {
  if (current === undefined) return work()
  const watch = current
  watch.isPaused = true
  try {
    return work()
  } finally {
    watch.isPaused = false
  }
}
