/** What must be ended, in the reverse order it was begun. */
export interface Closers {
  /** Remembers how to end what was just begun. */
  add(name: string, close: () => unknown): void
  /** Ends everything, the last first. One that fails does not keep the others open. Safe to call twice. */
  close(): Promise<void>
}

/** @param onError told of an end that failed. */
export function createClosers(onError: (name: string, error: unknown) => void): Closers {
  const stack: { readonly name: string; readonly close: () => unknown }[] = []
  let closing: Promise<void> | undefined

  async function closeAll(): Promise<void> {
    for (let last = stack.pop(); last !== undefined; last = stack.pop()) {
      try {
        await last.close()
      } catch (error) {
        onError(last.name, error)
      }
    }
  }

  return {
    add: (name, close) => {
      stack.push({ name, close })
    },
    close: () => (closing ??= closeAll()),
  }
}
