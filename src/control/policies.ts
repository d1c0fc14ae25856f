/**
 * One policy for several instances.
 *
 * Each instance follows its own files. When they change, it hands the whole set to the others through the store, and they
 * put it in force at once: no instance goes on deciding by what another has already replaced. An instance that cannot
 * take the set (because its configuration lacks a target that the set names) decides nothing until it can.
 *
 * An instance that starts with files the others have not seen yet brings news, as a new release does. One that starts with
 * files that were in force before is late, and takes what is in force now.
 *
 * @packageDocumentation
 */
import { SallyportError } from '../core/errors.ts'
import type { Store } from '../store/store.ts'

/** A policy file as it was read. */
export interface PolicyFile {
  readonly path: string
  readonly text: string
}

/** What follows the files of this instance. */
export interface FollowedPolicy {
  current(): { readonly version: string }
  files(): readonly PolicyFile[]
  take(files: readonly PolicyFile[]): { readonly problems: readonly unknown[] }
}

/** The policy that instances share. */
export interface SharedPolicies {
  /** Tells the others what this instance took from its own files. */
  publish(): Promise<void>
  /** Returns why nothing may be decided here now, or `undefined` when the policy in force everywhere is in force here. */
  stale(): Promise<SallyportError | undefined>
  close(): void
}

/** The collection of the shared policy. Every call asks for it, so it is kept in memory. */
export const POLICIES = 'policies'
const CURRENT = 'current'

/** How many earlier versions are known as such. */
const HISTORY_MAX = 500

interface Published {
  readonly version: string
  readonly files: readonly PolicyFile[]
  readonly earlier: readonly string[]
}

/**
 * Joins the instances of a store, and takes their policy or brings them this one.
 *
 * @throws SallyportError `ERR_STORE_FAILED`
 */
export async function sharePolicies(options: {
  readonly store: Store
  readonly policy: FollowedPolicy
  /** Told when a set from another instance cannot be taken here. */
  readonly onRefused: (version: string) => void
  readonly onFault: (error: unknown) => void
}): Promise<SharedPolicies> {
  const { store, policy } = options
  let publishing: Promise<void> | undefined
  /** Grows with each change of the own files: what was read before is no news to an instance that has news itself. */
  let changes = 0
  let published = 0
  let refused: string | undefined

  const found = await read()
  if (found === undefined || !isKnown(found.value, policy.current().version)) await publish()
  else adopt(found.value)
  const leave = store.subscribe(POLICIES, () => {
    void stale().catch(options.onFault)
  })

  return { publish, stale, close: leave }

  function read() {
    return store.get<Published>(POLICIES, CURRENT)
  }

  function publish(): Promise<void> {
    changes++
    return settle()
  }

  /** Tells the others until there is nothing they have not been told. What fails is tried again before the next decision. */
  function settle(): Promise<void> {
    if (published === changes) return Promise.resolve()
    publishing ??= (async () => {
      try {
        while (published < changes) {
          const upTo = changes
          await put()
          published = upTo
        }
      } finally {
        publishing = undefined
      }
    })()
    return publishing
  }

  async function put(): Promise<void> {
    for (;;) {
      const before = await read()
      const { version } = policy.current()
      if (before?.value.version === version) return
      const earlier = before === undefined ? [] : [...before.value.earlier, before.value.version]
      const value: Published = {
        version,
        files: policy.files(),
        earlier: earlier.filter((known) => known !== version).slice(-HISTORY_MAX),
      }
      const write = { collection: POLICIES, id: CURRENT, expect: before?.version ?? 0 }
      if (await store.commit([{ kind: 'put', ...write, value }])) return
    }
  }

  async function stale(): Promise<SallyportError | undefined> {
    let there: Published | undefined
    for (let before = -1; before !== changes;) {
      before = changes
      // What this instance has just taken is about to be everybody's.
      await settle()
      there = (await read())?.value
    }
    if (there === undefined || there.version === policy.current().version) return undefined
    adopt(there)
    if (there.version === policy.current().version) return undefined
    return new SallyportError(
      'ERR_POLICY_CHANGED',
      `Policy ${there.version.slice(0, 12)} is in force, and this instance cannot take it: nothing is decided here until ` +
        'its configuration has what that policy names.',
    )
  }

  function adopt({ version, files }: Published): void {
    if (version === policy.current().version || version === refused) return
    const { problems } = policy.take(files)
    // Tried again only when another set comes: compiling one takes a while, and every call would.
    refused = problems.length === 0 ? undefined : version
    if (problems.length > 0) options.onRefused(version)
  }
}

function isKnown({ version, earlier }: Published, mine: string): boolean {
  return mine === version || earlier.includes(mine)
}
