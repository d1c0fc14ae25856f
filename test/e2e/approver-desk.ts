import { expect, vi } from 'vitest'
import type { World } from './world.ts'

/** A ticket as its approver is shown it. */
export interface Ticket {
  readonly id: string
  readonly state: string
  readonly digest: string
  readonly follows?: string
  readonly inTransaction?: true
  readonly ranAt?: string
  readonly createdAt: string
  readonly expiresAt: string
  readonly outcome?: { readonly resolvedBy?: string; readonly reason?: string }
  readonly preview?: {
    readonly sections: readonly {
      readonly title: string
      readonly table?: { readonly columns: readonly string[]; readonly rows: readonly (readonly unknown[])[] }
    }[]
    readonly missing?: string
  }
}

/** One approver of a world, who looks at each ticket once. */
export class ApproverDesk {
  readonly #world: World
  readonly #token: string
  readonly #seen = new Set<string>()

  constructor(world: World, token: string) {
    this.#world = world
    this.#token = token
  }

  /** The next ticket nobody has seen; resolves when it waits. Fails unless it has a whole preview, or has none, as expected. */
  async asked(previewed = true): Promise<Ticket> {
    const admin = this.#world.admin(this.#token)
    const id = await vi.waitFor(
      async () => {
        const { approvals } = await admin.get<{ approvals: readonly Ticket[] }>('/v1/approvals')
        const found = approvals.find((one) => !this.#seen.has(one.id))
        if (found === undefined) throw new Error('Nobody is asked.')
        return found.id
      },
      { timeout: 90_000, interval: 20 },
    )
    this.#seen.add(id)
    const ticket = await this.ticketOf(id)
    const { missing } = ticket.preview ?? {}
    if ((missing === undefined) !== previewed) throw new Error(`The preview says: ${missing ?? 'all'}`)
    return ticket
  }

  ticketOf(id: string): Promise<Ticket> {
    return this.#world.admin(this.#token).get<Ticket>(`/v1/approvals/${id}`)
  }

  async answer({ id, digest }: Ticket, decision: 'approve' | 'deny'): Promise<void> {
    await this.#world.admin(this.#token).post(`/v1/approvals/${id}/vote`, { decision, digest })
  }

  /** Where the ticket stands, to be waited for. */
  settled(id: string) {
    return expect.poll(async () => (await this.ticketOf(id)).state, { interval: 20 })
  }
}
