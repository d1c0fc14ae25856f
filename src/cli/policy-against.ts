import type { Config } from '../config.ts'
import { SallyportError } from '../core/errors.ts'
import type { Target } from '../core/target.ts'
import { openCredentials } from '../main-state.ts'
import type { Policy } from '../policy/policy.ts'
import type { Problem } from '../policy/problem.ts'
import { splitSqlName } from '../policy/sql-name.ts'
import { undercuts } from '../protocols/postgres/doctor.ts'
import { everyMaskOf } from './every-mask.ts'

/** What a policy and a live target say of each other. */
export interface Against {
  readonly target: string
  /** Masks and rules that name what is not there. */
  readonly problems: readonly Problem[]
  /** Ways around the masks. */
  readonly warnings: readonly { readonly kind: string; readonly severity: string; readonly message: string }[]
}

/**
 * Holds a policy against a live target: masks that name missing columns, rules that name missing relations, and whatever
 * there is that would undercut a mask. Samples rows, prints no value.
 */
export async function holdAgainst(name: string, config: Config, policy: Policy): Promise<Against> {
  const target = config.targets.find((candidate) => candidate.name === name)
  if (target === undefined) throw new SallyportError('ERR_UNKNOWN_TARGET', `There is no target "${name}".`)
  if (target.protocol !== 'postgres') {
    throw new SallyportError(
      'ERR_INVALID_INPUT',
      `${name} is a ${target.protocol} target; only PostgreSQL has a catalog.`,
    )
  }
  const credentials = openCredentials(config)
  const ended = new AbortController()
  try {
    const found = await undercuts({
      target,
      masks: everyMaskOf(policy, target),
      secret: () => credentials.read(target),
      signal: ended.signal,
    })
    const missing = found.undercuts.filter(({ kind }) => kind === 'missing')
    return {
      target: name,
      problems: [
        ...missing.map(({ mask, message }) => ({ ...sourceOf(policy, target, mask), message })),
        ...missingRelations(policy, target, found.has),
      ],
      warnings: found.undercuts.filter(({ kind }) => kind !== 'missing'),
    }
  } finally {
    ended.abort()
  }
}

/** Where a mask on this column is written. */
function sourceOf(policy: Policy, target: Target, name: string | undefined): Omit<Problem, 'message'> {
  const masks = policy.forTarget(target).masks
  const found = masks.find(({ columns }) =>
    columns.some(({ schema, table, column }) => `${schema}.${table}.${column}` === name?.replaceAll('"', '')),
  )
  return found?.source ?? masks[0]?.source ?? { path: '', line: 1, column: 1 }
}

/** Rules that name exactly one relation or function, which the database does not have. */
function missingRelations(
  policy: Policy,
  target: Target,
  has: (schema: string, name: string) => boolean,
): readonly Problem[] {
  const problems: Problem[] = []
  for (const rule of policy.forTarget(target).rules) {
    // What a bundle names is its own affair.
    const isBundle = rule.actions.every((action) => action.startsWith('bundle:'))
    const named = isBundle
      ? []
      : rule.grants.flatMap(({ resources }) => resources?.flatMap(({ sql }) => sql ?? []) ?? [])
    for (const text of new Set(named.flatMap(({ exact, text }) => (exact === undefined ? [] : [text])))) {
      const [schema, name, ...more] = splitSqlName(text)?.segments ?? []
      // Settings and databases are named without a schema.
      if (schema === undefined || name === undefined || more.length > 0 || has(schema, name)) continue
      problems.push({ ...rule.source, message: `Rule "${rule.id}" names ${text}, which ${target.name} does not have.` })
    }
  }
  return problems
}
