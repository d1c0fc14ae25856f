import { setImmediate } from 'node:timers/promises'
import type { Call, DescribedColumn, DescribedTable, Ending, Judged } from '../core/call.ts'
import type { Action } from '../core/action.ts'
import type { ColumnMask, MaskingMode, Transform } from '../core/decision.ts'
import { SallyportError } from '../core/errors.ts'
import { decide } from '../policy/decide.ts'
import { endingOf, type Rooms } from './gateway.ts'

/** A relation some of whose columns the caller may read. */
export interface VisibleTable {
  readonly schema: string
  readonly name: string
  readonly kind: DescribedTable['kind']
  readonly comment?: string
  readonly columns: readonly VisibleColumn[]
  /** Set when reading it takes an approval. */
  readonly needsApproval?: boolean
  /** What stands behind the masks of its columns. */
  readonly masking?: Exclude<MaskingMode, 'none'>
}

/** A column the caller may read, perhaps masked. */
export interface VisibleColumn extends DescribedColumn {
  readonly masked?: Transform
}

/**
 * Lists what the caller may read of a target, so that a model need not guess. Reads the catalog, runs nothing of the
 * caller's; what the policy would deny is not listed at all.
 *
 * @throws SallyportError `ERR_DENIED` when nothing of the target is readable, or whatever the catalog look-up met.
 */
export async function describe(call: Call, rooms: Rooms): Promise<readonly VisibleTable[]> {
  const entry = call.session.recording.begin(call)
  let ending: Ending = 'failed'
  let failure: SallyportError | undefined
  try {
    await rooms.permits.admit(call)
    const visible = await visibleTables(call, rooms)
    await entry.decided(recordable(call, rooms, visible))
    if (visible.length === 0) {
      throw new SallyportError(
        'ERR_DENIED',
        `No rule lets ${call.session.principal.id} read anything of ${call.target.name}.`,
      )
    }
    ending = 'done'
    return visible
  } catch (error) {
    failure = SallyportError.from(error)
    ending = endingOf(failure)
    throw failure
  } finally {
    await entry.close(ending, failure)
  }
}

async function visibleTables(call: Call, rooms: Rooms): Promise<VisibleTable[]> {
  const protocol = rooms.protocols[call.target.protocol]
  if (protocol?.describe === undefined) {
    throw new SallyportError(
      'ERR_INVALID_INPUT',
      `${call.target.name} is a ${call.target.protocol} target; it has no tables to describe.`,
    )
  }
  const masks = rooms.policy().masksFor(call.session.principal, call.target)
  const tables = await protocol.describe(call, {
    masks,
    secret: () => rooms.credentials.read(call.target),
    signal: call.signal,
  })
  const visible: VisibleTable[] = []
  let since = performance.now()
  for (const table of tables) {
    const shown = visibleTable(call, rooms, table, masks)
    if (shown !== undefined) visible.push(shown)
    if (performance.now() - since < TURN_MS) continue
    // A large catalog takes one decision for each column: the calls of others must not wait for all of them.
    await setImmediate()
    call.signal.throwIfAborted()
    since = performance.now()
  }
  return visible
}

/** How long a description may keep everybody else waiting at a time. */
const TURN_MS = 10

function visibleTable(
  call: Call,
  rooms: Rooms,
  table: DescribedTable,
  masks: readonly ColumnMask[],
): VisibleTable | undefined {
  let needsApproval = true
  const columns: VisibleColumn[] = []
  for (const column of table.columns) {
    const { effect } = decisionFor(call, rooms, { parts: [table.reading([column.name])], attributes: {} })
    if (effect === 'deny') continue
    if (effect === 'allow') needsApproval = false
    const mask = masks.find(({ schema, table: name, column: masked }) => {
      return schema === table.schema && name === table.name && masked === column.name
    })
    columns.push({ ...column, ...(mask !== undefined && { masked: mask.transform }) })
  }
  if (columns.length === 0) return undefined
  return {
    schema: table.schema,
    name: table.name,
    kind: table.kind,
    ...(table.comment !== undefined && {
      comment: rooms.masking.text(table.comment, decisionFor(call, rooms, NOTHING)),
    }),
    columns,
    ...(table.masking !== undefined && { masking: table.masking }),
    ...(needsApproval && { needsApproval }),
  }
}

const NOTHING: Action = { parts: [], attributes: {} }

function decisionFor(call: Call, rooms: Rooms, action: Action): ReturnType<typeof decide> {
  const { principal, id, door, run } = call.session
  return decide(rooms.policy(), {
    principal,
    target: call.target,
    session: { id, door, ...(run !== undefined && { run }) },
    action,
    now: rooms.now(),
  })
}

/** What the recording keeps: which relations were listed, under which policy. */
function recordable(call: Call, rooms: Rooms, visible: readonly VisibleTable[]): Judged {
  const { policyVersion, obligations } = decisionFor(call, rooms, NOTHING)
  const listed = visible.map(({ schema, name }) => `${schema}.${name}`)
  const shown = { text: `describe ${call.target.name}` }
  return {
    plan: { action: NOTHING, exact: null, shown, masks: [] },
    decision: {
      effect: listed.length === 0 ? 'deny' : 'allow',
      rules: [],
      reason: `Lists what the policy lets the caller read: ${listed.length} relations.`,
      obligations,
      approvals: [],
      policyVersion,
      parts: [],
    },
    shown,
    ...(call.reason !== undefined && { reason: rooms.masking.text(call.reason, decisionFor(call, rooms, NOTHING)) }),
  }
}
