/**
 * Keeps the policy in force in step with its files.
 *
 * A set of files becomes the policy whole or not at all: while one of them cannot be read or does not check, the last
 * good policy stays, and the problems are reported.
 *
 * @packageDocumentation
 */
import { watch, type FSWatcher } from 'node:fs'
import { SallyportError } from '../core/errors.ts'
import { readPolicyFiles } from './load-files.ts'
import { loadPolicy, type Known } from './load.ts'
import type { Policy } from './policy.ts'
import { formatProblems, type Problem } from './problem.ts'
import type { SourceFile } from './yaml.ts'

/** A policy that follows its files. Whoever opens it closes it. */
export interface PolicySource {
  /** The policy in force now. */
  current(): Policy
  /** Reads the files again now, for SIGHUP and the admin door. Never throws. */
  reload(): Promise<Reload>
  /** The files the policy in force was made from. */
  files(): readonly SourceFile[]
  /**
   * Puts files from elsewhere in force, such as those another instance took. They stay until the own files change, or
   * `reload()` is asked for.
   */
  take(files: readonly SourceFile[]): Reload
  close(): void
}

/** What a reload came to. */
export interface Reload {
  /** Whether the policy in force changed. */
  readonly isChanged: boolean
  readonly policy: Policy
  /** Why the files were not taken; empty when they were. */
  readonly problems: readonly Problem[]
  readonly warnings: readonly Problem[]
}

/** How to follow a directory of policies. */
export interface WatchOptions {
  readonly directory: string
  readonly known: Known
  /** Told after the swap, when another policy is in force; C2 decides live calls again here. */
  readonly onPolicy?: (policy: Policy, previous: Policy, from: 'own files' | 'elsewhere') => void
  /** Told after each reload whose files were taken, also when they say what is in force already. */
  readonly onTaken?: () => void
  /** Told when files were not taken: the last good policy stays in force. */
  readonly onProblems?: (problems: readonly Problem[]) => void
  /** Told of what is valid and probably not meant; also when nothing at all is allowed. */
  readonly onWarnings?: (warnings: readonly Problem[]) => void
  /** Without it files are read at the start and on `reload()` only. */
  readonly isWatching?: boolean
}

/** How long the files must be quiet before they are read: editors and `git` write several in a row. */
const QUIET_MS = 150

/**
 * Loads the policies of a directory and follows it.
 *
 * A directory that is missing or holds no policies is no error: nothing is allowed then, and `onWarnings` says so.
 *
 * @throws SallyportError `ERR_POLICY_INVALID` when there are files and they are not a policy.
 */
export async function watchPolicies(options: WatchOptions): Promise<PolicySource> {
  const first = await readAndLoad(options)
  if (first.policy === undefined) {
    const text = formatProblems(first.problems.slice(0, 50))
    throw new SallyportError('ERR_POLICY_INVALID', `The policies in ${options.directory} are not valid:\n${text}`)
  }
  if (first.warnings.length > 0) options.onWarnings?.(first.warnings)
  return follow(first.policy, first, options)
}

function follow(
  initial: Policy,
  first: Pick<Loaded, 'files' | 'directories' | 'warnings'>,
  options: WatchOptions,
): PolicySource {
  let policy = initial
  let files = first.files
  let warned = textOf(first.warnings)
  /** What the own files said when they were last taken; another policy may be in force since. */
  let ownVersion = initial.version
  let isAsked = false
  let isClosed = false
  let timer: NodeJS.Timeout | undefined
  let running: Promise<Reload> | undefined
  let next: Promise<Reload> | undefined
  const watchers = new Map<string, FSWatcher>()

  /** One reload at a time; everyone who asks while one runs shares the next, which sees what they saw. */
  function reload(): Promise<Reload> {
    if (running === undefined) return (running = run())
    next ??= running.then(() => {
      next = undefined
      return (running = run())
    })
    return next
  }

  async function run(): Promise<Reload> {
    const isOwnWanted = isAsked
    isAsked = false
    try {
      const loaded = await readAndLoad(options)
      if (!isClosed) observe(loaded.directories)
      // Policies that were never there cannot have gone.
      const isGone = loaded.isMissing && files.length > 0
      const problems = isGone ? [missing(options.directory)] : (loaded.problems ?? [])
      if (isClosed || loaded.policy === undefined || problems.length > 0) {
        if (!isClosed) options.onProblems?.(problems)
        return { isChanged: false, policy, problems, warnings: loaded.warnings }
      }
      const previous = policy
      // Files that say what they said before are no news: what came from elsewhere since stays in force.
      const isNews = isOwnWanted || loaded.policy.version !== ownVersion
      const isChanged = isNews && previous.version !== loaded.policy.version
      ownVersion = loaded.policy.version
      // The swap is one assignment: a call decides under the old policy or the new one, never under half of each.
      if (isChanged) policy = loaded.policy
      if (isChanged) files = loaded.files
      // Said once: editors touch files often, and what is meant all the same need not be heard each time.
      const isHeard = !isOwnWanted && textOf(loaded.warnings) === warned
      warned = textOf(loaded.warnings)
      if (loaded.warnings.length > 0 && !isHeard) options.onWarnings?.(loaded.warnings)
      options.onTaken?.()
      if (isChanged) options.onPolicy?.(policy, previous, 'own files')
      return { isChanged, policy, problems: [], warnings: loaded.warnings }
    } catch {
      const problems = [{ path: options.directory, line: 1, column: 1, message: 'The policies could not be read.' }]
      options.onProblems?.(problems)
      return { isChanged: false, policy, problems, warnings: [] }
    } finally {
      running = undefined
    }
  }

  function soon(): void {
    if (isClosed) return
    clearTimeout(timer)
    timer = setTimeout(() => void reload(), QUIET_MS)
    timer.unref()
  }

  function observe(directories: readonly string[]): void {
    if (options.isWatching === false) return
    for (const [directory, watcher] of watchers) {
      if (directories.includes(directory)) continue
      watcher.close()
      watchers.delete(directory)
    }
    for (const directory of directories) {
      if (watchers.has(directory)) continue
      try {
        const watcher = watch(directory, { persistent: false }, soon)
        watcher.on('error', () => {
          watcher.close()
          watchers.delete(directory)
          soon()
        })
        watchers.set(directory, watcher)
      } catch {
        const message = 'Changes here are not noticed; send SIGHUP after a change.'
        options.onWarnings?.([{ path: directory, line: 1, column: 1, message }])
      }
    }
  }

  function take(others: readonly SourceFile[]): Reload {
    const { policy: taken, problems = [], warnings } = loadPolicy(others, options.known)
    const previous = policy
    if (taken === undefined) return { isChanged: false, policy, problems, warnings }
    const isChanged = previous.version !== taken.version
    if (isChanged) {
      policy = taken
      files = others
      options.onPolicy?.(policy, previous, 'elsewhere')
    }
    return { isChanged, policy, problems, warnings }
  }

  observe(first.directories)
  // What changed between the first read and the first watch would otherwise go unnoticed.
  if (options.isWatching !== false) soon()
  return {
    current: () => policy,
    files: () => files,
    take,
    reload() {
      isAsked = true
      return reload()
    },
    close() {
      isClosed = true
      clearTimeout(timer)
      for (const watcher of watchers.values()) watcher.close()
      watchers.clear()
    },
  }
}

type Loaded = ReturnType<typeof loadPolicy> & {
  readonly files: readonly SourceFile[]
  readonly directories: readonly string[]
  readonly isMissing: boolean
}

function textOf(warnings: readonly Problem[]): string {
  return formatProblems(warnings)
}

async function readAndLoad({ directory, known }: WatchOptions): Promise<Loaded> {
  const { files, problems, directories, isMissing } = await readPolicyFiles(directory)
  if (problems.length > 0) return { problems, warnings: [], files, directories, isMissing }
  const result = loadPolicy(files, known)
  if (result.policy === undefined || result.policy.rules.some(({ effect }) => effect !== 'deny')) {
    return { ...result, files, directories, isMissing }
  }
  return {
    ...result,
    warnings: [nothingAllowed(directory, isMissing), ...result.warnings],
    files,
    directories,
    isMissing,
  }
}

/** What is said of a directory whose policies allow nothing at all. */
export function nothingAllowed(directory: string, isMissing: boolean): Problem {
  const message = isMissing
    ? 'The policy directory is missing: everything is denied until policies are there.'
    : 'No policy allows anything: every call is denied.'
  return { path: directory, line: 1, column: 1, message }
}

function missing(directory: string): Problem {
  return {
    path: directory,
    line: 1,
    column: 1,
    message: 'The policy directory is gone; the last policy stays in force.',
  }
}
