// Opens a state directory and does what it is asked, so that tests can kill it at any moment.
import { SallyportError } from '../../src/core/errors.ts'
import { openState } from '../../src/store/state-dir.ts'

const [directory = '', task = 'hold'] = process.argv.slice(2)
const say = (message: object): void => void process.send?.(message)
try {
  const state = await openState(directory)
  say({ pid: process.pid, opened: true })
  if (task === 'write') {
    // Reports each document only after its promise resolved: what was reported must survive kill -9.
    for (let n = 0; ; n++) {
      await state.store.commit([{ kind: 'put', collection: 'numbers', id: `n${n}`, expect: 0, value: { n } }])
      await state.store.blobs.put(`b${n}`, Buffer.from(String(n)))
      say({ n })
    }
  }
  if (task === 'fill') {
    let failure: unknown
    for (let n = 0; n < 200 && failure === undefined; n++) {
      const value = { text: 'x'.repeat(10_000) }
      const wrote = state.store.commit([{ kind: 'put', collection: 'big', id: `n${n}`, expect: 0, value }])
      failure = await wrote.then(
        () => undefined,
        (error: unknown) => error,
      )
    }
    const before = await state.store.list('big')
    const last = before.at(-1)
    // Making room in the same, still living process makes it work again.
    const worksAgain =
      last !== undefined &&
      (await state.store.commit([{ kind: 'remove', collection: 'big', id: last.id, expect: last.version }]))
    await state.close()
    const reopened = await openState(directory)
    const after = await reopened.store.list('big')
    await reopened.close()
    const code = failure instanceof SallyportError ? failure.code : String(failure)
    const message = failure instanceof Error ? failure.message : ''
    say({ code, message, worksAgain, before: before.length, after: after.length })
  }
  setInterval(() => undefined, 1_000)
} catch (error) {
  say(error instanceof SallyportError ? { code: error.code, message: error.message } : { message: String(error) })
  process.disconnect?.()
}
