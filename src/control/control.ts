/**
 * What operators can stop at once, on every instance: freezing a principal or a target.
 *
 * A freeze is a document in the store that every call looks at, and a message that cancels what is under way. Which
 * instance was told does not matter. It is no policy: it holds whatever the rules say, until somebody takes it back or its
 * time is over.
 *
 * @packageDocumentation
 */
import { SallyportError } from '../core/errors.ts'
import type { Store, Versioned } from '../store/store.ts'

/** What can be frozen. */
export interface Subject {
  readonly kind: 'principal' | 'target'
  readonly name: string
}

/** A freeze, as operators see it. Times are RFC 3339. */
export interface FreezeFacts extends Subject {
  readonly by: string
  readonly reason: string
  readonly since: string
  /** Absent when somebody has to take it back. */
  readonly until?: string
}

interface Freeze extends Subject {
  readonly by: string
  readonly reason: string
  readonly since: number
  readonly until?: number
}

/** The stops of a gateway. */
export interface Control {
  /** Returns why a call of this principal on this target must not run now, or `undefined`. */
  barred(principal: string, target: string): Promise<SallyportError | undefined>
  /** Freezes, or changes the freeze there is. Resolves once no instance that works lets a new call through. */
  freeze(subject: Subject, by: string, reason: string, forMs?: number): Promise<FreezeFacts>
  /** Freezes for a while. A freeze that holds for as long, or until somebody lifts it, stays as it is. */
  suspend(subject: Subject, by: string, reason: string, forMs: number): Promise<void>
  /** @throws SallyportError `ERR_INVALID_INPUT` when it is not frozen. */
  unfreeze(subject: Subject): Promise<void>
  list(): Promise<readonly FreezeFacts[]>
  close(): void
}

/** What the stops of one instance are built from. */
export interface ControlOptions {
  readonly store: Store
  /** Milliseconds since the epoch. */
  readonly now: () => number
  /** Told of each freeze, its own instance's too; cancels what is under way. */
  readonly onFreeze: (subject: Subject, why: SallyportError) => void
  readonly onFault: (error: unknown) => void
}

/** Freezes: one document for each subject. Every call asks for them, so a shared store keeps them in memory. */
export const FREEZES = 'freezes'

/** Builds the stops of one instance. */
export function createControl(options: ControlOptions): Control {
  const { store, now } = options
  const fault = (error: unknown): void => options.onFault(error)

  const leaveFreezes = store.subscribe(FREEZES, (change) => {
    if (change.kind === 'remove') return
    void (change.kind === 'put' ? cancelFrozen(change.id) : cancelAllFrozen()).catch(fault)
  })

  return {
    async barred(principal, target) {
      for (const subject of [
        { kind: 'principal', name: principal } as const,
        { kind: 'target', name: target } as const,
      ]) {
        const freeze = (await store.get<Freeze>(FREEZES, idOf(subject)))?.value
        if (freeze !== undefined && isInForce(freeze)) return frozen(freeze)
      }
      return undefined
    },

    freeze: async (subject, by, reason, forMs) => factsOf(await put(freezeOf(subject, by, reason, forMs))),

    async suspend(subject, by, reason, forMs) {
      const value = freezeOf(subject, by, reason, forMs)
      // What an operator stopped must not come free because it also went in circles.
      await put(value, (standing) => standing.until === undefined || standing.until >= (value.until ?? Infinity))
    },

    async unfreeze(subject) {
      for (;;) {
        const read = await store.get<Freeze>(FREEZES, idOf(subject))
        if (read === undefined || !isInForce(read.value)) {
          throw new SallyportError('ERR_INVALID_INPUT', `The ${subject.kind} ${subject.name} is not frozen.`)
        }
        if (await store.commit([{ kind: 'remove', collection: FREEZES, id: read.id, expect: read.version }])) return
      }
    },

    async list() {
      const all = await store.list<Freeze>(FREEZES)
      await forgetOver(all)
      return all.filter(({ value }) => isInForce(value)).map(({ value }) => factsOf(value))
    },

    close: leaveFreezes,
  }

  function freezeOf({ kind, name }: Subject, by: string, reason: string, forMs: number | undefined): Freeze {
    return { kind, name, by, reason, since: now(), ...(forMs !== undefined && { until: now() + forMs }) }
  }

  /** Puts a freeze in force, unless `stays` says of the one that is that it remains. Returns the one in force then. */
  async function put(value: Freeze, stays: (standing: Freeze) => boolean = () => false): Promise<Freeze> {
    for (;;) {
      const read = await store.get<Freeze>(FREEZES, idOf(value))
      if (read !== undefined && isInForce(read.value) && stays(read.value)) return read.value
      const write = { collection: FREEZES, id: idOf(value), expect: read?.version ?? 0 }
      if (!(await store.commit([{ kind: 'put', ...write, value }]))) continue
      // Here at once; the others hear of it from the store.
      options.onFreeze(value, frozen(value))
      return value
    }
  }

  function isInForce({ until }: Freeze): boolean {
    return until === undefined || now() < until
  }

  async function cancelFrozen(id: string): Promise<void> {
    const read = await store.get<Freeze>(FREEZES, id)
    if (read !== undefined && isInForce(read.value)) options.onFreeze(read.value, frozen(read.value))
  }

  async function cancelAllFrozen(): Promise<void> {
    for (const { value } of await store.list<Freeze>(FREEZES)) {
      if (isInForce(value)) options.onFreeze(value, frozen(value))
    }
  }

  async function forgetOver(all: readonly Versioned<Freeze>[]): Promise<void> {
    for (const { id, version, value } of all) {
      if (!isInForce(value)) await store.commit([{ kind: 'remove', collection: FREEZES, id, expect: version }])
    }
  }
}

function idOf({ kind, name }: Subject): string {
  return `${kind}:${name}`
}

function frozen({ kind, name, by, reason, until }: Freeze): SallyportError {
  const end = until === undefined ? 'until an operator lifts it' : `until ${new Date(until).toISOString()}`
  return new SallyportError('ERR_DENIED', `The ${kind} ${name} is frozen by ${by} ${end}: ${reason}`)
}

function factsOf({ kind, name, by, reason, since, until }: Freeze): FreezeFacts {
  return {
    kind,
    name,
    by,
    reason,
    since: new Date(since).toISOString(),
    ...(until !== undefined && { until: new Date(until).toISOString() }),
  }
}
