/**
 * Yields what `source` yields, and `undefined` each time it stays silent for as long as `idleMs` says.
 *
 * @param idleMs asked before each wait; `undefined` waits without limit.
 */
export async function* untilIdle<T>(
  source: AsyncIterable<T>,
  idleMs: () => number | undefined,
): AsyncGenerator<T | undefined, void, undefined> {
  const iterator = source[Symbol.asyncIterator]()
  let pending: Promise<IteratorResult<T>> | undefined
  let isOver = false
  try {
    for (;;) {
      pending ??= iterator.next()
      const limit = idleMs()
      const result = limit === undefined ? await pending : await orIdle(pending, limit)
      if (result === undefined) {
        yield undefined
        continue
      }
      pending = undefined
      if (result.done === true) {
        isOver = true
        return
      }
      yield result.value
    }
  } catch (error) {
    // Only `next()` throws in here, and an iterator that threw is over.
    isOver = true
    throw error
  } finally {
    if (!isOver) {
      const closed = iterator.return?.()
      // A `return` queues behind a `next` in flight, which may wait for ever: whoever left is not kept waiting for it.
      if (pending === undefined) await closed
      else void Promise.allSettled([pending, closed])
    }
  }
}

async function orIdle<T>(pending: Promise<T>, ms: number): Promise<T | undefined> {
  let timer: NodeJS.Timeout | undefined
  const idle = new Promise<undefined>((resolve) => {
    timer = setTimeout(() => resolve(undefined), ms)
  })
  try {
    return await Promise.race([pending, idle])
  } finally {
    clearTimeout(timer)
  }
}
