import type { ServerResponse } from 'node:http'
import type { Principal } from '../../core/principal.ts'

/** Takes room for so many bytes of an answer; `false` when there is none. */
export type TakeRoom = (bytes: number) => boolean

/**
 * The results that were read from targets and lie in memory until their clients have taken them.
 *
 * A client may ask hundreds of times and read nothing; every answer would wait for it. So what waits is bounded, for each
 * principal and for all, and an answer for which there is no room is cut short and says so.
 */
export class Unread {
  readonly #bytesMax: number
  readonly #bytesPerPrincipalMax: number
  readonly #byPrincipal = new Map<string, number>()
  #total = 0

  constructor(limits: { readonly unreadBytesMax: number; readonly unreadBytesPerPrincipalMax: number }) {
    this.#bytesMax = limits.unreadBytesMax
    this.#bytesPerPrincipalMax = limits.unreadBytesPerPrincipalMax
  }

  /** Returns how to take room for the answers in one response. All of it is given back when the response closes. */
  roomOf({ id }: Principal, res: ServerResponse): TakeRoom {
    let taken = 0
    let isClosed = false
    res.once('close', () => {
      isClosed = true
      this.#add(id, -taken)
    })
    return (bytes) => {
      // Nobody reads it any more, so it is dropped as soon as it is made.
      if (isClosed) return true
      if (this.#total + bytes > this.#bytesMax) return false
      if ((this.#byPrincipal.get(id) ?? 0) + bytes > this.#bytesPerPrincipalMax) return false
      taken += bytes
      this.#add(id, bytes)
      return true
    }
  }

  #add(id: string, bytes: number): void {
    this.#total += bytes
    const left = (this.#byPrincipal.get(id) ?? 0) + bytes
    if (left > 0) this.#byPrincipal.set(id, left)
    else this.#byPrincipal.delete(id)
  }
}
