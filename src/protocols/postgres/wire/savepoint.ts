import { randomBytes } from 'node:crypto'
import { SallyportError } from '../../../core/errors.ts'
import type { Step } from '../exchange.ts'
import type { WireBackend } from './backend.ts'
import { runScript } from './script.ts'

/** A cancel request that comes late may hit what takes a statement back. */
const TRIES_MAX = 3

/**
 * A savepoint of the gateway's own in the open transaction of a client. Its name is new each time and nobody is told it, and
 * nothing of the client runs while it stands: so no savepoint of the client's can be taken for it, or reach it.
 */
export class Savepoint {
  readonly #backend: WireBackend
  readonly #name = `sallyport_${randomBytes(12).toString('hex')}`

  /** @throws SallyportError `ERR_UPSTREAM_LOST` when the transaction is not as it was. */
  static async open(backend: WireBackend): Promise<Savepoint> {
    const savepoint = new Savepoint(backend)
    await savepoint.#run(['SAVEPOINT'], 1)
    return savepoint
  }

  private constructor(backend: WireBackend) {
    this.#backend = backend
  }

  /** Leaves what was done since to the transaction. @throws SallyportError `ERR_UPSTREAM_LOST` */
  async release(): Promise<void> {
    await this.#run(['RELEASE SAVEPOINT'], 1)
  }

  /** Takes back what was done since, errors too: the transaction is as it was. @throws SallyportError `ERR_UPSTREAM_LOST` */
  async undo(): Promise<void> {
    await this.#run(['ROLLBACK TO SAVEPOINT', 'RELEASE SAVEPOINT'], TRIES_MAX)
  }

  async #run(commands: readonly string[], tries: number): Promise<void> {
    const script = commands.map((command): Step => ({ do: 'run', sql: `${command} ${this.#name}` }))
    for (let tried = 0; tried < tries; tried++) {
      const outcome = await runScript(this.#backend, script)
      if (outcome.kind === 'ready' && outcome.failure === undefined && outcome.status === 'T') return
    }
    // Fail closed: nobody knows what of it the transaction still holds, so it ends here.
    const lost = new SallyportError(
      'ERR_UPSTREAM_LOST',
      `The transaction at target ${this.#backend.target} could not be brought back to where it was, and was ended.`,
    )
    this.#backend.destroy(lost)
    throw this.#backend.lost ?? lost
  }
}
