import { mkdtemp, rm } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import path from 'node:path'
import type { Call, Judged, Session } from '../../src/core/call.ts'
import type { Chunk } from '../../src/core/chunk.ts'
import type { Decision } from '../../src/core/decision.ts'
import type { Principal } from '../../src/core/principal.ts'
import type { SessionRecording } from '../../src/core/recording.ts'
import type { RecordDepth } from '../../src/core/target.ts'
import { createRecorder } from '../../src/recording/recorder.ts'
import type { Recorder, RecorderOptions } from '../../src/recording/recorder.ts'

export const PRINCIPAL: Principal = {
  id: 'agent-7',
  kind: 'agent',
  groups: ['agents'],
  roles: ['caller'],
  owner: 'maria',
  credentialId: 'tok_1',
}

/** Two folders of a gateway's own, removed by `remove`. */
export interface Folders {
  readonly dir: string
  readonly stateDir: string
  remove(): Promise<void>
}

export async function makeFolders(): Promise<Folders> {
  const root = await mkdtemp(path.join(tmpdir(), 'sallyport-recording-'))
  const stateDir = await mkdtemp(path.join(root, 'state-'))
  return { dir: path.join(root, 'recordings'), stateDir, remove: () => rm(root, { recursive: true, force: true }) }
}

export function makeRecorder(
  folders: Pick<Folders, 'dir' | 'stateDir'>,
  more: Partial<RecorderOptions> = {},
): Recorder {
  return createRecorder({
    dir: folders.dir,
    stateDir: folders.stateDir,
    instance: 'gw-1',
    payloadKey: Buffer.alloc(32, 7),
    classOf: (verb) => (verb === 'sql.select' ? 'read' : 'write'),
    now: Date.now,
    log: { info: () => undefined, warn: () => undefined, error: () => undefined },
    fsync: 'off',
    closeWaitMs: 50,
    ...more,
  })
}

let calls = 0

export function makeCall(
  more: { readonly id?: string; readonly record?: RecordDepth; readonly payload?: unknown } = {},
): Call {
  const target = {
    name: 'shop-db',
    protocol: 'postgres' as const,
    labels: {},
    mode: 'enforce' as const,
    record: more.record ?? 'full',
    endpoint: 'postgres://shop',
    options: {},
  }
  // The recording reads nothing of the session: it is one itself.
  const session = {} as Session
  const id = more.id ?? `call-${++calls}`
  const signal = new AbortController().signal
  return { id, session, target, tool: 'query_database', payload: more.payload ?? {}, signal, hold: { waitMs: 0 } }
}

export function makeJudged(
  more: { readonly text?: string; readonly verb?: string; readonly decision?: Partial<Decision> } = {},
): Judged {
  const verb = more.verb ?? 'sql.select'
  const resource = { type: 'sql' as const, name: 'public.orders' }
  const decision: Decision = {
    effect: 'allow',
    rules: ['read-reporting'],
    reason: 'Allowed by read-reporting.',
    obligations: { rowsMax: 500, rates: [], budgets: [], columns: [], detect: [] },
    approvals: [],
    policyVersion: 'p1',
    parts: [{ verb, resource: 'public.orders', effect: 'allow', rules: ['read-reporting'] }],
    ...more.decision,
  }
  const shown = { text: more.text ?? 'SELECT id FROM orders WHERE id = $1', params: ['1'] }
  return {
    plan: { action: { parts: [{ verb, resource, attributes: {} }], attributes: {} }, exact: null, shown, masks: [] },
    decision,
    shown,
    reason: 'The report needs it.',
  }
}

export const HEAD: Chunk = { kind: 'head', columns: [{ name: 'id', type: 'integer' }] }
export const ROWS: Chunk = { kind: 'data', channel: 'rows', rows: [['1'], ['2'], [null]] }
export const EXIT: Chunk = { kind: 'exit', status: 'SELECT 3', rowCount: 3, truncated: false, masked: { email: 1 } }

/** Records one whole call. */
export async function recordCall(recording: SessionRecording, call = makeCall(), judged = makeJudged()): Promise<void> {
  const entry = recording.begin(call)
  await entry.decided(judged)
  for (const chunk of [HEAD, ROWS, EXIT]) await entry.shown(chunk)
  await entry.close('done')
}

export const session = (id: string): { readonly id: string; readonly principal: Principal; readonly door: string } => ({
  id,
  principal: PRINCIPAL,
  door: 'mcp',
})
