import { isJsonObject, type JsonValue } from '../../core/json.ts'
import { bodyOf } from './read-body.ts'
import type { KubeRequest } from './request.ts'
import { TIME_OF_SENDING } from './tool.ts'

/** A request with the one thing that is not known before: when it is sent. */
export function dated(request: KubeRequest): KubeRequest {
  const { body } = request
  if (body === undefined || !Buffer.from(body.bytes).includes(TIME_OF_SENDING)) return request
  const now = new Date().toISOString().replace(/\.\d+Z$/u, 'Z')
  const place = (value: JsonValue): JsonValue => {
    if (value === TIME_OF_SENDING) return now
    if (isJsonObject(value)) return new Map([...value].map(([key, field]) => [key, place(field)]))
    return Array.isArray(value) ? (value as readonly JsonValue[]).map(place) : value
  }
  return { ...request, body: bodyOf(place(body.value), body.type) }
}
