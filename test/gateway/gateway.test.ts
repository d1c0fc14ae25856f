import { describe, expect, it } from 'vitest'
import type { Approvals, Consent } from '../../src/approval/approvals.ts'
import type { Chunk } from '../../src/core/chunk.ts'
import { SallyportError, type ErrorCode } from '../../src/core/errors.ts'
import { endingOf } from '../../src/gateway/gateway.ts'
import { ALLOW_ALL, codeOf, collect, kit, rows, TARGET, type Script } from './kit.ts'

const EXIT: Chunk = { kind: 'exit', status: 'ok', truncated: false }

/** Yields two chunks and an exit, and counts how often it ran. */
function counted(): Script & { runs: number; ended: number } {
  return {
    runs: 0,
    ended: 0,
    async *execute() {
      this.runs++
      try {
        yield rows(0, 2)
        yield rows(2, 2)
        yield EXIT
      } finally {
        this.ended++
      }
    },
  }
}

const DENY_ALL = 'targets: [box]\nrules: []\n'
const ASK = `
targets: [box]
rules:
  - {id: ask, effect: require_approval, principals: [group:agents], actions: [ssh.exec], resources: ["-"],
     approvers: {any_of: [group:lead], count: 1, expires: 15m}}
`

describe('govern', () => {
  it('runs what the policy allows and records it', async () => {
    const upstream = counted()
    const world = kit(upstream)
    expect(await collect(world.run(world.call({ verb: 'ssh.exec' })))).toHaveLength(3)
    expect(world.recorded[0]?.ending).toBe('done')
    expect(world.recorded[0]?.shown).toHaveLength(3)
  })

  it('C3: denies what no rule names, and runs nothing of it', async () => {
    const upstream = counted()
    const world = kit(upstream, { yaml: DENY_ALL })
    expect(await codeOf(collect(world.run(world.call({ verb: 'ssh.exec' }))))).toBe('ERR_DENIED')
    expect(upstream.runs).toBe(0)
    expect(world.recorded[0]?.ending).toBe('denied')
    expect(world.recorded[0]?.judged[0]?.decision.effect).toBe('deny')
  })

  it('closes the recording when the caller goes away mid-result', async () => {
    const upstream = counted()
    const world = kit(upstream)
    for await (const chunk of world.run(world.call({ verb: 'ssh.exec' }))) {
      expect(chunk.kind).toBe('data')
      break
    }
    expect(world.recorded[0]?.ending).toBe('abandoned')
    expect(upstream.ended).toBe(1)
    expect(world.permits.live()).toEqual([])
  })

  it('C15: runs nothing when the decision cannot be recorded', async () => {
    const upstream = counted()
    const world = kit(upstream)
    const begin = world.session.recording.begin.bind(world.session.recording)
    world.session.recording.begin = (call) => ({
      ...begin(call),
      decided: () => Promise.reject(new SallyportError('ERR_RECORDING_FAILED', 'The recording cannot be written.')),
    })
    expect(await codeOf(collect(world.run(world.call({ verb: 'ssh.exec' }))))).toBe('ERR_RECORDING_FAILED')
    expect(upstream.runs).toBe(0)
  })

  it('shows nothing that could not be recorded', async () => {
    const world = kit(counted())
    const begin = world.session.recording.begin.bind(world.session.recording)
    world.session.recording.begin = (call) => ({
      ...begin(call),
      shown: () => Promise.reject(new SallyportError('ERR_RECORDING_FAILED', 'The recording cannot be written.')),
    })
    const seen: Chunk[] = []
    const run = async (): Promise<void> => {
      for await (const chunk of world.run(world.call({ verb: 'ssh.exec' }))) seen.push(chunk)
    }
    expect(await codeOf(run())).toBe('ERR_RECORDING_FAILED')
    expect(seen).toEqual([])
  })

  it('C10: shows and records only what passed the detectors, rows and errors alike', async () => {
    let fails = false
    const world = kit(
      {
        async *execute() {
          if (fails)
            throw new SallyportError('ERR_UPSTREAM_REJECTED', 'no user ada@example.org', { detail: 'ada@example.org' })
          yield { kind: 'data', channel: 'rows', rows: [['ada@example.org']] }
          yield EXIT
        },
      },
      { yaml: `${ALLOW_ALL}masks: [{detect: [email], transform: redact}]\n` },
    )
    const shown = await collect(world.run(world.call({ verb: 'ssh.exec' })))
    expect(JSON.stringify([shown, world.recorded[0]?.shown])).not.toContain('ada@')
    expect(shown.at(-1)).toMatchObject({ kind: 'exit', masked: { email: 1 } })
    fails = true
    const error = await collect(world.run(world.call({ verb: 'ssh.exec' }))).catch((caught: unknown) => caught)
    expect(error).toMatchObject({ code: 'ERR_UPSTREAM_REJECTED' })
    expect(`${String(error)} ${world.recorded[1]?.error?.message} ${world.recorded[1]?.error?.detail}`).not.toContain(
      'ada@',
    )
  })

  it('C9: denies what the masks make impossible although a rule allows it, and the recording says what was asked', async () => {
    const upstream = counted()
    const world = kit(upstream)
    world.refused = {
      construct: 'sql.view_over_mask',
      message: 'v is a view over a masked table.',
      hint: 'Read the table.',
    }
    const error = await collect(world.run(world.call({ verb: 'ssh.exec' }))).catch((caught: unknown) => caught)
    expect(error).toMatchObject({
      code: 'ERR_DENIED',
      message: 'v is a view over a masked table.',
      facts: { construct: 'sql.view_over_mask', hint: 'Read the table.' },
    })
    expect(upstream.runs).toBe(0)
    expect(world.recorded[0]?.judged[0]).toMatchObject({ decision: { effect: 'deny' }, shown: { text: 'ssh.exec' } })
  })

  it('C9: asks nobody to approve what cannot be carried out', async () => {
    const claimed: string[] = []
    const world = kit(counted(), { yaml: ASK, approvals: consenting(claimed) })
    world.refused = { construct: 'sql.mask.update', message: 'ssn is masked.' }
    expect(await codeOf(collect(world.run(world.call({ verb: 'ssh.exec' }))))).toBe('ERR_DENIED')
    expect(claimed).toEqual([])
  })

  it('C9: refuses it on a target that is only observed, too', async () => {
    const upstream = counted()
    const world = kit(upstream, { yaml: DENY_ALL })
    world.refused = { construct: 'sql.view_over_mask', message: 'v is a view over a masked table.' }
    const call = world.call({ verb: 'ssh.exec' }, { target: { ...TARGET, mode: 'observe' } })
    expect(await codeOf(collect(world.run(call)))).toBe('ERR_DENIED')
    expect(upstream.runs).toBe(0)
  })

  it('C10: lets nothing of an unforeseen error out', async () => {
    const world = kit({
      // oxlint-disable-next-line require-yield
      async *execute() {
        throw new Error('row 123-45-6789 exploded')
      },
    })
    const error = await collect(world.run(world.call({ verb: 'ssh.exec' }))).catch((caught: unknown) => caught)
    expect(String(error)).not.toContain('123-45-6789')
    expect(world.recorded[0]?.ending).toBe('failed')
  })

  it('ends cancelled when the caller cancels', async () => {
    const cancel = new AbortController()
    const world = kit({
      async *execute(_call, _plan, permit) {
        yield rows(0, 1)
        permit.signal.throwIfAborted()
        yield EXIT
      },
    })
    const source = world.run(world.call({ verb: 'ssh.exec' }, { signal: cancel.signal }))
    await source.next()
    cancel.abort(new SallyportError('ERR_CANCELLED', 'The caller cancelled the call.'))
    expect(await codeOf(collect(source))).toBe('ERR_CANCELLED')
    expect(world.recorded[0]?.ending).toBe('cancelled')
  })

  it('does not start a call whose caller is already gone', async () => {
    const upstream = counted()
    const world = kit(upstream)
    const call = world.call({ verb: 'ssh.exec' }, { signal: AbortSignal.abort() })
    expect(await codeOf(collect(world.run(call)))).toBe('ERR_CANCELLED')
    expect(upstream.runs).toBe(0)
  })

  it.each([
    ['ERR_DENIED', 'denied'],
    ['ERR_LIMIT_RATE', 'denied'],
    ['ERR_APPROVAL_REFUSED', 'denied'],
    ['ERR_APPROVAL_PENDING', 'pending'],
    ['ERR_CANCELLED', 'cancelled'],
    ['ERR_UPSTREAM_REJECTED', 'failed'],
    ['ERR_INTERNAL', 'failed'],
  ] as const)('calls %s %s', (code: ErrorCode, ending) => {
    expect(endingOf(new SallyportError(code, 'x'))).toBe(ending)
  })
})

describe('permits', () => {
  it('holds limits while a call runs and gives the rate back when nothing reached the backend', async () => {
    let down = true
    const world = kit(
      {
        async *execute() {
          if (down) throw new SallyportError('ERR_UPSTREAM_UNREACHABLE', 'box cannot be reached.')
          yield EXIT
        },
      },
      {
        yaml: `
targets: [box]
rules:
  - {id: all, effect: allow, principals: [group:agents], actions: [ssh.exec], resources: ["-"], limits: {rate: 1/min}}
`,
      },
    )
    const once = (): Promise<string> => codeOf(collect(world.run(world.call({ verb: 'ssh.exec' }))))
    expect(await once()).toBe('ERR_UPSTREAM_UNREACHABLE')
    down = false
    expect(await once()).toBe('resolved')
    expect(await once()).toBe('ERR_LIMIT_RATE')
  })

  it('C2: cancels a live call that a new policy would hold', async () => {
    const world = kit({
      async *execute(_call, _plan, permit) {
        yield rows(0, 1)
        permit.signal.throwIfAborted()
        yield EXIT
      },
    })
    const source = world.run(world.call({ verb: 'ssh.exec' }))
    await source.next()
    world.permits.recheck((_call, judged) => ({
      decision: { ...judged.decision, effect: 'require_approval' },
      masks: [],
    }))
    expect(await codeOf(collect(source))).toBe('ERR_POLICY_CHANGED')
  })

  it('C2: cancels a live call whose masks changed, because its rows were planned without them', async () => {
    const world = kit({
      async *execute(_call, _plan, permit) {
        yield rows(0, 1)
        permit.signal.throwIfAborted()
        yield EXIT
      },
    })
    const source = world.run(world.call({ verb: 'ssh.exec' }))
    await source.next()
    world.permits.recheck((_call, judged) => ({
      decision: judged.decision,
      masks: [{ schema: 'public', table: 'customers', column: 'ssn', transform: 'redact' }],
    }))
    expect(await codeOf(collect(source))).toBe('ERR_POLICY_CHANGED')
  })

  it('C2: decides anew when the policy changed between the decision and the start', async () => {
    const upstream = counted()
    const world = kit(upstream)
    const begin = world.session.recording.begin.bind(world.session.recording)
    world.session.recording.begin = (call) => {
      const entry = begin(call)
      return {
        ...entry,
        decided: async (judged) => {
          await entry.decided(judged)
          world.setPolicy(DENY_ALL)
        },
      }
    }
    expect(await codeOf(collect(world.run(world.call({ verb: 'ssh.exec' }))))).toBe('ERR_DENIED')
    expect(upstream.runs).toBe(0)
  })

  it('C2: runs nothing of a caller whose token was revoked while the call was planned', async () => {
    const upstream = counted()
    const world = kit(upstream, { isCurrent: async () => false })
    expect(await codeOf(collect(world.run(world.call({ verb: 'ssh.exec' }))))).toBe('ERR_UNAUTHENTICATED')
    expect(upstream.runs).toBe(0)
    expect(world.permits.live()).toEqual([])
  })

  it('gives the rate back when the call is refused after it was reserved', async () => {
    const world = kit(counted(), {
      yaml: ASK.replace('expires: 15m}', 'expires: 15m}, limits: {rate: 1/min}'),
      approvals: consenting([]),
    })
    const begin = world.session.recording.begin.bind(world.session.recording)
    world.session.recording.begin = (call) => ({
      ...begin(call),
      // Later than the reservation: what comes before it has nothing to give back.
      approval: async ({ state }) => {
        if (state === 'claiming') throw new SallyportError('ERR_RECORDING_FAILED', 'The recording cannot be written.')
      },
    })
    const once = (): Promise<string> => codeOf(collect(world.run(world.call({ verb: 'ssh.exec' }))))
    expect(await once()).toBe('ERR_RECORDING_FAILED')
    world.session.recording.begin = begin
    expect(await once()).toBe('resolved')
  })

  it('C12: does not spend a grant whose use cannot be recorded', async () => {
    const claimed: string[] = []
    const upstream = counted()
    const world = kit(upstream, { yaml: ASK, approvals: consenting(claimed) })
    const begin = world.session.recording.begin.bind(world.session.recording)
    world.session.recording.begin = (call) => ({
      ...begin(call),
      approval: async ({ state }) => {
        if (state === 'claiming') throw new SallyportError('ERR_RECORDING_FAILED', 'The recording cannot be written.')
      },
    })
    expect(await codeOf(collect(world.run(world.call({ verb: 'ssh.exec' }))))).toBe('ERR_RECORDING_FAILED')
    expect(claimed).toEqual([])
    expect(upstream.runs).toBe(0)
  })

  it('C13: a policy that denies now wins over a consent that was given before', async () => {
    const upstream = counted()
    const claimed: string[] = []
    const approvals = consenting(claimed, () => world.setPolicy(DENY_ALL))
    const world = kit(upstream, { yaml: ASK, approvals })
    expect(await codeOf(collect(world.run(world.call({ verb: 'ssh.exec' }))))).toBe('ERR_DENIED')
    expect(claimed).toEqual([])
    expect(upstream.runs).toBe(0)
  })

  it('C12: claims a grant before it runs and settles it after', async () => {
    const claimed: string[] = []
    const upstream = counted()
    const world = kit(upstream, { yaml: ASK, approvals: consenting(claimed) })
    await collect(world.run(world.call({ verb: 'ssh.exec' })))
    expect(claimed).toEqual(['claim', 'shown', 'shown', 'shown', 'end:done'])
    expect(upstream.runs).toBe(1)
    expect(world.recorded[0]?.judged.map(({ decision }) => decision.effect)).toEqual([
      'require_approval',
      'require_approval',
    ])
  })

  it('C12: does not spend a grant when a limit refuses the call', async () => {
    const claimed: string[] = []
    const world = kit(counted(), {
      yaml: ASK.replace('expires: 15m}', 'expires: 15m}, limits: {rate: 1/min}'),
      approvals: consenting(claimed),
    })
    await collect(world.run(world.call({ verb: 'ssh.exec' })))
    claimed.length = 0
    expect(await codeOf(collect(world.run(world.call({ verb: 'ssh.exec' }))))).toBe('ERR_LIMIT_RATE')
    expect(claimed).toEqual([])
  })

  it('C12: shows the stored result instead of running an approved call twice', async () => {
    const upstream = counted()
    const world = kit(upstream, {
      yaml: ASK,
      approvals: {
        consent: async (): Promise<Consent> => ({
          kind: 'executed',
          ticket: 't1',
          result: async function* () {
            yield rows(0, 1)
            yield { ...EXIT, replayed: true }
          },
        }),
      },
    })
    const chunks = await collect(world.run(world.call({ verb: 'ssh.exec' })))
    expect(chunks.at(-1)).toMatchObject({ kind: 'exit', replayed: true })
    expect(upstream.runs).toBe(0)
    expect(world.permits.live()).toEqual([])
  })
})

/** A person who says yes at once; notes what became of the grant. */
function consenting(log: string[], meanwhile: () => void = () => undefined): Approvals {
  return {
    async consent() {
      meanwhile()
      return {
        kind: 'granted',
        ticket: 't1',
        by: ['lena'],
        async claim() {
          log.push('claim')
          return {
            shown: () => void log.push('shown'),
            end: async (ending) => void log.push(`end:${ending}`),
          }
        },
      }
    },
  }
}
