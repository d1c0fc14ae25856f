/**
 * A preview in the open transaction of a client: on its own connection, because only there is seen what it did before, under
 * a savepoint that takes everything back, errors too (C14).
 *
 * @packageDocumentation
 */
import { SallyportError } from '../../../core/errors.ts'
import type { Preview, PreviewSection } from '../../../core/preview.ts'
import type { LoadedCatalog } from '../catalog-load.ts'
import type { WireBackend } from '../wire/backend.ts'
import { Savepoint } from '../wire/savepoint.ts'
import { forgetTrial, runScript } from '../wire/script.ts'
import { understand, type Understood } from './escapes.ts'
import { missing, Trial, type PreviewOf } from './preview.ts'

/** What a preview there is made with. */
export interface PreviewInside extends Omit<PreviewOf, 'inside'> {
  readonly backend: WireBackend
  /** The catalog of this moment. */
  look(): Promise<LoadedCatalog>
}

/** Tries the statement and takes it back. @throws SallyportError when it could not be tried. */
export async function previewInside(of: PreviewInside): Promise<Preview> {
  const understood = understand(of.plan, of.catalog.catalog)
  if (understood.kind === 'nothing') return { sections: [NOTE], touched: {} }
  const preview = understood.kind === 'none' ? missing(understood.why) : await tried(of, understood)
  return { ...preview, sections: [NOTE, ...preview.sections] }
}

/** Said of every call inside a transaction, because nobody else tells its approvers. */
const NOTE: PreviewSection = {
  title: 'Inside an open transaction of its client',
  text:
    'What the transaction did before is part of what is seen here and is not shown. It stays open after this call and may ' +
    'still be rolled back. Constraints and triggers that wait for its COMMIT are not tried.',
}

async function tried(of: PreviewInside, understood: Extract<Understood, { kind: 'understood' }>): Promise<Preview> {
  const { backend, signal } = of
  signal.throwIfAborted()
  const savepoint = await Savepoint.open(backend)
  let cancelling: Promise<void> | undefined
  const abort = (): void => void (cancelling = backend.cancel().catch(() => undefined))
  signal.addEventListener('abort', abort, { once: true })
  try {
    const inside = { isReadCommitted: await isReadCommitted(backend), look: () => throwIfChanged(of) }
    return await new Trial({ ...of, inside }, understood, { run: (script) => runScript(backend, script) }).run()
  } finally {
    signal.removeEventListener('abort', abort)
    await cancelling
    // Fail closed: a transaction that cannot be brought back to where it was is ended.
    await savepoint.undo()
    forgetTrial(backend)
  }
}

async function isReadCommitted(backend: WireBackend): Promise<boolean> {
  let level: string | null | undefined
  const sql = `SELECT pg_catalog.current_setting('transaction_isolation')`
  await runScript(backend, [{ do: 'run', sql, onRow: ([cell]) => (level = cell) }])
  // Fail closed: under any other name it is taken for the level at which most can come between.
  return level !== 'repeatable read' && level !== 'serializable'
}

async function throwIfChanged(of: PreviewInside): Promise<void> {
  const { catalog } = await of.look()
  if (catalog.fingerprint === of.plan.fingerprint) return
  throw new SallyportError('ERR_UPSTREAM_REJECTED', 'the schema changed while it was made.')
}
