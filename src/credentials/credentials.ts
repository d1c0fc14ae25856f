import type { Secret } from '../core/call.ts'
import type { Target } from '../core/target.ts'

/** Backend secrets. Imported by value only from `gateway/` and `main.ts`. */
export interface Credentials {
  /**
   * Reads the target's secret anew: from the environment, a file or a command.
   *
   * @throws SallyportError `ERR_CREDENTIAL_MISSING`, naming where it was looked for and never what was found.
   */
  read(target: Target): Promise<Secret>
}
