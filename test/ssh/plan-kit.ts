import type { Part } from '../../src/core/action.ts'
import { planSsh, type SshPlan } from '../../src/protocols/ssh/plan.ts'

/** Plans a request as the account `deploy`. */
export function plan(payload: unknown, hasInput = false): SshPlan {
  return planSsh(payload, { options: { user: 'deploy', shell: '/bin/bash' }, masks: [], hasInput })
}

/** The parts of a command line. */
export function partsOf(command: string): readonly Part[] {
  return plan({ kind: 'exec', command }).action.parts
}

/** A part in one line: `exec systemctl restart web`, with `…` where words are computed and `@root` for another account. */
export function lineOf({ verb, resource, account }: Part): string {
  const who = account === undefined || account.isLogin ? '' : `@${account.name}`
  const name = verb.replace(/^ssh\./u, '')
  if (resource.type === 'file') return `${name}${who} ${resource.path}`
  if (resource.type !== 'argv') return `${name}${who}`
  const { argv, dynamicFrom } = resource
  const words = dynamicFrom === undefined ? argv : [...argv.slice(0, dynamicFrom), '…']
  return [`${name}${who}`, ...words].join(' ')
}

/** What a command line was found to do, line by line. */
export function linesOf(command: string): readonly string[] {
  return partsOf(command).map(lineOf)
}
