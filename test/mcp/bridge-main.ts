import { runBridge } from '../../src/cli/bridge.ts'
import { fail } from '../../src/cli/fail.ts'

/** The bridge as a process, for clients that start it. */
runBridge().catch(fail)
