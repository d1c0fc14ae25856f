import type { ShownRequest } from '../core/call.ts'
import type { Chunk } from '../core/chunk.ts'
import type { Decision } from '../core/decision.ts'
import type { SallyportError } from '../core/errors.ts'

/** Replaces what the decision's obligations say must not be seen, on every channel (C10). Pure but for its key. */
export interface Masking {
  /** Masks a result as it streams; holds back what might still become a match (no chunk border hides anything). */
  stream(source: AsyncIterable<Chunk>, decision: Decision): AsyncIterable<Chunk>
  /** Masks a request for recordings and approvers. */
  request(shown: ShownRequest, decision: Decision): ShownRequest
  /** Masks one text. */
  text(text: string, decision: Decision): string
  /** Masks an error's message and facts. */
  error(error: SallyportError, decision: Decision): SallyportError
}
