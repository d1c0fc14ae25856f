/**
 * What an operator asks of one instance and means of all: which sessions there are, and to end one of them.
 *
 * A question is a document in the store. Every instance hears of it, answers with a document of its own, and whoever asked
 * waits until all that live have answered, or says who has not. The end of a session stays asked for when nobody had
 * it: an instance that could not be reached then still ends it when it is back.
 *
 * @packageDocumentation
 */
import { randomUUID } from 'node:crypto'
import type { Store, Versioned } from '../store/store.ts'

/** Asks all instances of one store. */
export interface RollCall<Facts extends object> {
  /** The sessions of all other instances that answered. */
  sessions(): Promise<Roll<Facts>>
  /** Asks the others to end a session. */
  kill(session: string, by: string): Promise<Killed>
  close(): Promise<void>
}

/** What the others said. */
export interface Roll<Facts extends object> {
  readonly sessions: readonly Facts[]
  /** Names of instances that live and did not answer in time. */
  readonly unheard: readonly string[]
}

/** Whether another instance had the session. */
export interface Killed {
  readonly isKilled: boolean
  /** Names of instances that live and did not answer in time; they end the session once they hear of it. */
  readonly unheard: readonly string[]
}

/** What the roll call of one instance is built from. */
export interface RollCallOptions<Facts extends object> {
  readonly store: Store
  /** Unique to this run of this gateway. */
  readonly instance: string
  /** What operators know it by. */
  readonly name: string
  /** Milliseconds since the epoch. */
  readonly now: () => number
  /** Whether an instance renewed its lease lately. */
  readonly isAlive: (instance: string) => Promise<boolean>
  /** The sessions of this instance, no more than others can be sent. */
  readonly sessions: () => readonly Facts[]
  /** Ends a session of this instance; resolves `false` when it has none of that id. */
  readonly onKill: (session: string, by: string) => Promise<boolean>
  readonly onFault: (error: unknown) => void
  /** Milliseconds an operator waits for all instances; 2000 unless told. */
  readonly waitMs?: number
}

const INSTANCES = 'instances'
const ASKS = 'asks'
const ANSWERS = 'answers'

/** How long an operator waits for all instances, unless told. */
const WAIT_MS = 2_000

/** After this long nobody waits for a list any more. */
const LIST_MS = 10_000

/** How long the end of a session stays asked for when nobody had it. */
const KILL_KEPT_MS = 3_600_000

const UPKEEP_MS = 60_000

/** A question, and which instance asks. */
type Ask = { readonly from: string; readonly at: number } & (
  | { readonly kind: 'sessions' }
  | { readonly kind: 'kill'; readonly session: string; readonly by: string }
)

interface Answer<Facts> {
  readonly ask: string
  readonly instance: string
  readonly had?: boolean
  readonly sessions?: readonly Facts[]
}

/** Joins the roll. @throws SallyportError `ERR_STORE_FAILED` */
export async function openRollCall<Facts extends object>(options: RollCallOptions<Facts>): Promise<RollCall<Facts>> {
  const { store, instance, now, waitMs = WAIT_MS } = options
  const fault = (error: unknown): void => options.onFault(error)
  let isClosed = false
  const hearing = new Set<string>()
  await register()
  const leave = store.subscribe(ASKS, (change) => {
    if (change.kind === 'remove') return
    void (change.kind === 'put' ? hear(change.id) : hearAll()).catch(fault)
  })
  const timer = setInterval(() => void upkeep().catch(fault), UPKEEP_MS)
  timer.unref()
  // What was asked between the registration and the subscription is heard here.
  void hearAll().catch(fault)

  return {
    async sessions() {
      const { answers, unheard } = await ask({ kind: 'sessions', from: instance, at: now() }, () => false)
      return { sessions: answers.flatMap(({ sessions = [] }) => sessions), unheard }
    },

    async kill(session, by) {
      const { answers, unheard } = await ask(
        { kind: 'kill', from: instance, at: now(), session, by },
        ({ had }) => had === true,
      )
      return { isKilled: answers.some(({ had }) => had === true), unheard }
    },

    async close() {
      isClosed = true
      clearInterval(timer)
      leave()
      await remove(INSTANCES, ({ id }) => id === instance)
    },
  }

  async function register(): Promise<void> {
    const value = { name: options.name }
    // One that is there already is as good.
    await store.commit([{ kind: 'put', collection: INSTANCES, id: instance, expect: 0, value }])
  }

  /** Asks, and waits until one answer suffices, all that live have answered, or too much time has gone by. */
  async function ask(
    question: Ask,
    suffices: (answer: Answer<Facts>) => boolean,
  ): Promise<{ readonly answers: readonly Answer<Facts>[]; readonly unheard: readonly string[] }> {
    const id = randomUUID()
    const answers = new Map<string, Answer<Facts>>()
    let wake: () => void = () => undefined
    let isWoken = false
    const stopListening = store.subscribe(ANSWERS, () => {
      isWoken = true
      wake()
    })
    const deadline = performance.now() + waitMs
    try {
      await store.commit([{ kind: 'put', collection: ASKS, id, expect: 0, value: question }])
      const expected = await othersAlive()
      for (;;) {
        isWoken = false
        for (const { value } of await store.list<Answer<Facts>>(ANSWERS, { ask: id }))
          answers.set(value.instance, value)
        const unheard = expected.filter((other) => !answers.has(other.id)).map(({ value }) => value.name)
        const isOver = unheard.length === 0 || [...answers.values()].some(suffices) || performance.now() >= deadline
        if (isOver) return { answers: [...answers.values()], unheard }
        if (!isWoken) await nap(deadline - performance.now(), (resolve) => (wake = resolve))
      }
    } finally {
      stopListening()
      // The end of a session that nobody had stays asked for: one who was away may have it.
      const isDone = question.kind === 'sessions' || [...answers.values()].some(suffices)
      await forget(id, isDone).catch(fault)
    }
  }

  async function othersAlive(): Promise<readonly Versioned<{ readonly name: string }>[]> {
    const others = (await store.list<{ readonly name: string }>(INSTANCES)).filter(({ id }) => id !== instance)
    const alive = await Promise.all(others.map(({ id }) => options.isAlive(id)))
    return others.filter((_, index) => alive[index] === true)
  }

  async function hear(id: string): Promise<void> {
    // Heard twice, the second answer would say that there is no such session.
    if (hearing.has(id)) return
    hearing.add(id)
    try {
      await answer(id)
    } finally {
      hearing.delete(id)
    }
  }

  async function answer(id: string): Promise<void> {
    const read = await store.get<Ask>(ASKS, id)
    if (read === undefined || isClosed || (await store.get(ANSWERS, `${id}.${instance}`)) !== undefined) return
    const { value: asked } = read
    if (asked.from === instance) return
    if (asked.kind === 'sessions' && now() - asked.at > LIST_MS) return
    const said: Pick<Answer<Facts>, 'had' | 'sessions'> = asked.kind === 'sessions'
      ? { sessions: options.sessions() }
      : { had: await options.onKill(asked.session, asked.by) }
    const value: Answer<Facts> = { ask: id, instance, ...said }
    await store.commit([
      // Whoever asked may have gone: then an answer would lie about for ever.
      { kind: 'check', collection: ASKS, id, expect: read.version },
      { kind: 'put', collection: ANSWERS, id: `${id}.${instance}`, expect: 0, value },
    ])
  }

  /** After a time in which questions may have been missed. */
  async function hearAll(): Promise<void> {
    await register()
    for (const { id } of await store.list(ASKS)) await hear(id)
  }

  async function forget(id: string, isDone: boolean): Promise<void> {
    if (isDone) await remove<Ask>(ASKS, (read) => read.id === id)
    await remove<Answer<Facts>>(ANSWERS, ({ value }) => value.ask === id)
  }

  async function upkeep(): Promise<void> {
    await register()
    await remove<Ask>(ASKS, ({ value }) => now() - value.at > KILL_KEPT_MS)
    const asked = new Set((await store.list(ASKS)).map(({ id }) => id))
    await remove<Answer<Facts>>(ANSWERS, ({ value }) => !asked.has(value.ask))
    const dead = new Set<string>()
    for (const { id } of await store.list(INSTANCES)) {
      if (id !== instance && !(await options.isAlive(id))) dead.add(id)
    }
    await remove(INSTANCES, ({ id }) => dead.has(id))
  }

  async function remove<T extends object>(collection: string, which: (read: Versioned<T>) => boolean): Promise<void> {
    for (const { id, version } of (await store.list<T>(collection)).filter(which)) {
      await store.commit([{ kind: 'remove', collection, id, expect: version }])
    }
  }
}

async function nap(ms: number, onWake: (wake: () => void) => void): Promise<void> {
  let timer: NodeJS.Timeout | undefined
  await new Promise<void>((resolve) => {
    timer = setTimeout(resolve, Math.max(0, ms))
    timer.unref()
    onWake(resolve)
  })
  clearTimeout(timer)
}
