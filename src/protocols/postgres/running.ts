import type { FieldDef } from 'pg'
import type { Chunk, StatementResult } from '../../core/chunk.ts'
import type { FetchStep } from './exchange.ts'
import type { PostgresPlan } from './plan-types.ts'
import { columnsOf, isLeak, ResultBuffer, type Feed, type ResultLimits } from './result.ts'

/** One statement while the backend runs it: its portal, its rows on their way, and what became of it. */
export class Running {
  readonly plan: PostgresPlan
  readonly portal: string
  readonly result: ResultBuffer
  isLeaking = false
  readonly #limits: ResultLimits
  readonly #onLeak: () => void
  #fields: readonly FieldDef[] = []
  #tag: string | undefined
  #isSuspended = false
  #fetchedBefore = 0

  /** @param onLeak called when a masked column is about to be shown. */
  constructor(plan: PostgresPlan, portal: string, limits: ResultLimits, feed: Feed, onLeak: () => void) {
    this.plan = plan
    this.portal = portal
    this.#limits = limits
    this.#onLeak = onLeak
    this.result = new ResultBuffer(limits, feed)
  }

  /** Whether it returns rows, be it none. */
  get hasColumns(): boolean {
    return this.#fields.length > 0
  }

  /** Whether rows are left that were not asked for. */
  get isSuspended(): boolean {
    return this.#isSuspended
  }

  /** Asks for one row more than may be shown. */
  fetch(): FetchStep {
    return this.#fetch(this.#limits.rowsMax + 1)
  }

  /** Asks for whatever is left, for the tag that says how many rows there were. */
  fetchRest(): FetchStep {
    // Each Execute counts only its own rows.
    this.#fetchedBefore = this.#limits.rowsMax + 1
    return this.#fetch(0)
  }

  described(fields: readonly FieldDef[]): void {
    this.#fields = fields
    if (!fields.some((field) => isLeak(field, this.plan))) return
    // Fail closed: the rewriting missed a masked column. The rows are already on their way; none is looked at.
    this.isLeaking = true
    this.#onLeak()
  }

  head(typeNames: ReadonlyMap<number, string>, isPaged: boolean): Chunk {
    const { masking } = this.plan
    const attributes = {
      ...(masking !== undefined && masking !== 'none' && { masking }),
      ...(isPaged && { paging: 'true' }),
    }
    return {
      kind: 'head',
      ...(this.hasColumns && { columns: columnsOf(this.#fields, this.plan, typeNames) }),
      ...(Object.keys(attributes).length > 0 && { attributes }),
    }
  }

  /** How it ended. */
  ended(): StatementResult {
    const { rowCount, truncatedBy } = this.result
    const isCut = truncatedBy !== undefined
    // A cut read has no tag of its own, or one that counts the row that was read too much.
    const tag = this.#tag === undefined || (isCut && this.plan.readOnly) ? `SELECT ${rowCount}` : this.#tag
    const [, word = tag, number] = /^(.*?)(\d+)$/u.exec(tag) ?? []
    const count = number === undefined ? undefined : Number(number) + this.#fetchedBefore
    const shown = this.hasColumns ? rowCount : undefined
    return {
      status: count === undefined ? tag : `${word}${count}`,
      ...((count ?? shown) !== undefined && { rowCount: count ?? shown ?? 0 }),
      truncated: isCut,
      ...(isCut && { truncatedBy }),
    }
  }

  #fetch(rowsMax: number): FetchStep {
    return {
      do: 'fetch',
      portal: this.portal,
      rowsMax,
      onRow: (cells, bytes) => this.result.push(cells, bytes),
      onDone: (tag) => {
        this.#isSuspended = tag === undefined
        this.#tag = tag
      },
    }
  }
}
