/** Records without end and says on stdout what it was promised is in the file. Killed by its parent. */
import { say } from './say.ts'
import { HEAD, makeCall, makeJudged, makeRecorder, ROWS, session } from './support.ts'

const [, , dir = '', stateDir = '', prefix = ''] = process.argv

const recorder = makeRecorder({ dir, stateDir }, { fsync: 'writes', checkpointEveryMs: 5 })
await recorder.recover()
say('ready')

async function work(lane: number): Promise<never> {
  for (let round = 0; ; round++) {
    const recording = await recorder.open(
      session(`${prefix}-${lane}-${round}`.replaceAll(/[^0-9a-f-]/g, '').padStart(8, '0')),
    )
    for (let n = 0; n < 40; n++) {
      const id = `${prefix}.${lane}.${round}.${n}`
      const entry = recording.begin(makeCall({ id }))
      await entry.decided(makeJudged({ verb: n % 8 === 0 ? 'sql.update' : 'sql.select' }))
      say(`decided ${id}`)
      await entry.shown(HEAD)
      await entry.shown(n % 10 === 0 ? { kind: 'data', channel: 'stdout', bytes: Buffer.alloc(100_000, 65) } : ROWS)
      say(`shown ${id}`)
      await entry.close('done')
      say(`ended ${id}`)
    }
    await recording.close()
  }
}

await Promise.all([0, 1, 2].map(work))
