import { randomUUID } from 'node:crypto'
import type { Call, Session } from '../../../core/call.ts'
import type { Target } from '../../../core/target.ts'
import type { PostgresPlan } from '../plan-types.ts'
import type { WireCall } from './payload.ts'

const NO_INPUT = undefined as unknown as AsyncIterable<Uint8Array>

/** A call of a client. All of them have the same fields from the beginning, so that whoever looks at one is fast. */
export class ClientCall implements Call {
  readonly id = randomUUID()
  readonly session: Session
  readonly target: Target
  readonly tool: string
  readonly payload: WireCall
  input: AsyncIterable<Uint8Array> = NO_INPUT
  readonly signal: AbortSignal
  readonly hold: Call['hold']
  readonly stopped: () => 'done' | 'abandoned'

  constructor(
    session: Session,
    target: Target,
    tool: string,
    payload: WireCall,
    signal: AbortSignal,
    hold: Call['hold'],
    stopped: () => 'done' | 'abandoned',
  ) {
    this.session = session
    this.target = target
    this.tool = tool
    this.payload = payload
    this.signal = signal
    this.hold = hold
    this.stopped = stopped
  }

  /** Known once the call is planned: only what may be a COPY has input, and such a call cannot be approved. */
  planned(plan: PostgresPlan, input: () => AsyncIterable<Uint8Array>): void {
    this.input = mayTakeData(plan) ? input() : NO_INPUT
  }
}

/** Whether the backend may ask for COPY data while this runs. What is not understood may do anything. */
function mayTakeData(plan: PostgresPlan): boolean {
  return (plan.statements ?? [plan]).some((one) => one.session?.does === 'copy_in' || one.kind === 'unknown')
}
