/**
 * A write that had been committed was answered with "the gateway cannot record, so it runs nothing" when its end could
 * not be recorded, and with "nothing was changed" when its ticket could not be settled. Whoever believed it sent it again.
 */
import { describe, expect, it } from 'vitest'
import type { Approvals, Consent } from '../../src/approval/approvals.ts'
import type { Chunk } from '../../src/core/chunk.ts'
import { SallyportError } from '../../src/core/errors.ts'
import { codeOf, collect, kit, rows, type Kit, type Script } from '../gateway/kit.ts'

const WRITE: Script = {
  async *execute() {
    yield rows(0, 1)
    yield { kind: 'notice', severity: 'NOTICE', text: 'a trigger ran' }
    yield { kind: 'exit', status: 'UPDATE 1', truncated: false }
  },
}

const ASK = `
targets: [box]
rules:
  - {id: ask, effect: require_approval, principals: [group:agents], actions: [ssh.exec], resources: ["-"],
     approvers: {any_of: [group:lead], count: 1, expires: 15m}}
`

function failToRecord(world: Kit, kind: Chunk['kind']): void {
  const begin = world.session.recording.begin.bind(world.session.recording)
  world.session.recording.begin = (call) => ({
    ...begin(call),
    shown: async (chunk) => {
      if (chunk.kind === kind) throw new SallyportError('ERR_RECORDING_FAILED', 'The disk is full.')
    },
  })
}

/** Everybody agrees, and no ticket can be settled. */
const UNSETTLED: Approvals = {
  consent: async (): Promise<Consent> => ({
    kind: 'granted',
    ticket: 't',
    by: ['lena'],
    claim: async () => ({
      shown: () => undefined,
      end: () => Promise.reject(new SallyportError('ERR_STORE_FAILED', 'Nothing was changed.')),
    }),
  }),
}

describe('a call that ran', () => {
  it.each(['exit', 'notice'] as const)('is not said to have failed when its %s cannot be recorded', async (kind) => {
    const world = kit(WRITE)
    failToRecord(world, kind)
    const call = collect(world.run(world.call({ verb: 'ssh.exec' })))
    await expect(call).rejects.toMatchObject({
      code: 'ERR_OUTCOME_UNKNOWN',
      message: expect.stringMatching(/^The call ran/u) as unknown,
    })
  })

  it('has failed when its rows cannot be recorded, because it is stopped before its end', async () => {
    const world = kit(WRITE)
    failToRecord(world, 'data')
    expect(await codeOf(collect(world.run(world.call({ verb: 'ssh.exec' }))))).toBe('ERR_RECORDING_FAILED')
  })

  it('C12: is answered although its ticket can only be settled later', async () => {
    const world = kit(WRITE, { yaml: ASK, approvals: UNSETTLED })
    expect(await collect(world.run(world.call({ verb: 'ssh.exec' })))).toHaveLength(3)
    expect(world.recorded[0]?.ending).toBe('done')
  })

  it('keeps its own error when its ticket cannot be settled either', async () => {
    const world = kit(
      {
        async *execute() {
          yield* []
          throw new SallyportError('ERR_UPSTREAM_LOST', 'The connection was lost.')
        },
      },
      { yaml: ASK, approvals: UNSETTLED },
    )
    expect(await codeOf(collect(world.run(world.call({ verb: 'ssh.exec' }))))).toBe('ERR_UPSTREAM_LOST')
  })
})
