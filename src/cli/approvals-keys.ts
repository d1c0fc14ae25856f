import { createInterface, emitKeypressEvents } from 'node:readline'
import { on } from 'node:events'
import type { TicketView } from '../approval/view.ts'
import type { InboxEvent } from './approvals-inbox.ts'

/** The keyboard of this terminal, one key at a time, and a line where one is asked for. */
export interface Keys {
  /** Yields tickets and keys as they come, until either ends or Ctrl-C. */
  together(tickets: AsyncIterable<TicketView>, stop: AbortController): AsyncIterable<InboxEvent>
  askLine(question: string): Promise<string | undefined>
  close(): void
}

/** Opens the keyboard. Whoever opens it closes it, or the terminal stays without echo. */
export function openKeys(): Keys {
  const { stdin } = process
  emitKeypressEvents(stdin)
  stdin.setRawMode(true)
  stdin.resume()
  /** While a line is typed, its letters are no answers. */
  let isTyping = false
  return {
    async *together(tickets, stop) {
      const queue: InboxEvent[] = []
      let wake: () => void = () => undefined
      let failure: { readonly error: unknown } | undefined
      let isOver = false
      const put = (event: InboxEvent): void => {
        queue.push(event)
        wake()
      }
      const onKey = (text: string | undefined, key: { readonly name?: string; readonly ctrl?: boolean }): void => {
        if (isTyping) return
        if (key.ctrl === true && (key.name === 'c' || key.name === 'd')) put({ kind: 'key', key: 'q' })
        else if (text !== undefined) put({ kind: 'key', key: text })
      }
      stdin.on('keypress', onKey)
      void (async () => {
        try {
          for await (const ticket of tickets) put({ kind: 'ticket', ticket })
        } catch (error) {
          failure = { error }
        }
        isOver = true
        wake()
      })()
      try {
        for (;;) {
          const next = queue.shift()
          if (next !== undefined) yield next
          else if (failure !== undefined) throw failure.error
          else if (isOver) return
          else await new Promise<void>((resolve) => (wake = resolve))
        }
      } finally {
        stdin.off('keypress', onKey)
        stop.abort()
      }
    },

    async askLine(question) {
      isTyping = true
      stdin.setRawMode(false)
      const line = createInterface({ input: stdin, output: process.stderr })
      const closed = new AbortController()
      line.once('SIGINT', () => closed.abort())
      line.once('close', () => closed.abort())
      try {
        line.setPrompt(question)
        line.prompt()
        for await (const [text] of on(line, 'line', { signal: closed.signal })) return String(text)
      } catch {
        // Gone back, which says nothing about the ticket.
      } finally {
        line.close()
        stdin.setRawMode(true)
        stdin.resume()
        isTyping = false
      }
      return undefined
    },

    close() {
      stdin.setRawMode(false)
      stdin.pause()
    },
  }
}
