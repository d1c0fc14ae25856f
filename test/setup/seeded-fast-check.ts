/**
 * `fast-check` for `npm test`, where a property tries the same cases each time: a run tells something about the change it
 * is made for, and nothing about luck. `npm run fuzz` looks for new cases, and so does any run with another `FC_SEED`.
 */
import * as fc from 'fast-check'

fc.configureGlobal({ ...fc.readConfigureGlobal(), seed: Number(process.env['FC_SEED'] ?? 20_261_123) })

export * from 'fast-check'
