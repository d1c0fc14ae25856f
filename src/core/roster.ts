/** Somebody who stands in a {@link Roster}. */
export interface Member {
  /** Where it stands there; -1 while it does not. The roster's to change. */
  place: number
}

/**
 * Who is here now, of many who come and go.
 *
 * A `Map` would do, but one that is added to and deleted from without end is rehashed without end, and V8 keeps each old
 * table pointing to the next: once one of them has grown old, all after it live until the next full collection, with
 * whatever stood in them. Of a gateway that makes thousands of calls a second that is most of its memory.
 */
export class Roster<T extends Member> implements Iterable<T> {
  readonly #members: T[] = []

  get size(): number {
    return this.#members.length
  }

  add(member: T): void {
    member.place = this.#members.length
    this.#members.push(member)
  }

  /** Takes a member off; nothing happens when it is not there. The last one takes its place. */
  remove(member: T): void {
    const { place } = member
    if (this.#members[place] !== member) return
    const last = this.#members.pop()
    member.place = -1
    if (last === undefined || last === member) return
    last.place = place
    this.#members[place] = last
  }

  /** The latest member that fits. */
  find(fits: (member: T) => boolean): T | undefined {
    return this.#members.findLast(fits)
  }

  /** Goes through those who are here now, also when some of them leave meanwhile. */
  [Symbol.iterator](): Iterator<T> {
    return this.#members.slice()[Symbol.iterator]()
  }
}
