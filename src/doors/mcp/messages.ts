/**
 * Looking at messages before the protocol layer has checked them: nothing about their shape is certain here.
 *
 * @packageDocumentation
 */
import type { RequestId } from '@modelcontextprotocol/server'

const METHOD = 'tools/call'

/** Whether a body asks for tool calls. */
export function isToolCall(body: unknown): boolean {
  return messagesOf(body).some((message) => methodOf(message) === METHOD)
}

/** The tool calls in a body, each with its id when it has a valid one. */
export function callIdsOf(body: unknown): readonly { readonly id: RequestId | undefined; readonly message: object }[] {
  return messagesOf(body)
    .filter((message) => methodOf(message) === METHOD)
    .map((message) => ({ id: idOf(message), message }))
}

/** The name of the tool a message asks for, or a stand-in when there is none to be read. */
export function namedTool(message: object): string {
  const params = 'params' in message ? message.params : undefined
  if (typeof params !== 'object' || params === null || !('name' in params)) return METHOD
  return typeof params.name === 'string' ? params.name.slice(0, 128) : METHOD
}

function messagesOf(body: unknown): readonly object[] {
  const list: readonly unknown[] = Array.isArray(body) ? body : [body]
  return list.filter((message): message is object => typeof message === 'object' && message !== null)
}

function methodOf(message: object): unknown {
  return 'method' in message ? message.method : undefined
}

function idOf(message: object): RequestId | undefined {
  const id = 'id' in message ? message.id : undefined
  return typeof id === 'string' || typeof id === 'number' ? id : undefined
}
