import { array, assert, boolean, nat, property, tuple } from 'fast-check'
import { describe, expect, it } from 'vitest'
import { Roster, type Member } from '../../src/core/roster.ts'

interface Somebody extends Member {
  readonly name: number
}

const somebody = (name: number): Somebody => ({ name, place: -1 })

describe('a roster', () => {
  it('holds who came and did not leave, whatever the order', () => {
    assert(
      property(array(tuple(boolean(), nat(20))), (steps) => {
        const all = Array.from({ length: 21 }, (_, name) => somebody(name))
        const roster = new Roster<Somebody>()
        const model = new Set<Somebody>()
        for (const [comes, name] of steps) {
          const who = all[name]
          if (who === undefined) continue
          if (comes && !model.has(who)) {
            roster.add(who)
            model.add(who)
          } else if (!comes) {
            roster.remove(who)
            model.delete(who)
          }
          expect(roster.size).toBe(model.size)
          expect(new Set(roster)).toEqual(model)
        }
      }),
    )
  })

  it('is gone through whole although those who are met leave', () => {
    const roster = new Roster<Somebody>()
    for (let name = 0; name < 5; name++) roster.add(somebody(name))
    const met: number[] = []
    for (const who of roster) {
      met.push(who.name)
      roster.remove(who)
    }
    expect(met).toEqual([0, 1, 2, 3, 4])
    expect(roster.size).toBe(0)
  })

  it('leaves a member of another roster alone', () => {
    const [own, other] = [new Roster<Somebody>(), new Roster<Somebody>()]
    const who = somebody(1)
    own.add(who)
    other.add(somebody(2))
    other.remove(who)
    expect(own.size).toBe(1)
    expect(other.size).toBe(1)
  })
})
