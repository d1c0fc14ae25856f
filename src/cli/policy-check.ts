import { loadConfig, type Config } from '../config.ts'
import { SallyportError } from '../core/errors.ts'
import { knownOf } from '../known.ts'
import { readPolicyFiles, type PolicyFiles } from '../policy/load-files.ts'
import { loadPolicy } from '../policy/load.ts'
import type { Policy } from '../policy/policy.ts'
import { formatProblems, sortProblems, type Problem } from '../policy/problem.ts'
import { nothingAllowed } from '../policy/watch.ts'
import { EXIT } from './exit-code.ts'
import { holdAgainst } from './policy-against.ts'
import { denyLists } from './policy-ways-around.ts'
import { openTerminal, printable, type Terminal } from './terminal.ts'
import { counted } from './units.ts'

/** Options of `policy check`. */
export interface CheckOptions {
  readonly config: string
  /** A live target to hold the policy against. */
  readonly against?: string
  readonly json?: boolean
}

/** Reads the policy files as a gateway would and says every mistake with its place. */
export async function policyCheck(options: CheckOptions): Promise<void> {
  const terminal = openTerminal(options)
  const config = loadConfig(options.config)
  const { files, isMissing, ...read } = await readPolicyFiles(config.policiesDir)
  const loaded = loadPolicy(files, knownOf(config.targets))
  const mistakes = [...read.problems, ...(loaded.problems ?? [])]
  const against =
    options.against === undefined || mistakes.length > 0 || loaded.policy === undefined
      ? undefined
      : await holdAgainst(options.against, config, loaded.policy)
  const problems = [...mistakes, ...(against?.problems ?? [])]
  const isClosed = loaded.policy?.rules.every(({ effect }) => effect === 'deny') === true
  const nothing = isClosed ? [nothingAllowed(config.policiesDir, isMissing)] : []
  const lists = loaded.policy === undefined ? [] : denyLists(loaded.policy, config.targets, Date.now())
  const warnings = sortProblems([...nothing, ...loaded.warnings, ...lists])
  if (terminal.isJson) {
    terminal.json({
      ok: problems.length === 0,
      version: loaded.policy?.version,
      problems,
      warnings,
      ...(against !== undefined && { against: { target: against.target, warnings: against.warnings } }),
    })
  } else {
    report(terminal, problems, 'error')
    report(terminal, warnings, 'warning')
    for (const { severity, message } of against?.warnings ?? []) {
      terminal.line(printable(`${against?.target ?? ''}: ${severity}: ${message}`))
    }
    if (problems.length === 0 && loaded.policy !== undefined) {
      const counts = `${counted(files.length, 'file')}, ${counted(loaded.policy.rules.length, 'rule')}`
      terminal.line(`${counts}: fine. Policy ${loaded.policy.version}`)
    } else {
      terminal.note(`sallyport: the policies in ${config.policiesDir} have ${counted(problems.length, 'mistake')}`)
    }
  }
  if (problems.length > 0) process.exitCode = EXIT.invalid
}

/** Loads the policy of a configuration, or throws all that is wrong with it. */
export async function policyOf(config: Config): Promise<{ readonly policy: Policy; readonly files: PolicyFiles }> {
  const files = await readPolicyFiles(config.policiesDir)
  const loaded = loadPolicy(files.files, knownOf(config.targets))
  const problems = [...files.problems, ...(loaded.problems ?? [])]
  if (problems.length === 0 && loaded.policy !== undefined) return { policy: loaded.policy, files }
  throw new SallyportError('ERR_POLICY_INVALID', `The policies are not valid:\n${formatProblems(problems)}`)
}

function report(terminal: Terminal, problems: readonly Problem[], word: string): void {
  for (const { path, line, column, message } of problems) {
    terminal.line(printable(`${path}:${line}:${column}: ${word}: ${message}`))
  }
}
