import { loadConfig, type Config } from '../config.ts'
import type { Resource } from '../core/action.ts'
import { SallyportError } from '../core/errors.ts'
import type { Target } from '../core/target.ts'
import { openCredentials } from '../main-state.ts'
import type { Policy } from '../policy/policy.ts'
import { reaches } from '../policy/reach.ts'
import { examine, type Examination } from '../protocols/postgres/doctor.ts'
import { resourceName } from '../protocols/postgres/names.ts'
import { EXIT } from './exit-code.ts'
import { everyMaskOf } from './every-mask.ts'
import { policyOf } from './policy-check.ts'
import { openTerminal, printable, type Style, type Terminal } from './terminal.ts'

/** Options of `doctor`. */
export interface DoctorOptions {
  readonly config: string
  /** Prints the SQL of a least-privilege role instead of findings. */
  readonly emitSql?: boolean
  /** The role that SQL is for. */
  readonly role?: string
  readonly json?: boolean
}

/**
 * Examines a target, or all, through the gateway's own credential. Runs on the gateway's host beside it: whoever may read
 * the configuration and its credentials may ask, and nothing is changed.
 */
export async function doctor(name: string | undefined, options: DoctorOptions): Promise<void> {
  const terminal = openTerminal(options)
  const config = loadConfig(options.config)
  const { policy } = await policyOf(config)
  const targets = chosen(config, name)
  if (options.emitSql === true && targets.length !== 1) {
    throw new SallyportError(
      'ERR_INVALID_INPUT',
      `Name the target: ${targets.map((target) => target.name).join(', ')}.`,
    )
  }
  const credentials = openCredentials(config)
  const ended = new AbortController()
  try {
    for (const target of targets) {
      const examination = await examine({
        target,
        masks: everyMaskOf(policy, target),
        secret: () => credentials.read(target),
        signal: ended.signal,
      })
      if (options.emitSql === true) emit(terminal, examination, policy, target, options.role)
      else report(terminal, target, examination)
    }
  } finally {
    ended.abort()
  }
}

/** Targets a doctor knows anything about. */
function chosen(config: Config, name: string | undefined): readonly Target[] {
  const databases = config.targets.filter(({ protocol }) => protocol === 'postgres')
  if (name === undefined) {
    if (databases.length > 0) return databases
    throw new SallyportError('ERR_UNKNOWN_TARGET', 'The configuration has no PostgreSQL target.')
  }
  const found = config.targets.find((target) => target.name === name)
  if (found === undefined) throw new SallyportError('ERR_UNKNOWN_TARGET', `There is no target "${name}".`)
  if (found.protocol === 'postgres') return [found]
  throw new SallyportError('ERR_INVALID_INPUT', `${name} is a ${found.protocol} target; the doctor knows PostgreSQL.`)
}

function emit(
  terminal: Terminal,
  examination: Examination,
  policy: Policy,
  target: Target,
  role: string | undefined,
): void {
  const { rules } = policy.forTarget(target)
  const printed = examination.leastPrivilege((verb, relation) => {
    const resource: Resource = { type: 'sql', name: resourceName(relation) }
    return reaches(rules, verb, resource)
  }, role)
  if (terminal.isJson) terminal.json({ target: target.name, ...printed })
  else terminal.line(printed.sql.trimEnd())
}

const STYLES: Readonly<Record<'error' | 'warning' | 'info', Style>> = { error: 'red', warning: 'yellow', info: 'blue' }

function report(terminal: Terminal, target: Target, examination: Examination): void {
  const { role, serverVersion, demanded, masking, findings } = examination
  const errors = findings.filter(({ severity }) => severity === 'error').length
  const warnings = findings.filter(({ severity }) => severity === 'warning').length
  const isUnmet = demanded === 'enforced' && masking === 'rewrite'
  const isSound = errors === 0 && !isUnmet
  if (!isSound) process.exitCode = EXIT.unsound
  if (terminal.isJson) {
    terminal.json({
      target: target.name,
      ok: isSound,
      role,
      server_version: serverVersion,
      demanded,
      masking,
      findings,
    })
    return
  }
  terminal.line(printable(`${target.name}: role ${role}, PostgreSQL ${Math.floor(serverVersion / 10_000)}`))
  terminal.line(`  masking: ${terminal.paint(isUnmet ? 'red' : 'bold', masking)}, ${said(masking, demanded)}`)
  for (const { severity, id, message, remedy } of findings) {
    terminal.line(`  ${terminal.paint(STYLES[severity], severity.padEnd(7))} ${printable(`${message} [${id}]`)}`)
    if (severity !== 'info') terminal.line(`          ${terminal.paint('dim', printable(remedy))}`)
  }
  terminal.line(`  ${errors} errors, ${warnings} warnings.`)
}

function said(masking: Examination['masking'], demanded: Examination['demanded']): string {
  if (masking === 'none') return 'the policy masks no column here'
  if (masking === 'enforced') return 'the database itself stands behind the masks'
  return demanded === 'enforced'
    ? 'although the target demands enforced: masked relations are refused until that is put right'
    : 'only the gateway stands behind the masks'
}
