import { access, constants } from 'node:fs/promises'
import path from 'node:path'
import { SallyportError } from './core/errors.ts'
import type { AdminRooms, PolicyStatus } from './doors/admin/rooms.ts'
import type { Building } from './main.ts'
import { formatProblems } from './policy/problem.ts'
import { WireLines } from './protocols/postgres/wire/lines.ts'
import { list, partsOf, replay, transcript } from './recording/index.ts'

/** What the admin door needs, made from the rooms. */
export function adminRooms(
  building: Building,
  isOpen: () => boolean,
  kubernetes: AdminRooms['kubernetes'],
): AdminRooms {
  const { config, identity, approvals, recorder, metrics, log } = building
  return {
    identity,
    browsers: building.browsers,
    approvals: approvals.inbox,
    sessions: building.sessionDesk,
    freezes: building.control,
    policy: policyDesk(building),
    recordings: {
      list: async () => (await list(config.recordings.dir)).map(({ file: _file, ...facts }) => facts),
      show: (session, resultBytesMax) => showRecording(config.recordings.dir, session, resultBytesMax),
      replay: (session) => replayRecording(config.recordings.dir, session),
    },
    kubernetes,
    metrics: () => metrics.render(),
    isReady: async () => isOpen() && (await isWritable(config.recordings.dir)) && (await building.isShareable()),
    record: ({ act, by, subject, outcome, facts }) =>
      recorder.admin({
        by: by.id,
        act,
        ...(subject !== undefined && { subject }),
        facts: { owner: by.owner, outcome, ...facts },
      }),
    onFault: (error, { method, path }) =>
      log.error({ err: error.cause ?? error, method, path }, 'an admin request failed'),
  }
}

/** Results of the PostgreSQL door are recorded as the messages its client got. */
function readerOf(channel: string, tool: string): WireLines | undefined {
  return channel === 'wire' && tool.startsWith('postgres.') ? new WireLines() : undefined
}

async function replayRecording(dir: string, session: string): Promise<AsyncIterable<string>> {
  const parts = await partsOf(dir, session)
  if (parts.length === 0) throw new SallyportError('ERR_INVALID_INPUT', 'There is no recording of that session.')
  return (async function* () {
    for (const { file } of parts) for await (const event of replay(path.resolve(file))) yield JSON.stringify(event)
  })()
}

async function showRecording(dir: string, session: string, resultBytesMax: number): Promise<AsyncIterable<string>> {
  // The id is only ever compared with what the files say; it is never part of a path.
  const parts = await partsOf(dir, session)
  if (parts.length === 0) throw new SallyportError('ERR_INVALID_INPUT', 'There is no recording of that session.')
  return (async function* () {
    for (const { file } of parts) yield* transcript(path.resolve(file), { resultBytesMax, readerOf })
  })()
}

function policyDesk({ config, policies, policyState }: Building): AdminRooms['policy'] {
  const status = (): PolicyStatus => ({
    version: policies.current().version,
    directory: config.policiesDir,
    rules: policies.current().rules.length,
    loadedAt: new Date(policyState.loadedAt).toISOString(),
    ...(policyState.problem !== undefined && { problem: policyState.problem }),
  })
  return {
    status,
    async reload() {
      const { problems } = await policies.reload()
      if (problems.length === 0) return status()
      const text = formatProblems(problems)
      throw new SallyportError('ERR_POLICY_INVALID', `The files were not taken; the policy in force stays:\n${text}`)
    },
  }
}

async function isWritable(dir: string): Promise<boolean> {
  return access(dir, constants.W_OK).then(
    () => true,
    () => false,
  )
}
