/**
 * One conversation with the backend, from the first message to ReadyForQuery, in the extended protocol only.
 *
 * All messages of a script go out in one write and one Sync ends them: a whole call costs one round trip, and after an
 * error the backend itself skips everything up to the Sync (PostgreSQL manual, 54.2.3), so that no later step runs
 * because we were slow to notice.
 *
 * @packageDocumentation
 */
import type { FieldDef, Submittable } from 'pg'
import type { Cell } from '../../core/chunk.ts'
import type { BackendReport } from './errors.ts'
import type { Param } from './plan-types.ts'

/** One thing to do in an exchange. */
export type Step = RunStep | OpenStep | FetchStep

/** Parses, binds and executes a statement of ours. */
export interface RunStep {
  readonly do: 'run'
  readonly sql: string
  readonly params?: readonly Param[]
  /** OIDs of their types, 0 where the statement decides; without it the statement decides them all. */
  readonly paramTypes?: readonly number[]
  readonly onRow?: RowSink
  /** Called with the command tag. */
  readonly onDone?: (tag: string | undefined) => void
}

/** Parses a statement and binds it to a portal that later steps fetch from. Its plan is made, nothing of it has run. */
export interface OpenStep {
  readonly do: 'open'
  readonly portal: string
  readonly sql: string
  readonly params: readonly Param[]
  readonly paramTypes?: readonly number[]
  /** Called with the columns of the result, or with none when the statement returns no rows. */
  readonly onFields: (fields: readonly FieldDef[]) => void
}

/** Executes a portal, up to `rowsMax` rows; 0 means all. */
export interface FetchStep {
  readonly do: 'fetch'
  readonly portal: string
  readonly rowsMax: number
  readonly onRow: RowSink
  /** Called with the command tag, or with `undefined` when the portal has more rows than were asked for. */
  readonly onDone: (tag: string | undefined) => void
}

/** Takes one row: its cells in text form and the bytes they had on the wire. */
export type RowSink = (cells: Cell[], bytes: number) => void

/** How an exchange ended. */
export type Outcome =
  /** The backend answered to the Sync. `status` is its transaction: idle, open, or failed. */
  | { readonly kind: 'ready'; readonly status: TransactionStatus; readonly failure?: Failure }
  /** The connection is gone, or must be given up. `answered` counts the steps the backend is known to have done. */
  | { readonly kind: 'lost'; readonly cause: unknown; readonly answered: number; readonly failure?: Failure }

/** The first error the backend reported, and the step it belongs to. */
export interface Failure {
  readonly report: BackendReport
  readonly step: number
}

/** The status letter of ReadyForQuery. */
export type TransactionStatus = 'I' | 'T' | 'E'

/** What an exchange writes to: the part of `pg`'s connection used here. */
export interface Writer {
  readonly stream: { cork(): void; uncork(): void }
  parse(message: { readonly text: string; readonly types?: readonly number[] }): void
  bind(message: { readonly portal: string; readonly values: readonly Param[] }): void
  describe(message: { readonly type: 'P'; readonly name: string }): void
  execute(message: { readonly portal: string; readonly rows: number }): void
  sync(): void
}

interface DataRow {
  readonly length: number
  readonly fields: Cell[]
}

/** Bytes of a DataRow besides its values: its own length and the number of columns; and the length of each value. */
const DATA_ROW_BYTES = 6
const CELL_BYTES = 4

/** A script under way. `pg`'s client calls its handlers; the rest is called by the connection. */
export class Exchange implements Submittable {
  readonly outcome: Promise<Outcome>
  readonly #script: readonly Step[]
  #resolve: (outcome: Outcome) => void = () => undefined
  #step = 0
  #failure: Failure | undefined
  #isDone = false

  constructor(script: readonly Step[]) {
    this.#script = script
    this.outcome = new Promise((resolve) => (this.#resolve = resolve))
  }

  /** Writes the whole script. Called by the client when the connection is ready for it. */
  submit(connection: unknown): void {
    const writer = connection as Writer
    writer.stream.cork()
    try {
      for (const step of this.#script) write(writer, step)
      writer.sync()
    } finally {
      writer.stream.uncork()
    }
  }

  handleRowDescription(message: { readonly fields: readonly FieldDef[] }): void {
    const step = this.#script[this.#step]
    if (step?.do !== 'open') return
    step.onFields(message.fields)
    this.#step++
  }

  /** The answer to Describe for a statement without rows. */
  noData(): void {
    this.handleRowDescription({ fields: [] })
  }

  handleDataRow(message: DataRow): void {
    const step = this.#script[this.#step]
    if (step === undefined || step.do === 'open') return
    step.onRow?.(message.fields, message.length - DATA_ROW_BYTES - CELL_BYTES * message.fields.length)
  }

  handleCommandComplete(message: { readonly text: string }): void {
    this.#completed(message.text)
  }

  handleEmptyQuery(): void {
    this.#completed('')
  }

  handlePortalSuspended(): void {
    this.#completed(undefined)
  }

  handleError(error: unknown): void {
    if (!isReport(error)) return this.lose(error)
    this.#failure ??= { report: error, step: this.#step }
  }

  /** The client calls this too; the connection settles the exchange, because only it knows the transaction's status. */
  handleReadyForQuery(): void {}

  /** COPY data is refused by the connection, which ends itself then. */
  handleCopyInResponse(): void {}

  handleCopyData(): void {}

  /** Ends the exchange because the connection is gone or given up. */
  lose(cause: unknown): void {
    this.settle({ kind: 'lost', cause, answered: this.#step })
  }

  /** Ends the exchange. Only the first call counts. */
  settle(outcome: Outcome): void {
    if (this.#isDone) return
    this.#isDone = true
    this.#resolve(this.#failure === undefined ? outcome : { ...outcome, failure: this.#failure })
  }

  #completed(tag: string | undefined): void {
    const step = this.#script[this.#step]
    if (step !== undefined && step.do !== 'open') step.onDone?.(tag)
    this.#step++
  }
}

function write(writer: Writer, step: Step): void {
  switch (step.do) {
    case 'run':
      writer.parse(textOf(step))
      writer.bind({ portal: '', values: step.params ?? [] })
      writer.execute({ portal: '', rows: 0 })
      return
    case 'open':
      writer.parse(textOf(step))
      writer.bind({ portal: step.portal, values: step.params })
      writer.describe({ type: 'P', name: step.portal })
      return
    case 'fetch':
      writer.execute({ portal: step.portal, rows: step.rowsMax })
      return
  }
}

function textOf({ sql: text, paramTypes: types }: RunStep | OpenStep): Parameters<Writer['parse']>[0] {
  return types === undefined ? { text } : { text, types }
}

/** Whether it is an ErrorResponse and not a failure of the socket: only those carry a severity. */
function isReport(error: unknown): error is BackendReport {
  return error instanceof Error && 'severity' in error && typeof error.severity === 'string'
}
