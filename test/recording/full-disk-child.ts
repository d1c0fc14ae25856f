/** Records calls under a file size limit its parent sets; goes on when it is told that there is room again. */
import { createInterface } from 'node:readline'
import { setTimeout } from 'node:timers/promises'
import { SallyportError } from '../../src/core/errors.ts'
import { say as sayLine } from './say.ts'
import { EXIT, makeCall, makeJudged, makeRecorder, ROWS, session } from './support.ts'

const [, , dir = '', stateDir = ''] = process.argv
const say = (fact: object): void => sayLine(JSON.stringify(fact))
const told = createInterface({ input: process.stdin })[Symbol.asyncIterator]()

const recorder = makeRecorder({ dir, stateDir })
const recording = await recorder.open(session('aaaaaaaa-0000-4000-8000-000000000000'))
say({ ready: process.pid })
await told.next()

/** Returns whether the call could be recorded from its decision to its end. */
async function call(id: string): Promise<boolean> {
  const entry = recording.begin(makeCall({ id }))
  try {
    await entry.decided(makeJudged())
    say({ decided: id })
    await entry.shown(ROWS)
    await entry.shown(EXIT)
    await entry.close('done')
    return true
  } catch (error) {
    const failure = SallyportError.from(error)
    say({ refused: id, code: failure.code, message: failure.message })
    await entry.close('failed', failure)
    return false
  }
}

let refused = 0
for (let n = 0; refused < 5; n++) if (!(await call(`before-${n}`))) refused++
let next: string | undefined
try {
  await recorder.open(session('bbbbbbbb-0000-4000-8000-000000000000'))
} catch (error) {
  next = SallyportError.from(error).code
}
say({ full: true, openRefusedWith: next ?? null })
await told.next()
// The room is looked for again a moment later; until then calls are refused, and the process goes on.
for (let n = 0, recorded = 0; recorded < 10; n++) {
  if (await call(`after-${n}`)) recorded++
  else await setTimeout(10)
}
await recorder.close()
say({ closed: true })
process.exit(0)
