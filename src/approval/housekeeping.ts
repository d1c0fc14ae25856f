import type { Desk, ReadTicket } from './desk.ts'
import { leaseOf } from './desk.ts'
import { blobOf } from './requests.ts'
import { settleByBackend } from './settle-ended.ts'
import { isFinal, isLeftOpen, leavesProof, moved } from './ticket.ts'

/** Held by the instance that tidies up for all. */
const UPKEEP_LEASE = 'approvals.upkeep'

/** What time does to tickets: expiry, erasure, and the tickets of executors that died. */
export interface Housekeeping {
  /**
   * Marks what dead executors left running as `outcome_unknown`. It is never run again: whether it took effect is for a
   * person to find out (C12), or for its backend to say. What cannot have taken effect is `failed`.
   */
  recover(): Promise<void>
  /** Does all that is due. */
  sweep(): Promise<void>
  /** Shows that this instance lives. */
  renew(): Promise<void>
}

/** Builds the housekeeping of one instance. */
export function housekeeping(desk: Desk): Housekeeping {
  const { store, tickets, settings } = desk
  let suspects: ReadonlySet<string> = new Set()

  return { recover, sweep, renew }

  async function renew(): Promise<void> {
    await store.lease(leaseOf(desk.instance), desk.instance, settings.leaseMs)
  }

  async function recover(): Promise<void> {
    for (const read of await tickets.list({ state: 'executing' })) {
      const { executor } = read.value
      if (executor === desk.instance) continue
      if (executor !== undefined && (await store.leaseHolder(leaseOf(executor))) !== undefined) continue
      const at = desk.now()
      // It never came to the step before its effect; and should it live after all, it cannot take that step any more.
      if (leavesProof(read.value) && read.value.proof === undefined) {
        const why = 'the gateway that ran it ended before it could take effect'
        const outcome = { at, resolvedBy: 'gateway', resolvedReason: why }
        await tickets.swap(read, moved(read.value, 'failed', { at, by: 'gateway', why }, { outcome }))
        continue
      }
      const why = 'the gateway that ran it ended before it could say how the call ended'
      // A lost race means that the executor, alive after all, has just said how it ended.
      await tickets.swap(read, moved(read.value, 'outcome_unknown', { at, by: 'gateway', why }, { outcome: { at } }))
    }
  }

  async function sweep(): Promise<void> {
    await renew()
    await recover()
    for (const [id, attempt] of desk.unsettled) {
      await attempt()
      desk.unsettled.delete(id)
    }
    await askBackends()
    // The rest is once for all instances.
    if (!(await store.lease(UPKEEP_LEASE, desk.instance, settings.sweepMs * 3))) return
    // Reading a ticket whose time has run out is what expires it.
    for (const read of await tickets.list()) await erase(read)
    await eraseOrphans()
  }

  /**
   * Settles unknown outcomes for which the executor left a proof, and what ran in a transaction of its client: the backend
   * knows what became of them.
   */
  async function askBackends(): Promise<void> {
    const executing = (await tickets.list({ state: 'executing' })).filter(({ value }) => isLeftOpen(value))
    for (const { value } of [...(await tickets.list({ state: 'outcome_unknown' })), ...executing]) {
      await settleByBackend(desk, value)
    }
  }

  async function erase(read: ReadTicket): Promise<void> {
    const { id, state, history, result, erased } = read.value
    if (!isFinal(state)) return
    const endedAt = history.at(-1)?.at ?? read.value.createdAt
    const now = desk.now()
    if (now >= endedAt + settings.retentionMs) {
      await eraseBlobs(id)
      await tickets.remove(read)
      return
    }
    if (erased !== true && now >= Math.max(result?.until ?? 0, endedAt + settings.resultMs)) {
      await eraseBlobs(id)
      await tickets.swap(read, { ...read.value, erased: true })
    }
  }

  async function eraseBlobs(id: string): Promise<void> {
    await store.blobs.remove(blobOf('request', id))
    await store.blobs.remove(blobOf('result', id))
  }

  /**
   * Removes blobs no ticket speaks of, which a crash between storing and filing leaves. Only those that were there at the
   * sweep before, because another instance may be about to file one.
   */
  async function eraseOrphans(): Promise<void> {
    const ours = (await store.blobs.list()).filter((name) => /^(request|result)\./.test(name))
    const orphans = new Set<string>()
    for (const name of ours) {
      if ((await tickets.read(name.slice(name.indexOf('.') + 1))) !== undefined) continue
      if (suspects.has(name)) await store.blobs.remove(name)
      else orphans.add(name)
    }
    suspects = orphans
  }
}
