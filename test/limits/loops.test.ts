import { describe, expect, it } from 'vitest'
import type { Call, Judged } from '../../src/core/call.ts'
import type { LoopLimit } from '../../src/core/decision.ts'
import { SallyportError } from '../../src/core/errors.ts'
import { createLoops, type Loops, type LoopVerdict } from '../../src/limits/loops.ts'

const LIMIT: LoopLimit = {
  id: 'loop:stuck',
  windowMs: 600_000,
  repeats: { warn: 3, stop: 5 },
  cycles: { warn: 3, stop: 4 },
  errors: { warn: 3, stop: 5 },
  empty: { warn: 3, stop: 5 },
  onStop: 'suspend',
  suspendMs: 60_000,
}

function call(principal = 'bot', session = 's', target = 'db'): Call {
  return { session: { id: session, principal: { id: principal } }, target: { name: target } } as unknown as Call
}

function judged(exact: string, loops: readonly LoopLimit[] = [LIMIT]): Judged {
  return { plan: { exact }, decision: { obligations: { loops } } } as unknown as Judged
}

type Outcome = 'rows' | 'empty' | SallyportError

function send(
  loops: Loops,
  exact: string,
  outcome: Outcome = 'rows',
  as = call(),
  limits?: readonly LoopLimit[],
): LoopVerdict {
  const asked = judged(exact, limits)
  const verdict = loops.look(as, asked)
  if (verdict.kind === 'stop') return verdict
  const watch = loops.follow(as, asked)
  if (outcome === 'rows') watch.shown({ kind: 'data', channel: 'rows', rows: [['1']] })
  if (!(outcome instanceof SallyportError)) {
    watch.shown({ kind: 'exit', status: 'SELECT', rowCount: outcome === 'rows' ? 1 : 0, truncated: false })
  }
  watch.ended(outcome instanceof SallyportError ? outcome : undefined)
  return verdict
}

const kinds = (verdicts: readonly LoopVerdict[]): string => verdicts.map(({ kind }) => kind).join(' ')
let n = 0
const fresh = (): string => `statement ${n++}`

describe('the loop breaker', () => {
  it('warns of the very same call, with the reason, and then stops it', () => {
    const loops = createLoops({ now: () => 0 })
    const verdicts = [1, 2, 3, 4, 5].map(() => send(loops, 'SELECT 1'))
    expect(kinds(verdicts)).toBe('none none warn warn stop')
    expect(verdicts[2]).toMatchObject({ warning: expect.stringContaining('this very call came 3 times') as unknown })
    expect(verdicts[4]).toMatchObject({ reason: 'this very call came 5 times within 600 s', limit: LIMIT })
  })

  it('sees a few calls that come round in one order, and takes different work between them for none', () => {
    const loops = createLoops({ now: () => 0 })
    const only = [{ ...LIMIT, repeats: { warn: 100, stop: 101 } }]
    const around = ['a', 'b', 'c'].flatMap((_, round) => ['A', 'B', 'C'].map((each) => [round, each] as const))
    const verdicts = around.map(([, each]) => send(loops, each, 'rows', call(), only))
    expect(kinds(verdicts)).toBe('none none none none none none none none warn')
    expect(kinds(['A', 'B', 'C'].map((each) => send(loops, each, 'rows', call(), only)))).toMatch(/stop$/)
    const other = createLoops({ now: () => 0 })
    const mixed = Array.from({ length: 12 }, (_, i) => send(other, i % 3 === 0 ? fresh() : 'A', 'rows', call(), only))
    expect(kinds(mixed)).not.toContain('stop')
  })

  it('counts failures in a row that are alike, whatever was asked, and forgets them with the first success', () => {
    const loops = createLoops({ now: () => 0 })
    const failed = new SallyportError('ERR_UPSTREAM_REJECTED', 'no such column', { facts: { sqlstate: '42703' } })
    const other = new SallyportError('ERR_UPSTREAM_REJECTED', 'no such table', { facts: { sqlstate: '42P01' } })
    expect(kinds([1, 2, 3, 4].map(() => send(loops, fresh(), failed)))).toBe('none none none warn')
    expect(kinds([1, 2].map(() => send(loops, fresh(), other)))).toBe('warn none')
    expect(kinds([send(loops, fresh()), ...[1, 2, 3].map(() => send(loops, fresh(), failed))])).toBe(
      'none none none none',
    )
    expect(kinds([1, 2, 3].map(() => send(loops, fresh(), failed)))).toBe('warn warn stop')
  })

  it('counts empty results in a row', () => {
    const loops = createLoops({ now: () => 0 })
    expect(kinds([1, 2, 3, 4, 5, 6].map(() => send(loops, fresh(), 'empty')))).toBe('none none none warn warn stop')
  })

  it('does not count what waits for a person, or was cancelled', () => {
    const loops = createLoops({ now: () => 0 })
    const pending = new SallyportError('ERR_APPROVAL_PENDING', 'It waits.')
    expect(kinds(Array.from({ length: 9 }, () => send(loops, 'SELECT 1', pending)))).not.toContain('warn')
  })

  it('looks at a principal over all its sessions, and at nobody else', () => {
    const loops = createLoops({ now: () => 0 })
    const verdicts = [1, 2, 3, 4, 5].map((session) => send(loops, 'SELECT 1', 'rows', call('bot', `s${session}`)))
    expect(kinds(verdicts)).toBe('none none warn warn stop')
    expect(send(loops, 'SELECT 1', 'rows', call('other')).kind).toBe('none')
    expect(send(loops, 'SELECT 1', 'rows', call('bot', 's', 'other-db')).kind).toBe('none')
  })

  it('forgets with the window, and begins anew after it stopped somebody', () => {
    let now = 0
    const loops = createLoops({ now: () => now })
    for (let i = 0; i < 4; i++) send(loops, 'SELECT 1')
    now += 600_000
    expect(send(loops, 'SELECT 1').kind).toBe('none')
    for (let i = 0; i < 3; i++) send(loops, 'SELECT 1')
    expect(send(loops, 'SELECT 1').kind).toBe('stop')
    expect(send(loops, 'SELECT 1').kind).toBe('none')
  })

  it('does nothing where no policy asks for it', () => {
    const loops = createLoops({ now: () => 0 })
    expect(kinds(Array.from({ length: 50 }, () => send(loops, 'SELECT 1', 'rows', call(), [])))).not.toContain('warn')
  })
})
